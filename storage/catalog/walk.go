package catalog

import (
	"context"
	"errors"
	"sync"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

// walkers is how many manifests are read at once.
const walkers = 8

// Result is what reading one sequence gave.
type Result struct {
	Sequence uint64
	Entry    *Entry // nil if Err is set
	Err      error
}

// Walk reads and verifies the manifests of the sequences, in parallel, and
// returns one result each, in their order. A manifest that is damaged or
// forged is a result with its error and does not hide the others; errors of
// the target itself end the walk.
func (ch *Chain) Walk(ctx context.Context, sequences []uint64) ([]Result, error) {
	results := make([]Result, len(sequences))
	known := ch.segments(ctx, sequences)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var group sync.WaitGroup
	for range min(walkers, len(sequences)) {
		group.Go(func() {
			for i := range next {
				e, err := ch.Read(ctx, sequences[i])
				if err != nil && !ofObject(err) {
					cancel(err)
				}
				results[i] = Result{sequences[i], e, err}
			}
		})
	}
	for i, n := range sequences {
		if e := known[n]; e != nil {
			results[i] = Result{n, e, nil}
			continue
		}
		next <- i
	}
	close(next)
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return results, nil
}

// ofObject tells an error that belongs to one object from one of the target.
func ofObject(err error) bool {
	for _, k := range []*fault.Kind{fault.Damaged, fault.Forged, fault.Unsupported, fault.NotFound} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// Links holds consecutive results against each other, oldest first, and
// returns what does not fit: a manifest that could not be read, a gap, a
// previous digest that is not the one before. first is the sequence that the
// chain must begin with, 0 for any. [Chain.Links] knows of pruned manifests.
func Links(results []Result, first uint64) []error { return links(results, first, nil) }

func links(results []Result, first uint64, pruned bridges) []error {
	var problems []error
	broken := func(format string, args ...any) {
		problems = append(problems, fault.New(fault.BrokenChain, format, args...))
	}
	// What the next manifest must be, and what it must name; a digest is known
	// where the one before was read, or at the very beginning.
	expect, before, known := first, seal.Digest{}, first == 1
	for _, r := range results {
		if expect != 0 && r.Sequence != expect {
			if next, d := pruned.lead(expect, before); known && next == r.Sequence {
				before = d
			} else {
				if known {
					expect = next
				}
				if expect == r.Sequence-1 {
					broken("manifest %d is missing", expect)
				} else {
					broken("manifests %d to %d are missing", expect, r.Sequence-1)
				}
				known = false
			}
		}
		expect = r.Sequence + 1
		if r.Err != nil {
			problems = append(problems, r.Err)
			known = false
			continue
		}
		if known && r.Entry.Previous != before {
			if r.Sequence == 1 {
				broken("manifest 1 names a manifest before it")
			} else {
				broken("manifest %d says that %s came before it, but that is %s", r.Sequence, r.Entry.Previous, before)
			}
		} else if r.Sequence == 1 && !r.Entry.Previous.IsZero() {
			broken("manifest 1 names a manifest before it")
		}
		before, known = r.Entry.Digest, true
	}
	return problems
}
