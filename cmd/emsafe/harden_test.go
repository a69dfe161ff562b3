package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// installed is a host with a service that testdata/sloppy.sh made.
func installed(t *testing.T, twin ...string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.conf = h.path("etc/emsafe.yaml")
	if out, err := exec.Command("sh", append([]string{"testdata/sloppy.sh", h.path("root")}, twin...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Mkdir(h.path("bk"), 0o700); err != nil {
		t.Fatal(err)
	}
	db := h.path("root/srv/app/data/app.db")
	h.must("init", "--database", db, "--target", "local=file://"+h.path("bk"), "--recovery-key-out", h.path("key"), "--state", h.path("state"))
	text, err := os.ReadFile(h.conf)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(string(text), "path: "+db+"\n", "path: "+db+"\n    unit: "+h.path("root/systemd/app.service")+"\n    schedule: every 1h\n    objective: {rpo: 2h}\n", 1)
	if err := os.WriteFile(h.conf, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("backup")
	return h
}

// open are the ids of what is found, but for what belongs to the machine that
// the test runs on and to its folders.
func (h *host) open() []string {
	h.t.Helper()
	out, _, _ := h.command("harden", "check", "--json")
	var doc struct {
		Findings []struct{ ID, Subject string }
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	var ids []string
	for _, f := range doc.Findings {
		machine := strings.HasPrefix(f.ID, "EMS-DISK") || f.ID == "EMS-DB-010" || strings.HasPrefix(f.ID, "EMS-BACKUP") || strings.HasPrefix(f.ID, "EMS-KEY") || strings.HasPrefix(f.ID, "EMS-DRILL") || f.ID == "EMS-PROC-003"
		if !machine && !slices.Contains(ids, f.ID) {
			ids = append(ids, f.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// TestSloppy: every planted fault is found, what emsafe may mend it mends while
// the application runs, a second time there is nothing to do, and the hardened
// twin has nothing.
func TestSloppy(t *testing.T) {
	t.Parallel()
	h := installed(t)
	want := []string{"EMS-DB-001", "EMS-FILE-001", "EMS-FILE-005", "EMS-FILE-011", "EMS-FILE-012", "EMS-UNIT-001", "EMS-UNIT-002", "EMS-UNIT-003"}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		want = slices.DeleteFunc(want, func(id string) bool { return id == "EMS-UNIT-002" })
	}
	if got := h.open(); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	h.fails(fault.Findings, "EMS-", "harden", "check")
	h.must("harden", "check", "--fail-on", "critical")
	h.fails(fault.Usage, "no severity", "harden", "check", "--fail-on", "bad")

	// A real application, which must not notice.
	db := h.path("root/srv/app/data/app.db")
	app := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
n = 0
while not __import__("select").select([0], [], [], 0.002)[0]:
    c.execute("INSERT INTO rolls (name) VALUES ('x')"); n += 1
print(n)`, db)
	in, _ := app.StdinPipe()
	out, _ := app.StdoutPipe()
	app.Stderr = os.Stderr
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); app.Wait() }) //nolint:errcheck // before its folder goes
	if text := h.must("harden", "apply", "--dry-run"); !strings.Contains(text, "would change") {
		t.Error(text)
	}
	h.must("harden", "apply")
	h.must("harden", "apply") // the folder first stops being writable, then listable
	if text := h.must("harden", "apply"); !strings.Contains(text, "0 changes") {
		t.Errorf("a third time: %s", text)
	}
	in.Close()
	committed, _ := io.ReadAll(out)
	if err := app.Wait(); err != nil || len(committed) < 2 {
		t.Errorf("the application: %v %q", err, committed)
	}
	for _, id := range []string{"EMS-FILE-001", "EMS-FILE-005"} {
		if slices.Contains(h.open(), id) {
			t.Errorf("%s is still open", id)
		}
	}
	if text := h.must("log"); !strings.Contains(text, "harden") {
		t.Error(text)
	}
	h.must("harden", "undo")
	if st, err := os.Stat(db); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", st.Mode(), err)
	}

	twin := installed(t, "hardened")
	dropin := twin.must("harden", "unit")
	if err := os.MkdirAll(twin.path("root/systemd/app.service.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	// Its user has to be there for the test's own user's files: root's are not.
	if err := os.WriteFile(twin.path("root/systemd/app.service.d/50-sandbox.conf"), []byte(dropin), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := twin.open(); len(got) > 0 {
		t.Errorf("the twin has %q\n%s", got, twin.must("harden", "check", "--fail-on", "critical"))
	}
}

// TestWaivers: what is waived does not count until its day, and the formats for
// other programs say the same.
func TestWaivers(t *testing.T) {
	t.Parallel()
	h := installed(t)
	waive := func(until string) {
		t.Helper()
		text, err := os.ReadFile(h.conf)
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(string(text), "\nwaivers:")
		var b strings.Builder
		b.WriteString(before + "\nwaivers:\n")
		for i, id := range []string{"EMS-FILE-001", "EMS-FILE-005", "EMS-FILE-012", "EMS-UNIT-001", "EMS-BACKUP-005"} {
			b.WriteString("  w" + string(rune('0'+i)) + ": {finding: " + id + ", reason: known, until: \"" + until + "\"}\n")
		}
		if err := os.WriteFile(h.conf, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	waive("2099-01-01")
	if out := h.must("harden", "check"); !strings.Contains(out, "waived") {
		t.Error(out)
	}
	if out := h.must("harden", "check", "--format", "sarif"); !strings.Contains(out, "suppressions") {
		t.Error(out)
	}
	if out := h.must("harden", "check", "--format", "junit"); !strings.Contains(out, `failures="0"`) {
		t.Error(out)
	}
	waive("2020-01-01")
	h.fails(fault.Findings, "", "harden", "check")
	h.fails(fault.Usage, "--format is", "harden", "check", "--format", "pdf")
	h.fails(fault.NotFound, "no database", "harden", "check", "nothing")
}

// TestHardenCheckpoint: a checkpoint by hand.
func TestHardenCheckpoint(t *testing.T) {
	t.Parallel()
	h, _ := newService(t, "wal")
	if out := h.must("harden", "checkpoint", "app"); !strings.Contains(out, "app  ") {
		t.Error(out)
	}
	h.must("harden", "checkpoint", "app", "--mode", "truncate", "--wait", "10s")
	h.fails(fault.Usage, "--mode is", "harden", "checkpoint", "app", "--mode", "restart")
	h.fails(fault.Usage, "at most a minute", "harden", "checkpoint", "app", "--wait", "1h")
	if _, err := os.Stat(filepath.Join(h.dir, "srv", "app.db")); err != nil {
		t.Error(err)
	}
}
