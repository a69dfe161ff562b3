package backup

import (
	"context"
	"errors"
	"slices"

	"emsafe/internal/fault"
	"emsafe/storage/catalog"
)

// mostLag is how many manifests that are not remembered are looked at one by
// one.
const mostLag = 1000

// caughtUp deals with a target that is ahead of this host's memory, from the
// head that is known to the newest manifest. A process that was killed between
// a commit and its note leaves one backup that is still in the spool, or one
// heartbeat. Anything else was committed by somebody with an equal lineage: this
// host before its state came back from an older copy, or a thief of its key. Then
// nothing that is remembered as a parent is believed, because a prune may have
// removed it meanwhile, and nothing older waits for this target any more.
func (s *shipper) caughtUp(ctx context.Context, known catalog.Head, newest uint64) error {
	if err := s.chain.Continues(ctx, known, newest); errors.Is(err, fault.RolledBack) || errors.Is(err, fault.BrokenChain) {
		return fault.New(fault.RolledBack, "manifests in %s do not go on from what this host committed: %w", s.chain.Bucket, err).
			WithSafe("Nothing was committed to this target. The sealed backup waits in the spool.").
			WithRemedy("Somebody signs with this host's key, or the state folder is another host's. `emsafe verify` shows what is there. Replace the key (docs/keys.md) and take another prefix, or, if what is there is right, `emsafe backup --take-over`.")
	} else if err != nil {
		return err
	}
	unknown, err := s.unknown(ctx, known, newest)
	if err != nil || unknown == 0 {
		return err
	}
	s.memory.forget(s.target)
	for _, item := range s.waiting {
		s.memory.done(item, s.target)
	}
	s.out.Alarm = errors.Join(s.out.Alarm, fault.New(fault.StateBehind, "%s holds number %d of %s, and this host remembers number %d: it knows nothing of %d in between",
		s.chain.Bucket, newest, s.job.Database, known.Sequence, unknown))
	return nil
}

// unknown counts the manifests behind the known head that this host did not
// make, as far as it can tell.
func (s *shipper) unknown(ctx context.Context, known catalog.Head, newest uint64) (n int, err error) {
	if newest-known.Sequence > mostLag {
		return int(min(newest-known.Sequence, 1<<30)), nil //nolint:gosec // bounded
	}
	sequences, err := s.chain.Sequences(ctx, known.Sequence)
	if err != nil {
		return 0, err
	}
	results, err := s.chain.Walk(ctx, sequences)
	if err != nil {
		return 0, err
	}
	pended := s.memory.pended(s.target)
	for _, r := range results {
		mine := r.Entry != nil && (s.memory.isMade(r.Entry.ID) || r.Entry.Digest == pended.Head.Digest ||
			slices.ContainsFunc(s.waiting, func(item *spooled) bool { return item.ID == r.Entry.ID }))
		if !mine {
			n++
		}
	}
	return n, nil
}
