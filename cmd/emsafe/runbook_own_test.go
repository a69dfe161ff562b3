package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/drill/runbook"
	"emsafe/internal/fault"
)

// TestColdStart takes the commands of the cold-start runbook as they stand there,
// and runs them in an empty folder with stock tools and no emsafe.
func TestColdStart(t *testing.T) {
	t.Parallel()
	h := newPictures(t, 5, false)
	h.must("backup")
	r, _ := parseBuiltIn(t, "cold-start")
	empty := t.TempDir()
	values := map[string]string{"folder": h.path("one"), "pin": h.path("etc/allowed_signers"), "identity": h.path("key"), "name": "app"}
	for _, s := range r.Steps {
		if s.Command == "" {
			continue
		}
		if strings.Contains(s.Command, "emsafe ") {
			t.Errorf("%s: this is not stock:\n%s", s.Title, s.Command)
		}
		cmd := exec.Command("sh", "-euc", runbook.Fill(s.Command, values, true))
		cmd.Dir = empty
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", s.Title, err, out)
		}
	}
	if got := count(filepath.Join(empty, "app.db")); got != "5" {
		t.Errorf("%s pictures", got)
	}
	// What is not as it was signed is not opened.
	h.overwrite(h.path("one/"+strings.TrimSpace(text(t, filepath.Join(empty, "payload.key")))), []byte("something else"))
	cmd := exec.Command("sh", "-euc", runbook.Fill(r.Steps[2].Command, values, true))
	cmd.Dir = empty
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a changed payload passes:\n%s", out)
	}
}

// TestOwnRunbooks: those of the operator add to the built-in ones, or take their
// place; others may not write them; faults are found.
func TestOwnRunbooks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := os.Mkdir(h.path("books"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("etc/emsafe.yaml", string(h.read(h.conf))+"runbooks: {folder: "+h.path("books")+"}\n")
	h.must("runbook", "new", "mine")
	h.must("runbook", "new", "more", "--extends", "prove-backup-now")
	h.fails(fault.TargetExists, "exists", "runbook", "new", "mine")
	h.fails(fault.Usage, "lower-case", "runbook", "new", "My Own")
	h.fails(fault.NotFound, `Did you mean "mine"`, "runbook", "show", "mien")
	if out := h.must("runbook", "list"); !strings.Contains(out, "yours") || !strings.Contains(out, "restore-lost-host") {
		t.Error(out)
	}
	h.must("runbook", "lint")
	if out := h.must("runbook", "run", "more", "--dry-run", "--set", "identity=x"); !strings.Contains(out, "Step 6 of 6") || !strings.Contains(out, "emsafe drill run app") {
		t.Error(out)
	}
	h.write("books/prove-backup-now.md", strings.Replace(string(h.read(h.path("books/mine.md"))), "id: mine", "id: prove-backup-now", 1))
	os.Chmod(h.path("books/prove-backup-now.md"), 0o600) //nolint:errcheck // the next line says so
	if out := h.must("runbook", "show", "prove-backup-now"); strings.Contains(out, "drill run") {
		t.Error("the own one does not take its place:", out)
	}
	h.write("books/bad.md", strings.NewReplacer("id: mine", "id: bad", "emsafe status", "emsafe statsu {{nobody}} | no-such-tool").Replace(string(h.read(h.path("books/mine.md")))))
	os.Chmod(h.path("books/bad.md"), 0o600) //nolint:errcheck // the next line says so
	out, _, code := h.command("runbook", "lint")
	for _, want := range []string{"emsafe has no command statsu", "unknown variable {{nobody}}", "no command no-such-tool", "bad.md:"} {
		if code != fault.Findings.Exit || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q is not in %s", code, want, out)
		}
	}
	if err := os.Chmod(h.path("books/bad.md"), 0o666); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	h.fails(fault.Permission, "others may write", "runbook", "list")
}

// TestRunbookResumes: a run that is killed goes on where it was, and what was
// done is not done again.
func TestRunbookResumes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	p := h.startWith("r\nq\n", "runbook", "run", "prove-backup-now", "--set", "identity="+h.path("key"))
	if code := p.end(); code != fault.Interrupted.Exit || !strings.Contains(p.err.String(), "stopped after 1 of 4 steps") {
		t.Fatalf("exit %d\n%s%s", code, p.out.String(), p.err.String())
	}
	p = h.startWith("r\nr\nr\n", "runbook", "resume")
	if code := p.end(); code != 0 || strings.Contains(p.out.String(), "Step 1 of 4") {
		t.Fatalf("exit %d\n%s%s", code, p.out.String(), p.err.String())
	}
	h.fails(fault.NotFound, "no such run", "runbook", "resume")
	for _, ext := range []string{"md", "html", "json", "signed"} {
		h.must("runbook", "log", "--out", h.path("record."+ext))
	}
	verify := exec.Command("sh", "-ec", `sed -n '/^-----BEGIN/,$p' record.signed > s; sed '/^-----BEGIN/,$d' record.signed > t
P=$(ssh-keygen -Y find-principals -s s -f etc/allowed_signers); ssh-keygen -Y verify -f etc/allowed_signers -I "$P" -n emsafe-report -s s < t`)
	verify.Dir = h.dir
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(string(h.read(h.path("record.md"))), "### "); n != 4 {
		t.Errorf("%d steps in the record", n)
	}
	if names, _ := filepath.Glob(h.path("local/databases/app/manifests/*")); len(names) != 1 {
		t.Errorf("%d backups: the first step was done again", len(names))
	}
}

// TestSelftest: the daemon's look at the runbooks finds what an update took away.
func TestSelftest(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.asShipped()
	if err := os.Mkdir(h.path("books"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("etc/emsafe.yaml", string(h.read(h.conf))+"runbooks: {folder: "+h.path("books")+", selftest: every 1h}\n")
	h.must("runbook", "new", "mine")
	d := h.start("daemon")
	last := func() string {
		out, _, _ := h.command("status", "--json")
		var o overview
		if json.Unmarshal([]byte(out), &o) != nil {
			return ""
		}
		for _, j := range o.Scheduler.Jobs {
			if j.Name == "selftest runbooks" && j.Last != nil {
				return fmt.Sprint(j.Last.Verdict, " ", j.Last.Text, " ", j.Last.Error)
			}
		}
		return ""
	}
	run := func() {
		until(t, "the daemon takes the job", d, func() bool {
			_, _, code := h.command("daemon", "run", "selftest", "runbooks")
			return code == 0
		})
	}
	run()
	until(t, "a self-test that passes", d, func() bool { return strings.HasPrefix(last(), "ok 21 runbooks") })
	h.write("books/mine.md", strings.Replace(string(h.read(h.path("books/mine.md"))), "emsafe config check", "emsafe config chekc", 1))
	run()
	until(t, "one that finds the fault", d, func() bool { return strings.Contains(last(), "chekc") })
	d.Process.Signal(os.Interrupt) //nolint:errcheck // it runs
	d.end()
}
