// Package page is the daemon's page: how everything is, for a person with a
// browser, and nothing to press.
//
// [Handler] serves it, [WriteOverview] writes the same into one file. It shows
// an [Overview] that it is given and asks nobody itself. No script, no cookie,
// no request elsewhere; every answer carries a policy that says so. Whoever
// serves it beyond loopback puts [Guard] in front.
package page

import (
	"fmt"
	"time"

	"emsafe/internal/report"
)

// Overview is everything that the page shows. Times are UTC; spans are
// seconds.
type Overview struct {
	At        time.Time  `json:"at"`
	Host      string     `json:"host"`
	Version   string     `json:"version"`
	Daemon    string     `json:"daemon,omitempty"` // of the daemon itself: since when, or that none runs
	Notes     []Note     `json:"notes,omitempty"`  // what is wrong besides databases
	Databases []Database `json:"databases"`
	Filesets  []Fileset  `json:"filesets,omitempty"`
	Drills    []Drill    `json:"drills"` // newest first
	Stored    []Stored   `json:"stored"`
}

// Note is a sentence about something that is not as it should be, or is worth
// knowing.
type Note struct {
	State report.State `json:"state"`
	Words string       `json:"words"`
}

// drillGrace is for a drill that waits its turn and takes its time.
const drillGrace = 2 * time.Hour

// Database is one database.
type Database struct {
	Name     string    `json:"name"`
	Path     string    `json:"path,omitempty"`
	Schedule string    `json:"schedule,omitempty"` // of its backups, in words
	Next     time.Time `json:"next,omitzero"`      // of its backups
	RPO      float64   `json:"rpo_seconds,omitempty"`
	RTO      float64   `json:"rto_seconds,omitempty"`
	Notes    []Note    `json:"notes,omitempty"` // failed runs, alarms
	Targets  []Target  `json:"targets"`
	Spool    Spool     `json:"spool"`

	DrillSchedule string       `json:"drill_schedule,omitempty"`
	DrillDue      time.Time    `json:"drill_due,omitzero"` // if that has passed by two hours, it is overdue
	KeyProof      time.Time    `json:"key_proof,omitzero"` // when somebody last proved to hold the recovery key
	KeyDue        time.Time    `json:"key_due,omitzero"`   // if that has passed, it is to be proven again
	Days          []report.Day `json:"-"`                  // up to today, the oldest first
	Sizes         []Size       `json:"-"`                  // the oldest first
	Restore       []Command    `json:"restore"`            // to be copied
}

// Target is what one target holds of a database.
type Target struct {
	Name      string    `json:"name"`
	Location  string    `json:"location"`
	Backup    string    `json:"backup,omitempty"` // the newest; "": none
	Sequence  uint64    `json:"sequence,omitempty"`
	Kind      string    `json:"kind,omitempty"`
	AsOf      time.Time `json:"as_of,omitzero"`  // up to then it has everything
	Bytes     int64     `json:"bytes,omitempty"` // of the database in it
	LockUntil time.Time `json:"lock_until,omitzero"`
	Error     string    `json:"error,omitempty"` // of the last run
}

// Spool is what waits to be shipped.
type Spool struct {
	Backups int       `json:"backups"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest,omitzero"`
}

// Words are how many wait.
func (s Spool) Words() string { return plural(s.Backups, "backup") }

// Size is how large a database was.
type Size struct {
	At    time.Time
	Bytes int64
}

// Command is something to copy.
type Command struct {
	What string `json:"what"`
	Line string `json:"line"`
}

// Drill is one drill in a list.
type Drill struct {
	ID       string       `json:"id"`
	Number   uint64       `json:"number"`
	Database string       `json:"database"`
	At       time.Time    `json:"at"`
	State    report.State `json:"state"`
	Verdict  string       `json:"verdict"`
	Finding  string       `json:"finding"`
	RPO      *float64     `json:"rpo_seconds,omitempty"` // nil: not measured
	RTO      *float64     `json:"rto_seconds,omitempty"`
	Report   bool         `json:"report"` // it can be opened
}

// Stored is what lies in one tier of a target.
type Stored struct {
	Target    string    `json:"target"`
	Location  string    `json:"location"`
	Tier      string    `json:"tier"`
	Objects   int       `json:"objects"`
	Bytes     int64     `json:"bytes"`
	LockUntil time.Time `json:"lock_until,omitzero"` // the last that any of it is locked
	At        time.Time `json:"at,omitzero"`         // when it was counted
}

// AsOf is up to when some target has everything; zero: none has anything.
func (d Database) AsOf() time.Time {
	var newest time.Time
	for _, t := range d.Targets {
		if t.AsOf.After(newest) {
			newest = t.AsOf
		}
	}
	return newest
}

// stale reports whether a target holds less than the objective wants.
func (d Database) stale(t Target, now time.Time) bool {
	return d.RPO > 0 && (t.AsOf.IsZero() || report.Misses(now.Sub(t.AsOf), time.Duration(d.RPO*float64(time.Second))))
}

// judge is a database at a time, with what is wrong with it.
func (d Database) judge(now time.Time, last *Drill) []Note {
	var notes []Note
	add := func(s report.State, format string, args ...any) {
		notes = append(notes, Note{s, fmt.Sprintf(format, args...)})
	}
	for _, t := range d.Targets {
		switch {
		case t.AsOf.IsZero() && d.RPO > 0:
			add(report.Overdue, "%s holds no backup.", t.Name)
		case d.stale(t, now) && report.InFuture(now.Sub(t.AsOf)):
			add(report.Overdue, "The newest backup in %s is dated %s in the future, so that its age is not known.", t.Name, report.Span(t.AsOf.Sub(now).Seconds()))
		case d.stale(t, now):
			add(report.Overdue, "%s is %s old, and the objective is %s.", t.Name, report.Span(now.Sub(t.AsOf).Seconds()), report.Span(d.RPO))
		}
		if t.Error != "" {
			add(report.Failed, "%s: %s", t.Name, t.Error)
		}
	}
	if d.AsOf().IsZero() && d.RPO == 0 {
		add(report.Overdue, "There is no backup yet.")
	}
	if last != nil && last.State >= report.Unclear {
		add(last.State, "Drill %d: %s", last.Number, last.Finding)
	}
	if !d.DrillDue.IsZero() && now.After(d.DrillDue.Add(drillGrace)) {
		add(report.Overdue, "A drill was due on %s.", report.Moment(d.DrillDue))
	}
	switch {
	case d.KeyDue.IsZero() || !now.After(d.KeyDue):
	case d.KeyProof.IsZero():
		add(report.Overdue, "Nobody has proved to hold the recovery key: `emsafe key verify %s`.", d.Name)
	default:
		add(report.Overdue, "The recovery key was last proven on %s, and was to be again by %s: `emsafe key verify %s`.", report.Date(d.KeyProof), report.Date(d.KeyDue), d.Name)
	}
	if d.Spool.Backups > 0 {
		add(report.Idle, "To be shipped: %s (%s), the oldest for %s.", plural(d.Spool.Backups, "backup"), report.Size(d.Spool.Bytes), report.Span(now.Sub(d.Spool.Oldest).Seconds()))
	}
	return append(notes, d.Notes...)
}

func worst(notes []Note) report.State {
	state := report.OK
	for _, n := range notes {
		if n.State > report.OK {
			state = report.Worst(state, n.State)
		}
	}
	return state
}

// drills are those of a database, newest first.
func (o Overview) drills(database string) []Drill {
	var list []Drill
	for _, d := range o.Drills {
		if d.Database == database {
			list = append(list, d)
		}
	}
	return list
}

func (o Overview) last(database string) *Drill {
	if list := o.drills(database); len(list) > 0 {
		return &list[0]
	}
	return nil
}

// Judged is how a database is, for [History].
type Judged struct {
	Database string
	State    report.State
	Words    string // the first of what is wrong
	Bytes    int64  // of the newest backup; 0: there is none
}

// Judge says of each database what the page shows of it.
func (o Overview) Judge() []Judged {
	var list []Judged
	for _, d := range o.Databases {
		notes := d.judge(o.At, o.last(d.Name))
		j := Judged{Database: d.Name, State: worst(notes)}
		for _, n := range notes {
			if n.State == j.State && j.State > report.OK {
				j.Words = n.Words
				break
			}
		}
		for _, t := range d.Targets {
			if t.AsOf.Equal(d.AsOf()) {
				j.Bytes = t.Bytes
			}
		}
		list = append(list, j)
	}
	return list
}

// State is the worst of everything.
func (o Overview) State() report.State {
	state := worst(o.Notes)
	if len(o.Databases) == 0 {
		state = report.Worst(state, report.Unclear)
	}
	for _, d := range o.Databases {
		state = report.Worst(state, worst(d.judge(o.At, o.last(d.Name))))
	}
	for _, f := range o.Filesets {
		state = report.Worst(state, worst(f.judge(o.At)))
	}
	return state
}
