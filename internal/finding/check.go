package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Result is what came out of one check.
type Result string

// The results. Warn is a finding that never fails a run; Skip was not asked or
// does not apply; Error was asked and could not be answered.
const (
	Pass  Result = "pass"
	Fail  Result = "fail"
	Warn  Result = "warn"
	Skip  Result = "skip"
	Error Result = "error"
)

// Results are all of them, the worst first.
var Results = []Result{Fail, Error, Warn, Skip, Pass}

// Check is one rule, held against one thing: also where nothing is wrong, so
// that what was looked at can be told from what was not.
type Check struct {
	Finding
	Result   Result   `json:"result"`
	Phase    string   `json:"phase"`
	ASVS     string   `json:"asvs,omitempty"`     // OWASP ASVS, as v5.0.0-3.4.1
	Evidence []string `json:"evidence,omitempty"` // what was asked and answered, a line each
	Reason   string   `json:"reason,omitempty"`   // of a skip or an error
	Render   string   `json:"render,omitempty"`   // `emsafe render` target that mends it
	Runbook  string   `json:"runbook,omitempty"`  // that helps
}

// Open reports whether the check found something that counts.
func (c Check) Open() bool { return (c.Result == Fail || c.Result == Warn) && c.Waiver == nil }

// Failing reports whether the check counts against a run at a severity.
func (c Check) Failing(from Severity) bool {
	return c.Result == Fail && c.Waiver == nil && c.Severity >= from
}

// WaiveChecks is [Waive] for checks. That a waiver's day has come is a high
// finding here: nobody else looks.
func WaiveChecks(list []Check, waivers []Waiver, phase string, now time.Time) []Check {
	out := slices.Clone(list)
	for _, w := range waivers {
		if !now.Before(w.Until) {
			f := expiredWaiver(w)
			f.Severity = High
			out = append(out, Check{Finding: f, Result: Fail, Phase: phase})
			continue
		}
		for i := range out {
			if out[i].Open() && w.covers(out[i].Finding) {
				out[i].Waiver = &w
			}
		}
	}
	SortChecks(out)
	return out
}

// SortChecks puts what is open first, and of that the worst.
func SortChecks(list []Check) {
	rank := func(c Check) int {
		if c.Waiver != nil {
			return len(Results)
		}
		return slices.Index(Results, c.Result)
	}
	slices.SortStableFunc(list, func(a, b Check) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Severity, a.Severity), strings.Compare(a.ID, b.ID), strings.Compare(a.Subject, b.Subject))
	})
}

// said is a check's outcome in one sentence.
func (c Check) said() string {
	switch {
	case c.Waiver != nil:
		return waived(*c.Waiver)
	case c.Reason != "":
		return c.Reason
	default:
		return c.Found
	}
}

func waived(w Waiver) string {
	by := ""
	if w.Owner != "" {
		by = " by " + w.Owner
	}
	return fmt.Sprintf("waived%s until %s: %s", by, w.Until.Format(time.DateOnly), w.Reason)
}
