package drill

import (
	_ "embed" // the template
	"fmt"
	"io"
	"strings"
	"time"

	"emsafe/internal/report"
)

//go:embed quarter.tmpl
var quarterPage string

var quarterTemplate = report.Must("quarter", quarterPage)

// WriteHTML writes the quarter as one file that needs nothing else.
func (q Quarterly) WriteHTML(w io.Writer) error {
	title := "Restore drills, " + q.title()
	return report.Write(w, quarterTemplate, report.Page{
		Title: title, State: q.State(), Data: quarterView{q},
		Footer: title + orNothing(" on ", q.Host) + ". Made " + report.Moment(q.Made) + " from the signed reports in the appendix, which are what counts.",
	})
}

func orNothing(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

func (q Quarterly) title() string { return strings.Replace(q.Period, "Q", ", quarter ", 1) }

// State is what the cover shows: the worst of what is still open.
func (q Quarterly) State() report.State {
	state := q.Worst.State()
	for _, d := range q.Databases {
		if len(d.NotHeld) > 0 {
			state = report.Worst(state, report.Overdue)
		}
	}
	return state
}

type quarterView struct{ Quarterly }

func (v quarterView) Q() Quarterly           { return v.Quarterly }
func (v quarterView) Heading() string        { return v.title() }
func (v quarterView) Badge(c Verdict) any    { return report.Badge{State: c.State(), Words: c.Short()} }
func (v quarterView) Due() any               { return report.Badge{State: report.Overdue, Words: "not held"} }
func (v quarterView) Last() time.Time        { return v.To.Add(-time.Second) }
func (v quarterView) Legend() []report.State { return report.States() }

// Verdict is the headline.
func (v quarterView) Verdict() string {
	switch v.State() {
	case report.OK:
		return "Every planned drill was held and passed"
	case report.Missed:
		return "Restores passed; an objective was missed"
	case report.Overdue:
		return "A planned drill was not held"
	case report.Failed:
		return "A failure is still open"
	case report.Idle:
		return "No drill was held"
	}
	return "A drill is still without a verdict"
}

// Closed is how a failure ended.
func (v quarterView) Closed(f Failure) report.Badge {
	if f.Closed.IsZero() {
		return report.Badge{State: report.Failed, Words: "open"}
	}
	return report.Badge{State: report.OK, Words: "after " + days(f.At, f.Closed)}
}

// Lines are the plots of a database.
func (v quarterView) Lines(d InQuarter) []report.Line {
	line := func(title string, s Spread, of func(Report) Measured) report.Line {
		l := report.Line{Title: title, From: v.From, To: v.Last(), Objective: s.Objective}
		for _, x := range v.drills[d.Name] {
			if m := of(x.Report); m.Known {
				l.Points = append(l.Points, report.Point{At: x.Report.Started, Value: m.Achieved, State: m.state(x.Report.Verdict)})
			}
		}
		return l
	}
	return []report.Line{
		line("Data loss (RPO)", d.RPO, func(r Report) Measured { return r.RPO }),
		line("Time to recover (RTO)", d.RTO, func(r Report) Measured { return r.RTO }),
	}
}

// Calendar are the days of a database.
func (v quarterView) Calendar(d InQuarter) []report.Month {
	days := make([]report.Day, 0, 92)
	for at := v.From; at.Before(v.To); at = at.AddDate(0, 0, 1) {
		days = append(days, report.Day{Date: at})
	}
	set := func(at time.Time, state report.State, note string) {
		day := &days[int(at.UTC().Sub(v.From)/(24*time.Hour))]
		if state >= day.State {
			day.State = state
		}
		day.Note = strings.TrimPrefix(day.Note+"; "+note, "; ")
	}
	for _, s := range v.drills[d.Name] {
		set(s.Report.Started, s.Report.Verdict.State(), fmt.Sprintf("drill %d: %s", s.Report.Number, s.Report.Verdict.Short()))
	}
	for _, a := range d.NotHeld {
		set(a.Slot, report.Overdue, "planned and not held")
	}
	return report.Months(days)
}

// trend is the trend in words.
func (s Spread) trend() string {
	switch {
	case s.Count < 3:
		return "too few to tell"
	case s.Trend > 10:
		return fmt.Sprintf("up %.0f %%", s.Trend)
	case s.Trend < -10:
		return fmt.Sprintf("down %.0f %%", -s.Trend)
	}
	return "steady"
}

// spreadRow is a spread in words, as spreadHead names them.
func spreadRow(name string, s Spread) []string {
	objective := "none stated"
	if s.Objective > 0 {
		objective = report.Span(s.Objective)
	}
	if s.Count == 0 {
		return []string{name, objective, "not measured", "", "", ""}
	}
	return []string{name, objective, report.Span(s.Min), report.Span(s.Median), report.Span(s.Max), s.trend()}
}

// By is how far off an objective was.
func (v quarterView) By(m Miss) string { return report.Span(m.Achieved - m.Stated) }

// Spreads are both rows.
func (v quarterView) Spreads(d InQuarter) [][]string {
	return [][]string{spreadRow("Data loss (RPO)", d.RPO), spreadRow("Time to recover (RTO)", d.RTO)}
}

var spreadHead = []string{"measured", "objective", "minimum", "median", "maximum", "trend"}

// SpreadHead is the head of a column.
func (v quarterView) SpreadHead() []string { return spreadHead }
