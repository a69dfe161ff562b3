package drill

import (
	_ "embed" // the template
	"encoding/base64"
	"html/template"
	"io"

	"emsafe/internal/report"
	"emsafe/storage/seal"
)

// Signed is a report as it lies in a target.
type Signed struct {
	Report Report
	Object []byte // the JSON and the signature, exactly; nil if it is not signed yet
	Signer string // fingerprint of the pinned key that signed it, once that is verified
}

// Digest is the SHA-256 of the whole object; the next report names it.
func (s Signed) Digest() seal.Digest {
	if len(s.Object) == 0 {
		return seal.Digest{}
	}
	return seal.Sum(s.Object)
}

//go:embed drill.tmpl
var drillPage string

var drillTemplate = report.Must("drill", drillPage)

// WriteHTML writes one drill as one file that needs nothing else: it prints to
// A4, runs no script, and carries the signed original.
func (s Signed) WriteHTML(w io.Writer) error {
	return report.Write(w, drillTemplate, s.Page(""))
}

// Page is the drill as a page; home leads back to where it is served from.
func (s Signed) Page(home string) report.Page {
	r := s.Report
	return report.Page{
		Title: "Restore drill " + r.ID + " of " + r.Database, State: r.Verdict.State(), Home: home,
		Footer: "Restore drill " + r.ID + " of " + r.Database + " on " + r.Host + ", " + report.Moment(r.Started),
		Data:   view{s},
	}
}

// ExecutePage renders [Signed.Page] for a server.
func ExecutePage(w io.Writer, p report.Page) error { return report.Write(w, drillTemplate, p) }

// view is what the template asks.
type view struct{ Signed }

func (v view) R() Report                { return v.Report }
func (v view) State() report.State      { return v.Report.Verdict.State() }
func (v view) Verdict() string          { return v.Report.Verdict.Words() }
func (v view) Deviations() []Deviation  { return v.Report.Deviations() }
func (v view) Commands() string         { return verifyCommands(v.Name()) }
func (v view) Took() float64            { return v.Report.Ended.Sub(v.Report.Started).Seconds() }
func (v view) Name() string             { return "drill-" + v.Report.Database + "-" + v.Report.ID + ".signed" }
func (v view) Key() string              { return keyWords(v.Report.KeyProof) }
func (v view) Badge(c Verdict) any      { return report.Badge{State: c.State(), Words: c.Short()} }
func (v view) Size() int64              { return int64(len(v.Object)) }
func (v view) Objectives() []objective  { return objectives(v.Report) }
func (v view) Why(r Restored) string    { return whyWords(r.Why) }
func (v view) Target(r Restored) string { return targetWords(r) }
func (v view) Prior() string            { return digestWords(v.Report.Previous) }
func (v view) Stood(c Check) (s string) { return kindWords(c.Kind) }
func (v view) Failed(r Restored) string { return reasonWords(r) }
func (v view) Open(a Action) report.State {
	switch {
	case !a.Done.IsZero():
		return report.OK
	case !a.Due.IsZero() && a.Due.Before(v.Report.Ended):
		return report.Overdue
	}
	return report.Idle
}

// Original is the signed object as a link that saves it.
func (v view) Original() template.URL {
	return template.URL("data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(v.Object)) //nolint:gosec // base64 has no markup
}

// Waterfall are the phases of one restore.
func (v view) Waterfall(r Restored) report.Waterfall {
	var w report.Waterfall
	for _, p := range r.Phases {
		w.Phases = append(w.Phases, report.Phase{
			Name: p.Name, Start: p.Start, Seconds: p.Seconds, Bytes: p.Bytes, Note: p.Error,
			Badge: report.Badge{State: p.Verdict.State(), Words: p.Verdict.Short()},
		})
	}
	return w
}

// objective is one of the two, ready to be shown.
type objective struct {
	Name, Short string
	Measured
	State report.State
	Gauge report.Gauge
}

func objectives(r Report) []objective {
	list := []objective{
		{Name: "Data loss", Short: "RPO", Measured: r.RPO},
		{Name: "Time to recover", Short: "RTO", Measured: r.RTO},
	}
	for i, o := range list {
		o.State = o.state(r.Verdict)
		o.Gauge = report.Gauge{Title: o.Short + ": " + o.Margin(), Achieved: o.Achieved, Objective: o.Objective, State: o.State}
		list[i] = o
	}
	return list
}
