package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

// KindFull is a payload that holds every page. Readers refuse other kinds.
const KindFull = "full"

// Manifest is the signed description of one backup; see docs/format.md. It
// holds no row, schema or secret.
type Manifest struct {
	header
	Repository  string            `json:"repository"`
	Host        string            `json:"host"`
	Lineage     string            `json:"lineage"`
	Database    string            `json:"database"`
	Sequence    uint64            `json:"sequence"`
	ID          string            `json:"id"`
	Previous    seal.Digest       `json:"previous"` // of the whole previous object; empty at 1
	Parent      *Parent           `json:"parent"`   // what a delta applies to; null for a full
	Kind        string            `json:"kind"`
	SnapshotAt  time.Time         `json:"snapshot_at"`
	CommittedAt time.Time         `json:"committed_at"`
	Payload     Payload           `json:"payload"`
	Content     seal.Content      `json:"content"`
	Source      Source            `json:"source"`
	Recipients  []string          `json:"recipients"`
	Versions    map[string]string `json:"versions"`
	Heads       []Head            `json:"heads"` // last known heads of other targets
}

// Parent names another backup by id and by the digest of its manifest.
type Parent struct {
	ID       string      `json:"id"`
	Manifest seal.Digest `json:"manifest"`
}

// Payload is where the sealed bytes are and what they are.
type Payload struct {
	Key string `json:"key"`
	seal.Sealed
}

// Source is what the file system and SQLite said of the database file.
type Source struct {
	JournalMode   string `json:"journal_mode"`
	WriterVersion string `json:"writer_version"` // SQLite that wrote last
	UID           int    `json:"uid"`
	GID           int    `json:"gid"`
	Owner         string `json:"owner"`
	Group         string `json:"group"`
	Mode          string `json:"mode"` // octal, four digits
}

// Head is the newest manifest of one database in one repository.
type Head struct {
	Repository string      `json:"repository"`
	Target     string      `json:"target,omitempty"`
	Sequence   uint64      `json:"sequence"`
	Digest     seal.Digest `json:"manifest"`
}

// IsZero reports whether there is no head yet.
func (h Head) IsZero() bool { return h.Sequence == 0 }

func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Sequence, h.Digest) }

// Entry is a manifest with the digest of its object.
type Entry struct {
	Manifest
	Digest seal.Digest
}

// Head is the entry as a head.
func (e *Entry) Head() Head {
	return Head{Repository: e.Repository, Sequence: e.Sequence, Digest: e.Digest}
}

// PayloadKey is where a payload of a random name lies.
func PayloadKey(database, random string) string {
	return "databases/" + database + "/payloads/" + random + ".age"
}

func manifestPrefix(database string) string { return "databases/" + database + "/manifests/" }

func manifestKey(database string, sequence uint64) string {
	return fmt.Sprintf("%s%020d", manifestPrefix(database), sequence)
}

// sequenceOf is the inverse of manifestKey; false for any other key.
func sequenceOf(database, key string) (uint64, bool) {
	digits, ok := strings.CutPrefix(key, manifestPrefix(database))
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && manifestKey(database, n) == key && n > 0
}

func databaseOf(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) != 4 || parts[0] != "databases" || parts[2] != "manifests" {
		return ""
	}
	return parts[1]
}

// check holds a verified manifest against the place that it was read from: a
// manifest that is signed but lies elsewhere is a replay.
func (m *Manifest) check(c *Catalog, database string, sequence uint64) error {
	key := manifestKey(database, sequence)
	replay := func(what string, is, want any) error {
		return fault.New(fault.Forged, "%s is signed, but for %s %v, not %v: it was copied there", key, what, is, want)
	}
	switch {
	case m.Repository != c.Repository:
		return replay("repository", m.Repository, c.Repository)
	case m.Database != database:
		return replay("database", m.Database, database)
	case m.Sequence != sequence:
		return replay("sequence", m.Sequence, sequence)
	case m.Kind != KindFull:
		return fault.New(fault.Unsupported, "%s is of kind %q, which this emsafe cannot restore", key, m.Kind)
	case m.Parent != nil:
		return fault.New(fault.Unsupported, "%s is a full backup with a parent", key)
	case !strings.HasPrefix(m.Payload.Key, "databases/"+database+"/payloads/"):
		return fault.New(fault.Damaged, "%s names the payload %q outside its database", key, m.Payload.Key)
	}
	for what, err := range map[string]error{"payload": m.Payload.Check(), "content": m.Content.Check()} {
		if err != nil {
			return fault.New(fault.Damaged, "%s: %s: %w", key, what, err)
		}
	}
	return nil
}
