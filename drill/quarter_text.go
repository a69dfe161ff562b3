package drill

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/internal/report"
)

// Formats are what a report can be written as.
var Formats = []string{"html", "md", "json", "csv"}

// Write writes the quarter in one of the [Formats].
func (q Quarterly) Write(w io.Writer, format string) error {
	switch format {
	case "html":
		return q.WriteHTML(w)
	case "md":
		return q.WriteMarkdown(w)
	case "json":
		return q.WriteJSON(w)
	case "csv":
		return q.WriteCSV(w)
	}
	return unknownFormat(format, Formats)
}

// Write writes one drill as html, md or json.
func (s Signed) Write(w io.Writer, format string) error {
	switch format {
	case "html":
		return s.WriteHTML(w)
	case "md":
		return s.WriteMarkdown(w)
	case "json":
		return s.WriteJSON(w)
	}
	return unknownFormat(format, Formats[:3])
}

func unknownFormat(format string, known []string) error {
	return fault.New(fault.Usage, "there is no format %q", format).WithRemedy("There are: %s.", strings.Join(known, ", "))
}

// WriteJSON writes the quarter as one document.
func (q Quarterly) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(q)
}

// WriteCSV writes one line for each drill.
func (q Quarterly) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{{
		"period", "database", "number", "drill", "slot", "started_at", "ended_at", "verdict", "rpo_objective_seconds", "rpo_achieved_seconds", "rpo_how",
		"rto_objective_seconds", "rto_achieved_seconds", "target", "backup", "manifest_sha256", "pages_digest", "operator", "finding", "report_sha256",
	}}
	for _, d := range q.Databases {
		for _, s := range q.drills[d.Name] {
			r := s.Report
			var x Restored
			if len(r.Restores) > 0 {
				x = r.Restores[0]
			}
			rows = append(rows, []string{
				q.Period, r.Database, strconv.FormatUint(r.Number, 10), r.ID, stamp(r.Slot), stamp(r.Started), stamp(r.Ended), string(r.Verdict),
				stated(r.RPO), achieved(r.RPO), r.RPO.How, stated(r.RTO), achieved(r.RTO), x.Target, x.Backup, x.Manifest.String(), x.Digest,
				r.Operator, r.Finding, s.Digest().String(),
			})
		}
	}
	for _, row := range rows {
		for i, v := range row {
			row[i] = report.Cell(v)
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func stated(m Measured) string {
	if m.Objective == 0 {
		return ""
	}
	return strconv.FormatFloat(m.Objective, 'f', -1, 64)
}

func achieved(m Measured) string {
	if !m.Known {
		return ""
	}
	return strconv.FormatFloat(m.Achieved, 'f', 3, 64)
}

// WriteMarkdown writes the quarter as Markdown, in the sections of the page.
func (q Quarterly) WriteMarkdown(w io.Writer) error {
	var m markdown
	v := quarterView{q}
	m.line("# Restore drills, %s", q.title())
	m.line("**%s %s.** %s", q.State().Glyph(), v.Verdict(), cell(q.Finding))
	m.list("Period: %s to %s, UTC; made %s", report.Date(q.From), report.Date(v.Last()), report.Moment(q.Made))
	if q.Host != "" {
		m.list("Host: %s", cell(q.Host))
	}
	if len(q.Controls) > 0 {
		m.list("Evidence for: %s (as configured)", cell(strings.Join(q.Controls, ", ")))
	}
	for _, d := range q.Databases {
		m.database(d)
	}
	m.heading("Objectives missed, and why")
	m.table(len(q.Misses), []string{"When", "Database", "Objective", "Stated", "Achieved", "Missed by", "Why"}, func(i int) []string {
		x := q.Misses[i]
		return []string{report.Date(x.At), x.Database, x.Objective, report.Span(x.Stated), report.Span(x.Achieved), v.By(x), x.Why}
	})
	m.heading("Failures, to their closing")
	m.table(len(q.Failures), []string{"When", "Database", "Verdict", "Finding", "Actions", "Closed"}, func(i int) []string {
		x := q.Failures[i]
		closed := v.Closed(x)
		return []string{report.Moment(x.At), x.Database, mark(x.Verdict), x.Finding, actionWords(x.Actions), closed.State.Glyph() + " " + closed.Words + orNothing(", ", x.ClosedBy)}
	})
	m.heading("Not tested")
	var untested []string
	for _, n := range q.NotTested {
		untested = append(untested, fmt.Sprintf("%s (%s)", n.What, plural(n.Drills, "drill")))
	}
	m.bullets(untested, "The drills name nothing.")
	m.heading("Custody of the recovery key")
	m.table(len(q.KeyProofs), []string{"Proven", "For the recipient", "With backup"}, func(i int) []string {
		k := q.KeyProofs[i]
		return []string{report.Moment(k.At), k.Recipient, k.Backup}
	})
	for _, e := range []struct {
		what string
		list []Event
	}{{"Exercises", q.Exercises}, {"Restores in earnest", q.Restores}} {
		m.heading(e.what)
		m.table(len(e.list), []string{"When", "What", "Outcome", "By"}, func(i int) []string {
			x := e.list[i]
			return []string{report.Moment(x.At), x.What, x.Outcome, x.By}
		})
	}
	m.appendix(q)
	_, err := io.WriteString(w, report.Visible(m.String()))
	return err
}

func (m *markdown) table(n int, head []string, row func(int) []string) {
	if n == 0 {
		m.line("None.")
		return
	}
	m.row(head...)
	m.rule(len(head))
	for i := range n {
		m.row(row(i)...)
	}
	m.WriteString("\n")
}

func (m *markdown) database(d InQuarter) {
	m.heading("Database " + cell(d.Name))
	m.table(len(d.Months), []string{"Month", "Planned", "Held", "Passed", "Objective missed", "Failed", "Inconclusive"}, func(i int) []string {
		x := d.Months[i]
		planned := "?"
		if x.Planned != nil {
			planned = strconv.Itoa(*x.Planned)
		}
		return []string{x.Month, planned, strconv.Itoa(x.Held), strconv.Itoa(x.Passed), strconv.Itoa(x.Missed), strconv.Itoa(x.Failed), strconv.Itoa(x.Inconclusive)}
	})
	spreads := quarterView{}.Spreads(d)
	m.table(len(spreads), spreadHead, func(i int) []string { return spreads[i] })
	for _, a := range d.NotHeld {
		m.list("%s not held: %s: %s.", report.Overdue.Glyph(), report.Moment(a.Slot), cell(a.Why))
	}
}

func (m *markdown) appendix(q Quarterly) {
	m.heading("Appendix: the reports by their digests")
	for _, d := range q.Databases {
		m.list("%s: %s", cell(d.Name), cell(d.Chain))
	}
	m.WriteString("\n")
	m.table(len(q.Reports), []string{"Drill", "Database", "Verdict", "SHA-256 of the signed report"}, func(i int) []string {
		x := q.Reports[i]
		digest := "not signed"
		if !x.Digest.IsZero() {
			digest = x.Digest.String()
		}
		return []string{fmt.Sprintf("%s no. %d", report.Date(x.At), x.Number), x.Database, mark(x.Verdict), digest}
	})
}

func actionWords(actions []Action) string {
	var parts []string
	for _, a := range actions {
		words := a.What + " (" + orElse(a.Owner, "nobody yet") + ", "
		if a.Done.IsZero() {
			words += orElse(report.Date(a.Due), "no date") + ", open)"
		} else {
			words += "done " + report.Date(a.Done) + ")"
		}
		parts = append(parts, words)
	}
	return strings.Join(parts, "; ")
}
