package page

import (
	"fmt"
	"strings"
	"time"

	"emsafe/internal/report"
)

// Fileset is a tree of files, with the recovery points that tie it to databases.
type Fileset struct {
	Name      string          `json:"name"`
	Paths     []string        `json:"paths"`
	Databases []string        `json:"databases,omitempty"` // that it belongs to
	Schedule  string          `json:"schedule,omitempty"`
	Next      time.Time       `json:"next,omitzero"`
	RPO       float64         `json:"rpo_seconds,omitempty"`
	Notes     []Note          `json:"notes,omitempty"` // failed runs
	Targets   []FilesetTarget `json:"targets"`
	Restore   []Command       `json:"restore"`
}

// FilesetTarget is what one target holds of a fileset.
type FilesetTarget struct {
	Name     string    `json:"name"`
	Location string    `json:"location"`
	Point    string    `json:"point,omitempty"` // the newest recovery point; "": none
	At       time.Time `json:"at,omitzero"`     // when it was begun
	Files    int       `json:"files,omitempty"`
	Bytes    int64     `json:"bytes,omitempty"`
	Error    string    `json:"error,omitempty"` // of the last run
}

func (f Fileset) stale(t FilesetTarget, now time.Time) bool {
	return f.RPO > 0 && (t.Point == "" || now.Sub(t.At).Seconds() > f.RPO)
}

// judge is a fileset at a time, with what is wrong with it.
func (f Fileset) judge(now time.Time) []Note {
	var notes []Note
	add := func(s report.State, format string, args ...any) {
		notes = append(notes, Note{s, fmt.Sprintf(format, args...)})
	}
	points := 0
	for _, t := range f.Targets {
		switch {
		case t.Point != "":
			points++
			if f.stale(t, now) {
				add(report.Overdue, "The newest recovery point in %s is %s old, and the objective is %s.", t.Name, report.Span(now.Sub(t.At).Seconds()), report.Span(f.RPO))
			}
		case f.RPO > 0:
			add(report.Overdue, "%s holds no recovery point.", t.Name)
		}
		if t.Error != "" {
			add(report.Failed, "%s: %s", t.Name, t.Error)
		}
	}
	if points == 0 && f.RPO == 0 {
		add(report.Overdue, "There is no recovery point yet.")
	}
	return append(notes, f.Notes...)
}

// shownFileset is one fileset, ready to be shown.
type shownFileset struct {
	Fileset
	V view
}

// ShownFiles are the filesets.
func (v view) ShownFiles() []shownFileset {
	list := make([]shownFileset, len(v.Filesets))
	for i, f := range v.Filesets {
		list[i] = shownFileset{f, v}
	}
	return list
}

func (s shownFileset) Problems() []Note    { return s.judge(s.V.At) }
func (s shownFileset) State() report.State { return worst(s.Problems()) }
func (s shownFileset) Words() string       { return words(s.State()) }
func (s shownFileset) Anchor() string      { return "files-" + s.Name }

// About says what it is, and when it is kept.
func (s shownFileset) About() string {
	parts := []string{strings.Join(s.Paths, ", ")}
	if len(s.Databases) > 0 {
		parts = append(parts, "with "+strings.Join(s.Databases, ", "))
	}
	if s.Schedule != "" {
		parts = append(parts, s.Schedule)
	}
	if s.Next.After(s.V.At) {
		parts = append(parts, "next in "+report.Span(s.Next.Sub(s.V.At).Seconds()))
	}
	if s.RPO > 0 {
		parts = append(parts, "objective "+report.Span(s.RPO))
	}
	return strings.Join(parts, " · ")
}

// Old is how old a target's point is.
func (s shownFileset) Old(t FilesetTarget) string {
	return report.Span(max(0, s.V.At.Sub(t.At).Seconds()))
}

// TargetBadge is how a target stands.
func (s shownFileset) TargetBadge(t FilesetTarget) report.Badge {
	return targetBadge(t.Error, s.stale(t, s.V.At), t.Point != "")
}
