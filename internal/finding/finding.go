// Package finding is what a look at a service found wrong: one [Finding] a
// thing, with a stable id, how bad it is, what was seen, why it matters and what
// to do. It is what `harden` and `audit` have in common, with its outputs for
// people, for CI, and for other tools.
package finding

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Severity is how bad a finding is.
type Severity int

// The severities.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

var severities = []string{"info", "low", "medium", "high", "critical"}

func (s Severity) String() string { return severities[min(max(s, 0), Critical)] }

// MarshalText writes the severity by its name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads it.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severities, string(text))
	if i < 0 {
		return fmt.Errorf("%q is no severity; there are %s", text, strings.Join(severities, ", "))
	}
	*s = Severity(i)
	return nil
}

// Finding is one thing that is wrong.
type Finding struct {
	ID       string   `json:"id"` // stable, as EMS-FILE-001
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	Database string   `json:"database,omitempty"` // "" for what is not one database's
	Subject  string   `json:"subject"`            // what it is about: a path, a database, a unit
	Found    string   `json:"found"`              // what was seen
	Why      string   `json:"why"`                // it matters
	Remedy   string   `json:"remedy"`
	Fix      bool     `json:"fixable"` // `apply` does it
	Waiver   *Waiver  `json:"waiver,omitempty"`
}

// Open reports whether the finding counts.
func (f Finding) Open() bool { return f.Waiver == nil }

// Waiver is somebody's word that a finding is to be lived with, until a day.
type Waiver struct {
	Name    string    `json:"name"`
	ID      string    `json:"finding"`
	Subject string    `json:"subject,omitempty"` // a pattern as of a shell; "": all
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner,omitempty"` // who answers for it
	Until   time.Time `json:"until"`
}

func (w Waiver) covers(f Finding) bool {
	if w.ID != f.ID {
		return false
	}
	ok, err := path.Match(w.Subject, f.Subject)
	return w.Subject == "" || w.Subject == f.Subject || err == nil && ok
}

// expired is the id of the finding that a waiver's time is over.
const expired = "EMS-WAIVER-001"

// Waive takes out of account what the waivers cover. One whose day has come
// covers nothing, and is a finding itself.
func Waive(list []Finding, waivers []Waiver, now time.Time) []Finding {
	out := slices.Clone(list)
	for _, w := range waivers {
		over := !now.Before(w.Until)
		for i := range out {
			if !over && out[i].Waiver == nil && w.covers(out[i]) {
				out[i].Waiver = &w
			}
		}
		if over {
			out = append(out, expiredWaiver(w))
		}
	}
	Sort(out)
	return out
}

func expiredWaiver(w Waiver) Finding {
	return Finding{
		ID: expired, Severity: Medium, Title: "a waiver has expired", Subject: w.Name,
		Found: fmt.Sprintf("%s was waived until %s: %s", w.ID, w.Until.Format(time.DateOnly), w.Reason),
		Why:   "What it covered counts again.", Remedy: "Mend what it covered, or decide anew, with a new date.",
	}
}

// Sort puts the worst first.
func Sort(list []Finding) {
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.ID, b.ID), strings.Compare(a.Subject, b.Subject))
	})
}

// Worst is the highest severity that is open; ok is false if nothing is.
func Worst(list []Finding) (worst Severity, ok bool) {
	for _, f := range list {
		if f.Open() {
			worst, ok = max(worst, f.Severity), true
		}
	}
	return worst, ok
}

// Grade is one letter for all: A for nothing worse than a remark, F for
// something critical.
func Grade(list []Finding) string {
	worst, _ := Worst(list)
	return []string{"A", "B", "C", "D", "F"}[worst]
}
