package catalog

import (
	"context"
	"errors"
	"slices"

	"emsafe/internal/fault"
)

// Continues is an error unless the chain holds the head that is known, as it is
// known, and goes on from it to the manifest with the number newest. A head
// proves nothing else: what follows it may have been signed by anybody with
// the key.
func (ch *Chain) Continues(ctx context.Context, known Head, newest uint64) error {
	switch {
	case known.IsZero():
		return nil
	case newest < known.Sequence:
		return fault.New(fault.RolledBack, "the newest backup of %s in %s is number %d, and number %d is known to exist", ch.Database, ch.Bucket, newest, known.Sequence)
	}
	e, err := ch.Read(ctx, known.Sequence)
	if errors.Is(err, fault.NotFound) {
		return ch.prunedByRight(ctx, known)
	}
	if err != nil {
		return err
	}
	if e.Digest != known.Digest {
		return fault.New(fault.RolledBack, "number %d of %s in %s is %s, and was known as %s: its history was rewritten", known.Sequence, ch.Database, ch.Bucket, e.Digest, known.Digest)
	}
	sequences, err := ch.between(ctx, known.Sequence-1, newest)
	if err != nil {
		return err
	}
	results, err := ch.Walk(ctx, sequences)
	if err != nil {
		return err
	}
	if problems := ch.Links(ctx, results, 0); len(problems) > 0 {
		return problems[0]
	}
	return nil
}

// prunedByRight is an error unless a signed record says that the manifest of a
// head was removed.
func (ch *Chain) prunedByRight(ctx context.Context, known Head) error {
	records, err := ch.Prunes(ctx)
	if err != nil {
		return err
	}
	for _, p := range records {
		i := slices.IndexFunc(p.Removed, func(r Removed) bool { return r.First <= known.Sequence && known.Sequence <= r.Last })
		if i < 0 {
			continue
		}
		if r := p.Removed[i]; r.Last == known.Sequence && r.Manifest != known.Digest {
			return fault.New(fault.RolledBack, "number %d of %s, which prune record %d removed, was %s, and is known as %s: its history was rewritten", known.Sequence, ch.Database, p.Number, r.Manifest, known.Digest)
		}
		return nil
	}
	return fault.New(fault.RolledBack, "number %d of %s, which is known to exist, is not in %s, and no prune record says why", known.Sequence, ch.Database, ch.Bucket)
}
