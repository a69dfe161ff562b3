package catalog

import (
	"fmt"
	"time"
)

// Which of two backups is newer is told by their numbers, never by their times:
// a clock that was wrong for an hour would otherwise hide what was committed
// after it. There is one exception. A full backup may be cut while deltas go
// on, and is then committed after deltas that are newer than it.

// beside reports whether full was cut beside e: committed after it, but taken
// before it.
func beside(full, e *Entry) bool {
	return full.Kind == KindFull && full.Sequence > e.Sequence && passed(full, e.SnapshotAt)
}

// passed reports whether an instant lies between the snapshot and the commit of
// a backup.
func passed(e *Entry, at time.Time) bool {
	return at.After(e.SnapshotAt) && !at.After(e.CommittedAt)
}

// newestOf is the index of the newest of consecutive results, ascending, that
// is meant; -1 if none is. sure is false if results before the first could
// hold a newer one.
func (w Wanted) newestOf(results []Result) (newest int, sure bool) {
	fits := func(r Result) bool { return r.Entry != nil && w.takes(r.Entry) }
	newest = len(results) - 1
	for newest >= 0 && !fits(results[newest]) {
		newest--
	}
	if newest < 0 {
		return -1, false
	}
	for i := newest - 1; i >= 0; i-- {
		switch r := results[i]; {
		case r.Entry == nil:
		case !beside(results[newest].Entry, r.Entry):
			return newest, true
		case fits(r):
			newest = i
		}
	}
	return newest, false
}

// Follows reports whether an entry that was committed now is newer than the
// newest that is remembered.
func (n Newest) Follows(e *Entry) bool {
	return n.Sequence >= e.Sequence || e.Kind != KindFull || !passed(e, n.SnapshotAt)
}

// Uneven names a backup that is dated later than the one that was committed
// after it; "" if there is none. Then a clock was set back between the two, and
// times tell little about that part of the chain.
func (f *Found) Uneven() string {
	for i := 1; i < len(f.Since); i++ {
		e, next := f.Since[i-1].Entry, f.Since[i].Entry
		if e != nil && next != nil && e.SnapshotAt.After(next.SnapshotAt) && !beside(next, e) {
			return fmt.Sprintf("number %d is dated %s, and number %d, which was committed after it, %s",
				e.Sequence, e.SnapshotAt.UTC().Format(time.RFC3339), next.Sequence, next.SnapshotAt.UTC().Format(time.RFC3339))
		}
	}
	return ""
}
