package audit

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"emsafe/internal/finding"
)

var update = flag.Bool("update", false, "write docs/audit.schema.json")

const published = "../../docs/audit.schema.json"

func TestSchemaIsPublished(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile(published, Schema(), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(published)
	if err != nil || !bytes.Equal(have, Schema()) {
		t.Errorf("%s is not what the reports say (%v); go test ./drill/audit -update", published, err)
	}
	if n := bytes.Count(have, []byte(`"description": ""`)); n > 0 {
		t.Errorf("%d keys are not explained", n)
	}
	if n := bytes.Count(have, []byte(`"description": "`)); n != len(meanings) {
		t.Errorf("%d keys are explained, and there are %d", len(meanings), n)
	}
}

// A report keeps to the schema: every key is there, and known.
func TestReportFitsSchema(t *testing.T) {
	t.Parallel()
	r := written(t)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	var s map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	defs := s["$defs"].(map[string]any)
	var fits func(where string, v any, s map[string]any)
	fits = func(where string, v any, s map[string]any) {
		if ref, ok := s["$ref"].(string); ok {
			s = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		if enum, ok := s["enum"].([]any); ok {
			for _, e := range enum {
				if e == v {
					return
				}
			}
			t.Errorf("%s: %v is none of %v", where, v, enum)
		}
		switch v := v.(type) {
		case map[string]any:
			properties := s["properties"].(map[string]any)
			for _, k := range s["required"].([]any) {
				if _, ok := v[k.(string)]; !ok {
					t.Errorf("%s has no %s", where, k)
				}
			}
			for k, x := range v {
				p, ok := properties[k].(map[string]any)
				if !ok {
					t.Errorf("%s: %s is not in the schema", where, k)
					continue
				}
				fits(where+"."+k, x, p)
			}
		case []any:
			for _, x := range v {
				fits(where, x, s["items"].(map[string]any))
			}
		}
	}
	fits("report", doc, s)
}

// written is a report with everything that a report can hold, and with text
// that wants to be markup.
func written(t *testing.T) *Report {
	t.Helper()
	d := &door{fault: map[string]bool{"cookie": true, "env": true, "no X-Content-Type-Options": true, "inline scripts": true}}
	r := Look(t.Context(), d.open(t))
	evil := result("EMS-SVC-001", finding.High, finding.Fail)
	evil.Subject, evil.Evidence = "<script>alert(1)</script>|`x`", []string{"<img src=x>"}
	r.Checks = append(r.Checks, evil, result("EMS-FW-001", finding.High, finding.Error))
	r.Version = "1"
	r.Conclude([]finding.Waiver{{Name: "w", ID: "EMS-COOKIE-001", Reason: "old client", Owner: "kim", Until: today.AddDate(0, 1, 0)}}, []byte("- [x] EMS-EXP-001 is done\n- [x] EMS-TLS-001\n"), today)
	return r
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	r := written(t)
	var md, html, prom bytes.Buffer
	for b, write := range map[*bytes.Buffer]func() error{&md: func() error { return r.WriteMarkdown(&md) }, &html: func() error { return r.WriteHTML(&html) }, &prom: func() error { return r.WritePrometheus(&prom) }} {
		if err := write(); err != nil || b.Len() == 0 {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"EMS-EXP-001", "kim", "does not hold", "needs --repo", "grade F"} {
		for name, b := range map[string]*bytes.Buffer{"Markdown": &md, "HTML": &html} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
	}
	for name, b := range map[string]*bytes.Buffer{"Markdown": &md, "HTML": &html} {
		if strings.Contains(b.String(), "<script") || strings.Contains(b.String(), "<img") {
			t.Errorf("%s has somebody else's markup", name)
		}
	}
	line := regexp.MustCompile(`^([a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.]+|# (HELP|TYPE) .+)$`)
	for _, l := range strings.Split(strings.TrimSpace(prom.String()), "\n") {
		if !line.MatchString(l) {
			t.Errorf("no metric: %s", l)
		}
	}
	for want, n := range map[string]int{`emsafe_audit_check_failed{id="EMS-EXP-001",severity="critical",phase="application"} 1`: 1, `emsafe_audit_check_failed{id="EMS-TLS-001",severity="high",phase="perimeter"} 0`: 1, "EMS-RATE-001": 0, "EMS-FW-001": 0} {
		if strings.Count(prom.String(), want) != n {
			t.Errorf("%q is not there %d times", want, n)
		}
	}
}

// Rules are complete, and stand in the document.
func TestRules(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, Reference()) {
		t.Error("docs/audit.md does not have the table of `emsafe reference audit`")
	}
	seen, phases := map[string]bool{}, map[Phase]int{}
	renders := strings.Fields("caddy nginx uvicorn-unit nftables fail2ban logrotate prometheus-rules ci")
	for _, r := range Rules {
		if seen[r.ID] || !regexp.MustCompile(`^EMS-[A-Z]+-[0-9]{3}$`).MatchString(r.ID) {
			t.Errorf("%s: no id, or one that is taken", r.ID)
		}
		seen[r.ID] = true
		phases[r.Phase]++
		if r.ASVS != "" && !regexp.MustCompile(`^v5\.0\.0-[0-9]+\.[0-9]+\.[0-9]+$`).MatchString(r.ASVS) {
			t.Errorf("%s: %s is no requirement", r.ID, r.ASVS)
		}
		for what, s := range map[string]string{"title": r.Title, "why": r.Why, "remedy": r.Remedy} {
			if len(s) < 10 || strings.Contains(s, "|") {
				t.Errorf("%s: %s is %q", r.ID, what, s)
			}
		}
		if r.Render != "" && !strings.Contains(strings.Join(renders, " "), r.Render) {
			t.Errorf("%s: there is no render target %s", r.ID, r.Render)
		}
		if r.Runbook != "" {
			if _, err := os.Stat("../../docs/runbooks/" + r.Runbook + ".md"); err != nil {
				t.Errorf("%s: %v", r.ID, err)
			}
		}
	}
	for _, p := range Phases {
		if phases[p] < 4 {
			t.Errorf("%s has %d rules", p, phases[p])
		}
	}
}
