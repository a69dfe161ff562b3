// Package hostconf keeps copies of a host's configuration in its targets: each
// is sealed to the recipients of the backups and signed by the host. With one, a
// machine that has neither the host nor its disk knows what was backed up and
// how it is to be checked. Nothing of a copy is used before its signature holds.
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
	format = 1
	prefix = "configurations/" // HOST/ID
	limit  = 4 << 20           // bytes of an object; a configuration has some thousands
	stamp  = "20060102T150405.000Z"
)

// Copy is a configuration as a host had it.
type Copy struct {
	Format     int       `json:"format"`
	Critical   []string  `json:"critical,omitempty"`
	Host       string    `json:"host"`
	ID         string    `json:"id"`
	TakenAt    time.Time `json:"taken_at"`
	File       string    `json:"file"` // where the host keeps it
	Recipients []string  `json:"recipients"`
	Sealed     []byte    `json:"sealed"` // an age file

	Text []byte `json:"-"` // what was sealed
}

func (c Copy) key() string { return prefix + c.Host + "/" + c.ID }

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

// Newest gives the newest copy that is signed by a pinned key, opened. Without a
// host there must be one only. What cannot be verified is passed over, and is a
// problem each.
func Newest(ctx context.Context, b storage.Bucket, signers seal.Signers, ids seal.Identities, host string) (c Copy, problems []error, err error) {
	b = storage.Past(b)
	keys := map[string][]string{}
	for info, err := range b.List(ctx, prefix, "") {
		if err != nil {
			return Copy{}, nil, err
		}
		if of, _, ok := strings.Cut(info.Key[len(prefix):], "/"); ok {
			keys[of] = append(keys[of], info.Key)
		}
	}
	hosts := slices.Sorted(maps.Keys(keys))
	switch {
	case len(hosts) == 0:
		return Copy{}, nil, fault.New(fault.NotFound, "%s holds no copy of a configuration", b).
			WithRemedy("A host puts one there with its next backup after its configuration changed. Until then bring its configuration here, and give it with --config.")
	case host == "" && len(hosts) > 1:
		return Copy{}, nil, fault.New(fault.Usage, "%s holds configurations of several hosts: %s", b, strings.Join(hosts, ", ")).WithRemedy("Name one with --host.")
	case host == "":
		host = hosts[0]
	case !slices.Contains(hosts, host):
		return Copy{}, nil, fault.New(fault.NotFound, "%s holds no copy of a configuration of host %s", b, host).WithRemedy("It has those of: %s.", strings.Join(hosts, ", "))
	}
	found := keys[host]
	slices.Sort(found)
	for _, key := range slices.Backward(found) {
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
			err = fault.New(fault.WrongKey, "%s: the configuration does not open with this identity: %w", key, err).WithRemedy("It was sealed to %s.", strings.Join(c.Recipients, ", "))
		}
		return c, problems, err
	}
	return Copy{}, problems, fault.New(fault.Forged, "no copy of the configuration of %s in %s is signed by a pinned key: %w", host, b, errors.Join(problems...)).
		WithRemedy("The key must be pinned for %s in allowed_signers.", seal.NamespaceConfiguration)
}

// open verifies a copy that lies under key.
func open(object []byte, signers seal.Signers, key string) (c Copy, err error) {
	_, _, err = signers.Verify(seal.NamespaceConfiguration, object, func(text []byte) (time.Time, error) {
		if err := json.Unmarshal(text, &c); err != nil {
			return time.Time{}, fmt.Errorf("%w: %w", seal.ErrForged, err)
		}
		return c.TakenAt, nil
	})
	switch {
	case err != nil:
		return Copy{}, fault.New(fault.Forged, "configuration: %w", err)
	case c.Format > format || len(c.Critical) > 0:
		return Copy{}, fault.New(fault.Unsupported, "the copy is of format %d and needs %q, and this emsafe knows format %d", c.Format, c.Critical, format)
	case c.key() != key:
		return Copy{}, fault.New(fault.Forged, "the copy is signed, but for %s: it was copied there", c.key())
	}
	return c, nil
}
