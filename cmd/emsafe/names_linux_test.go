package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// TestAnotherName: from the command line, the -wal lies beside another name of
// the configured file. Neither a backup nor `doctor NAME` says "ok".
func TestAnotherName(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must("backup")
	if out, err := exec.Command("sh", "-ec", `cd "$0"; mkdir app; sqlite3 app.db 'PRAGMA journal_mode=wal'; ln app.db app/live.db`, h.dir).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	writer := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("create table late (v)")
print("ready", flush=True)
sys.stdin.read()`, h.path("app/live.db"))
	in, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := writer.StdoutPipe()
	if err == nil {
		err = writer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); writer.Wait() }() //nolint:errcheck // it was only to hold the file open
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.OtherName, "live.db-wal lies there", "backup")
	if said, talk, code := h.command("doctor", "app"); code == 0 || !strings.Contains(said+talk, "live.db") {
		t.Errorf("doctor: exit %d\n%s%s", code, said, talk)
	}
	if err := os.Remove(h.path("app/live.db")); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.OtherName, "live.db", "backup") // it is still open
}
