// Package hostconf keeps in the targets what else a host must not take with it
// when it is lost: copies of its configuration, and the passwords of its
// filesets' repositories. Each is sealed to the recipients of the backups and
// signed by the host. With them, a machine that has neither the host nor its disk
// knows what was backed up, how it is to be checked, and opens the files. Nothing
// of a copy is used before its signature holds.
package hostconf

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
	format         = 1
	configurations = "configurations/" // HOST/ID
	passwords      = "passwords/"      // FILESET/ID

	limit = 4 << 20 // bytes of an object; a configuration has some thousands
	stamp = "20060102T150405.000Z"
)

// Copy is a configuration as a host had it, or the password of a fileset.
type Copy struct {
	Format     int       `json:"format"`
	Critical   []string  `json:"critical,omitempty"`
	Host       string    `json:"host"`
	ID         string    `json:"id"`
	TakenAt    time.Time `json:"taken_at"`
	Fileset    string    `json:"fileset,omitempty"` // whose password it is
	File       string    `json:"file"`              // where the host keeps it
	Recipients []string  `json:"recipients"`
	Sealed     []byte    `json:"sealed"` // an age file

	Text []byte `json:"-"` // what was sealed
}

func (c Copy) key() string {
	if c.Fileset != "" {
		return passwords + c.Fileset + "/" + c.ID
	}
	return configurations + c.Host + "/" + c.ID
}

// Put stores a copy: to put is all that the credentials must allow. One that
// would be refused by signers is not stored.
func Put(ctx context.Context, b storage.Bucket, c Copy, key *seal.SigningKey, signers seal.Signers, to seal.Recipients) error {
	c.Format, c.Recipients = format, to.Names()
	c.TakenAt = c.TakenAt.UTC().Truncate(time.Millisecond)
	c.ID = c.TakenAt.Format(stamp) + "-" + strings.ToLower(rand.Text()[:8])
	var err error
	if c.Sealed, err = seal.SealSmall(c.Text, to); err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	object, err := key.Sign(seal.NamespaceConfiguration, append(text, '\n'))
	if err != nil {
		return err
	}
	if _, err := open(object, signers, c.key()); err != nil {
		return fault.New(fault.BadKey, "the signing key may not sign configurations: %w", err).
			WithRemedy("Add the namespace %s to its line in allowed_signers, here and wherever restores are made.", seal.NamespaceConfiguration)
	}
	_, err = b.Create(ctx, c.key(), bytes.NewReader(object), int64(len(object)))
	return err
}

// Newest gives the newest copy of a configuration that is signed by a pinned
// key, opened. Without a host there must be one only. What cannot be verified is
// passed over, and is a problem each.
func Newest(ctx context.Context, b storage.Bucket, signers seal.Signers, ids seal.Identities, host string) (c Copy, problems []error, err error) {
	hosts, err := stored(ctx, b, configurations)
	if err != nil {
		return Copy{}, nil, err
	}
	names := slices.Sorted(maps.Keys(hosts))
	switch {
	case len(names) == 0:
		return Copy{}, nil, fault.New(fault.NotFound, "%s holds no copy of a configuration", b).
			WithRemedy("A host puts one there with its next backup after its configuration changed. Until then bring its configuration here, and give it with --config.")
	case host == "" && len(names) > 1:
		return Copy{}, nil, fault.New(fault.Usage, "%s holds configurations of several hosts: %s", b, strings.Join(names, ", ")).WithRemedy("Name one with --host.")
	case host == "":
		host = names[0]
	case !slices.Contains(names, host):
		return Copy{}, nil, fault.New(fault.NotFound, "%s holds no copy of a configuration of host %s", b, host).WithRemedy("It has those of: %s.", strings.Join(names, ", "))
	}
	return newest(ctx, b, hosts[host], signers, ids, "the configuration of "+host)
}

// Password gives the newest copy of a fileset's password, as Newest does.
func Password(ctx context.Context, b storage.Bucket, signers seal.Signers, ids seal.Identities, fileset string) (c Copy, problems []error, err error) {
	filesets, err := stored(ctx, b, passwords+fileset+"/")
	if err != nil {
		return Copy{}, nil, err
	}
	if len(filesets) == 0 {
		return Copy{}, nil, fault.New(fault.NotFound, "%s holds no password of a fileset %s", b, fileset)
	}
	return newest(ctx, b, filesets[fileset], signers, ids, "the password of "+fileset)
}

// stored are the keys below a prefix, oldest first, by the name of whose they are.
func stored(ctx context.Context, b storage.Bucket, prefix string) (map[string][]string, error) {
	keys := map[string][]string{}
	for info, err := range storage.Past(b).List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		if parts := strings.Split(info.Key, "/"); len(parts) == 3 {
			keys[parts[1]] = append(keys[parts[1]], info.Key)
		}
	}
	return keys, nil
}

func newest(ctx context.Context, b storage.Bucket, keys []string, signers seal.Signers, ids seal.Identities, what string) (c Copy, problems []error, err error) {
	b = storage.Past(b)
	slices.Sort(keys)
	for _, key := range slices.Backward(keys) {
		err := storage.ReadVersions(ctx, b, key, limit, func(object []byte) (err error) {
			c, err = open(object, signers, key)
			return err
		})
		switch {
		case errors.Is(err, fault.Forged), errors.Is(err, fault.Damaged), errors.Is(err, fault.Unsupported):
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
			continue
		case err != nil:
			return Copy{}, problems, err
		}
		c.Text, err = seal.OpenSmall(c.Sealed, ids, limit)
		if errors.Is(err, seal.ErrWrongIdentity) {
			err = fault.New(fault.WrongKey, "%s: %s does not open with this identity: %w", key, what, err).WithRemedy("It was sealed to %s.", strings.Join(c.Recipients, ", "))
		}
		return c, problems, err
	}
	return Copy{}, problems, fault.New(fault.Forged, "no copy of %s in %s is signed by a pinned key: %w", what, b, errors.Join(problems...)).
		WithRemedy("The key must be pinned for %s in allowed_signers.", seal.NamespaceConfiguration)
}

// open verifies a copy that lies under key.
func open(object []byte, signers seal.Signers, key string) (c Copy, err error) {
	_, _, err = signers.Verify(seal.NamespaceConfiguration, object, func(text []byte) (seal.Claim, error) {
		if err := seal.Decode(text, &c); err != nil {
			return seal.Claim{}, fmt.Errorf("%w: %w", seal.ErrForged, err)
		}
		return seal.Claim{At: c.TakenAt, Host: c.Host, Database: c.Fileset}, nil
	})
	switch {
	case err != nil:
		return Copy{}, fault.New(fault.Forged, "copy: %w", err)
	case c.Format > format || len(c.Critical) > 0:
		return Copy{}, fault.New(fault.Unsupported, "the copy is of format %d and needs %q, and this emsafe knows format %d", c.Format, c.Critical, format)
	case c.key() != key:
		return Copy{}, fault.New(fault.Forged, "the copy is signed, but for %s: it was copied there", c.key())
	}
	return c, nil
}
