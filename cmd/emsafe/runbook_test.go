package main

import (
	"encoding/json"
	"os"
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
func (h *host) fenced(but ...string) {
	h.t.Helper()
	tools := h.path("tools")
	if err := os.Mkdir(tools, 0o700); err != nil {
		h.t.Fatal(err)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !slices.Contains(unreachable, e.Name()) || slices.Contains(but, e.Name()) {
				os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(tools, e.Name())) //nolint:errcheck // the first one counts
			}
		}
	}
	h.env = append(h.env, "PATH="+tools)
}

// answers are what an operator would type who agrees to everything, in order.
// Steps whose needs this machine has not take none.
func answers(t *testing.T, r *runbook.Runbook, but ...string) string {
	t.Helper()
	var b strings.Builder
	for _, p := range r.Before {
		if p.Command == "" {
			b.WriteString("y\n")
		}
	}
	for _, s := range r.Steps {
		switch {
		case len(runbook.Missing(s.Needs)) > 0 || slices.ContainsFunc(s.Needs, func(n string) bool { return slices.Contains(unreachable, n) && !slices.Contains(but, n) }):
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
	"recover-damaged": {
		func(h *host, _ map[string]string) {
			sqlite3(h.path("srv/app.db"), "CREATE TABLE big (v); INSERT INTO big VALUES (zeroblob(9000)); CREATE TABLE last (v); INSERT INTO last VALUES (1);")
			f, err := os.OpenFile(h.path("srv/app.db"), os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte(strings.Repeat("garbage", 500)), 3*4096)
				f.Close()
			}
			if err != nil {
				h.t.Fatal(err)
			}
			h.must("backup")
		},
		func(h *host, r runbook.Record) {
			if got := sqlite3(h.path("state/runbooks/"+r.ID+"/work/recovered.db"), "SELECT count(*) FROM last"); got != "1\n" {
				h.t.Errorf("%s rows", got)
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
