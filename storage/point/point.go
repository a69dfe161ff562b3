// Package point keeps recovery points: which backups of databases and which
// snapshot of files belong together. A point is a small signed object in the
// target that holds both halves, created after both are there: [Put]. Nothing of
// one is used before its signature holds: [List], [Find].
package point

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

const (
	format = 1
	prefix = "points/" // FILESET/ID
	limit  = 1 << 20   // bytes of an object; a point has some hundreds
)

// Repository is the folder of a fileset's restic repository in a target.
func Repository(fileset string) string { return "filesets/" + fileset }

// Point is a recovery point of one fileset in one target. In all targets it has
// the same id.
type Point struct {
	Format    int        `json:"format"`
	Critical  []string   `json:"critical,omitempty"`
	ID        string     `json:"id"`
	Fileset   string     `json:"fileset"`
	Host      string     `json:"host"`
	TakenAt   time.Time  `json:"taken_at"` // when it was begun
	Databases []Database `json:"databases"`
	Files     Files      `json:"files"`

	// Hidden: it was deleted, and is there because the bucket keeps versions.
	// With its snapshot gone it was forgotten; with both halves there, somebody
	// hid it.
	Hidden bool `json:"-"`
}

// Database is the half of a point that is a backup.
type Database struct {
	Name       string      `json:"name"`
	Backup     string      `json:"backup"` // its id
	Sequence   uint64      `json:"sequence"`
	Manifest   seal.Digest `json:"manifest"`
	SnapshotAt time.Time   `json:"snapshot_at"`
}

// Files is the half that restic keeps.
type Files struct {
	Repository string    `json:"repository"` // its folder in the target
	Snapshot   string    `json:"snapshot"`   // 64 hexadecimal digits
	TakenAt    time.Time `json:"taken_at"`   // when restic began to read; after the databases
	Count      int64     `json:"count"`
	Bytes      int64     `json:"bytes"`
	Unread     int       `json:"unread,omitempty"` // files that could not be read, and are not in it
}

func (p Point) key() string { return prefix + p.Fileset + "/" + p.ID }

// NewID is the id of a point that begins now.
func NewID(now time.Time) string {
	return now.UTC().Format("20060102T150405.000Z") + "-" + strings.ToLower(rand.Text()[:8])
}

// Put stores a point. One that would be refused by signers is not stored.
func Put(ctx context.Context, b storage.Bucket, p Point, key *seal.SigningKey, signers seal.Signers) error {
	p.Format = format
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	object, err := key.Sign(seal.NamespacePoint, append(text, '\n'))
	if err != nil {
		return err
	}
	if _, err := open(object, signers, p.key()); err != nil {
		return fault.New(fault.BadKey, "the signing key may not sign recovery points: %w", err).
			WithRemedy("Add the namespace %s to its line in allowed_signers, here and wherever restores are made.", seal.NamespacePoint)
	}
	_, err = b.Create(ctx, p.key(), bytes.NewReader(object), int64(len(object)))
	return err
}

// List gives the newest points of a fileset, oldest first; all if last is 0.
// What cannot be verified is passed over, and is a problem each.
func List(ctx context.Context, b storage.Bucket, signers seal.Signers, fileset string, last int) (points []Point, problems []error, err error) {
	b = storage.Past(b)
	var keys []string
	hidden := map[string]bool{}
	for info, err := range b.List(ctx, prefix+fileset+"/", "") {
		if err != nil {
			return nil, nil, err
		}
		keys, hidden[info.Key] = append(keys, info.Key), info.Hidden
	}
	if last > 0 && len(keys) > last {
		keys = keys[len(keys)-last:]
	}
	for _, key := range keys {
		p, err := read(ctx, b, signers, key)
		switch {
		case unusable(err):
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		case err != nil:
			return points, problems, err
		default:
			p.Hidden = hidden[key]
			points = append(points, p)
		}
	}
	return points, problems, nil
}

// Filesets are the names of those that a bucket has points of.
func Filesets(ctx context.Context, b storage.Bucket) ([]string, error) {
	var names []string
	for info, err := range b.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		if parts := strings.Split(info.Key, "/"); len(parts) == 3 && !slices.Contains(names, parts[1]) {
			names = append(names, parts[1])
		}
	}
	return names, nil
}

// Find gives the one point whose id begins so, of one fileset or, with "", of
// any; the newest if the id is "" or latest. For the newest, what cannot be
// verified is passed over, and is a problem each.
func Find(ctx context.Context, b storage.Bucket, signers seal.Signers, fileset, id string) (p Point, problems []error, err error) {
	if id == "latest" {
		id = ""
	}
	under := prefix
	if fileset != "" {
		under += fileset + "/"
	}
	now := b
	b = storage.Past(b)
	found := map[string]string{} // key by id
	hidden := map[string]bool{}
	for info, err := range b.List(ctx, under, "") {
		if err != nil {
			return Point{}, nil, err
		}
		if parts := strings.Split(info.Key, "/"); len(parts) == 3 && strings.HasPrefix(parts[2], id) {
			found[parts[2]], hidden[parts[2]] = info.Key, info.Hidden
		}
	}
	if key, ok := found[id]; ok {
		found = map[string]string{id: key}
	}
	ids := slices.Sorted(maps.Keys(found))
	switch {
	case len(ids) == 0:
		return Point{}, nil, fault.New(fault.NotFound, "%s holds no recovery point %s", b, id).WithRemedy("`emsafe list` shows them; a backup of a fileset makes one.")
	case id != "" && len(ids) > 1:
		return Point{}, nil, fault.New(fault.Usage, "several recovery points begin with %s: %s", id, strings.Join(ids[:min(5, len(ids))], ", ")).WithRemedy("Give more of it.")
	}
	for _, id := range slices.Backward(ids) {
		p, err = read(ctx, b, signers, found[id])
		if p.Hidden = hidden[id]; err == nil && p.Hidden {
			there, err := Snapshots(ctx, now, p.Fileset, p.Files.Snapshot)
			if err != nil {
				return Point{}, problems, err
			}
			if len(there) == 0 {
				continue // it was forgotten
			}
		}
		if err == nil || !unusable(err) {
			return p, problems, err
		}
		problems = append(problems, fmt.Errorf("%s: %w", found[id], err))
	}
	if len(problems) == 0 {
		return Point{}, nil, fault.New(fault.NotFound, "%s holds no recovery point %s that was not removed", b, id)
	}
	return Point{}, nil, errors.Join(problems...)
}

// unusable reports whether an object is no point that counts.
func unusable(err error) bool {
	return errors.Is(err, fault.Forged) || errors.Is(err, fault.Damaged) || errors.Is(err, fault.Unsupported)
}

// Delete removes a point. It goes before either of its halves does.
func Delete(ctx context.Context, b storage.Bucket, p Point) error {
	return storage.Past(b).Delete(ctx, p.key())
}

// Snapshots are the ids of the snapshots that a fileset's repository in a bucket
// has: restic keeps one object for each.
func Snapshots(ctx context.Context, b storage.Bucket, fileset, begin string) ([]string, error) {
	under := Repository(fileset) + "/snapshots/"
	var ids []string
	for info, err := range b.List(ctx, under+begin, "") {
		if err != nil {
			return nil, err
		}
		ids = append(ids, strings.TrimPrefix(info.Key, under))
	}
	return ids, nil
}

func read(ctx context.Context, b storage.Bucket, signers seal.Signers, key string) (p Point, err error) {
	err = storage.ReadVersions(ctx, b, key, limit, func(object []byte) (err error) {
		p, err = open(object, signers, key)
		return err
	})
	return p, err
}

// open verifies a point that lies under key.
func open(object []byte, signers seal.Signers, key string) (p Point, err error) {
	_, _, err = signers.Verify(seal.NamespacePoint, object, func(text []byte) (seal.Claim, error) {
		if err := seal.Decode(text, &p); err != nil {
			return seal.Claim{}, fmt.Errorf("%w: %w", seal.ErrForged, err)
		}
		return seal.Claim{At: p.TakenAt, Host: p.Host, Database: p.Fileset}, nil
	})
	switch {
	case err != nil:
		return Point{}, fault.New(fault.Forged, "recovery point: %w", err)
	case p.Format > format || len(p.Critical) > 0:
		return Point{}, fault.New(fault.Unsupported, "the recovery point is of format %d and needs %q, and this emsafe knows format %d", p.Format, p.Critical, format)
	case p.key() != key:
		return Point{}, fault.New(fault.Forged, "the recovery point is signed, but for %s: it was copied there", p.key())
	}
	return p, nil
}
