package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/docs"
	"emsafe/drill/runbook"
	"emsafe/internal/fault"
)

// unreachable are programs that would change this machine: for a test they are
// not there.
var unreachable = []string{"nft", "apt-get", "journalctl", "systemctl", "fail2ban-client", "certbot", "nginx", "caddy"}

// fenced lets a host's commands see all programs but those.
func (h *host) fenced() {
	h.t.Helper()
	tools := h.path("tools")
	if err := os.Mkdir(tools, 0o700); err != nil {
		h.t.Fatal(err)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !slices.Contains(unreachable, e.Name()) {
				os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(tools, e.Name())) //nolint:errcheck // the first one counts
			}
		}
	}
	h.env = append(h.env, "PATH="+tools)
}

// answers are what an operator would type who agrees to everything, in order.
// Steps whose needs this machine has not take none.
func answers(t *testing.T, r *runbook.Runbook) string {
	t.Helper()
	var b strings.Builder
	for _, p := range r.Before {
		if p.Command == "" {
			b.WriteString("y\n")
		}
	}
	for _, s := range r.Steps {
		switch {
		case len(runbook.Missing(s.Needs)) > 0 || slices.ContainsFunc(s.Needs, func(n string) bool { return slices.Contains(unreachable, n) }):
		case s.Command == "":
			b.WriteString("d\n")
		case s.Confirm != "":
			b.WriteString("r\nyes\n")
		default:
			b.WriteString("r\n")
		}
	}
	return b.String()
}

// walk runs a built-in runbook from start to end, and gives its record.
func (h *host) walk(t *testing.T, id string, set map[string]string, args ...string) (record runbook.Record, said string) {
	t.Helper()
	text, err := docs.Runbooks.ReadFile("runbooks/" + id + ".md")
	if err != nil {
		t.Fatal(err)
	}
	r, problems := runbook.Parse(id, text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	call := append([]string{"--json"}, args...)
	call = append(call, "runbook", "run", id)
	for name, value := range set {
		call = append(call, "--set", name+"="+value)
	}
	all, rest := answers(t, r), ""
	test := runbookTests[id]
	if test.meanwhile != nil { // the operator stops there, does it, and goes on
		at := slices.IndexFunc(r.Steps, func(s runbook.Step) bool { return s.Command == "" && strings.HasPrefix(s.Title, "Put its recipient") })
		head := *r
		head.Steps = r.Steps[:at]
		rest = strings.TrimPrefix(all, answers(t, &head))
		all = answers(t, &head)
	}
	p := h.startWith(all, call...)
	code := p.end()
	said = p.err.String()
	if rest != "" {
		if code != fault.Interrupted.Exit {
			t.Fatalf("%s: exit %d\n%s", id, code, said)
		}
		test.meanwhile(h, set)
		p = h.startWith(rest, "--json", "runbook", "resume")
		code = p.end()
		said += p.err.String()
	}
	if err := json.Unmarshal(p.out.Bytes(), &record); err != nil {
		t.Fatalf("%s: exit %d: %v\n%s%s", id, code, err, p.out.String(), said)
	}
	for i, d := range record.Steps {
		if d.State != runbook.OK && d.State != runbook.Skipped {
			t.Errorf("%s, step %d (%s): %s: %s\n%s", id, i+1, d.Title, d.State, d.Reason, d.Output)
		}
	}
	if len(record.Steps) != len(r.Steps) || code != 0 {
		t.Errorf("%s: exit %d, %d of %d steps\n%s", id, code, len(record.Steps), len(r.Steps), said)
	}
	for _, c := range record.Before {
		if !c.OK {
			t.Errorf("%s: before: %s: %s", id, c.Text, c.Output)
		}
	}
	return record, said
}

// startWith is start with something on standard input.
func (h *host) startWith(input string, args ...string) *process {
	h.t.Helper()
	file := filepath.Join(h.t.TempDir(), "input")
	if err := os.WriteFile(file, []byte(input), 0o600); err != nil {
		h.t.Fatal(err)
	}
	in, err := os.Open(file)
	if err != nil {
		h.t.Fatal(err)
	}
	defer in.Close()
	h.input = in
	defer func() { h.input = nil }()
	return h.start(args...)
}

// TestRunbooks walks every built-in runbook from start to end on an installation
// of its own, with answers that were written down before. Those that restore end
// with the database restored.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	files, err := docs.Runbooks.ReadDir("runbooks")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		id := strings.TrimSuffix(f.Name(), ".md")
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			h := newPictures(t, 5, id == "rotate-secrets")
			h.asShipped()
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(id)
				}
			})
			h.must("backup")
			h.fenced()
			set := map[string]string{
				"identity": h.path("key"), "service": "no-such-application", "moment": time.Now().UTC().Format(time.RFC3339Nano), "where": "file://" + h.path("one"), "pin": h.path("etc/allowed_signers"),
				"name": "app", "place": h.path("srv/back.db"), "table": "pictures", "key": "path", "newtarget": "two", "newkey": h.path("newkey"), "address": "203.0.113.7",
				"domain": "localhost", "backend": "18000", "sign": "an unknown login", "quarter": "2026Q4", "witness": "Ann", "successor": "Bob", "folder": h.path("one"),
				"target": "one", "chosen": "latest",
			}
			test := runbookTests[id]
			if test.before != nil {
				test.before(h, set)
			}
			r, _ := parseBuiltIn(t, id)
			for name := range set {
				if !asks(r, name) {
					delete(set, name)
				}
			}
			record, said := h.walk(t, id, set)
			if test.after != nil {
				test.after(h, record)
			}
			for _, secret := range []string{"AGE-SECRET-KEY-1"} {
				if strings.Contains(said, secret) {
					t.Errorf("a secret is shown:\n%s", said)
				}
			}
			if kept, _ := filepath.Glob(h.path("one/reports/runbooks/*/" + record.ID)); len(kept) != 1 && id != "rotate-secrets" {
				t.Errorf("the record is not in the target")
			}
		})
	}
}

func parseBuiltIn(t *testing.T, id string) (*runbook.Runbook, []byte) {
	t.Helper()
	text, err := docs.Runbooks.ReadFile("runbooks/" + id + ".md")
	if err != nil {
		t.Fatal(err)
	}
	r, _ := runbook.Parse(id, text)
	return r, text
}

func asks(r *runbook.Runbook, name string) bool {
	if slices.ContainsFunc(r.Ask, func(q runbook.Question) bool { return q.Name == name }) {
		return true
	}
	return slices.ContainsFunc(r.Commands(), func(c runbook.Located) bool { return slices.Contains(runbook.Variables(c.Command), name) })
}

// count is how many pictures a database names.
func count(file string) string {
	return strings.TrimSpace(sqlite3(file, "SELECT count(*) FROM pictures"))
}

// runbookTests are what some runbooks find, and must have brought about.
var runbookTests = map[string]struct {
	before    func(h *host, set map[string]string)
	after     func(h *host, r runbook.Record)
	meanwhile func(h *host, set map[string]string) // what the operator does in the step that puts a recipient into the configuration
}{
	"restore-bad-deploy": {
		func(h *host, _ map[string]string) {
			sqlite3(h.path("srv/app.db"), "DROP TABLE pictures; CREATE TABLE pictures (path TEXT, n INT NOT NULL);")
		},
		func(h *host, _ runbook.Record) {
			if got := count(h.path("srv/app.db")); got != "5" {
				h.t.Errorf("%s pictures", got)
			}
		}, nil,
	},
	"restore-deleted-rows": {
		func(h *host, _ map[string]string) {
			sqlite3(h.path("srv/app.db"), "DELETE FROM pictures WHERE path LIKE '%3.jpg'; INSERT INTO pictures VALUES ('2026/new.jpg');")
		},
		func(h *host, _ runbook.Record) {
			if got := count(h.path("srv/app.db")); got != "6" {
				h.t.Errorf("%s pictures", got)
			}
		}, nil,
	},
	"restore-corruption": {
		func(h *host, _ map[string]string) {
			f, err := os.OpenFile(h.path("srv/app.db"), os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte(strings.Repeat("garbage", 500)), 4096)
				f.Close()
			}
			if err != nil {
				h.t.Fatal(err)
			}
		},
		func(h *host, _ runbook.Record) {
			if got := count(h.path("srv/app.db")); got != "5" {
				h.t.Errorf("%s pictures", got)
			}
		}, nil,
	},
	"restore-lost-host": {nil, func(h *host, _ runbook.Record) {
		if got := count(h.path("srv/back.db")); got != "5" {
			h.t.Errorf("%s pictures", got)
		}
	}, nil},
	"restore-ransomware": {
		func(h *host, _ map[string]string) {
			sqlite3(h.path("srv/app.db"), "DELETE FROM pictures")
		},
		func(h *host, r runbook.Record) {
			if got := count(h.path("state/runbooks/" + r.ID + "/work/clean.db")); got != "5" {
				h.t.Errorf("%s pictures", got)
			}
		}, nil,
	},
	"cold-start": {nil, func(h *host, r runbook.Record) {
		if got := count(h.path("state/runbooks/" + r.ID + "/work/app.db")); got != "5" {
			h.t.Errorf("%s pictures", got)
		}
	}, nil},
	"revoke-sessions": {
		func(h *host, set map[string]string) {
			sqlite3(h.path("srv/app.db"), "CREATE TABLE sessions (id); INSERT INTO sessions VALUES (1), (2)")
			set["table"] = "sessions"
		},
		func(h *host, _ runbook.Record) {
			if got := sqlite3(h.path("srv/app.db"), "SELECT count(*) FROM sessions"); got != "0\n" {
				h.t.Errorf("%s sessions", got)
			}
		}, nil,
	},
	"rotate-secrets": {nil, func(h *host, _ runbook.Record) {
		h.must("files", "check")
		h.must("verify")
		if out := h.must("files", "password", "uploads", "--identity", h.path("key")); strings.TrimSpace(out) != strings.TrimSpace(string(h.read(h.path("state/filesets/uploads.password")))) {
			h.t.Error("the new password is not sealed")
		}
	}, nil},
	"suspected-intrusion": {nil, func(h *host, r runbook.Record) {
		h.must("incident", "note", "it was a colleague")
		h.must("incident", "stop", "--out", h.path("incident.md"))
		if text := string(h.read(h.path("incident.md"))); !strings.Contains(text, "it was a colleague") || !strings.Contains(text, "an unknown login") {
			h.t.Error(text)
		}
	}, nil},
	"lost-recovery-key":   {nil, nil, useNewKey},
	"leaked-recovery-key": {nil, nil, useNewKey},
}

// useNewKey puts the recipient of the key that was made into the configuration.
func useNewKey(h *host, set map[string]string) {
	_, line, _ := strings.Cut(string(h.read(set["newkey"])), "public key: ")
	text := string(h.read(h.conf))
	h.write("etc/emsafe.yaml", strings.Replace(text, "recipients:\n", "recipients:\n  - "+strings.Fields(line)[0]+"\n", 1))
}

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
	until(t, "a self-test that passes", d, func() bool { return strings.HasPrefix(last(), "ok 20 runbooks") })
	h.write("books/mine.md", strings.Replace(string(h.read(h.path("books/mine.md"))), "emsafe config check", "emsafe config chekc", 1))
	run()
	until(t, "one that finds the fault", d, func() bool { return strings.Contains(last(), "chekc") })
	d.Process.Signal(os.Interrupt) //nolint:errcheck // it runs
	d.end()
}
