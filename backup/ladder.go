package backup

import (
	"math/bits"
	"time"
)

// ladder is where a database stands between two full backups. A delta's parent
// is chosen so that the way from the full backup to any delta stays short and
// a changed page is not sealed many times over: the deltas are numbered from
// the full one (or the differential), and number n is taken against the number
// that n becomes when its lowest hexadecimal digit that is not zero goes down
// by one. 0x123 is taken against 0x122, 0x130 against 0x120, 0x200 against
// 0x100. The way to n has as many steps as the sum of its four digits, 60 at
// most, and a page is sealed again at most once for every digit. After 0xffff
// comes a differential against the full backup, from which the numbers start
// over.
type ladder struct {
	Full      rung      `json:"full"`
	FullBytes int64     `json:"full_bytes"` // sealed
	FullAt    time.Time `json:"full_at"`
	Step      uint32    `json:"step"`  // number of the last delta
	Rungs     [4]rung   `json:"rungs"` // the numbers that Step becomes when 0 to 3 low digits are zero
	Gen       uint32    `json:"gen"`   // of the last backup
}

// rung is a backup that may become a parent.
type rung struct {
	ID    string `json:"id"`
	Gen   uint32 `json:"gen"`   // pages with a higher one changed since
	Bytes int64  `json:"bytes"` // sealed, of the deltas on the way to it
}

const (
	digitBits = 4
	maxStep   = 1<<(4*digitBits) - 1
)

// Policy says when a backup is full.
type Policy struct {
	FullEvery time.Duration // a full one when the last is this old; 0: never for its age
	FullShare int           // a full one when the deltas that a restore fetches exceed this percentage of it; 0: all are full
}

// plan is what the next backup should be.
type plan struct {
	full   bool
	why    string // a full one
	beside bool   // deltas could go on while it is taken
	parent rung
	digits int // low digits of the next number that are zero; 4 for a differential
}

// next is the policy.
func (l ladder) next(now time.Time, p Policy) plan {
	full := func(why string) plan { return plan{full: true, why: why, beside: l.Full.ID != ""} }
	switch {
	case l.Full.ID == "":
		return full("it is the first")
	case p.FullShare <= 0:
		return full("all are full as configured")
	case p.FullEvery > 0 && now.Sub(l.FullAt) >= p.FullEvery:
		return full("the last one is of " + l.FullAt.UTC().Format(time.RFC3339))
	}
	next := l.delta()
	// What it adds itself is not known yet; the one after it will see.
	if l.outgrown(p, next.parent.Bytes) {
		return full("the deltas since the last one have grown to more than the configured share of it")
	}
	return next
}

// delta is the next step up.
func (l ladder) delta() plan {
	if l.Step == maxStep {
		return plan{parent: l.Full, digits: 4}
	}
	digits := bits.TrailingZeros32(l.Step+1) / digitBits
	return plan{parent: l.Rungs[digits], digits: digits}
}

// outgrown reports whether deltas of so many bytes on the way are too many.
func (l ladder) outgrown(p Policy, bytes int64) bool {
	return bytes > l.FullBytes/100*int64(p.FullShare)
}

// afterFull starts over.
func afterFull(id string, gen uint32, sealed int64, at time.Time) ladder {
	r := rung{ID: id, Gen: gen}
	return ladder{Full: r, FullBytes: sealed, FullAt: at, Rungs: [4]rung{r, r, r, r}, Gen: gen}
}

// rebased starts over from a full backup of an earlier generation: deltas went
// on while it was cut, and the next is taken against it.
func (l ladder) rebased(full rung, sealed int64, at time.Time) ladder {
	n := afterFull(full.ID, full.Gen, sealed, at)
	n.Gen = l.Gen
	return n
}

// afterDelta climbs to what was planned.
func (l ladder) afterDelta(p plan, id string, gen uint32, sealed int64) ladder {
	r := rung{ID: id, Gen: gen, Bytes: p.parent.Bytes + sealed}
	l.Gen = gen
	if p.digits == 4 {
		l.Step, l.Rungs = 0, [4]rung{r, r, r, r}
		return l
	}
	l.Step++
	for i := range p.digits + 1 {
		l.Rungs[i] = r
	}
	return l
}

// parents are the backups that may become one.
func (l ladder) parents() map[string]bool {
	ids := map[string]bool{l.Full.ID: true}
	for _, r := range l.Rungs {
		ids[r.ID] = true
	}
	return ids
}
