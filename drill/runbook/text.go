package runbook

import (
	_ "embed" // the template
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"emsafe/internal/report"
)

//go:embed record.tmpl
var recordPage string

var recordTemplate = report.Must("runbook", recordPage)

// State is how a run ended, for reports.
func (r *Record) State() report.State {
	_, skipped, failed := r.Counts()
	switch {
	case failed > 0:
		return report.Failed
	case r.Outcome != Completed || skipped > 0:
		return report.Missed
	}
	return report.OK
}

// WriteHTML writes the record as one file that needs nothing else.
func (r *Record) WriteHTML(w io.Writer) error {
	return report.Write(w, recordTemplate, report.Page{
		Title: "Runbook " + r.Runbook + ", run " + r.ID, State: r.State(),
		Footer: "Runbook " + r.Runbook + " on " + r.Host + ", " + report.Moment(r.Started), Data: recordView{r},
	})
}

type recordView struct{ *Record }

// Span is how long it took.
func (v recordView) Span() float64 { return v.Ended.Sub(v.Started).Seconds() }

// Badge is the state of a step.
func (v recordView) Badge(d Done) report.Badge {
	state := map[State]report.State{OK: report.OK, Skipped: report.Idle, Shown: report.Idle, Failed: report.Failed, Begun: report.Failed}[d.State]
	words := string(d.State)
	if d.Undone {
		words += ", undone"
	}
	return report.Badge{State: state, Words: words}
}

// Held is the state of a precheck.
func (v recordView) Held(c Checked) report.Badge {
	if c.OK {
		return report.Badge{State: report.OK, Words: "so"}
	}
	return report.Badge{State: report.Failed, Words: "not so"}
}

// Given are the variables, by name.
func (v recordView) Given() (pairs [][2]string) {
	for name, value := range v.Variables {
		pairs = append(pairs, [2]string{name, value})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return pairs
}

// Markdown is the record for a ticket.
func (r *Record) Markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Runbook %s: %s", r.Runbook, r.Title)
	line("")
	line("- run %s on %s by %s", r.ID, r.Host, r.Operator)
	line("- from %s to %s", stamp(r.Started), stamp(r.Ended))
	line("- outcome: %s", r.Outcome)
	if r.Incident != "" {
		line("- incident %s", r.Incident)
	}
	line("- text of the runbook: SHA-256 %s", r.Digest)
	for _, pair := range (recordView{r}).Given() {
		line("- %s: %s", pair[0], pair[1])
	}
	if len(r.Before) > 0 {
		line("\n## Before\n")
		for _, c := range r.Before {
			mark := "x"
			if !c.OK {
				mark = " "
			}
			line("- [%s] %s", mark, c.Text)
		}
	}
	line("\n## Steps")
	for i, d := range r.Steps {
		line("\n### %d. %s: %s", i+1, d.Title, d.State)
		line("\n%s to %s, by %s", stamp(d.Started), stamp(d.Ended), d.Operator)
		if d.Reason != "" {
			line("\n%s", d.Reason)
		}
		if d.Command != "" {
			line("\n%s", fenced("sh", d.Command))
		}
		if d.Code != nil {
			line("\nexit code %d, attempts %d%s", *d.Code, d.Attempts, map[bool]string{true: ", undone"}[d.Undone])
		}
		if d.Output != "" {
			line("\n%s", fenced("", strings.TrimRight(d.Output, "\n")))
		}
	}
	if len(r.Notes) > 0 {
		line("\n## Notes\n")
		for _, n := range r.Notes {
			line("- %s, %s: %s", stamp(n.At), n.By, n.Text)
		}
	}
	return b.String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "(not yet)"
	}
	return t.UTC().Format(time.DateTime) + " UTC"
}

// fenced is a block that its text cannot end.
func fenced(info, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + info + "\n" + text + "\n" + fence
}
