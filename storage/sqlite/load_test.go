package sqlite

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestCountCommits: every commit of another process is counted, in both journal
// modes and over checkpoints that begin the log anew.
func TestCountCommits(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		db := filepath.Join(t.TempDir(), "app.db")
		app := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=" + sys.argv[2]); c.execute("CREATE TABLE t (v)")
print("ready", flush=True)
for line in sys.stdin:
    for i in range(int(line)): c.execute("INSERT INTO t VALUES (randomblob(100))")
    if int(line) > 50: c.execute("PRAGMA wal_checkpoint(RESTART)"); c.execute("INSERT INTO t VALUES (1)")
    print("done", flush=True)`, db, mode)
		in, err := app.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := app.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewReader(out)
		heard := func() {
			t.Helper()
			if _, err := said.ReadString('\n'); err != nil { // an unbuffered child writes a line in pieces
				t.Fatal(err)
			}
		}
		heard()
		c, err := CountCommits(db)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			order string
			want  int
		}{{"3\n", 3}, {"0\n", 0}, {"40\n", 40}} {
			if _, err := in.Write([]byte(step.order)); err != nil {
				t.Fatal(err)
			}
			heard()
			if got, err := c.Poll(); got != step.want || err != nil {
				t.Errorf("%s after %q: %d commits %v, want %d", mode, step.order, got, err, step.want)
			}
		}
		if _, err := in.Write([]byte("60\n")); err != nil { // and a log that begins anew
			t.Fatal(err)
		}
		heard()
		if got, err := c.Poll(); got < 1 || err != nil {
			t.Errorf("%s after a restart: %d commits %v", mode, got, err)
		}
		if wait, busy, err := WriteLock(t.Context(), db, 5*time.Second); busy || err != nil || wait <= 0 {
			t.Errorf("%s: the write lock: %v %v %v", mode, wait, busy, err)
		}
		in.Close()
		if err := app.Wait(); err != nil {
			t.Error(err)
		}
	}
}
