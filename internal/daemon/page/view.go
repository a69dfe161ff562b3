package page

import (
	_ "embed" // the template
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"emsafe/internal/report"
)

//go:embed page.tmpl
var source string

var (
	overviewPage = report.Must("overview", source+`{{define "content"}}{{template "overview" .}}{{end}}`)
	databasePage = report.Must("database", source+`{{define "content"}}{{template "database" .}}{{end}}`)
	drillsPage   = report.Must("drills", source+`{{define "content"}}{{template "drills" .}}{{end}}`)
	wholePage    = report.Must("whole", source+`{{define "content"}}{{template "whole" .}}{{end}}`)
)

// view is an overview at one place among the pages.
type view struct {
	Overview
	root string // the way back to the first page
	file bool   // everything is in one file
}

// O is the overview.
func (v view) O() Overview { return v.Overview }

// Link leads to a database.
func (v view) Link(database string) string {
	if v.file {
		return "#db-" + database
	}
	return v.root + "databases/" + url.PathEscape(database)
}

// Drill leads to a report; "" if it cannot be opened.
func (v view) Drill(d Drill) string {
	if v.file || !d.Report {
		return ""
	}
	return v.root + "drills/" + url.PathEscape(d.ID)
}

// Drills leads to the list of drills.
func (v view) AllDrills() string {
	if v.file {
		return "#drills"
	}
	return v.root + "drills"
}

// Home leads to the first page.
func (v view) Home() string {
	if v.file {
		return "#top"
	}
	return orDot(v.root)
}

func orDot(s string) string {
	if s == "" {
		return "./"
	}
	return s
}

// Headline is the worst in a few words.
func (v view) Headline() string {
	bad := 0
	for _, d := range v.Shown() {
		if d.State() > report.OK {
			bad++
		}
	}
	files := 0
	for _, f := range v.ShownFiles() {
		if f.State() > report.OK {
			files++
		}
	}
	switch n := len(v.Databases); {
	case n == 0:
		return "No database is configured"
	case bad == 0 && files == 1:
		return "Every database is protected; 1 of " + plural(len(v.Filesets), "fileset") + " needs attention"
	case bad == 0 && files > 1:
		return fmt.Sprintf("Every database is protected; %d of %s need attention", files, plural(len(v.Filesets), "fileset"))
	case bad == 0 && v.State() > report.OK:
		return "Every database is protected; the daemon needs a look"
	case bad == 0 && n == 1:
		return "The database is protected"
	case bad == 0:
		return "All " + fmt.Sprint(n) + " databases are protected"
	case bad == 1:
		return "1 of " + plural(n, "database") + " needs attention"
	default:
		return fmt.Sprintf("%d of %s need attention", bad, plural(n, "database"))
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Recent are the drills on the first page.
func (v view) Recent() []Drill { return v.Overview.Drills[:min(len(v.Overview.Drills), 8)] }

// Legend explains the strips.
func (v view) Legend() []report.State { return report.States() }

// Badge is a drill's verdict.
func (v view) Badge(d Drill) report.Badge { return report.Badge{State: d.State, Words: d.Verdict} }

// Seconds are a measured value.
func (v view) Seconds(f *float64) string {
	if f == nil {
		return "not measured"
	}
	return report.Span(*f)
}

// Shown are the databases, ready to be shown.
func (v view) Shown() []shown {
	list := make([]shown, len(v.Databases))
	for i, d := range v.Databases {
		list[i] = shown{d, v}
	}
	return list
}

// shown is one database.
type shown struct {
	Database
	V view
}

func (s shown) Last() *Drill        { return s.V.last(s.Name) }
func (s shown) All() []Drill        { return s.V.Overview.drills(s.Name) }
func (s shown) Problems() []Note    { return s.judge(s.V.At, s.Last()) }
func (s shown) State() report.State { return worst(s.Problems()) }
func (s shown) Anchor() string      { return "db-" + s.Name }

// Words are the state in a few words.
func (s shown) Words() string {
	return words(s.State())
}

func words(s report.State) string {
	if s == report.OK {
		return "protected"
	}
	return map[report.State]string{report.Overdue: "overdue", report.Failed: "failing", report.Missed: "objective missed", report.Unclear: "unclear"}[s]
}

// Age is how old the newest data is that could be restored.
func (s shown) Age() string {
	if s.AsOf().IsZero() {
		return "none"
	}
	if report.InFuture(s.V.At.Sub(s.AsOf())) {
		return "unknown"
	}
	return report.Span(max(0, s.V.At.Sub(s.AsOf()).Seconds()))
}

// AgeGauge sets it beside the objective.
func (s shown) AgeGauge() report.Gauge {
	g := report.Gauge{Achieved: s.V.At.Sub(s.AsOf()).Seconds(), Objective: s.RPO, State: report.OK}
	if g.Achieved > g.Objective || report.InFuture(s.V.At.Sub(s.AsOf())) {
		g.State = report.Overdue
	}
	g.Title = "age of the newest data: " + s.Age() + ", objective " + report.Span(s.RPO)
	return g
}

// RTOGauge sets the last time to recover beside its objective.
func (s shown) RTOGauge() *report.Gauge {
	last := s.Last()
	if last == nil || last.RTO == nil || s.RTO == 0 {
		return nil
	}
	g := report.Gauge{Achieved: *last.RTO, Objective: s.RTO, State: report.OK}
	if g.Achieved > g.Objective {
		g.State = report.Missed
	}
	g.Title = "time to recover: " + report.Span(g.Achieved) + ", objective " + report.Span(g.Objective)
	return &g
}

// DrillState is the last drill, or that one is overdue.
func (s shown) DrillState() report.State {
	state := report.Idle
	if last := s.Last(); last != nil {
		state = last.State
	}
	if !s.DrillDue.IsZero() && s.V.At.After(s.DrillDue.Add(drillGrace)) {
		state = report.Worst(state, report.Overdue)
	}
	return state
}

// TargetBadge is how a target stands.
func (s shown) TargetBadge(t Target) report.Badge {
	return targetBadge(t.Error, s.stale(t, s.V.At), !t.AsOf.IsZero())
}

func targetBadge(failed string, stale, holds bool) report.Badge {
	switch {
	case failed != "":
		return report.Badge{State: report.Failed, Words: "failing"}
	case stale:
		return report.Badge{State: report.Overdue, Words: "overdue"}
	case !holds:
		return report.Badge{State: report.Idle, Words: "nothing yet"}
	}
	return report.Badge{State: report.OK, Words: "ok"}
}

// Old is how old something is.
func (s shown) Old(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return report.Span(max(0, s.V.At.Sub(t).Seconds()))
}

// Ahead is how long until something; "" if it has passed.
func (s shown) Ahead(t time.Time) string {
	if !t.After(s.V.At) {
		return ""
	}
	return report.Span(t.Sub(s.V.At).Seconds())
}

// Strip are the days.
func (s shown) Strip() report.Strip { return report.Strip{Title: s.Name, Days: s.Days} }

// Calendar are the last of them by month.
func (s shown) Calendar() []report.Month { return report.Months(s.Days) }

// Bytes is the size now.
func (s shown) Bytes() int64 {
	if len(s.Sizes) == 0 {
		return 0
	}
	return s.Sizes[len(s.Sizes)-1].Bytes
}

// Spark is the trend of the size.
func (s shown) Spark() report.Spark {
	sp := report.Spark{Title: "size of " + s.Name + " over time"}
	for _, z := range s.Sizes {
		sp.Values = append(sp.Values, float64(z.Bytes))
	}
	return sp
}

// Lines are the plots.
func (s shown) Lines() []report.Line {
	rpo := report.Line{Title: "Data loss in drills (RPO)", Objective: s.RPO}
	rto := report.Line{Title: "Time to recover in drills (RTO)", Objective: s.RTO}
	all := s.All()
	for i := len(all) - 1; i >= 0; i-- {
		rpo.Points = append(rpo.Points, point(all[i], all[i].RPO, s.RPO)...)
		rto.Points = append(rto.Points, point(all[i], all[i].RTO, s.RTO)...)
	}
	size := report.Line{Title: "Size", Floating: true, Bytes: true}
	for _, z := range s.Sizes {
		size.Points = append(size.Points, report.Point{At: z.At, Value: float64(z.Bytes), State: report.OK})
	}
	return []report.Line{rpo, rto, size}
}

func point(d Drill, value *float64, objective float64) []report.Point {
	if value == nil {
		return nil
	}
	p := report.Point{At: d.At, Value: *value, State: report.OK}
	if objective > 0 && *value > objective {
		p.State = report.Missed
	}
	return []report.Point{p}
}

// page is the surroundings.
func (v view) page(title string, state report.State, data any, home string) report.Page {
	words := []string{"emsafe " + v.Version, "as of " + report.Moment(v.At)}
	if v.Daemon != "" {
		words = append(words, v.Daemon)
	}
	return report.Page{Title: title, State: state, Home: home, Footer: strings.Join(words, " · "), Data: data}
}

func (v view) writeOverview(w io.Writer) error {
	return report.Write(w, overviewPage, v.page("Backups on "+v.Host, v.State(), v, v.Home()))
}

func (v view) writeDrills(w io.Writer) error {
	return report.Write(w, drillsPage, v.page("Drills on "+v.Host, v.State(), v, v.Home()))
}

// writeDatabase reports false if there is none of that name.
func (v view) writeDatabase(w io.Writer, name string) (bool, error) {
	for _, s := range v.Shown() {
		if s.Name == name {
			return true, report.Write(w, databasePage, v.page(name+" on "+v.Host, s.State(), s, v.Home()))
		}
	}
	return false, nil
}

// WriteOverview writes all pages as one file that needs nothing else.
func WriteOverview(w io.Writer, o Overview) error {
	v := view{Overview: o, file: true}
	return report.Write(w, wholePage, v.page("Backups on "+o.Host, o.State(), v, ""))
}

// table is a list of drills.
type table struct {
	V    view
	List []Drill
}

// Table is what the partial of that name wants.
func (v view) Table(list []Drill) table { return table{v, list} }
