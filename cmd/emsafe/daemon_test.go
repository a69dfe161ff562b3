package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"emsafe/internal/fault"
)

// configure adds settings to the database.
func (h *host) configure(settings string) {
	h.t.Helper()
	text, err := os.ReadFile(h.conf)
	path := "path: " + h.path("app.db")
	before, after, ok := strings.Cut(string(text), path)
	if err != nil || !ok {
		h.t.Fatalf("%v\n%s", err, text)
	}
	if i := strings.Index(after, "\n    "); i == 0 {
		after = "" // what an earlier call added
	}
	if err := os.WriteFile(h.conf, []byte(before+path+"\n"+settings+after), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// until waits for something that a process does.
func until(t *testing.T, what string, p *process, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Process.Kill() //nolint:errcheck // the test has failed
			p.end()
			t.Fatalf("%s did not happen\n%s", what, p.err.String())
		}
	}
}

func (h *host) committed() int {
	names, _ := filepath.Glob(h.path("local/databases/app/manifests/0*"))
	return len(names)
}

// TestDaemon: continuous protection under the daemon, a configuration that is
// not right, one that is, and an orderly end that takes along what changed last.
func TestDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.fails(fault.Usage, "takes no argument", "daemon", "nonsense")
	if out := sqlite3(h.path("app.db"), "CREATE TABLE ballast AS SELECT randomblob(100000);"); out != "" {
		t.Fatal(out)
	}
	h.configure("    continuous: true\n    interval: 1s\n    keep: {last: 5}\n    prune_schedule: every day\n")
	h.fails(fault.Config, "prune_schedule", "daemon", "--check")
	h.configure("    continuous: true\n    interval: 1s\n    keep: {last: 5}\n    prune_schedule: 0 0 31 2 *\n")
	h.fails(fault.Config, "never comes", "daemon", "--check")
	h.configure("    continuous: true\n    interval: 1s\n    keep: {last: 5}\n")
	if out := h.must("daemon", "--check"); !strings.Contains(out, "prune app") || !strings.Contains(strings.Join(strings.Fields(out), " "), "protect app continuously, every 1s") {
		t.Errorf("%s", out)
	}
	p := h.start("daemon")
	until(t, "the first backup", p, func() bool { return h.committed() == 1 })
	h.fails(fault.Locked, "", "daemon")
	h.fails(fault.Locked, "app is in use by another emsafe", "backup")
	h.change()
	until(t, "a delta", p, func() bool { return h.committed() >= 2 })

	// The old configuration stays while the new one is not right.
	good, err := os.ReadFile(h.conf)
	if err != nil {
		t.Fatal(err)
	}
	h.configure("    continuous: perhaps\n")
	p.Process.Signal(syscall.SIGHUP) //nolint:errcheck // what follows tells
	h.change()
	until(t, "a delta after a configuration that is not right", p, func() bool { return h.committed() >= 3 })
	if err := os.WriteFile(h.conf, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Process.Signal(syscall.SIGHUP) //nolint:errcheck // what follows tells
	h.change()
	until(t, "a delta after one that is", p, func() bool { return h.committed() >= 4 })

	h.change()
	p.Process.Signal(syscall.SIGTERM) //nolint:errcheck // the code tells
	if code := p.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"reload refused", "configuration taken", "stopped"} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.err.String())
		}
	}
	h.must("restore", "app", "--to", h.path("x.db"), "--identity", h.path("key"))
	if got, want := sqlite3(h.path("x.db"), "SELECT count(*) FROM changes"), sqlite3(h.path("app.db"), "SELECT count(*) FROM changes"); got != want {
		t.Errorf("%s rows came back of %s", got, want)
	}
}
