package drill

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"emsafe/storage/seal"
)

// add counts one database. all are its reports in order, of any time.
func (q *Quarterly) add(p Period, c Covered, all []Signed, now time.Time) {
	d := InQuarter{Covered: c, NotHeld: []Absent{}}
	months := map[string]*InMonth{}
	for m := p.From(); m.Before(p.To()); m = m.AddDate(0, 1, 0) {
		d.Months = append(d.Months, InMonth{Month: m.Format("2006-01")})
	}
	for i := range d.Months {
		months[d.Months[i].Month] = &d.Months[i]
		if c.Planned != nil {
			d.Months[i].Planned = new(int)
		}
	}
	var drills []Signed
	for i, s := range all {
		r := s.Report
		if !p.Holds(r.Started) {
			continue
		}
		drills = append(drills, s)
		months[r.Started.UTC().Format("2006-01")].count(r.Verdict)
		q.Reports = append(q.Reports, InAppendix{r.Database, r.Number, r.ID, r.Started, r.Verdict, s.Digest(), s.Signer})
		q.misses(r)
		if r.Verdict == Fail || r.Verdict == Inconclusive {
			q.Failures = append(q.Failures, closing(r, all[i+1:]))
		}
		for _, what := range r.NotTested {
			q.untested(what)
		}
	}
	d.plan(p, all, months, now)
	d.RPO = spread(drills, func(r Report) Measured { return r.RPO })
	d.RTO = spread(drills, func(r Report) Measured { return r.RTO })
	d.Chain = chainWords(drills)
	q.Databases = append(q.Databases, d)
	q.drills[c.Name] = drills
}

func (m *InMonth) count(v Verdict) {
	switch v {
	case Pass, Missed:
		m.Held++
		m.Passed++
		if v == Missed {
			m.Missed++
		}
	case Fail:
		m.Held++
		m.Failed++
	default:
		m.Inconclusive++
	}
}

// plan holds the slots of the schedule against what was held.
func (d *InQuarter) plan(p Period, all []Signed, months map[string]*InMonth, now time.Time) {
	slots := slices.Clone(d.Planned)
	slices.SortFunc(slots, time.Time.Compare)
	for i, slot := range slots {
		if !p.Holds(slot) {
			continue
		}
		*months[slot.UTC().Format("2006-01")].Planned++
		until := now
		if i+1 < len(slots) {
			until = slots[i+1]
		}
		held, why := heldAt(slot, until, all)
		switch {
		case held:
		case slot.After(now):
			d.ToCome++
		default:
			d.NotHeld = append(d.NotHeld, Absent{slot, why})
		}
	}
}

// heldAt looks for the drill of a slot: one that names it, or the first before
// the next.
func heldAt(slot, until time.Time, all []Signed) (held bool, why string) {
	why = "there is no report of it"
	for _, s := range all {
		r := s.Report
		named := !r.Slot.IsZero() && r.Slot.Truncate(time.Minute).Equal(slot.Truncate(time.Minute))
		if !named && (r.Started.Before(slot) || !r.Started.Before(until)) {
			continue
		}
		if r.Verdict != Inconclusive {
			return true, ""
		}
		why = "it was inconclusive and not repeated in time: " + r.Finding
	}
	return false, why
}

func (q *Quarterly) misses(r Report) {
	for _, o := range objectives(r) {
		if !o.Known || o.Met() {
			continue
		}
		q.Misses = append(q.Misses, Miss{r.Database, r.Started, r.ID, o.Short, o.Objective, o.Achieved, r.Finding})
	}
}

func closing(r Report, after []Signed) Failure {
	f := Failure{Database: r.Database, At: r.Started, ID: r.ID, Verdict: r.Verdict, Finding: r.Finding, Actions: r.Actions}
	for _, s := range after {
		if s.Report.Verdict == Pass || s.Report.Verdict == Missed {
			f.Closed, f.ClosedBy = s.Report.Ended, s.Report.ID
			break
		}
	}
	return f
}

func (q *Quarterly) untested(what string) {
	for i := range q.NotTested {
		if q.NotTested[i].What == what {
			q.NotTested[i].Drills++
			return
		}
	}
	q.NotTested = append(q.NotTested, NotTested{what, 1})
}

func spread(drills []Signed, of func(Report) Measured) Spread {
	var s Spread
	var values []float64
	for _, d := range drills {
		m := of(d.Report)
		if m.Objective > 0 {
			s.Objective = m.Objective
		}
		if m.Known {
			values = append(values, m.Achieved)
		}
	}
	s.Count = len(values)
	if s.Count == 0 {
		return s
	}
	s.Min, s.Median, s.Max = slices.Min(values), median(values), slices.Max(values)
	if third := s.Count / 3; third > 0 {
		if first := median(values[:third]); first > 0 {
			s.Trend = math.Round((median(values[s.Count-third:]) - first) / first * 100)
		}
	}
	return s
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// chainWords say whether the reports hang together: numbers without a gap, and
// each naming the digest of the one before. Every host counts for itself.
func chainWords(drills []Signed) string {
	if len(drills) == 0 {
		return "no reports"
	}
	of := map[string][]Signed{}
	for _, s := range drills {
		of[s.Report.Host] = append(of[s.Report.Host], s)
	}
	var parts []string
	for host, list := range of {
		slices.SortFunc(list, func(a, b Signed) int { return cmp.Compare(a.Report.Number, b.Report.Number) })
		words := fmt.Sprintf("reports %d to %d are chained without a gap", list[0].Report.Number, list[len(list)-1].Report.Number)
		if len(list) == 1 {
			words = fmt.Sprintf("report %d alone", list[0].Report.Number)
		}
		for i := 1; i < len(list); i++ {
			before, r := list[i-1], list[i].Report
			if r.Number != before.Report.Number+1 {
				words = fmt.Sprintf("broken: between reports %d and %d others are missing", before.Report.Number, r.Number)
				break
			}
			if before.Digest() == (seal.Digest{}) || r.Previous != before.Digest() {
				words = fmt.Sprintf("broken: report %d does not name the digest of report %d", r.Number, before.Report.Number)
				break
			}
		}
		if len(of) > 1 {
			words = host + ": " + words
		}
		parts = append(parts, words)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// conclude writes the sentence on the cover. A failure counts by what became
// of it: what was closed is told, and is not the worst any more.
func (q *Quarterly) conclude() {
	held, passed, absent, come, open := 0, 0, 0, 0, 0
	for _, d := range q.Databases {
		absent, come = absent+len(d.NotHeld), come+d.ToCome
		for _, m := range d.Months {
			held, passed = held+m.Held, passed+m.Passed
		}
	}
	if held > 0 {
		q.Worst = Pass
	}
	for _, f := range q.Failures {
		if f.Closed.IsZero() {
			open++
			if q.Worst != Fail {
				q.Worst = f.Verdict
			}
		}
	}
	if q.Worst == Pass && len(q.Misses) > 0 {
		q.Worst = Missed
	}
	say := []string{fmt.Sprintf("%s of %s held and %s passed.", plural(held, "drill"), plural(len(q.Databases), "database"), countOf(passed, held))}
	if held == 0 {
		say = []string{"No drill was held."}
	}
	if n := len(q.Misses); n > 0 {
		say = append(say, plural(n, "objective")+" missed.")
	}
	if n := len(q.Failures); n > 0 {
		words := "all closed by a later drill that passed"
		if open > 0 {
			words = fmt.Sprintf("%d still open", open)
		}
		say = append(say, plural(n, "drill")+" failed or inconclusive, "+words+".")
	}
	if absent > 0 {
		say = append(say, plural(absent, "planned drill")+" not held.")
	}
	if !q.Over {
		say = append(say, "The quarter is not over"+map[bool]string{true: "; " + plural(come, "drill") + " to come", false: ""}[come > 0]+".")
	}
	q.Finding = strings.Join(say, " ")
}

func countOf(n, all int) string {
	if n == all {
		return "all"
	}
	return fmt.Sprint(n)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
