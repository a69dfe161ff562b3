package catalog

import (
	"fmt"
	"slices"
	"time"
)

// Keep is a retention policy. The zero value keeps everything.
type Keep struct {
	Last                                   int // the newest, however old
	Hourly, Daily, Weekly, Monthly, Yearly int // of so many hours, days, ISO weeks … that have a backup, the newest of each
	Within                                 time.Duration
}

// IsZero reports whether there is no policy.
func (k Keep) IsZero() bool { return k == Keep{} }

// Point is one backup as the policy sees it. One that is built on a bad point is
// bad itself, whatever it says.
type Point struct {
	ID        string
	Sequence  uint64
	At        time.Time // its instant
	Ancestors []uint64  // what a restore of it goes through
	Full      bool
	Bad       bool      // known not to restore
	Drilled   bool      // a drill has passed it
	Pinned    string    // what else needs it, as a recovery point; "": nothing
	Locked    time.Time // until when it cannot be removed; zero: it can
}

// Decision is what becomes of a point.
type Decision struct {
	Point
	Reasons []string // to keep it; none: it goes
	Held    bool     // by its lock alone
}

// Kept reports whether the point stays.
func (d Decision) Kept() bool { return len(d.Reasons) > 0 }

// Retain applies a policy to all points of a database, in any order, and
// decides on each, oldest first. Calendar terms are those of zone, nil for UTC.
// Whatever the policy says, these stay: the newest, the newest that is not bad,
// the newest that a drill has passed, the newest full one, those that are pinned,
// and what any of the kept is built on. What is built on a point that is not in the list stays too:
// the list may be short, and then nothing is known about it.
func Retain(points []Point, k Keep, now time.Time, zone *time.Location) []Decision {
	list := make([]Decision, len(points))
	for i, p := range points {
		list[i].Point = p
	}
	slices.SortFunc(list, func(a, b Decision) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return int(int64(a.Sequence) - int64(b.Sequence)) //nolint:gosec // sequences are far below
	})
	if k.IsZero() {
		for i := range list {
			list[i].Reasons = []string{"no policy"}
		}
		return list
	}
	if zone == nil {
		zone = time.UTC
	}
	spoil(list)
	k.count(list, now, zone)
	for i := range list {
		if d := &list[i]; d.Pinned != "" {
			d.because("%s", d.Pinned)
		}
	}
	for i := range list {
		if d := &list[i]; d.Locked.After(now) && !d.Kept() {
			d.because("locked until %s", d.Locked.UTC().Format(time.DateTime))
			d.Held = true
		}
	}
	guard(list)
	needed(list)
	return list
}

// spoil makes bad what is built on something bad, and keeps what is built on
// something unknown.
func spoil(list []Decision) {
	known, bad := make(map[uint64]bool, len(list)), map[uint64]bool{}
	for _, d := range list {
		known[d.Sequence] = true
		if d.Bad {
			bad[d.Sequence] = true
		}
	}
	for i := range list {
		for _, n := range list[i].Ancestors {
			switch {
			case bad[n]:
				list[i].Bad = true
			case !known[n]:
				list[i].Bad = true // it must not take the place of one that is whole
				if !list[i].Kept() {
					list[i].because("number %d, which it needs, is not in the list", n)
				}
			}
		}
	}
}

// rule is one line of a policy.
type rule struct {
	name  string
	count int
	slot  func(time.Time) string
}

func (k Keep) rules() []rule {
	layout := func(l string) func(time.Time) string { return func(t time.Time) string { return t.Format(l) } }
	return []rule{
		{"hourly", k.Hourly, layout("2006-01-02 15:00Z07:00")}, // the hour that summer time doubles is two hours
		{"daily", k.Daily, layout("2006-01-02")},
		{"weekly", k.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprintf("%d week %02d", y, w) }},
		{"monthly", k.Monthly, layout("2006-01")},
		{"yearly", k.Yearly, layout("2006")},
	}
}

// count applies the rules, each on its own, newest first. A bad point fills no
// slot: it would take a good one's place.
func (k Keep) count(list []Decision, now time.Time, zone *time.Location) {
	rules := k.rules()
	taken := make([]map[string]bool, len(rules))
	for i := range taken {
		taken[i] = map[string]bool{}
	}
	last := 0
	for i := len(list) - 1; i >= 0; i-- {
		d := &list[i]
		if d.Bad {
			continue
		}
		if last++; last <= k.Last {
			d.because("last %d", last)
		}
		if k.Within > 0 && now.Sub(d.At) <= k.Within {
			d.because("within %s", span(k.Within))
		}
		for r, rule := range rules {
			slot := rule.slot(d.At.In(zone))
			if len(taken[r]) < rule.count && !taken[r][slot] {
				taken[r][slot] = true
				d.because("%s %s", rule.name, slot)
			}
		}
	}
}

func (d *Decision) because(format string, args ...any) {
	d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...))
}

// span is a length of time in the notation of the configuration.
func span(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// guard keeps what no policy may remove.
func guard(list []Decision) {
	for _, g := range []struct {
		reason string
		is     func(Decision) bool
	}{
		{"newest", func(Decision) bool { return true }},
		{"newest committed", newestCommitted(list)},
		{"newest good one", func(d Decision) bool { return !d.Bad }},
		{"newest that passed a drill", func(d Decision) bool { return d.Drilled }},
		{"newest full one", func(d Decision) bool { return d.Full }},
		{"newest full one that is whole", func(d Decision) bool { return d.Full && !d.Bad }},
	} {
		for i := len(list) - 1; i >= 0; i-- {
			if g.is(list[i]) {
				if !list[i].Kept() {
					list[i].because("%s", g.reason)
				}
				break
			}
		}
	}
}

// newestCommitted is the head of the chain, which a later manifest names.
func newestCommitted(list []Decision) func(Decision) bool {
	head := uint64(0)
	for _, d := range list {
		head = max(head, d.Sequence)
	}
	return func(d Decision) bool { return d.Sequence == head }
}

// needed keeps what the kept are built on. A clock that was set back can make a
// point older than its ancestors, so that one pass over the list is not enough.
func needed(list []Decision) {
	at := make(map[uint64]int, len(list))
	var todo []int // kept, and their ancestors not yet looked at
	for i, d := range list {
		at[d.Sequence] = i
		if d.Kept() {
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range list[i].Ancestors {
			if j, ok := at[n]; ok && !list[j].Kept() {
				list[j].because("needed by %s", list[i].ID)
				todo = append(todo, j)
			}
		}
	}
}
