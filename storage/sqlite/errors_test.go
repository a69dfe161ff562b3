package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"emsafe/internal/fault"
)

const rows = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<400) INSERT INTO t(v) SELECT hex(randomblob(60)) FROM c; CREATE INDEX i ON t(v);"

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		path string
		kind *fault.Kind
		says string
	}{
		"text":      {file("text", []byte(strings.Repeat("no database ", 50))), fault.NotSQLite, "not a SQLite database"},
		"encrypted": {file("cipher", bytes.Repeat([]byte{0x9e, 0x11, 0x7c}, 3000)), fault.NotSQLite, "encrypted"},
		"empty":     {file("empty", nil), fault.NotSQLite, "empty"},
		"short":     {file("short", []byte(magic)), fault.NotSQLite, "not a SQLite database"},
		"page size": {file("size", append([]byte(magic), make([]byte, 200)...)), fault.NotSQLite, "page size"},
		"folder":    {dir, fault.NotSQLite, "folder"},
		"missing":   {filepath.Join(dir, "missing"), fault.NoDatabase, "no file"},
	} {
		_, _, err := take(t, c.path, Options{})
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	if path := os.Getenv("EMSAFE_TEST_UNREADABLE"); path != "" {
		_, _, err := take(t, path, Options{})
		fmt.Println("permission:", errors.Is(err, fault.Permission))
		return
	}
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, rows)
	if err := os.Chmod(db, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(db, 0); err != nil {
			t.Fatal(err)
		}
	}
	if said, _ := asNobody(t, db, "TestUnreadable", "EMSAFE_TEST_UNREADABLE="+db); !strings.HasPrefix(said, "permission: true") {
		t.Error(said)
	}
}

// asNobody runs one test again in a process of its own, of a user without
// rights if this one has them, who may enter the database's folder.
func asNobody(t *testing.T, db, test, env string) (stdout string, stderr []byte) {
	t.Helper()
	for dir := filepath.Dir(db); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The test binary lies where nobody else may look.
	exe := filepath.Join(filepath.Dir(db), "test")
	if missing(exe) {
		if data, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(exe, data, 0o755) != nil {
			t.Fatal("cannot copy the test binary to where another user may run it")
		}
	}
	cmd := exec.Command(exe, "-test.run", "^"+test+"$")
	cmd.Env, cmd.Dir = append(os.Environ(), env), "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v %s %.500s", err, out.String(), errs.String())
	}
	return out.String(), errs.Bytes()
}

func TestExclusivelyLocked(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "wal"} {
		db := filepath.Join(t.TempDir(), "app.db")
		shell(t, db, "PRAGMA journal_mode="+mode+";"+rows)
		cmd := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma locking_mode=exclusive"); c.execute("begin exclusive"); c.execute("insert into t(v) values ('x')"); c.execute("commit")
print("held", flush=True); sys.stdin.read()`, db)
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		_, _, err := take(t, db, Options{Busy: 10 * time.Millisecond})
		if !errors.Is(err, fault.Locked) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
			t.Errorf("%s: %v does not name process %d", mode, err, cmd.Process.Pid)
		}
		if err := Settle(t.Context(), db); !errors.Is(err, fault.InUse) {
			t.Errorf("%s: settle: %v", mode, err)
		}
		in.Close()
		cmd.Wait() //nolint:errcheck // it ends with its input
	}
}

func TestHotJournal(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, rows)
	exec.Command("python3", "-c", `
import sqlite3, os, sys, signal
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma cache_size=5"); c.execute("begin")
for i in range(3000): c.execute("insert into t(v) values (hex(randomblob(300)))")
os.kill(os.getpid(), signal.SIGKILL)`, db).Run() //nolint:errcheck // it kills itself
	want, _ := os.ReadFile(db)
	if _, _, err := take(t, db, Options{}); !errors.Is(err, fault.HotJournal) {
		t.Errorf("%v", err)
	}
	if got, _ := os.ReadFile(db); !bytes.Equal(got, want) {
		t.Error("the source was rolled back on the application's behalf")
	}
	if err := Settle(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(db + "-journal"); err == nil {
		t.Error("settle left the journal")
	}
	if got := shell(t, db, "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != "ok\n400" {
		t.Errorf("after settle: %s", got)
	}
}

func TestReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, other := filepath.Join(dir, "app.db"), filepath.Join(dir, "other.db")
	for _, f := range []string{db, other} {
		shell(t, f, rows)
	}
	_, err := Snapshot(t.Context(), db, Options{Ahead: newAhead()}, func(Image) (io.Writer, error) { return io.Discard, os.Rename(other, db) })
	if !errors.Is(err, fault.Replaced) {
		t.Errorf("%v", err)
	}
}
