package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

// Chain is one database's manifests in one target.
type Chain struct {
	*Catalog
	Database string
	Alone    bool // read every manifest's own object, never a segment

	past tampered
}

// Chain returns the manifests of one database; it need not exist yet.
func (c *Catalog) Chain(database string) *Chain { return &Chain{Catalog: c, Database: database} }

// Read fetches and verifies one manifest. The error is a fault.NotFound if
// there is none of that sequence.
func (ch *Chain) Read(ctx context.Context, sequence uint64) (*Entry, error) {
	key := manifestKey(ch.Database, sequence)
	var e *Entry
	err := storage.ReadVersions(ctx, ch.Bucket, key, maxManifest, func(object []byte) (err error) {
		if e, err = ch.parse(object, sequence); err == nil {
			e.Object = object
		}
		return err
	})
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "%s: manifest %d of %s is not there", ch.Bucket, sequence, ch.Database)
	}
	return e, err
}

// parse verifies the object that lies at a sequence.
func (ch *Chain) parse(object []byte, sequence uint64) (*Entry, error) {
	key := manifestKey(ch.Database, sequence)
	e := &Entry{Digest: seal.Sum(object)}
	err := verify(ch.signers, seal.NamespaceManifest, key, object, &e.Manifest,
		func() (header, seal.Claim) {
			return e.header, seal.Claim{At: e.CommittedAt, Host: e.Host, Database: e.Database}
		})
	if err == nil {
		err = e.check(ch.Catalog, ch.Database, sequence)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// listStep is how many sequences one listing is expected to cover: what an S3
// page holds.
const listStep = 1000

// Newest returns the highest sequence in the target that is above known, or
// known itself if there is none. It searches: with a hundred thousand
// manifests it lists a few dozen pages, not all.
func (ch *Chain) Newest(ctx context.Context, known uint64) (uint64, error) {
	lo, step := known, uint64(listStep)
	for {
		seq, err := ch.above(ctx, lo+step)
		if err != nil {
			return 0, err
		}
		if seq == 0 {
			break
		}
		lo, step = seq, step*2
	}
	for hi := lo + step; hi-lo > listStep; {
		mid := lo + (hi-lo)/2
		seq, err := ch.above(ctx, mid)
		if err != nil {
			return 0, err
		}
		if seq == 0 {
			hi = mid
		} else {
			lo = seq
		}
	}
	sequences, err := ch.Sequences(ctx, lo)
	if err != nil {
		return 0, err
	}
	if n := len(sequences); n > 0 {
		lo = sequences[n-1]
	}
	return lo, nil
}

// above returns the lowest sequence above n, or 0.
func (ch *Chain) above(ctx context.Context, n uint64) (uint64, error) {
	for info, err := range ch.Bucket.List(ctx, manifestPrefix(ch.Database), manifestKey(ch.Database, n)) {
		if err != nil {
			return 0, err
		}
		seq, ok := sequenceOf(ch.Database, info.Key)
		if !ok {
			continue
		}
		gone, err := ch.removed(ctx, seq, info)
		if err != nil {
			return 0, err
		}
		if !gone && !ch.isStrange(ctx, seq) {
			return seq, nil
		}
	}
	return 0, nil
}

// Sequences lists the sequences above after, ascending.
func (ch *Chain) Sequences(ctx context.Context, after uint64) ([]uint64, error) {
	return ch.between(ctx, after, math.MaxUint64)
}

// between lists the sequences above low up to high, ascending.
func (ch *Chain) between(ctx context.Context, low, high uint64) ([]uint64, error) {
	var out []uint64
	for info, err := range ch.Bucket.List(ctx, manifestPrefix(ch.Database), manifestKey(ch.Database, low)) {
		if err != nil {
			return nil, err
		}
		seq, ok := sequenceOf(ch.Database, info.Key)
		if ok && seq > high {
			break
		}
		if !ok {
			continue
		}
		gone, err := ch.removed(ctx, seq, info)
		if err != nil {
			return nil, err
		}
		if !gone {
			out = append(out, seq)
		}
	}
	// Beyond the end of the chain may lie what only looks like it.
	for len(out) > 0 && ch.isStrange(ctx, out[len(out)-1]) {
		out = out[:len(out)-1]
	}
	return out, nil
}

// Add signs m as the manifest after head, and commits it.
func (ch *Chain) Add(ctx context.Context, key *seal.SigningKey, head Head, m Manifest) (*Entry, error) {
	e, err := ch.Sign(key, head, m)
	if err == nil {
		err = ch.Commit(ctx, e)
	}
	return e, err
}

// Sign makes m the manifest after head: it fills in repository, database,
// sequence and previous, and signs.
func (ch *Chain) Sign(key *seal.SigningKey, head Head, m Manifest) (*Entry, error) {
	m.header = header{Format: Format}
	m.Repository, m.Database = ch.Repository, ch.Database
	m.Sequence, m.Previous = head.Sequence+1, head.Digest
	if err := m.check(ch.Catalog, ch.Database, m.Sequence); err != nil {
		return nil, fmt.Errorf("manifest that this program made: %w", err)
	}
	object, err := sign(key, seal.NamespaceManifest, m)
	if err != nil {
		return nil, err
	}
	if len(object) > maxManifest {
		return nil, fault.New(fault.Unsupported, "the manifest of %s has %d bytes, and readers accept %d: the sealed database has %d parts", m.ID, len(object), maxManifest, len(m.Payload.Parts))
	}
	return &Entry{Manifest: m, Digest: seal.Sum(object), Object: object}, nil
}

// Commit creates the object of a manifest that Sign made. When it returns nil
// the backup exists. The error wraps storage.ErrExists if another writer
// committed that sequence first. The payload must be stored already.
func (ch *Chain) Commit(ctx context.Context, e *Entry) error {
	name := manifestKey(ch.Database, e.Sequence)
	err := create(ctx, ch.Bucket, name, e.Object)
	if errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrUnsettled) {
		// A lost reply: what is there may be ours, byte for byte.
		there, rerr := storage.ReadAll(ctx, ch.Bucket, name, maxManifest)
		if rerr == nil && bytes.Equal(there, e.Object) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("commit manifest %d: %w", e.Sequence, err)
	}
	return nil
}

// Stored is the size of the manifest of a sequence, by the listing alone; 0 if
// there is none.
func (ch *Chain) Stored(ctx context.Context, sequence uint64) (int64, error) {
	key := manifestKey(ch.Database, sequence)
	for info, err := range ch.Bucket.List(ctx, key, "") {
		if err != nil {
			return 0, err
		}
		if info.Key == key {
			return info.Size, nil
		}
	}
	return 0, nil
}

// Has reports whether a number's manifest is there. It does not read it.
func (c *Chain) Has(ctx context.Context, sequence uint64) (bool, error) {
	key := manifestKey(c.Database, sequence)
	for info, err := range c.Bucket.List(ctx, key, "") {
		if err != nil {
			return false, err
		}
		if info.Key == key {
			return true, nil
		}
	}
	return false, nil
}
