package backup

import (
	"context"
	"errors"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// Credentials that may put and list, and neither read nor delete, are the best
// that a host can have: who takes it gets no past and destroys none. The chain
// then goes on from what this host remembers, and the listing alone is held
// against it.

// openUnseen prepares the chain of a target that refused to be read with err.
func (s *shipper) openUnseen(ctx context.Context, bucket storage.Bucket, err error) error {
	s.unseen = true
	known := s.memory.headOf(s.target, "")
	if !known.IsZero() && !s.job.TakeOver {
		s.chain = catalog.Trusted(bucket, known.Repository, s.job.Signers).Chain(s.job.Database)
		if err := s.findHeadUnseen(ctx); err != nil {
			return err
		}
		s.tell()
		return nil
	}
	id := s.memory.pended(s.target).Head.Repository
	if id == "" || s.job.TakeOver {
		id = random(16)
		c, cerr := catalog.CreateUnseen(ctx, bucket, s.job.Key, s.job.Signers, id, s.job.Host, s.job.Now())
		if errors.Is(cerr, storage.ErrExists) {
			return fault.New(fault.Credentials, "%s holds a repository that this host knows nothing of, and the credentials may not read it: %w", bucket, err).
				WithRemedy("Back up once with credentials that may read; from then on those that may only put and list are enough.")
		}
		if cerr != nil {
			return cerr
		}
		if err := s.memory.found(s.target, id); err != nil {
			return err
		}
		s.chain = c.Chain(s.job.Database)
	} else {
		s.chain = catalog.Trusted(bucket, id, s.job.Signers).Chain(s.job.Database)
	}
	return s.findHeadUnseen(ctx)
}

// findHeadUnseen holds the listing against what is remembered.
func (s *shipper) findHeadUnseen(ctx context.Context) error {
	known, pended := s.memory.headOf(s.target, s.chain.Repository), s.memory.pended(s.target)
	newest, err := s.newest(ctx, known)
	if err != nil {
		return err
	}
	s.memory.looked(s.target, catalog.Look{Address: s.chain.Bucket.String(), At: s.job.Now().UTC()})
	if pended.Head.Repository == s.chain.Repository && pended.Head.Sequence == known.Sequence+1 && newest == pended.Head.Sequence {
		size, err := s.chain.Stored(ctx, newest)
		if err != nil {
			return err
		}
		if size == pended.Size { // the reply was lost, or the process killed
			if err := s.memory.arrived(s.target); err != nil {
				return err
			}
			known = pended.Head
		}
	}
	if newest > known.Sequence {
		return fault.New(fault.Foreign, "%s holds manifest %d of %s, this host committed up to %d, and its credentials may not read what the others are", s.chain.Bucket, newest, s.job.Database, known.Sequence)
	}
	if s.head = known; known.IsZero() {
		s.head = catalog.Head{Repository: s.chain.Repository}
		return nil
	}
	size, err := s.chain.Stored(ctx, known.Sequence)
	if err == nil && size == 0 {
		s.out.Alarm = fault.New(fault.RolledBack, "manifest %d, which this host committed, is not in %s any more", known.Sequence, s.chain.Bucket).
			WithSafe("The new backup is committed and chained to the remembered manifest %s.", known)
		s.memory.forget(s.target)
	}
	return err
}
