package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/docs"
	"emsafe/drill"
	"emsafe/drill/tabletop"
	"emsafe/internal/fault"
)

// moderated are what a facilitator would type who plays a scenario to its end:
// one decision for each inject, the first choice, everything done but the last
// action, the last objective half met, and a finding.
func moderated(t *testing.T, id string) string {
	t.Helper()
	text, err := docs.Scenarios.ReadFile("tabletop/" + id + ".md")
	if err != nil {
		t.Fatal(err)
	}
	s, problems := tabletop.Parse(id, text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var b strings.Builder
	for n := range s.Roles {
		fmt.Fprintf(&b, "Person %d\n", n)
	}
	byID := map[string]*tabletop.Inject{}
	order := []string{}
	for n := range s.Injects {
		byID[s.Injects[n].ID] = &s.Injects[n]
		order = append(order, s.Injects[n].ID)
	}
	for at := order[0]; at != ""; {
		i := byID[at]
		fmt.Fprintf(&b, "Person 1: we decide about %s\n\n", i.ID)
		if i.Drill {
			b.WriteString("y\n")
		}
		for n := range i.Expect {
			b.WriteString(map[bool]string{true: "n\n", false: "y\n"}[n == len(i.Expect)-1])
		}
		next := i.Next
		if len(i.Choices) > 0 {
			b.WriteString("1\n")
			next = i.Choices[0].To
		}
		at = next
		if next != "" {
			continue
		}
		past := false
		for _, other := range order {
			if past && !byID[other].Branch {
				at = other
				break
			}
			past = past || other == i.ID
		}
	}
	for n := range s.Objectives {
		b.WriteString(map[bool]string{true: "p\nnot practised\n", false: "y\n"}[n == len(s.Objectives)-1])
	}
	b.WriteString("Nobody knew where the key is\nPerson 0\n2099-01-31\n\n")
	return b.String()
}

// TestExercises plays every built-in scenario from start to end on a real
// installation, with answers that were written down before.
func TestExercises(t *testing.T) {
	t.Parallel()
	files, err := docs.Scenarios.ReadDir("tabletop")
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	h.asShipped()
	h.configure("    objective: {rpo: 1h, rto: 15m}\n    unit: shop.service\n")
	h.must("backup")
	h.must("key", "verify", "--identity", h.path("key"))
	for _, f := range files {
		id := strings.TrimSuffix(f.Name(), ".md")
		for _, kind := range [][]string{nil, {"--facilitator"}} {
			out := h.must(append([]string{"exercise", "show", id}, kind...)...)
			for _, want := range []string{"at most 1h lost, back within 15m", "local: number 1", "was proven on 20", "last drill:"} {
				if !strings.Contains(out, want) || strings.Contains(out, "{{") {
					t.Errorf("%s %v: %q is not in it:\n%s", id, kind, want, out)
				}
			}
		}
		p := h.startWith(moderated(t, id), "--json", "exercise", "run", id, "--fast", "--identity", h.path("key"))
		code := p.end()
		var r tabletop.Report
		if err := json.Unmarshal(p.out.Bytes(), &r); code != 0 || err != nil {
			t.Fatalf("%s: exit %d %v\n%s%s", id, code, err, p.out.String(), p.err.String())
		}
		drilled := false
		for _, i := range r.Injects {
			drilled = drilled || strings.Contains(i.Drill, "was restored, and every check passed")
		}
		if r.Stage != tabletop.Finished || len(r.Injects) < 4 || len(r.Decisions) != len(r.Injects) || len(r.Findings) != 1 || !drilled || strings.Contains(p.err.String(), "{{") {
			t.Errorf("%s: %+v\n%s", id, r, p.err.String())
		}
		if kept, _ := filepath.Glob(h.path("local/reports/exercises/*/" + r.ID)); len(kept) != 1 {
			t.Errorf("%s: the report is not in the target", id)
		}
	}
	for _, ext := range []string{"md", "html", "json", "signed"} {
		h.must("exercise", "report", "--out", h.path("exercise."+ext))
	}
	verify := exec.Command("sh", "-ec", `sed -n '/^-----BEGIN/,$p' exercise.signed > s; sed '/^-----BEGIN/,$d' exercise.signed > t
P=$(ssh-keygen -Y find-principals -s s -f etc/allowed_signers); ssh-keygen -Y verify -f etc/allowed_signers -I "$P" -n emsafe-report -s s < t`)
	verify.Dir = h.dir
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// Findings are in the status and in the report of the quarter until closed.
	if out := h.must("status"); strings.Count(out, "Nobody knew where the key is") != len(files) {
		t.Errorf("%s", out)
	}
	var open struct{ Findings []openFinding }
	if err := json.Unmarshal([]byte(h.must("exercise", "findings", "--json")), &open); err != nil || len(open.Findings) != len(files) {
		t.Fatal(err, open)
	}
	h.fails(fault.Usage, "how", "exercise", "close", open.Findings[0].ID)
	h.must("exercise", "close", open.Findings[0].ID, "--how", "a list hangs in the safe")
	h.fails(fault.Usage, "was closed", "exercise", "close", open.Findings[0].ID, "--how", "again")
	if out := h.must("status"); strings.Count(out, "Nobody knew where the key is") != len(files)-1 {
		t.Errorf("%s", out)
	}
	quarter := h.must("drill", "report", "--quarter", drill.PeriodOf(time.Now()).String(), "--format", "md")
	if strings.Count(quarter, "open: Nobody knew where the key is") != len(files)-1 {
		t.Errorf("%s", quarter)
	}
	h.fails(fault.NotFound, `Did you mean "wrong-day"`, "exercise", "run", "wrong-dya")
}

// TestExerciseResumes: an exercise that is killed goes on where it was, and the
// page for the room shows it to who looks, and nothing else.
func TestExerciseResumes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	all := moderated(t, "wrong-day")
	lines := strings.SplitAfter(all, "\n")
	p := h.startWith(strings.Join(lines[:4], ""), "exercise", "run", "wrong-day", "--fast")
	if code := p.end(); code != fault.Interrupted.Exit {
		t.Fatalf("exit %d\n%s%s", code, p.out.String(), p.err.String())
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	h.input = r
	p = h.start("exercise", "resume", "--listen", address)
	h.input = nil
	r.Close()
	get := func(method, url, host string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, ""
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, res.Header.Get("Content-Security-Policy") + res.Header.Get("Refresh") + string(text)
	}
	until(t, "the page", p, func() bool {
		code, text := get("GET", "http://"+address+"/", "")
		return code == 200 && strings.Contains(text, "Which backup?") && strings.Contains(text, "default-src 'none'")
	})
	for _, c := range []struct{ method, url, host string }{{"POST", "/", ""}, {"GET", "/etc", ""}, {"GET", "/", "evil.example.org"}} {
		if code, _ := get(c.method, "http://"+address+c.url, c.host); code < 400 {
			t.Errorf("%v: %d", c, code)
		}
	}
	// The decision that was taken down is kept; from there on everything is asked.
	io.WriteString(w, "\n"+strings.Join(lines[5:], "")) //nolint:errcheck // the end of the process tells
	w.Close()
	if code := p.end(); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, p.out.String(), p.err.String())
	}
	if out := h.must("exercise", "report"); !strings.Contains(out, "we decide about which") || !strings.Contains(out, "Person 0") {
		t.Error(out)
	}
	h.fails(fault.NotFound, "no such exercise", "exercise", "resume")
	h.fails(fault.Config, "0.0.0.0", "exercise", "run", "wrong-day", "--listen", "0.0.0.0:9470")
}
