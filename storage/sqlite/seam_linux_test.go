package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/sqlite/sqlitetest"
)

// statfs stands in for the kernel's until the test ends: such tests must not
// be parallel.
func statfs(t testing.TB, f func() int64) {
	t.Helper()
	real := fileSystem
	t.Cleanup(func() { fileSystem = real })
	fileSystem = func(string) (int64, error) { return f(), nil }
}

func TestWALOnANetworkFileSystem(t *testing.T) {
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	statfs(t, func() int64 { return 0x6969 })
	if _, _, err := take(t, db, Options{}); !errors.Is(err, fault.NetworkFS) || !strings.Contains(err.Error(), "NFS") {
		t.Errorf("%v", err)
	}
	shell(t, db, "PRAGMA journal_mode=delete;")
	if _, _, err := take(t, db, Options{}); err != nil {
		t.Errorf("a rollback journal: %v", err)
	}
}

// The header is read before any lock; what it said may be over by then.
func TestColdAfterTheHeaderWasRead(t *testing.T) {
	for name, c := range map[string]struct{ sql, method string }{
		"grown":       {"INSERT INTO t SELECT hex(randomblob(500000));", "cold"},
		"shrunk":      {"DELETE FROM t; VACUUM;", "cold"},
		"no more WAL": {"INSERT INTO t VALUES (randomblob(50000)); PRAGMA journal_mode=delete;", "memory"},
	} {
		db := filepath.Join(t.TempDir(), "app.db")
		shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(100000));")
		once := false
		statfs(t, func() int64 {
			if !once {
				once = true
				shell(t, db, c.sql)
			}
			return 0
		})
		got, how, err := take(t, db, Options{})
		want, _ := os.ReadFile(db)
		if err != nil || how.Method != c.method || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, not %d, %+v: %v", name, len(got), len(want), how, err)
		}
	}
}

// An application that closes holds the database exclusively for a moment.
func TestAnExclusiveLockThatGoes(t *testing.T) {
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	release, err := LockExclusive(db)
	if err != nil {
		t.Fatal(err)
	}
	statfs(t, func() int64 {
		go release() //nolint:errcheck // nothing was written
		return 0
	})
	if _, _, err := take(t, db, Options{Busy: time.Minute}); err != nil {
		t.Error(err)
	}
}

// Another user, who may read what the application writes but cannot use its
// wal-index, sees what was committed.
func TestAnIndexOfSomebodyElse(t *testing.T) {
	if other := os.Getenv("EMSAFE_TEST_OTHER"); other != "" {
		image, how, err := take(t, other, Options{})
		if err != nil {
			fmt.Println(fault.Find(err).Kind.ID, err)
			return
		}
		fmt.Println(how.Method, len(image))
		os.Stderr.Write(image) //nolint:errcheck // the parent looks
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	db := crashed(t) // nobody checkpoints it any more: as quiet as a reader needs
	for name, c := range map[string]struct {
		shm, wal os.FileMode
		says     string
	}{
		"read-only":     {0o644, 0o644, "live"}, // SQLite makes an index of its own
		"unreadable":    {0o600, 0o644, "cold"},
		"no WAL to see": {0o600, 0o600, "permission"},
	} {
		for path, mode := range map[string]os.FileMode{db: 0o644, db + "-shm": c.shm, db + "-wal": c.wal} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		said, image := asNobody(t, db, "TestAnIndexOfSomebodyElse", "EMSAFE_TEST_OTHER="+db)
		if !strings.HasPrefix(said, c.says) {
			t.Errorf("%s: %s", name, said)
			continue
		}
		if c.says != "permission" {
			if got := shell(t, file(t, image), "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != "ok\n50" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
}

// With writers it is cold reads and luck; what comes out is never wrong.
func TestAnIndexOfSomebodyElseWithWriters(t *testing.T) {
	if os.Getuid() != 0 || !soak {
		t.Skip("for root, at length")
	}
	db := filepath.Join(t.TempDir(), "app.db")
	sqlitetest.Accounts(t, db, "wal", 200)
	w := sqlitetest.Start(t, db, "wal", 1)
	for range 50 {
		since := []int64{w.Acknowledged()}
		said, image := asNobody(t, db, "TestAnIndexOfSomebodyElse", "EMSAFE_TEST_OTHER="+db)
		if strings.HasPrefix(said, "cold ") {
			sqlitetest.VerifyAccounts(t, file(t, image), []*sqlitetest.Writer{w}, since)
		}
		t.Log(said)
	}
}
