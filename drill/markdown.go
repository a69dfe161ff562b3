package drill

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"emsafe/internal/report"
	"emsafe/storage/seal"
)

// WriteJSON writes what was signed, byte for byte, without the signature.
func (s Signed) WriteJSON(w io.Writer) error {
	text, _, err := seal.Split(s.Object)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// WriteMarkdown writes one drill as Markdown, in the sections of the page.
func (s Signed) WriteMarkdown(w io.Writer) error {
	var m markdown
	r := s.Report
	m.line("# Restore drill of %s: %s", r.Database, r.Verdict.Words())
	m.line("**%s** %s", r.Verdict.State().Glyph(), cell(r.Finding))
	m.list("Drill number %d, `%s`", r.Number, r.ID)
	m.list("%s, took %s", report.Moment(r.Started), days(r.Started, r.Ended))
	m.list("On %s, by %s", cell(r.Host), cell(r.Operator))
	if r.Configuration != "" {
		m.list("With the configuration %s", cell(r.Configuration))
	}
	m.heading("Objectives")
	m.row("Objective", "Stated", "Achieved", "Margin", "How measured", "Trend")
	m.rule(6)
	for _, o := range objectives(r) {
		stated := "none"
		if o.Objective > 0 {
			stated = report.Span(o.Objective)
		}
		m.row(o.Name+" ("+o.Short+")", stated, o.Value(), o.State.Glyph()+" "+o.Margin(), o.Means(), o.Trend())
	}
	m.restores(r)
	m.heading("Not tested")
	m.bullets(r.NotTested, "Nothing was left out that the plan asks for.")
	m.actions(r)
	m.evidence(s)
	_, err := io.WriteString(w, report.Visible(m.String()))
	return err
}

// markdown is a document in the making. Words from outside go through cell.
type markdown struct{ bytes.Buffer }

func (m *markdown) line(format string, args ...any) { fmt.Fprintf(m, format+"\n\n", args...) }
func (m *markdown) list(format string, args ...any) { fmt.Fprintf(m, "- "+format+"\n", args...) }
func (m *markdown) heading(s string)                { fmt.Fprintf(m, "\n## %s\n\n", s) }
func (m *markdown) rule(n int)                      { m.WriteString("|" + strings.Repeat(" --- |", n) + "\n") }

func (m *markdown) row(cells ...string) {
	m.WriteString("|")
	for _, c := range cells {
		m.WriteString(" " + cell(c) + " |")
	}
	m.WriteString("\n")
}

func (m *markdown) bullets(list []string, none string) {
	if len(list) == 0 {
		m.line("%s", none)
	}
	for _, s := range list {
		m.list("%s", cell(s))
	}
}

// cell keeps words from becoming markup, or the end of a table's row.
func cell(s string) string {
	s = strings.Join(strings.Fields(report.Visible(s)), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "#", `\#`, "&", "&amp;").Replace(s)
}

func (m *markdown) restores(r Report) {
	m.heading("What was restored")
	for _, x := range r.Restores {
		m.line("### %s %s in %s", x.Verdict.State().Glyph(), cell(upper(strings.TrimSuffix(whyWords(x.Why), ","))), cell(x.Target))
		if why := reasonWords(x); why != "" {
			m.line("%s", cell(why))
		}
		for _, f := range [][2]string{
			{"Backup", fmt.Sprintf("number %d of %d, %s, %s", x.Sequence, x.Head, x.Kind, x.Backup)}, {"Target", targetWords(x)},
			{"Data as of", report.Moment(x.SnapshotAt) + ", committed " + report.Moment(x.CommittedAt)},
			{"Read", fmt.Sprintf("%s in %d payloads, for a database of %s", report.Size(x.Fetched), len(x.Path), report.Size(x.Size))},
			{"Digest of its pages", x.Digest}, {"Schema", x.Schema}, {"Manifest", x.Manifest.String()},
			{"Sealed for", strings.Join(x.Recipients, ", ")}, {"Opened with", x.Identity},
		} {
			m.list("%s: %s", f[0], cell(f[1]))
		}
		m.WriteString("\n")
		m.row("Phase", "From", "Took", "Bytes", "Result")
		m.rule(5)
		for _, p := range x.Phases {
			size := ""
			if p.Bytes > 0 {
				size = report.Size(p.Bytes)
			}
			m.row(p.Name, report.Span(p.Start), report.Took(p.Seconds), size, strings.TrimSuffix(mark(p.Verdict)+": "+p.Error, ": "))
		}
		m.WriteString("\n")
		if len(x.Checks) == 0 {
			m.line("No check was reached.")
			continue
		}
		m.row("Check", "Of", "Expected", "Got", "Took", "Result")
		m.rule(6)
		for _, c := range x.Checks {
			m.row(c.Name, kindWords(c.Kind), c.Expected, c.Got, report.Took(c.Seconds), mark(c.Verdict))
		}
		m.WriteString("\n")
	}
}

func mark(v Verdict) string { return v.State().Glyph() + " " + v.Short() }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (m *markdown) actions(r Report) {
	m.heading("Deviations and actions")
	var list []string
	for _, d := range r.Deviations() {
		list = append(list, mark(d.Verdict)+": "+d.What)
	}
	m.bullets(list, "No deviations.")
	if len(r.Actions) == 0 {
		return
	}
	m.WriteString("\n")
	m.row("Action", "Owner", "Due", "Done")
	m.rule(4)
	for _, a := range r.Actions {
		m.row(a.What, orElse(a.Owner, "nobody yet"), orElse(report.Date(a.Due), "no date"), orElse(report.Date(a.Done), "open"))
	}
}

func (m *markdown) evidence(s Signed) {
	m.heading("Evidence and signature")
	digest := "not signed yet"
	if len(s.Object) > 0 {
		digest = s.Digest().String()
	}
	m.list("This report: %s", digest)
	m.list("The one before: %s", digestWords(s.Report.Previous))
	m.list("Signed by: %s", cell(orElse(s.Signer, "not verified here")))
	m.list("Recovery key last proven: %s", cell(keyWords(s.Report.KeyProof)))
	m.list("Made with: %s", cell(strings.Join(s.Report.Versions, ", ")))
	if len(s.Object) > 0 {
		name := view{s}.Name()
		m.line("\nWhat counts is the signed original (%s), not this rendering. With the `allowed_signers` that you pinned, stock tools verify it:", name)
		m.line("```sh\n%s```", verifyCommands(name))
	}
}
