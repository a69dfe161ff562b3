package audit

import (
	_ "embed" // the template
	"html/template"
	"io"

	"emsafe/internal/finding"
	"emsafe/internal/report"
)

//go:embed audit.tmpl
var page string

var pageTemplate = report.Must("audit", page)

// WriteHTML writes the report as one file that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	return report.Write(w, pageTemplate, report.Page{
		Title: "Audit of " + r.Subject(), State: r.state(),
		Footer: "Audit of " + r.Subject() + ", " + report.Moment(r.Started) + ", emsafe " + r.Version, Data: view{r},
	})
}

func (r *Report) state() report.State {
	switch {
	case len(r.Failing(finding.High)) > 0:
		return report.Failed
	case len(r.Failing(finding.Info)) > 0:
		return report.Missed
	case len(r.Unchecked()) > 0 || r.Grade.Letter == "-":
		return report.Unclear
	}
	return report.OK
}

// view is what the template asks.
type view struct{ *Report }

func (v view) State() report.State     { return v.state() }
func (v view) Took() float64           { return v.Ended.Sub(v.Started).Seconds() }
func (v view) Waived() []finding.Check { return v.waived() }
func (v view) Mended(c finding.Check) template.HTML {
	if by := Mended(c); by != "" {
		return report.Prose("`" + by + "`")
	}
	return ""
}

// part are the checks with one result.
func (v view) part(results ...finding.Result) (list []finding.Check) {
	for _, c := range v.Checks {
		for _, r := range results {
			if c.Result == r && c.Waiver == nil {
				list = append(list, c)
			}
		}
	}
	return list
}

func (v view) Open() []finding.Check   { return v.part(finding.Fail, finding.Warn) }
func (v view) Errors() []finding.Check { return v.part(finding.Error) }
func (v view) Passed() []finding.Check { return v.part(finding.Pass) }

// Skip is what was not checked for one reason.
type Skip struct {
	Reason string
	IDs    []string
}

func (v view) Skipped() (list []Skip) {
	reasons, ids := v.Skips()
	for _, r := range reasons {
		list = append(list, Skip{r, ids[r]})
	}
	return list
}

// Badge is a check's result: a failure by how bad it is.
func (v view) Badge(c finding.Check) report.Badge {
	switch c.Result {
	case finding.Pass:
		return report.Badge{State: report.OK, Words: "pass"}
	case finding.Fail:
		if c.Severity >= finding.High {
			return report.Badge{State: report.Failed, Words: c.Severity.String()}
		}
		return report.Badge{State: report.Missed, Words: c.Severity.String()}
	case finding.Warn:
		return report.Badge{State: report.Overdue, Words: "warning"}
	case finding.Error:
		return report.Badge{State: report.Unclear, Words: "error"}
	}
	return report.Badge{State: report.Idle, Words: "skipped"}
}

// Phase is a phase's result.
func (v view) Phase(c Coverage) report.Badge {
	switch {
	case c.Failed > 0:
		return report.Badge{State: report.Failed, Words: "open"}
	case c.Errors > 0:
		return report.Badge{State: report.Unclear, Words: "not all could be checked"}
	case c.Checked == 0:
		return report.Badge{State: report.Idle, Words: "not checked"}
	case c.Warned > 0:
		return report.Badge{State: report.Missed, Words: "warnings"}
	}
	if c.Checked < c.Rules {
		return report.Badge{State: report.Unclear, Words: "holds, as far as it was checked"}
	}
	return report.Badge{State: report.OK, Words: "holds"}
}

// Item is what a check box of the plan came to.
func (v view) Item(i Item) report.Badge {
	switch i.State {
	case Holds:
		return report.Badge{State: report.OK, Words: i.State}
	case Broken:
		if i.Ticked {
			return report.Badge{State: report.Failed, Words: i.State}
		}
		return report.Badge{State: report.Idle, Words: i.State}
	}
	return report.Badge{State: report.Unclear, Words: i.State}
}
