// Package catalog is what a target keeps: signed manifests, chained per
// database, and the payloads they describe. [Create] and [Open] give a
// [Catalog]; [Catalog.Chain] one database's manifests; [Chain.Add] commits and
// [Chain.Find] and [Chain.Walk] read.
//
// A manifest that comes out of this package was signed by a pinned key for
// exactly the repository, database and sequence that it was asked for.
// Whether the chain between manifests holds is [Links]' answer.
package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

// Format is the version of the target's layout that this package writes.
// Readers accept every earlier one.
const Format = 1

const (
	repositoryKey = "repository.json"
	maxRepository = 64 << 10
	// maxManifest allows for the part hashes of a payload of almost 4 TiB: 67
	// bytes for every 8 MiB.
	maxManifest = 32 << 20
)

// Catalog is one target's content, read with the pinned signers.
type Catalog struct {
	Bucket     storage.Bucket
	Repository string // id
	signers    seal.Signers
}

// header is what every signed document begins with.
type header struct {
	Format   int      `json:"format"`
	Critical []string `json:"critical,omitempty"`
}

// check refuses what a newer emsafe wrote and marked as not to be ignored.
func (h header) check(key string) error {
	if h.Format < 1 || h.Format > Format {
		return fault.New(fault.Unsupported, "%s has format %d; this emsafe reads up to %d", key, h.Format, Format)
	}
	if len(h.Critical) > 0 {
		return fault.New(fault.Unsupported, "%s needs %q, which this emsafe does not know", key, h.Critical)
	}
	return nil
}

type repository struct {
	header
	Repository string    `json:"repository"`
	Host       string    `json:"host"`
	CreatedAt  time.Time `json:"created_at"`
}

// Create writes the repository document if the target has none, and opens it.
// id must be fresh; it is used only if the target was empty.
func Create(ctx context.Context, b storage.Bucket, key *seal.SigningKey, signers seal.Signers, id, host string, now time.Time) (*Catalog, error) {
	c, err := Open(ctx, b, signers)
	if !errors.Is(err, fault.NotFound) {
		return c, err
	}
	if err := found(ctx, b, key, id, host, now); err != nil && !errors.Is(err, storage.ErrExists) {
		return nil, err
	}
	return Open(ctx, b, signers)
}

// CreateUnseen is Create for one who may not read: the error wraps
// storage.ErrExists if there is a repository, or in the past of the bucket was
// one, which would be what is read.
func CreateUnseen(ctx context.Context, b storage.Bucket, key *seal.SigningKey, signers seal.Signers, id, host string, now time.Time) (*Catalog, error) {
	for info, err := range b.List(ctx, repositoryKey, "") {
		if err != nil {
			return nil, err
		}
		if info.Key == repositoryKey {
			return nil, fmt.Errorf("create %s in %s: %w", repositoryKey, b, storage.ErrExists)
		}
	}
	if err := found(ctx, b, key, id, host, now); err != nil {
		return nil, err
	}
	return Trusted(b, id, signers), nil
}

// found stores a fresh repository document.
func found(ctx context.Context, b storage.Bucket, key *seal.SigningKey, id, host string, now time.Time) error {
	object, err := sign(key, seal.NamespaceRepository, repository{header{Format: Format}, id, host, now.UTC().Truncate(time.Millisecond)})
	if err != nil {
		return err
	}
	return create(ctx, b, repositoryKey, object)
}

// Open reads and verifies the repository document. The error is a
// fault.NotFound if the target was never initialised.
func Open(ctx context.Context, b storage.Bucket, signers seal.Signers) (*Catalog, error) {
	var doc repository
	err := storage.ReadVersions(ctx, b, repositoryKey, maxRepository, func(object []byte) error {
		doc = repository{}
		return verify(signers, seal.NamespaceRepository, repositoryKey, object, &doc, func() (header, seal.Claim) { return doc.header, seal.Claim{At: doc.CreatedAt, Host: doc.Host} })
	})
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the target %s holds no emsafe repository", b).
			WithRemedy("Check the target's url and prefix; the first `emsafe backup` makes the repository.")
	}
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", b, err)
	}
	return &Catalog{Bucket: b, Repository: doc.Repository, signers: signers}, nil
}

// Trusted is a catalog whose repository document is not looked at: for one who
// knows it, and commits with a name that refuses to be taken twice.
func Trusted(b storage.Bucket, repository string, signers seal.Signers) *Catalog {
	return &Catalog{Bucket: b, Repository: repository, signers: signers}
}

// Relock locks anew what must outlive single backups, in a target that locks:
// the repository document, and a database's prune records.
func (c *Catalog) Relock(ctx context.Context, database string) error {
	l, ok := c.Bucket.(storage.Locking)
	if !ok {
		return nil
	}
	if err := l.Relock(ctx, repositoryKey); err != nil {
		return err
	}
	for info, err := range c.Bucket.List(ctx, prunePrefix(database), "") {
		if err != nil {
			return err
		}
		if err := l.Relock(ctx, info.Key); err != nil {
			return err
		}
	}
	return nil
}

// Databases lists the names that the target holds manifests for.
func (c *Catalog) Databases(ctx context.Context) ([]string, error) {
	var names []string
	after := ""
	for {
		name := ""
		for info, err := range c.Bucket.List(ctx, "databases/", after) {
			if err != nil {
				return nil, err
			}
			if name = databaseOf(info.Key); name != "" {
				break
			}
		}
		if name == "" {
			return names, nil
		}
		names = append(names, name)
		after = "databases/" + name + "/~" // behind every key of this database
	}
}

// create stores a small object whole.
func create(ctx context.Context, b storage.Bucket, key string, object []byte) error {
	_, err := b.Create(ctx, key, bytes.NewReader(object), int64(len(object)))
	return err
}

// sign makes a signed object: indented JSON, a newline, the signature.
func sign(key *seal.SigningKey, namespace string, doc any) ([]byte, error) {
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return key.Sign(namespace, append(text, '\n'))
}

// verify checks the signature and decodes the text into doc; head then gives
// doc's header and what it claims. Errors are faults and name key.
func verify(signers seal.Signers, namespace, key string, object []byte, doc any, head func() (header, seal.Claim)) error {
	_, _, err := signers.Verify(namespace, object, func(text []byte) (seal.Claim, error) {
		if err := seal.Decode(text, doc); err != nil {
			return seal.Claim{}, fault.New(fault.Damaged, "%s: %v", key, err)
		}
		h, claim := head()
		return claim, h.check(key)
	})
	if errors.Is(err, seal.ErrForged) {
		return fault.New(fault.Forged, "%s: %w", key, err).
			WithRemedy("The pinned keys are %q. If one of them is right, somebody wrote to the target or the object is damaged; `emsafe verify` tells which others hold.", slices.Sorted(slices.Values(signers.Principals())))
	}
	return err
}
