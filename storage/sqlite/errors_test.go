package sqlite

import (
	"bytes"
	"context"
	"database/sql"
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

// As another user, in a process of its own: tests may run as root.
func TestUnreadable(t *testing.T) {
	if path := os.Getenv("EMSAFE_TEST_UNREADABLE"); path != "" {
		_, _, err := take(t, path, Options{})
		fmt.Printf("kind permission: %v\n", errors.Is(err, fault.Permission))
		return
	}
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, rows)
	if err := os.Chmod(db, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestUnreadable$")
	cmd.Env = append(os.Environ(), "EMSAFE_TEST_UNREADABLE="+db)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	} else if err := os.Chmod(db, 0); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(db); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755) //nolint:errcheck // the child's answer tells
	}
	exe := filepath.Join(filepath.Dir(db), "test")
	if data, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(exe, data, 0o755) != nil {
		t.Fatal("cannot copy the test binary to where another user may run it")
	}
	cmd.Path = exe
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "kind permission: true") {
		t.Errorf("%v %s", err, out)
	}
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

func TestWALOnANetworkFileSystem(t *testing.T) {
	// Not parallel: it stands in for statfs.
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal;"+rows)
	real := fileSystem
	fileSystem = func(string) (int64, error) { return 0x6969, nil }
	defer func() { fileSystem = real }()
	if _, _, err := take(t, db, Options{}); !errors.Is(err, fault.NetworkFS) || !strings.Contains(err.Error(), "NFS") {
		t.Errorf("%v", err)
	}
}

// Locks of other connections in this very process survive a snapshot, which
// opens and closes the file raw.
func TestOwnLocksSurvive(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, rows)
	own, err := sql.Open("sqlite", db)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	conn, err := own.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := take(t, db, Options{}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sqlite3", db, "INSERT INTO t(v) VALUES ('stolen')").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "locked") {
		t.Errorf("the write lock was lost: %v %s", err, out)
	}
}

func TestLockExclusive(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "wal"} {
		db := filepath.Join(t.TempDir(), "app.db")
		shell(t, db, "PRAGMA journal_mode="+mode+";"+rows)
		release, err := LockExclusive(db)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sqlite3", db, "SELECT count(*) FROM t").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "locked") {
			t.Errorf("%s: a reader came in: %v %s", mode, err, out)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
		shell(t, db, "SELECT count(*) FROM t")
		closeShell := openShell(t, db)
		if _, err := LockExclusive(db); mode == "wal" && !errors.Is(err, fault.InUse) {
			t.Errorf("%s: with a reader: %v", mode, err)
		}
		holders, complete, err := Holders(db)
		if err != nil || len(holders) != 1 || holders[0].Name != "sqlite3" || os.Getuid() == 0 && !complete {
			t.Errorf("%s: holders %+v, %v, %v", mode, holders, complete, err)
		}
		closeShell()
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal;"+rows)
	for _, level := range []string{"quick", "full"} {
		if err := Check(t.Context(), db, level); err != nil {
			t.Error(err)
		}
	}
	if got := beside(t, db); len(got) != 1 {
		t.Errorf("left beside it: %q", got)
	}
	data, _ := os.ReadFile(db)
	for i := 4096; i < 3*4096; i++ {
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(db, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), db, "quick"); !errors.Is(err, fault.Corrupt) {
		t.Errorf("two pages of rubbish: %v", err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, d := range []string{"data", "node_modules/x"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, filepath.Join(root, "data", "app.db"), "PRAGMA journal_mode=wal;"+rows)
	shell(t, filepath.Join(root, "node_modules", "x", "sample.sqlite"), rows)
	os.WriteFile(filepath.Join(root, "data", "notes.db"), bytes.Repeat([]byte("text"), 100), 0o600) //nolint:errcheck // absence shows below
	os.Symlink(filepath.Join(root, "data", "app.db"), filepath.Join(root, "link.db"))               //nolint:errcheck // likewise
	found, err := Find(t.Context(), root)
	if err != nil || len(found) != 2 || filepath.Base(found[0].Path) != "app.db" || found[0].Vendor || !found[1].Vendor {
		t.Errorf("%+v %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(append([]byte(magic), make([]byte, 84)...))
	f.Fuzz(func(t *testing.T, head []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, head, 0o600); err != nil {
			t.Fatal(err)
		}
		Inspect(path) //nolint:errcheck // must not panic
		if w, err := openWAL(strings.TrimSuffix(path, "-wal")); err == nil && w != nil {
			w.committed() //nolint:errcheck // likewise
			w.close()
		}
	})
}
