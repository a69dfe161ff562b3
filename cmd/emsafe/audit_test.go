package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"emsafe/drill/audit"
	"emsafe/internal/fault"
	"emsafe/internal/finding"
)

// guarded is a service in clear whose only high faults are that, and, if it is
// opened, an environment file that everybody can fetch.
type guarded struct {
	opened atomic.Bool
	asked  atomic.Int64
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.asked.Add(1)
	switch {
	case !strings.HasPrefix(r.Host, "127.0.0.1"):
		w.WriteHeader(http.StatusMisdirectedRequest)
	case r.URL.Path == "/":
		fmt.Fprintln(w, "hello")
	case r.URL.Path == "/.env" && g.opened.Load():
		fmt.Fprintln(w, "SECRET_KEY=hunter2")
	default:
		http.NotFound(w, r)
	}
}

const clearWaiver = `version: 1
waivers:
  clear: {finding: EMS-TLS-001, reason: only on loopback, owner: kim, until: "%s"}
`

func TestAudit(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	g := &guarded{}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)

	h.fails(fault.AuditOpen, "EMS-TLS-001", "audit", s.URL)
	h.write("waivers.yaml", fmt.Sprintf(clearWaiver, "2099-01-01"))
	waived := []string{"audit", s.URL, "--waivers", h.path("waivers.yaml")}
	out := h.must(waived...)
	for _, want := range []string{"EMS-HDR-003", "try:    emsafe render nginx", "SKIP needs --host", "over ", " rules", "1 check waived"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	h.fails(fault.AuditOpen, "from medium on", append(waived, "--fail-on", "medium")...)

	// A service that is not there passes nothing.
	h.fails(fault.AuditUnclear, "does not answer", "audit", "http://127.0.0.1:1")

	// What is critical caps the grade, and its content is not told.
	g.opened.Store(true)
	out, _, code := h.command(waived...)
	if code != 1 || !strings.Contains(out, "EMS-EXP-001") || !strings.Contains(out, "grade F") || strings.Contains(out, "hunter2") {
		t.Errorf("%d\n%s", code, out)
	}
	g.opened.Store(false)

	// A day that has come counts, and fails.
	h.write("waivers.yaml", fmt.Sprintf(clearWaiver, "2020-01-01"))
	out, _, code = h.command(waived...)
	if code != 1 || !strings.Contains(out, "EMS-WAIVER-001") {
		t.Errorf("%d\n%s", code, out)
	}
}

// What is wrong with the order is told before anything is asked.
func TestAuditUsage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	g := &guarded{}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	h.write("broken.yaml", strings.Replace(fmt.Sprintf(clearWaiver, "2099-01-01"), "owner: kim, ", "", 1))
	for _, c := range []struct {
		kind *fault.Kind
		want string
		args []string
	}{
		{fault.Config, "no owner", []string{s.URL, "--waivers", h.path("broken.yaml")}},
		{fault.Config, "no waivers file", []string{s.URL, "--waivers", h.path("none.yaml")}},
		{fault.Usage, "--plan", []string{s.URL, "--plan", h.path("none.md")}},
		{fault.Usage, "no folder", []string{s.URL, "--repo", h.path("none")}},
		{fault.Usage, "--openapi", []string{s.URL, "--openapi", h.path("none.json")}},
		{fault.Usage, "--format is one of", []string{s.URL, "--format", "pdf"}},
		{fault.Usage, "--fail-on", []string{s.URL, "--fail-on", "hgih"}},
		{fault.Usage, "what is to be looked at", nil},
		{fault.Usage, "one URL", []string{s.URL, s.URL}},
		{fault.Usage, "needs a URL", []string{"--repo", h.dir, "--intrusive"}},
		{fault.Usage, "no address", []string{"ftp://127.0.0.1"}},
		{fault.Usage, "credentials have no place", []string{"http://a:b@127.0.0.1"}},
		{fault.Usage, "ends before ?", []string{s.URL + "/?a=b"}},
	} {
		h.fails(c.kind, c.want, append([]string{"audit"}, c.args...)...)
	}
	if n := g.asked.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestAuditFormats(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := httptest.NewServer(&guarded{})
	t.Cleanup(s.Close)
	h.write("plan.md", "# Plan\n- [x] EMS-TLS-001: TLS everywhere\n- [ ] Perimeter\n")
	for format, want := range map[string]string{
		"json": `"id":"EMS-TLS-001"`, "junit": "<testsuite name=\"emsafe audit\"", "sarif": `"version": "2.1.0"`, "md": "| perimeter |", "html": "<!doctype html>", "prometheus": "emsafe_audit_score ", "text": "plan line 2 [x] does not hold",
	} {
		out, _, code := h.command("audit", s.URL, "--format", format, "--plan", h.path("plan.md"))
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: %d\n%s", format, code, out)
		}
	}
	out, talk, code := h.command("audit", s.URL, "--json", "--plan", h.path("plan.md"))
	var r audit.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || r.Format != 1 || len(r.Coverage) != 8 || len(r.Plan) != 2 || r.Grade.Letter != "D" && r.Grade.Letter != "F" {
		t.Errorf("%v %d %+v %+v", err, code, r.Grade, r.Plan)
	}
	if !strings.Contains(talk, `"id":"audit-open"`) {
		t.Error(talk)
	}
	// A ticked box that does not hold fails, whatever the severity.
	h.write("plan.md", "- [x] EMS-HDR-005\n")
	h.write("waivers.yaml", fmt.Sprintf(clearWaiver, "2099-01-01"))
	h.fails(fault.AuditOpen, "ticked items", "audit", s.URL, "--plan", h.path("plan.md"), "--waivers", h.path("waivers.yaml"))
}

// TestAuditHost: what harden finds joins, with its own ids; waivers of the
// configuration count; and nothing on the host is changed.
func TestAuditHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := os.Chmod(h.path("app.db"), 0o666); err != nil { //nolint:gosec // that is the fault
		t.Fatal(err)
	}
	look := func() (r audit.Report) {
		before := []string{string(h.read(h.path("app.db"))), string(h.read(h.conf))}
		out, _, _ := h.command("audit", "--host", "--json")
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if after := []string{string(h.read(h.path("app.db"))), string(h.read(h.conf))}; !slices.Equal(before, after) {
			t.Error("the audit changed the database or the configuration")
		}
		return r
	}
	find := func(r audit.Report, id string) *finding.Check {
		for i, c := range r.Checks {
			if c.ID == id && (id != "EMS-FILE-001" || c.Subject == h.path("app.db")) {
				return &r.Checks[i]
			}
		}
		return nil
	}
	r := look()
	if c := find(r, "EMS-FILE-001"); c == nil || c.Result != finding.Fail || c.Phase != "data" || c.Database != "app" {
		t.Errorf("%+v", c)
	}
	if c := find(r, "EMS-DATA-001"); c == nil || c.Result != finding.Fail {
		t.Errorf("%+v", c)
	}
	if c := find(r, "EMS-DATA-005"); c == nil || c.Result != finding.Fail {
		t.Errorf("no backup was made, and %+v", c)
	}
	if c := find(r, "EMS-PLAY-001"); c == nil || c.Result != finding.Fail {
		t.Errorf("nothing was rehearsed, and %+v", c)
	}
	h.overwrite(h.conf, []byte(string(h.read(h.conf))+"waivers: {modes: {finding: EMS-FILE-001, reason: a test, until: \"2099-01-01\"}}\n"))
	if c := find(look(), "EMS-FILE-001"); c == nil || c.Waiver == nil || c.Waiver.Reason != "a test" {
		t.Errorf("%+v", c)
	}
	// Without a configuration the host is looked at all the same.
	out, _, _ := h.bare("audit", "--host", "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if c := find(r, "EMS-DATA-001"); c == nil || c.Result != finding.Skip {
		t.Errorf("%+v", c)
	}
}
