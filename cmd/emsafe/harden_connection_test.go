package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"emsafe/internal/config"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
)

// application runs a Python program with the database as its argument. It is
// ready when it has said so; it ends when its input does.
func (h *host) application(program string) (in io.WriteCloser, said *bufio.Reader) {
	h.t.Helper()
	app := exec.Command("python3", "-c", program, h.path("app.db"))
	app.Stderr = os.Stderr
	in, err := app.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := app.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { in.Close(); app.Wait() }) //nolint:errcheck // before its folder goes
	said = bufio.NewReader(out)
	if _, err := said.ReadString('\n'); err != nil {
		h.t.Fatal(err)
	}
	return in, said
}

// TestHardenConnection: the lines are those of the driver that can be seen, or of
// the one that is asked for; those for Python are run.
func TestHardenConnection(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.fails(fault.Usage, "--driver all", "harden", "connection")
	h.fails(fault.Usage, "not \"oracle\"", "harden", "connection", "--driver", "oracle")
	if out := h.must("harden", "connection", "--driver", "all"); !strings.Contains(out, "create_engine") || !strings.Contains(out, "_txlock=immediate") || !strings.Contains(out, "database.yml") {
		t.Error(out)
	}
	in, _ := h.application("import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM t').fetchall(); print('ready', flush=True); sys.stdin.read()")
	out := h.must("harden", "connection")
	if !strings.Contains(out, "isolation_level=None") || strings.Contains(out, "create_engine") {
		t.Error(out)
	}
	in.Close()
	_, lines, _ := strings.Cut(out, "python: ")
	_, lines, _ = strings.Cut(lines, "\n\n")
	program := strings.ReplaceAll(lines, "\n    ", "\n")
	program = "import sqlite3\n" + strings.TrimPrefix(program, "    ") + "\nprint([connection.execute('PRAGMA ' + p).fetchone()[0] for p in ('journal_mode', 'synchronous', 'foreign_keys', 'journal_size_limit', 'secure_delete', 'trusted_schema')])"
	run := exec.Command("python3", "-c", program)
	run.Dir = t.TempDir()
	if got, err := run.CombinedOutput(); err != nil || string(got) != "['wal', 1, 1, 67108864, 2, 0]\n" {
		t.Errorf("%v\n%s\n%s", err, got, program)
	}
}

// TestHardenWAL: the mode is switched while the application has the database
// open, which goes on, and not while it is in a transaction.
func TestHardenWAL(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	in, said := h.application(`
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
c.execute("BEGIN IMMEDIATE"); c.execute("INSERT INTO t VALUES ('x')")
print("in", flush=True); sys.stdin.readline()
c.execute("COMMIT"); print("out", flush=True); sys.stdin.readline()
c.execute("INSERT INTO t VALUES ('y')"); print(c.execute("PRAGMA journal_mode").fetchone()[0], flush=True); sys.stdin.read()`)
	h.fails(fault.Locked, "is locked", "harden", "wal", "--yes", "--wait", "10ms")
	next := func() string {
		t.Helper()
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		line, err := said.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	next()
	if out := h.must("harden", "wal", "--yes"); !strings.Contains(out, "was delete, is wal") {
		t.Error(out)
	}
	if mode := next(); mode != "wal" {
		t.Errorf("the application is in %s", mode)
	}
	if out := h.must("log"); !strings.Contains(out, "from delete to wal") {
		t.Error(out)
	}
}

// TestEvaluateFacts: a reader that stays, a log that tells of a busy database, a
// schema that only SQLite understands: all of it is in the facts.
func TestEvaluateFacts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sqlite3(h.path("app.db"), "CREATE TABLE d (id INTEGER PRIMARY KEY AUTOINCREMENT)", "PRAGMA journal_mode=wal")
	in, _ := h.application(`
import sqlite3, sys, threading
w = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None, check_same_thread=False)
w.execute("INSERT INTO t VALUES ('x')")
r = sqlite3.connect(sys.argv[1], isolation_level=None); r.execute("BEGIN"); r.execute("SELECT * FROM t").fetchall()
stop = threading.Event()
def write():
    while not stop.wait(0.02): w.execute("INSERT INTO t VALUES ('x')")
t = threading.Thread(target=write); t.start()
print("ready", flush=True); sys.stdin.read(); stop.set(); t.join()`)
	h.write("app.log", "1 sqlite3.OperationalError: database is locked\n")
	stop := make(chan struct{})
	logging := make(chan error)
	go func() {
		f, err := os.OpenFile(h.path("app.log"), os.O_APPEND|os.O_WRONLY, 0)
		for err == nil {
			select {
			case <-stop:
				logging <- f.Close()
				return
			case <-time.After(50 * time.Millisecond):
				_, err = io.WriteString(f, "2 SQLITE_BUSY: database is locked\n3 fine\n")
			}
		}
		<-stop
		logging <- err
	}()
	out, talk, code := h.command("evaluate", "app", "--sample", "2s", "--log", h.path("app.log"), "--json")
	close(stop)
	if err := <-logging; err != nil {
		t.Fatal(err)
	}
	in.Close()
	var e evaluated
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 0 {
		t.Fatalf("exit %d %v\n%s%s", code, err, out, talk)
	}
	if e.Reader < time.Second || len(e.Behind) == 0 || e.Logged == nil || *e.Logged < 1 || len(e.Dialects) != 1 || e.Dialects[0].What != "AUTOINCREMENT" {
		t.Errorf("%+v", e.Evaluation)
	}
	h.fails(fault.NotFound, "", "evaluate", "app", "--sample", "1s", "--log", h.path("none.log"))
}

// TestHardenDrift: the daemon's look says what has changed since the last.
func TestHardenDrift(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	cfg, err := config.Load(h.conf, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Harden.Schedule, cfg.Harden.FailOn = "0 6 * * *", "critical"
	p := &program{stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}, env: os.LookupEnv, now: time.Now}
	p.print = newPrinter(p.stdout, p.stderr, false, os.LookupEnv)
	s := &site{p: p, cfg: cfg}
	if s.signers, err = readSigners(cfg.AllowedSigners); err != nil {
		t.Fatal(err)
	}
	if err := s.configured(""); err != nil {
		t.Fatal(err)
	}
	told := errors.New("nothing was told")
	job := p.hardenJob(s, "app", func(subject, _ string, err error) {
		if subject == "drift of app" {
			told = err
		}
	})
	look := func() error {
		t.Helper()
		told = errors.New("nothing was told")
		if _, err := job(t.Context(), daemon.Run{}); err != nil {
			t.Fatal(err)
		}
		return told
	}
	if err := errors.Join(os.Chmod(h.path("app.db"), 0o600), look(), look()); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	if err := os.Chmod(h.path("app.db"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := look(); err == nil || !strings.Contains(err.Error(), "EMS-FILE-001") || strings.Contains(err.Error(), "EMS-KEY") {
		t.Errorf("told: %v", err)
	}
	if err := look(); err != nil {
		t.Errorf("told twice: %v", err)
	}
}
