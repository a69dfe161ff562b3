package backup

import (
	"context"
	"errors"
	"fmt"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// A bucket with versions keeps what somebody deletes or overwrites in it, and
// whoever restores reads the oldest version of everything. So must whoever backs
// up: what it began anew over something hidden could never be read.

// openPast opens the repository as it was before anybody deleted or overwrote
// in the bucket. The document itself is first asked for plainly, which costs one
// request less.
func (s *shipper) openPast(ctx context.Context, bucket storage.Bucket) (*catalog.Catalog, error) {
	past := storage.Past(bucket)
	c, err := catalog.Open(ctx, struct{ storage.Bucket }{bucket}, s.job.Signers) // without its versions
	if !errors.Is(err, fault.NotFound) && !errors.Is(err, fault.Forged) {
		if err == nil {
			c.Bucket = past
		}
		return c, err
	}
	c, perr := catalog.Open(ctx, past, s.job.Signers)
	switch {
	case errors.Is(perr, fault.NotFound):
		return nil, err
	case perr == nil:
		s.out.Alarm = fault.New(fault.RolledBack, "the repository document in %s was deleted or overwritten: %w", bucket, err).
			WithSafe("The bucket kept it, and backups go on as if it were there.").
			WithRemedy("`emsafe verify` tells what else was done. Find out whose credentials did it, and change them; then remove the delete markers and the later versions.")
		return c, nil
	case errors.Is(err, fault.NotFound) && errors.Is(perr, fault.Forged):
		return nil, fault.New(fault.Forged, "an earlier repository that the pinned keys did not sign lies under delete markers in %s, and would be what is read: %w", bucket, perr).
			WithRemedy("Take another prefix, or remove all versions of what lies below this one.")
	}
	return nil, perr
}

// newest is the highest sequence in the target, but at least the one that is
// known. That one is listed too, without another request: somebody may have
// hidden it.
func (s *shipper) newest(ctx context.Context, known catalog.Head) (uint64, error) {
	n, err := s.chain.Newest(ctx, known.Sequence-min(1, known.Sequence))
	return max(n, known.Sequence), err
}

// tell makes an alarm of what somebody did to manifests that were looked at.
func (s *shipper) tell() {
	s.out.Alarm = errors.Join(append([]error{s.out.Alarm}, s.chain.Tampered()...)...)
}

// relock locks anew what must outlive single backups, several times in the term
// of the lock. A lock is only ever made longer: where the term was shortened,
// what there is holds.
func (s *shipper) relock(ctx context.Context, e *catalog.Entry) {
	if e.LockedUntil.IsZero() || e.LockedUntil.Sub(s.memory.relocked(s.target)) < e.LockedUntil.Sub(e.CommittedAt)/relockShare {
		return
	}
	if err := s.chain.Relock(ctx, s.job.Database); err != nil {
		s.out.Alarm = errors.Join(s.out.Alarm, fmt.Errorf("the lock of the repository document could not be renewed: %w", err))
		return
	}
	s.memory.relock(s.target, e.LockedUntil)
}

// relockShare is how many times in the term of a lock it is renewed.
const relockShare = 8
