package catalog

import (
	"context"
	"strconv"
	"strings"
	"time"

	"emsafe/internal/fault"
)

// Wanted says which backup is meant: an id (or the beginning of one, or
// #sequence), or a time, or, with neither, the newest.
type Wanted struct {
	ID string
	At time.Time
}

// Found is the backup that was asked for, and the chain from it to the head.
type Found struct {
	Entry *Entry
	Since []Result // from the entry to the head, both included, ascending
}

// Head is the newest manifest.
func (f *Found) Head() Result { return f.Since[len(f.Since)-1] }

// Find looks for a backup from the newest backwards.
func (ch *Chain) Find(ctx context.Context, w Wanted) (*Found, error) {
	newest, err := ch.Newest(ctx, 0)
	if err != nil {
		return nil, err
	}
	if newest == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no backup of %s", ch.Bucket, ch.Database)
	}
	var since []Result
	var hits, unreadable []Result
	wide := uint64(1) // how many times the usual step: gaps are leapt over
	for low, high := newest, newest; high > 0; high = low {
		low = before(newest, high, wide)
		sequences, err := ch.between(ctx, low, high)
		if err != nil {
			return nil, err
		}
		results, err := ch.Walk(ctx, sequences)
		if err != nil {
			return nil, err
		}
		if len(results) == 0 {
			wide *= 16
			continue // a gap; Links will see it
		}
		wide = 1
		if since == nil && w.newest() && results[len(results)-1].Err != nil {
			return nil, ch.refused(ctx, results)
		}
		since = append(results, since...)
		for i := len(results) - 1; i >= 0; i-- {
			r := results[i]
			switch {
			case r.Err != nil:
				unreadable = append(unreadable, r)
			case w.ID != "" && w.names(r.Entry):
				hits = append(hits, r)
			}
		}
		// An id must be unambiguous, so that all are seen; but a whole id has
		// at most one answer.
		if len(hits) > 0 && hits[0].Entry.ID == w.ID {
			break
		}
		if w.ID == "" {
			i, sure := w.newestOf(since)
			if i >= 0 {
				hits = since[i : i+1]
			}
			if sure {
				break
			}
		}
	}
	return ch.settle(w, hits, unreadable, since)
}

// before is how far back to look next: a little, then more, then by segments.
func before(newest, high, wide uint64) uint64 {
	switch newest - high {
	case 0:
		return high - min(high, 2)
	case 2:
		return high - min(high, 64)
	}
	first := (segmentOf(high) - 1) * SegmentSize
	return first - min(first, (wide-1)*SegmentSize)
}

// refused is the error of the newest of some results, with the newest before it
// that can be had instead.
func (ch *Chain) refused(ctx context.Context, results []Result) error {
	last := results[len(results)-1]
	f := fault.Find(last.Err)
	if f == nil {
		return last.Err
	}
	if found, err := ch.Find(ctx, Wanted{At: anyTime}); err == nil {
		f = fault.New(f.Kind, "%w", last.Err).WithRemedy("The newest that is signed is %s of %s: restore it with --id %s --allow-broken-chain. Somebody wrote to the target, or the object is damaged; `emsafe verify` tells which others hold.",
			found.Entry.ID, found.Entry.SnapshotAt.UTC().Format(time.RFC3339), found.Entry.ID)
	}
	return f
}

// anyTime is later than any backup.
var anyTime = time.Unix(1<<40, 0)

func (w Wanted) newest() bool { return w.ID == "" && w.At.IsZero() }

// takes reports whether e is not too new.
func (w Wanted) takes(e *Entry) bool { return w.At.IsZero() || !e.SnapshotAt.After(w.At) }

func (w Wanted) names(e *Entry) bool {
	if n, ok := strings.CutPrefix(w.ID, "#"); ok {
		seq, err := strconv.ParseUint(n, 10, 64)
		return err == nil && seq == e.Sequence
	}
	return strings.HasPrefix(e.ID, w.ID)
}

func (ch *Chain) settle(w Wanted, hits, unreadable, since []Result) (*Found, error) {
	switch {
	case len(hits) > 1 && w.ID != "" && hits[0].Entry.ID != w.ID:
		var ids []string
		for _, h := range hits[:min(5, len(hits))] {
			ids = append(ids, h.Entry.ID)
		}
		return nil, fault.New(fault.NotFound, "%q begins %d ids of %s: %s", w.ID, len(hits), ch.Database, strings.Join(ids, ", ")).
			WithRemedy("Give more characters of the id.")
	case len(hits) > 0:
		for i := range since {
			if since[i].Sequence == hits[0].Sequence {
				return &Found{hits[0].Entry, since[i:]}, nil
			}
		}
	case len(unreadable) > 0:
		return nil, unreadable[0].Err
	case len(since) == 0:
		return nil, fault.New(fault.Storage, "%s: one listing shows manifests of %s, and the next shows none", ch.Bucket, ch.Database).
			WithRemedy("Run again. If it stays so, the storage's listings are wrong: ask its operator.")
	case w.ID != "":
		return nil, fault.New(fault.NotFound, "%s holds no backup %q of %s", ch.Bucket, w.ID, ch.Database)
	}
	oldest := since[0].Entry
	for _, r := range since {
		if r.Entry != nil && r.Entry.SnapshotAt.Before(oldest.SnapshotAt) {
			oldest = r.Entry
		}
	}
	return nil, fault.New(fault.NoBackupAt, "no backup of %s was taken at or before %s; the nearest is the oldest, %s of %s",
		ch.Database, w.At.UTC().Format(time.RFC3339), oldest.ID, oldest.SnapshotAt.Format(time.RFC3339)).
		WithRemedy("To take that one: --id %s", oldest.ID)
}
