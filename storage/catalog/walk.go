package catalog

import (
	"context"
	"errors"
	"sync"

	"emsafe/internal/fault"
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
// chain must begin with, 0 for any.
func Links(results []Result, first uint64) []error {
	var problems []error
	broken := func(format string, args ...any) {
		problems = append(problems, fault.New(fault.BrokenChain, format, args...))
	}
	expect := first
	var last *Entry
	for _, r := range results {
		if expect != 0 && r.Sequence != expect {
			if expect == r.Sequence-1 {
				broken("manifest %d is missing", expect)
			} else {
				broken("manifests %d to %d are missing", expect, r.Sequence-1)
			}
			last = nil
		}
		if r.Err != nil {
			problems = append(problems, r.Err)
			last = nil
		} else {
			if last != nil && r.Entry.Previous != last.Digest {
				broken("manifest %d says that %s came before it, but %d is %s", r.Sequence, r.Entry.Previous, last.Sequence, last.Digest)
			}
			if r.Sequence == 1 && !r.Entry.Previous.IsZero() {
				broken("manifest 1 names a manifest before it")
			}
			last = r.Entry
		}
		expect = r.Sequence + 1
	}
	return problems
}
