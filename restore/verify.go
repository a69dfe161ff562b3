package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// Verification is what Verify found in one target.
type Verification struct {
	Target     string
	Database   string
	Manifests  int
	Payloads   int   // whose bytes were read and matched
	Opened     int   // that were decrypted and matched page by page
	Bytes      int64 // read
	Head       catalog.Head
	Problems   []error
	Blind      error // why what was deleted or hidden could not be seen; nil if it could
	Unverified int   // payloads of which only presence and size were looked at
}

// Depth is how far Verify goes.
type Depth struct {
	ReadData   bool            // read every payload and compare its part hashes: needs no identity
	Identities seal.Identities // decrypt and compare page digests as well, if Open
	Open       bool
	Only       string                  // one backup's id, or "" for all
	Remembered map[string]catalog.Head // by repository id
	Progress   func(done, total int64)
}

// Verify reads one database's whole chain in one target, holds every manifest
// and link, and looks that every payload is there in the signed size. The
// error is for what kept it from looking; what is wrong with the backups is in
// Problems.
func Verify(ctx context.Context, t storage.Target, signers seal.Signers, database string, depth Depth) (*Verification, error) {
	bucket, err := t.Open(ctx)
	if err != nil {
		return nil, err
	}
	c, err := catalog.Open(ctx, storage.Past(bucket), signers)
	if err != nil {
		return nil, err
	}
	v := &Verification{Target: t.Name, Database: database}
	chain := c.Chain(database)
	chain.Alone = true
	sequences, err := chain.Sequences(ctx, 0)
	if err != nil {
		return nil, err
	}
	results, err := chain.Walk(ctx, sequences)
	if err != nil {
		return nil, err
	}
	v.Manifests = len(results)
	v.Blind = storage.Blind(chain.Bucket)
	v.Problems = append(chain.Tampered(), chain.Links(ctx, results, 1)...)
	if n := len(results); n > 0 && results[n-1].Entry != nil {
		v.Head = results[n-1].Entry.Head()
	}
	for _, err := range []error{
		sameRepository(depth.Remembered, t.Name, c.Repository),
		chain.Continues(ctx, depth.Remembered[c.Repository], v.Head.Sequence),
	} {
		if err != nil && !slices.ContainsFunc(v.Problems, func(p error) bool { return p.Error() == err.Error() }) {
			v.Problems = append(v.Problems, err)
		}
	}
	if len(results) == 0 && len(v.Problems) == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no backup of %s", bucket, database)
	}
	return v, v.payloads(ctx, chain, results, depth)
}

// payloads looks at every payload that a good manifest names, and at what
// deltas build on.
func (v *Verification) payloads(ctx context.Context, chain *catalog.Chain, results []catalog.Result, depth Depth) error {
	payloads, err := storedPayloads(ctx, chain)
	if err != nil {
		return err
	}
	v.parents(results)
	l := &looking{Verification: v, chain: chain, depth: depth, replay: newReplay(chain, depth.Identities, results)}
	wanted := l.choose(results)
	for _, e := range wanted {
		l.total += e.Payload.Size
	}
	for _, e := range wanted {
		stored, there := payloads[e.Payload.Key]
		if stored.Hidden || stored.Versions > 1 {
			v.problem(fault.New(fault.RolledBack, "backup %s (number %d): its payload was deleted or overwritten; the bucket kept it", e.ID, e.Sequence))
		}
		switch {
		case !there:
			v.problem(fault.New(fault.Damaged, "backup %s (number %d): its payload %s is missing", e.ID, e.Sequence, e.Payload.Key))
			continue
		case stored.Size != e.Payload.Size:
			v.problem(fault.New(fault.Damaged, "backup %s (number %d): its payload has %d bytes, not %d", e.ID, e.Sequence, stored.Size, e.Payload.Size))
			continue
		case !depth.ReadData && !depth.Open:
			v.Unverified++
			continue
		}
		err := l.read(ctx, e)
		l.before += e.Payload.Size
		if err != nil && !wrongBackup(err) {
			return err
		}
		if err != nil {
			v.problem(err)
		}
	}
	return nil
}

// looking is a verification that goes through the payloads.
type looking struct {
	*Verification
	chain         *catalog.Chain
	depth         Depth
	replay        *replay
	total, before int64
}

func (l *looking) progress(done int64) {
	if l.depth.Progress != nil {
		l.depth.Progress(l.before+done, l.total)
	}
}

// choose lists the backups with payloads that are looked at: all, or one and
// what it builds on.
func (l *looking) choose(results []catalog.Result) []*catalog.Entry {
	var only *catalog.Entry
	for _, r := range results {
		if r.Entry != nil && r.Entry.ID == l.depth.Only {
			only = r.Entry
		}
	}
	var wanted []*catalog.Entry
	for _, r := range results {
		if r.Entry != nil && r.Entry.Payload != nil && (l.depth.Only == "" || only != nil && only.Needs(r.Sequence)) {
			wanted = append(wanted, r.Entry)
		}
	}
	return wanted
}

// parents holds what backups build on against what is there.
func (v *Verification) parents(results []catalog.Result) {
	there := map[uint64]*catalog.Entry{}
	for _, r := range results {
		e := r.Entry
		if e == nil {
			continue
		}
		there[e.Sequence] = e
		if e.Parent == nil {
			continue
		}
		if p := there[e.Parent.Sequence]; p == nil || p.Digest != e.Parent.Manifest || p.ID != e.Parent.ID {
			v.problem(fault.New(fault.BrokenChain, "backup %s (number %d) builds on %s (number %d), which is not there", e.ID, e.Sequence, e.Parent.ID, e.Parent.Sequence))
		}
	}
}

func (v *Verification) problem(err error) { v.Problems = append(v.Problems, err) }

// wrongBackup tells a bad backup, which is a finding, from a failed look.
func wrongBackup(err error) bool {
	return errors.Is(err, fault.Damaged) || errors.Is(err, fault.Corrupt)
}

// read compares one payload's bytes, and its content if there is an identity.
func (l *looking) read(ctx context.Context, e *catalog.Entry) error {
	l.Bytes += e.Payload.Size
	if l.depth.Open {
		if err := l.replay.open(ctx, e); err != nil {
			return err
		}
		l.progress(e.Payload.Size)
		l.Opened++
		l.Payloads++
		return nil
	}
	r, err := l.chain.Bucket.Open(ctx, e.Payload.Key, 0, e.Payload.Size)
	if err != nil {
		return err
	}
	defer r.Close()
	err = e.Payload.Compare(r, l.progress)
	if errors.Is(err, seal.ErrDamaged) {
		return fault.New(fault.Damaged, "backup %s (number %d), %s: %w", e.ID, e.Sequence, e.Payload.Key, err)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Payload.Key, err)
	}
	l.Payloads++
	return nil
}

// replay opens backups in the order of the chain and keeps the page hashes of
// those that later ones build on, so that every payload is read once.
type replay struct {
	chain  *catalog.Chain
	ids    seal.Identities
	last   map[uint64]uint64 // by number, the last that builds on it
	hashes map[uint64][]seal.Digest
}

func newReplay(chain *catalog.Chain, ids seal.Identities, results []catalog.Result) *replay {
	r := &replay{chain, ids, map[uint64]uint64{}, map[uint64][]seal.Digest{}}
	for _, result := range results {
		if e := result.Entry; e != nil && e.Kind == catalog.KindDelta {
			r.last[e.Parent.Sequence] = e.Sequence
		}
	}
	return r
}

func (r *replay) open(ctx context.Context, e *catalog.Entry) error {
	var parent []seal.Digest
	if e.Parent != nil {
		if parent = r.hashes[e.Parent.Sequence]; parent == nil {
			return fault.New(fault.Damaged, "backup %s (number %d) cannot be put together: number %d, which it builds on, could not be opened", e.ID, e.Sequence, e.Parent.Sequence)
		}
		if r.last[e.Parent.Sequence] == e.Sequence {
			delete(r.hashes, e.Parent.Sequence)
		}
	}
	hashes, err := layer(r.chain, e, nil).Hashes(ctx, r.ids, parent)
	if err != nil {
		return explain(ctx, r.chain, e, r.ids, err)
	}
	if r.last[e.Sequence] > 0 {
		r.hashes[e.Sequence] = hashes
	}
	return nil
}
