package audit

import (
	"fmt"
	"slices"
	"time"

	"emsafe/internal/finding"
)

// Grade is everything in a letter, with how much of everything it is about.
type Grade struct {
	Letter  string `json:"letter"` // A to F, or "-" if nothing was checked
	Score   int    `json:"score"`  // share of what was checked that holds, by weight, in percent
	Checked int    `json:"checked"`
	Rules   int    `json:"rules"`
	Capped  string `json:"capped,omitempty"` // why the letter is worse than the score
}

// Coverage is how much of a phase was checked.
type Coverage struct {
	Phase   Phase `json:"phase"`
	Rules   int   `json:"rules"`
	Checked int   `json:"checked"` // answered with pass, fail or warn
	Passed  int   `json:"passed"`
	Failed  int   `json:"failed"` // open
	Warned  int   `json:"warned"`
	Waived  int   `json:"waived"`
	Skipped int   `json:"skipped"`
	Errors  int   `json:"errors"`
}

// Conclude takes waivers into account, holds a plan against the results, and
// grades.
func (r *Report) Conclude(waivers []finding.Waiver, plan []byte, now time.Time) {
	r.Checks = finding.WaiveChecks(r.Checks, waivers, string(Playbooks), now)
	r.settle()
	r.Coverage = coverage(r.Checks)
	r.Grade = grade(r.Checks, r.Coverage)
	if plan != nil {
		r.Plan = against(plan, r.Checks)
	}
}

// outcome is what a rule came to: the worst of its checks.
func outcome(checks []finding.Check, id string) (worst finding.Result, waived, any bool) {
	rank := len(finding.Results)
	for _, c := range checks {
		if c.ID != id {
			continue
		}
		any = true
		if c.Waiver != nil {
			waived = true
			continue
		}
		if i := slices.Index(finding.Results, c.Result); i < rank {
			rank, worst = i, c.Result
		}
	}
	return worst, waived, any
}

func coverage(checks []finding.Check) []Coverage {
	var list []Coverage
	for _, p := range Phases {
		c := Coverage{Phase: p}
		for _, r := range Rules {
			if r.Phase != p {
				continue
			}
			c.Rules++
			worst, waived, any := outcome(checks, r.ID)
			switch {
			case !any:
				c.Skipped++
				continue
			case worst == finding.Error:
				c.Errors++
				continue
			case worst == finding.Skip:
				c.Skipped++
				continue
			case worst == finding.Fail:
				c.Failed++
			case worst == finding.Warn:
				c.Warned++
			case waived:
				c.Waived++
			default:
				c.Passed++
			}
			c.Checked++
		}
		list = append(list, c)
	}
	return list
}

var (
	weights = [...]int{finding.Info: 0, finding.Low: 1, finding.Medium: 3, finding.High: 8, finding.Critical: 20}
	letters = []struct {
		from   int
		letter string
	}{{90, "A"}, {75, "B"}, {60, "C"}, {40, "D"}, {0, "F"}}
)

// grade is the score as a letter, and no better than what is open or unknown
// allows.
func grade(checks []finding.Check, phases []Coverage) Grade {
	g := Grade{Letter: "-"}
	sum, good := 0, 0
	for _, r := range Rules {
		g.Rules++
		worst, waived, any := outcome(checks, r.ID)
		if !any || worst == finding.Skip || worst == finding.Error {
			continue
		}
		g.Checked++
		sum += weights[r.Severity]
		if worst == finding.Pass || worst == "" && waived {
			good += weights[r.Severity]
		} else if worst == finding.Warn {
			good += weights[r.Severity] / 2
		}
	}
	if sum == 0 {
		return g
	}
	g.Score = good * 100 / sum
	for _, l := range letters {
		if g.Score >= l.from {
			g.Letter = l.letter
			break
		}
	}
	worst, open := finding.Info, false
	for _, c := range checks {
		if c.Result == finding.Fail && c.Waiver == nil {
			worst, open = max(worst, c.Severity), true
		}
	}
	switch {
	case open && worst == finding.Critical:
		g.cap("F", "something critical is open")
	case open && worst == finding.High:
		g.cap("D", "something high is open")
	}
	if g.Checked*2 < g.Rules {
		g.cap("C", fmt.Sprintf("only %d of %d rules were checked", g.Checked, g.Rules))
	}
	if slices.ContainsFunc(phases, func(c Coverage) bool { return c.Errors > 0 }) {
		g.cap("B", "something could not be checked")
	}
	return g
}

func (g *Grade) cap(letter, why string) {
	if g.Letter < letter {
		g.Letter, g.Capped = letter, why
	}
}

// Failing are the checks that count against a run from a severity on.
func (r *Report) Failing(from finding.Severity) (list []finding.Check) {
	for _, c := range r.Checks {
		if c.Failing(from) {
			list = append(list, c)
		}
	}
	return list
}

// Unchecked are those that were asked and could not be answered.
func (r *Report) Unchecked() (list []finding.Check) {
	for _, c := range r.Checks {
		if c.Result == finding.Error && c.Waiver == nil {
			list = append(list, c)
		}
	}
	return list
}

// Broken are the ticked items of the plan that do not hold.
func (r *Report) Broken() (list []Item) {
	for _, i := range r.Plan {
		if i.Ticked && i.State == Broken {
			list = append(list, i)
		}
	}
	return list
}
