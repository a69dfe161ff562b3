package audit

import (
	"fmt"
	"io"
	"strings"
	"time"

	"emsafe/internal/finding"
)

// Mended is how emsafe itself helps with a check, or "".
func Mended(c finding.Check) string {
	var by []string
	if c.Render != "" {
		by = append(by, "emsafe render "+c.Render)
	}
	if c.Runbook != "" {
		by = append(by, "emsafe runbook show "+c.Runbook)
	}
	return strings.Join(by, "; ")
}

// Summary is the grade in a sentence, never without how much it is about.
func (r *Report) Summary() string {
	g := r.Grade
	s := fmt.Sprintf("grade %s, score %d, over %d of %d rules", g.Letter, g.Score, g.Checked, g.Rules)
	if g.Letter == "-" {
		s = fmt.Sprintf("no grade: %d of %d rules were checked", g.Checked, g.Rules)
	}
	if g.Capped != "" {
		s += " (no better, for " + g.Capped + ")"
	}
	return s
}

// Skips are the reasons for what was skipped, and how often.
func (r *Report) Skips() (reasons []string, ids map[string][]string) {
	ids = map[string][]string{}
	for _, c := range r.Checks {
		if c.Result == finding.Skip {
			if ids[c.Reason] == nil {
				reasons = append(reasons, c.Reason)
			}
			ids[c.Reason] = append(ids[c.Reason], c.ID)
		}
	}
	return reasons, ids
}

// WriteMarkdown writes the report for a ticket or a wiki.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "`", "'").Replace
	fmt.Fprintf(&b, "# Audit of %s\n\n%s. %s, %d requests, emsafe %s.\n\n", cell(r.Subject()), r.Summary(), r.Started.Format("2006-01-02 15:04 UTC"), r.Requests, r.Version)
	b.WriteString("| phase | rules | checked | passed | failed | warned | waived | skipped | errors |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range r.Coverage {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d |\n", c.Phase.Words(), c.Rules, c.Checked, c.Passed, c.Failed, c.Warned, c.Waived, c.Skipped, c.Errors)
	}
	if len(r.Plan) > 0 {
		b.WriteString("\n## Plan against reality\n\n| line | ticked | item | is | why |\n|---|---|---|---|---|\n")
		for _, i := range r.Plan {
			fmt.Fprintf(&b, "| %d | %t | %s | %s | %s |\n", i.Line, i.Ticked, cell(i.Text), i.State, cell(strings.Join(i.Why, "; ")))
		}
	}
	for _, part := range []struct {
		title  string
		result finding.Result
	}{{"Fails", finding.Fail}, {"Could not be checked", finding.Error}, {"Warnings", finding.Warn}} {
		first := true
		for _, c := range r.Checks {
			if c.Result != part.result || c.Waiver != nil {
				continue
			}
			if first {
				fmt.Fprintf(&b, "\n## %s\n", part.title)
				first = false
			}
			fmt.Fprintf(&b, "\n### %s %s: %s\n\n- of: %s\n- found: %s\n", c.ID, c.Severity, c.Title, cell(c.Subject), cell(c.Found+c.Reason))
			for _, e := range c.Evidence {
				fmt.Fprintf(&b, "- evidence: `%s`\n", cell(e))
			}
			fmt.Fprintf(&b, "- why: %s\n- remedy: %s\n", cell(c.Why), cell(c.Remedy))
			if by := Mended(c); by != "" {
				fmt.Fprintf(&b, "- mended by: %s\n", by)
			}
			if c.ASVS != "" {
				fmt.Fprintf(&b, "- ASVS: %s\n", c.ASVS)
			}
		}
	}
	reasons, ids := r.Skips()
	if len(reasons) > 0 {
		b.WriteString("\n## Not checked\n\n")
	}
	for _, reason := range reasons {
		fmt.Fprintf(&b, "- %s: %s\n", cell(reason), strings.Join(ids[reason], ", "))
	}
	for i, c := range r.waived() {
		if i == 0 {
			b.WriteString("\n## Waived\n\n")
		}
		fmt.Fprintf(&b, "- %s, %s, until %s, %s: %s\n", c.ID, cell(c.Subject), c.Waiver.Until.Format(time.DateOnly), cell(c.Waiver.Owner), cell(c.Waiver.Reason))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) waived() (list []finding.Check) {
	for _, c := range r.Checks {
		if c.Waiver != nil {
			list = append(list, c)
		}
	}
	return list
}

// Subject is what was looked at.
func (r *Report) Subject() string {
	var of []string
	for _, s := range []string{r.Target, r.Host, r.Repo} {
		if s != "" {
			of = append(of, s)
		}
	}
	return strings.Join(of, ", ")
}

// WritePrometheus writes metrics in the text format, for a textfile collector.
func (r *Report) WritePrometheus(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# HELP emsafe_audit_check_failed Whether a rule of the audit is broken and not waived.\n# TYPE emsafe_audit_check_failed gauge\n")
	for _, rule := range Rules {
		worst, waived, any := outcome(r.Checks, rule.ID)
		if !any || worst == finding.Skip || worst == finding.Error || worst == "" && !waived {
			continue
		}
		failed := 0
		if worst == finding.Fail {
			failed = 1
		}
		fmt.Fprintf(&b, "emsafe_audit_check_failed{id=%q,severity=%q,phase=%q} %d\n", rule.ID, rule.Severity, rule.Phase, failed)
	}
	b.WriteString("# HELP emsafe_audit_rules Rules by phase and outcome.\n# TYPE emsafe_audit_rules gauge\n")
	for _, c := range r.Coverage {
		for _, n := range []struct {
			result string
			n      int
		}{{"pass", c.Passed}, {"fail", c.Failed}, {"warn", c.Warned}, {"waived", c.Waived}, {"skip", c.Skipped}, {"error", c.Errors}} {
			fmt.Fprintf(&b, "emsafe_audit_rules{phase=%q,result=%q} %d\n", c.Phase, n.result, n.n)
		}
	}
	fmt.Fprintf(&b, "# HELP emsafe_audit_score Share of what was checked that holds, by weight.\n# TYPE emsafe_audit_score gauge\nemsafe_audit_score %.2f\n", float64(r.Grade.Score)/100)
	fmt.Fprintf(&b, "# HELP emsafe_audit_timestamp_seconds When the audit ended.\n# TYPE emsafe_audit_timestamp_seconds gauge\nemsafe_audit_timestamp_seconds %d\n", r.Ended.Unix())
	_, err := io.WriteString(w, b.String())
	return err
}
