package sqlite

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBacklog: a reader that stays holds back the checkpoints; both can be seen
// from outside, and go when it goes.
func TestBacklog(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	app := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=wal"); c.execute("CREATE TABLE t (v)"); c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
c.execute("INSERT INTO t VALUES (1)")
r = sqlite3.connect(sys.argv[1], isolation_level=None)
r.execute("BEGIN"); r.execute("SELECT * FROM t").fetchall()
for i in range(50): c.execute("INSERT INTO t VALUES (randomblob(3000))")
c.execute("PRAGMA wal_checkpoint(PASSIVE)")
print("held", flush=True); sys.stdin.readline()
r.execute("COMMIT"); c.execute("PRAGMA wal_checkpoint(PASSIVE)")
print("free", flush=True); sys.stdin.readline()`, db)
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
	defer func() {
		in.Close()
		app.Wait() //nolint:errcheck // it has said what it had to
	}()
	said := bufio.NewReader(out)
	for i, want := range []struct {
		all   bool
		locks int
	}{{false, 1}, {true, 0}} {
		if _, err := said.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		frames, copied, err := Backlog(t.Context(), db)
		if err != nil || frames < 50 || (copied == frames) != want.all {
			t.Errorf("%d: %d of %d frames are copied, %v", i, copied, frames, err)
		}
		locks, err := ReadLocks(db)
		mine := slices.DeleteFunc(locks, func(l string) bool { return !strings.Contains(l, fmt.Sprintf("process %d,", app.Process.Pid)) })
		if err != nil || len(mine) != want.locks {
			t.Errorf("%d: locks %q %v", i, locks, err)
		}
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOldContent: what was deleted stays in free pages, unless secure_delete.
func TestOldContent(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		db := filepath.Join(t.TempDir(), "app.db")
		shell(t, db, fmt.Sprintf("PRAGMA secure_delete=%v; CREATE TABLE t (v); INSERT INTO t SELECT randomblob(3000) FROM generate_series(1, 500); DELETE FROM t WHERE rowid > 10;", secure))
		old, looked, err := OldContent(db, 100)
		if err != nil || looked != 100 || (old > 0) == secure {
			t.Errorf("secure_delete=%v: %d of %d, %v", secure, old, looked, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "app.db")
	shell(t, empty, "CREATE TABLE t (v);")
	if old, looked, err := OldContent(empty, 100); old != 0 || looked != 0 || err != nil {
		t.Error(old, looked, err)
	}
}

// TestDialects: what is in a schema and only SQLite understands.
func TestDialects(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, `CREATE TABLE plain (id INTEGER PRIMARY KEY, name TEXT NOT NULL);`)
	if list, err := Dialects(t.Context(), db); err != nil || len(list) > 0 {
		t.Errorf("%+v %v", list, err)
	}
	shell(t, db, `CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT DEFAULT (datetime('now')), n TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE);
CREATE TABLE b (k PRIMARY KEY, v) WITHOUT ROWID;
CREATE VIRTUAL TABLE s USING fts5(x);
CREATE TRIGGER g BEFORE DELETE ON plain BEGIN SELECT RAISE(ABORT, 'no'); INSERT OR IGNORE INTO plain (name) VALUES (strftime('%s')); END;`)
	list, err := Dialects(t.Context(), db)
	var got []string
	for _, d := range list {
		got = append(got, d.What+" "+d.First)
	}
	for _, want := range []string{"AUTOINCREMENT table a", "WITHOUT ROWID table b", "virtual tables (full-text search, R-trees) table s", "RAISE() in a trigger trigger g",
		"ON CONFLICT in a constraint table a", "COLLATE NOCASE table a", "datetime('now') and its kin table a", "INSERT OR REPLACE and its kin trigger g", "strftime(), julianday(), unixepoch() trigger g"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not in %q (%v)", want, got, err)
		}
	}
}
