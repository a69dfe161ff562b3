package sqlite

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/sqlite/sqlitetest"
)

// An idle WAL database is read without SQLite; one that an application opens,
// writes, checkpoints and closes meanwhile must not come out torn.
func TestColdWhileAnApplicationRuns(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"checkpointed": "UPDATE acc SET pad = hex(randomblob(300)); PRAGMA wal_checkpoint(truncate);",
		"written":      "UPDATE acc SET pad = hex(randomblob(300));",
		"shrunk":       "DELETE FROM acc WHERE id > 100; VACUUM;",
		"only read":    "SELECT count(*) FROM acc;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "app.db")
			sqlitetest.Accounts(t, db, "wal", 200)
			var out bytes.Buffer
			var methods []string
			_, err := Snapshot(t.Context(), db, Options{}, func(image Image) (io.Writer, error) {
				out.Reset()
				if methods = append(methods, image.Method); len(methods) == 1 {
					shell(t, db, sql)
				}
				return &out, nil
			})
			// The lock keeps the last one that closes from cleaning up: then
			// there is a wal-index for the second attempt.
			if err != nil || !slices.Equal(methods, []string{"cold", "live"}) {
				t.Fatalf("by %q: %v", methods, err)
			}
			want := shell(t, db, "PRAGMA integrity_check; SELECT count(*), sum(length(pad)) FROM acc;")
			if got := shell(t, file(t, out.Bytes()), "PRAGMA integrity_check; SELECT count(*), sum(length(pad)) FROM acc;"); got != want {
				t.Errorf("%s, not %s", got, want)
			}
		})
	}
}

// What a crash leaves in the WAL belongs to the database; what was not
// committed does not. Nothing is recovered on the application's behalf.
func TestColdWithACrashedWAL(t *testing.T) {
	t.Parallel()
	db := crashed(t)
	if err := os.Remove(db + "-shm"); err != nil {
		t.Fatal(err)
	}
	before := surroundings(t, db)
	wal, _ := os.ReadFile(db + "-wal")
	image, how, err := take(t, db, Options{})
	if err != nil || how.Method != "cold" {
		t.Fatalf("%+v %v", how, err)
	}
	if after, _ := os.ReadFile(db + "-wal"); !bytes.Equal(wal, after) || !slices.Equal(before, surroundings(t, db)) {
		t.Error("something was changed beside the source")
	}
	if got := shell(t, file(t, image), "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != "ok\n50" {
		t.Error(got)
	}
}

// With the -shm of the crash SQLite can read it, and recovers no more than its
// index.
func TestLiveWithACrashedWAL(t *testing.T) {
	t.Parallel()
	db := crashed(t)
	before := surroundings(t, db)
	image, how, err := take(t, db, Options{})
	if err != nil || how.Method != "live" {
		t.Fatalf("%+v %v", how, err)
	}
	if after := surroundings(t, db); !slices.Equal(before, after) {
		t.Errorf("beside the source: %q, before %q", after, before)
	}
	if got := shell(t, file(t, image), "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != "ok\n50" {
		t.Error(got)
	}
}

// crashed is a WAL database with 50 committed rows, and more that are not,
// whose application was killed.
func crashed(t testing.TB) string {
	t.Helper()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	out, err := exec.Command("python3", "-c", `
import sqlite3, os, sys, signal
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma wal_autocheckpoint=0"); c.execute("pragma cache_size=5")
for i in range(50): c.execute("insert into t values (hex(randomblob(500)))")
c.execute("begin")
for i in range(500): c.execute("insert into t values (hex(randomblob(500)))")
os.kill(os.getpid(), signal.SIGKILL)`, db).CombinedOutput()
	if err == nil || missing(db+"-wal") {
		t.Fatalf("it did not crash: %s", out)
	}
	return db
}

// A frame whose checksum is wrong ends what counts, as in SQLite's recovery.
func TestColdWithADamagedWAL(t *testing.T) {
	t.Parallel()
	db := crashed(t)
	wal, err := os.ReadFile(db + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"torn at the end": func(w []byte) []byte { return w[:len(w)/3+100] },
		"a flipped bit":   func(w []byte) []byte { w[len(w)/20] ^= 4; return w },
		"a bad header":    func(w []byte) []byte { w[24] ^= 1; return w },
		"no header":       func(w []byte) []byte { return w[:16] },
		"empty":           func(w []byte) []byte { return nil },
	} {
		copied := filepath.Join(t.TempDir(), "app.db")
		main, _ := os.ReadFile(db)
		for path, data := range map[string][]byte{copied: main, copied + "-wal": change(bytes.Clone(wal))} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		image, how, err := take(t, copied, Options{})
		if err != nil || how.Method != "cold" {
			t.Fatalf("%s: %+v %v", name, how, err)
		}
		count := "PRAGMA integrity_check; SELECT count(*) FROM t;"
		got, want := shell(t, file(t, image), count), shell(t, copied, count) // the oracle recovers
		if got != want {
			t.Errorf("%s: %q, and SQLite recovers %q", name, got, want)
		}
	}
}

// Between the look for the wal-index and the opening the last application may
// close. Under the lock it cannot take the index along.
func TestTheIndexStaysUnderTheLock(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	closeShell := openShell(t, db)
	image, err := Inspect(db)
	if err != nil {
		t.Fatal(err)
	}
	src, err := openSource(db, image)
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	unlock, err := src.share(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	closeShell()
	if missing(db+"-shm") || missing(db+"-wal") {
		t.Error("the index was removed")
	}
	unlock()
	shell(t, db, "SELECT count(*) FROM t;")
	if !missing(db+"-shm") || !missing(db+"-wal") {
		t.Error("the next application does not clean up")
	}
}

// A -shm without a -wal proves nothing by being there; the time stamps must.
func TestColdWithAnOrphanedIndex(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	if err := os.WriteFile(db+"-shm", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, how, err := take(t, db, Options{})
	want, _ := os.ReadFile(db)
	if err != nil || how.Method != "cold" || !bytes.Equal(got, want) {
		t.Fatalf("%+v %v", how, err)
	}
	_, err = Snapshot(t.Context(), db, Options{Attempts: 1}, func(Image) (io.Writer, error) {
		f, err := os.OpenFile(db, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(want[:100], 0)
			err = errors.Join(err, f.Close())
		}
		return io.Discard, err
	})
	if !errors.Is(err, fault.Locked) {
		t.Errorf("written to meanwhile: %v", err)
	}
}

// A change of the journal mode that was cut off is the application's to roll
// back; a journal that holds nothing any more is not in the way.
func TestColdWithAJournal(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	for journal, want := range map[string]error{
		"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + string(make([]byte, 504)): fault.HotJournal,
		string(make([]byte, 512)):                                      nil,
		"":                                                             nil,
	} {
		if err := os.WriteFile(db+"-journal", []byte(journal), 0o600); err != nil {
			t.Fatal(err)
		}
		_, how, err := take(t, db, Options{})
		if !errors.Is(err, want) || err == nil && how.Method != "cold" {
			t.Errorf("%.8q: %+v %v", journal, how, err)
		}
	}
}

// Writers before SQLite 3.7 did not keep the header's page count: then it does
// not count.
func TestAPageCountOfOld(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		db := filepath.Join(t.TempDir(), "app.db")
		shell(t, db, "PRAGMA journal_mode="+mode+";"+rows)
		damage(t, db, func(data []byte) { data[31], data[95] = 3, data[95]+1 })
		image, how, err := take(t, db, Options{})
		want, _ := os.ReadFile(db)
		if err != nil || !bytes.Equal(image, want) {
			t.Errorf("%s: %+v %v", mode, how, err)
		}
	}
}
