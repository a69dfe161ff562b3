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
	sequences, err := ch.Sequences(ctx, 0)
	if err != nil {
		return nil, err
	}
	if len(sequences) == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no backup of %s", ch.Bucket, ch.Database)
	}
	if w.ID == "" && w.At.IsZero() {
		n := len(sequences)
		results, err := ch.Walk(ctx, sequences[n-1:])
		if err != nil {
			return nil, err
		}
		if results[0].Err != nil {
			return nil, results[0].Err
		}
		return &Found{results[0].Entry, results}, nil
	}
	var since []Result
	var hits, unreadable []Result
	const batch = 64
	for end := len(sequences); end > 0; end -= batch {
		results, err := ch.Walk(ctx, sequences[max(0, end-batch):end])
		if err != nil {
			return nil, err
		}
		since = append(results, since...)
		for i := len(results) - 1; i >= 0; i-- {
			r := results[i]
			switch {
			case r.Err != nil:
				unreadable = append(unreadable, r)
			case w.ID != "" && w.names(r.Entry), w.ID == "" && !r.Entry.SnapshotAt.After(w.At):
				hits = append(hits, r)
			}
		}
		// An id must be unambiguous, so that all are seen; but a whole id, or
		// a time, has at most one answer.
		if len(hits) > 0 && (w.ID == "" || hits[0].Entry.ID == w.ID) {
			break
		}
	}
	return ch.settle(w, hits, unreadable, since)
}

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
	case w.ID != "":
		return nil, fault.New(fault.NotFound, "%s holds no backup %q of %s", ch.Bucket, w.ID, ch.Database)
	}
	oldest := since[0].Entry
	return nil, fault.New(fault.NoBackupAt, "no backup of %s was taken at or before %s; the nearest is the oldest, %s of %s",
		ch.Database, w.At.UTC().Format(time.RFC3339), oldest.ID, oldest.SnapshotAt.Format(time.RFC3339)).
		WithRemedy("To take that one: --id %s", oldest.ID)
}
