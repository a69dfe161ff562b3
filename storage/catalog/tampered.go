package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// tampered is what the past of a bucket tells about a chain: manifests that
// somebody deleted or overwrote, and that are still there.
type tampered struct {
	badRecords []error // prune records that are not signed, or missing

	mu      sync.Mutex
	records []*Prune // once they were needed
	read    bool
	hidden  []uint64
	several []uint64
	strange map[uint64]bool // of those that lie under delete markers: signed by nobody
}

// isStrange reports whether what lies under a delete marker was never a manifest:
// no version of it is signed. Somebody put it there and somebody deleted it, and
// what is locked cannot be removed otherwise. Whoever may not read does not know.
func (ch *Chain) isStrange(ctx context.Context, sequence uint64) bool {
	t := &ch.past
	t.mu.Lock()
	hidden, known := slices.Contains(t.hidden, sequence), t.strange[sequence]
	t.mu.Unlock()
	if !hidden || known {
		return known
	}
	_, err := ch.Read(ctx, sequence)
	strange := errors.Is(err, fault.Forged) || errors.Is(err, fault.Damaged)
	t.mu.Lock()
	defer t.mu.Unlock()
	if strange {
		if t.strange == nil {
			t.strange = map[uint64]bool{}
		}
		t.strange[sequence] = true
		t.hidden = slices.DeleteFunc(t.hidden, func(n uint64) bool { return n == sequence })
	}
	return strange
}

// removed reports whether a manifest that a listing gives is gone by right: one
// that a signed record names, and that only a bucket which keeps the past still
// shows. Others that are hidden, or that have several versions, are noted.
func (ch *Chain) removed(ctx context.Context, sequence uint64, info storage.Info) (bool, error) {
	if !info.Hidden && info.Versions < 2 {
		return false, nil
	}
	t := &ch.past
	t.mu.Lock()
	defer t.mu.Unlock()
	if info.Hidden && !t.read {
		var err error
		if t.records, t.badRecords, err = ch.prunes(ctx); err != nil {
			return false, err
		}
		t.read = true
	}
	if t.strange[sequence] {
		return true, nil
	}
	note := func(list *[]uint64) {
		if !slices.Contains(*list, sequence) {
			*list = append(*list, sequence)
		}
	}
	if info.Hidden {
		if slices.ContainsFunc(t.records, func(p *Prune) bool { return p.Covers(sequence) }) {
			return true, nil
		}
		note(&t.hidden)
	}
	if info.Versions > 1 {
		note(&t.several)
	}
	return false, nil
}

// Tampered says what somebody did to manifests that were listed so far, and that
// the bucket kept: they count as they were committed.
func (ch *Chain) Tampered() []error {
	t := &ch.past
	t.mu.Lock()
	defer t.mu.Unlock()
	problems := slices.Clone(t.badRecords)
	add := func(list []uint64, what string) {
		if len(list) > 0 {
			slices.Sort(list)
			problems = append(problems, fault.New(fault.RolledBack, "%s of %s in %s %s (%s)", count(len(list), "manifest"), ch.Database, ch.Bucket, what, first(list)).
				WithSafe("The bucket kept them, and they are read as they were committed.").
				WithRemedy("Find out whose credentials did it, and change them; then remove the delete markers and the later versions."))
		}
	}
	add(t.hidden, "were deleted behind emsafe's back and lie under delete markers")
	add(slices.Collect(maps.Keys(t.strange)), "are signed by nobody, and were deleted: they do not count")
	add(t.several, "have several versions, of which the oldest counts")
	return problems
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// first names a few of many.
func first(list []uint64) string {
	if len(list) == 1 {
		return fmt.Sprintf("number %d", list[0])
	}
	return fmt.Sprintf("numbers %d to %d", list[0], list[len(list)-1])
}
