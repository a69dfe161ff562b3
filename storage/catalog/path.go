package catalog

import (
	"context"
	"errors"
	"time"

	"emsafe/internal/fault"
)

// Path reads what a restore of e goes through: the full backup first, then
// every delta on the way, e last (or, for a heartbeat, what it stands for).
// Every step is held against the digest that the one after it names. The error
// names the step that is missing, damaged, or another one than was meant.
func (ch *Chain) Path(ctx context.Context, e *Entry) ([]*Entry, error) {
	results, err := ch.Walk(ctx, e.Ancestors)
	if err != nil {
		return nil, err
	}
	path := make([]*Entry, len(results)+1)
	path[len(results)] = e
	for i := len(results) - 1; i >= 0; i-- {
		if err := follows(results[i], path[i+1], results[:i]); err != nil {
			return nil, &BrokenPath{results[i].Sequence, err}
		}
		path[i] = results[i].Entry
	}
	if path[0].Kind != KindFull {
		return nil, &BrokenPath{path[0].Sequence, fault.New(fault.BrokenChain, "backup %s (number %d) needs number %d, which is not a full backup", e.ID, e.Sequence, path[0].Sequence)}
	}
	steps := path[:0]
	for _, step := range path {
		if step.Kind != KindHeartbeat {
			steps = append(steps, step)
		}
	}
	if last := steps[len(steps)-1]; last.Content != e.Content {
		return nil, fault.New(fault.Damaged, "heartbeat %s (number %d) speaks of another database than %s, which it names", e.ID, e.Sequence, last.ID)
	}
	return steps, nil
}

// LockedUntil is until when Object Lock keeps every step of a path, and so the
// backup that it leads to; zero if one of them is not locked.
func LockedUntil(path []*Entry) time.Time {
	var until time.Time
	for i, e := range path {
		if i == 0 || e.LockedUntil.Before(until) {
			until = e.LockedUntil
		}
	}
	return until
}

// follows is an error unless what was read is the parent that child names.
func follows(r Result, child *Entry, before []Result) error {
	kind, where := fault.BrokenChain, "backup %s (number %d) needs %s (number %d): %w"
	switch {
	case errors.Is(r.Err, fault.NotFound):
		return fault.New(kind, where, child.ID, child.Sequence, child.Parent.ID, child.Parent.Sequence, errors.New("its manifest is missing"))
	case r.Err != nil:
		return fault.New(kind, where, child.ID, child.Sequence, child.Parent.ID, child.Parent.Sequence, r.Err)
	case r.Sequence != child.Parent.Sequence, r.Entry.Digest != child.Parent.Manifest, r.Entry.ID != child.Parent.ID:
		return fault.New(kind, where, child.ID, child.Sequence, child.Parent.ID, child.Parent.Sequence,
			errors.New("what lies there is another manifest than the one it names"))
	case len(r.Entry.Ancestors) != len(before):
		return fault.New(kind, where, child.ID, child.Sequence, child.Parent.ID, child.Parent.Sequence, errors.New("the two name different ways there"))
	}
	return nil
}

// BrokenPath says at which manifest the way to a backup is broken.
type BrokenPath struct {
	Sequence uint64
	Err      error
}

func (e *BrokenPath) Error() string { return e.Err.Error() }
func (e *BrokenPath) Unwrap() error { return e.Err }

// Needs reports whether a restore of e goes through the manifest of that
// number.
func (e *Entry) Needs(sequence uint64) bool {
	if e.Sequence == sequence {
		return true
	}
	for _, n := range e.Ancestors {
		if n == sequence {
			return true
		}
	}
	return false
}
