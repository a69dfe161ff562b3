package restore

import (
	"context"
	"errors"
	"fmt"

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
	Unverified int // payloads of which only presence and size were looked at
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
	c, err := catalog.Open(ctx, bucket, signers)
	if err != nil {
		return nil, err
	}
	v := &Verification{Target: t.Name, Database: database}
	chain := c.Chain(database)
	sequences, err := chain.Sequences(ctx, 0)
	if err != nil {
		return nil, err
	}
	results, err := chain.Walk(ctx, sequences)
	if err != nil {
		return nil, err
	}
	v.Manifests = len(results)
	v.Problems = catalog.Links(results, 1)
	if n := len(results); n > 0 && results[n-1].Entry != nil {
		v.Head = results[n-1].Entry.Head()
	}
	if known := depth.Remembered[c.Repository]; v.Head.Sequence < known.Sequence {
		v.Problems = append(v.Problems, fault.New(fault.RolledBack, "the newest manifest is number %d, and number %d is known to exist", v.Head.Sequence, known.Sequence))
	}
	if len(results) == 0 && len(v.Problems) == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no backup of %s", bucket, database)
	}
	return v, v.payloads(ctx, chain, results, depth)
}

// payloads looks at every payload that a good manifest names.
func (v *Verification) payloads(ctx context.Context, chain *catalog.Chain, results []catalog.Result, depth Depth) error {
	sizes := map[string]int64{}
	for info, err := range chain.Bucket.List(ctx, "databases/"+v.Database+"/payloads/", "") {
		if err != nil {
			return err
		}
		sizes[info.Key] = info.Size
	}
	var total, before int64
	for _, r := range results {
		if r.Entry != nil && (depth.Only == "" || r.Entry.ID == depth.Only) {
			total += r.Entry.Payload.Size
		}
	}
	for _, r := range results {
		e := r.Entry
		if e == nil || depth.Only != "" && e.ID != depth.Only {
			continue
		}
		size, there := sizes[e.Payload.Key]
		switch {
		case !there:
			v.problem(fault.New(fault.Damaged, "backup %s (number %d): its payload %s is missing", e.ID, e.Sequence, e.Payload.Key))
			continue
		case size != e.Payload.Size:
			v.problem(fault.New(fault.Damaged, "backup %s (number %d): its payload has %d bytes, not %d", e.ID, e.Sequence, size, e.Payload.Size))
			continue
		case !depth.ReadData && !depth.Open:
			v.Unverified++
			continue
		}
		report := func(done, _ int64) {
			if depth.Progress != nil {
				depth.Progress(before+done, total)
			}
		}
		err := v.read(ctx, chain, e, depth, report)
		before += e.Payload.Size
		if err != nil && !wrongBackup(err) {
			return err
		}
		if err != nil {
			v.problem(err)
		}
	}
	return nil
}

func (v *Verification) problem(err error) { v.Problems = append(v.Problems, err) }

// wrongBackup tells a bad backup, which is a finding, from a failed look.
func wrongBackup(err error) bool {
	return errors.Is(err, fault.Damaged) || errors.Is(err, fault.Corrupt)
}

// read compares one payload's bytes, and its content if there is an identity.
func (v *Verification) read(ctx context.Context, chain *catalog.Chain, e *catalog.Entry, depth Depth, report func(done, total int64)) error {
	v.Bytes += e.Payload.Size
	if depth.Open {
		if err := Open(ctx, chain, e, depth.Identities, seal.Discard); err != nil {
			return err
		}
		report(e.Payload.Size, e.Payload.Size)
		v.Opened++
		v.Payloads++
		return nil
	}
	r, err := chain.Bucket.Open(ctx, e.Payload.Key, 0, e.Payload.Size)
	if err != nil {
		return err
	}
	defer r.Close()
	err = e.Payload.Compare(r, func(done int64) { report(done, e.Payload.Size) })
	if errors.Is(err, seal.ErrDamaged) {
		return fault.New(fault.Damaged, "backup %s (number %d), %s: %w", e.ID, e.Sequence, e.Payload.Key, err)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Payload.Key, err)
	}
	v.Payloads++
	return nil
}
