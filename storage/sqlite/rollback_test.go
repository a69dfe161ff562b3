package sqlite

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/sqlite/sqlitetest"
)

// bigEnough makes a database too large to be read under one lock.
func bigEnough(t testing.TB) string {
	db := filepath.Join(t.TempDir(), "app.db")
	sqlitetest.Accounts(t, db, "delete", 12000)
	if st, err := os.Stat(db); err != nil || st.Size() <= inMemory {
		t.Fatal("the specimen is too small")
	}
	return db
}

func TestAhead(t *testing.T) {
	t.Parallel()
	db := bigEnough(t)
	before := surroundings(t, db)
	image, how, err := take(t, db, Options{})
	want, _ := os.ReadFile(db)
	if err != nil || how.Method != "ahead" || how.Held <= 0 || !bytes.Equal(image, want) {
		t.Fatalf("%+v %v", how, err)
	}
	if after := surroundings(t, db); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("beside the source: %q, before %q", after, before)
	}
}

// A commit between two slices: what was copied ahead no longer fits.
func TestSettled(t *testing.T) {
	t.Parallel()
	db := bigEnough(t)
	for _, sql := range []string{
		"UPDATE acc SET bal = bal + 1 WHERE id % 100 = 1;",                                          // few pages
		"INSERT INTO acc SELECT id + 3000, 0, pad, ballast FROM acc WHERE id < 200;",                // more pages
		"DELETE FROM acc WHERE id >= 2950; PRAGMA incremental_vacuum;",                              // fewer
		"DELETE FROM acc WHERE id >= 2900; VACUUM;",                                                 // others
		"BEGIN; UPDATE acc SET bal = 0; ROLLBACK; UPDATE acc SET bal = bal + 1 WHERE id % 100 = 3;", // some that came back
	} {
		image, how, err := take(t, db, Options{Ahead: &writingAhead{Ahead: newAhead(), t: t, db: db, sql: sql}, MaxHold: time.Minute})
		want, _ := os.ReadFile(db)
		if err != nil || how.Method != "settled" || !bytes.Equal(image, want) {
			t.Fatalf("%s: %+v %v", sql, how, err)
		}
	}
}

func TestSettledUnderABound(t *testing.T) {
	// Not parallel: it lowers the memory that changed pages may take.
	defer func(was int64) { maxChanged = was }(maxChanged)
	maxChanged = 1 << 20
	db := bigEnough(t)
	const few = "UPDATE acc SET bal = bal + 1 WHERE id % 100 = 1;"
	for name, c := range map[string]struct {
		opt Options
		sql string
		end string
	}{
		"no time": {Options{MaxHold: 1, Attempts: 2}, few, ""},
		"no room": {Options{MaxHold: time.Minute, Attempts: 2}, "UPDATE acc SET bal = bal + 1, ballast = hex(randomblob(6000));", ""},
		"grown":   {Options{MaxHold: time.Minute, Attempts: 1}, few, "INSERT INTO acc SELECT id + (SELECT max(id) + 1 FROM acc), 0, pad, ballast FROM acc LIMIT 400;"},
	} {
		write := func() Ahead { return &writingAhead{Ahead: newAhead(), t: t, db: db, sql: c.sql, end: c.end} }
		c.opt.Ahead = write()
		_, _, err := take(t, db, c.opt)
		if f := fault.Find(err); f == nil || f.Kind != fault.LockBound || !strings.Contains(f.Remedy, "max_hold") || !strings.Contains(f.Remedy, "allow_block") {
			t.Errorf("%s: %v", name, err)
		}
		c.opt.Ahead, c.opt.AllowBlock = write(), true
		image, how, err := take(t, db, c.opt)
		want, _ := os.ReadFile(db)
		if err != nil || how.Method != "settled" || !bytes.Equal(image, want) {
			t.Errorf("%s, allow_block: %+v %v", name, how, err)
		}
	}
}

// writingAhead commits to the database after a part of each copy.
type writingAhead struct {
	Ahead
	t    *testing.T
	db   string
	sql  string
	end  string // likewise, when all is copied
	mu   sync.Mutex
	puts int
	over bool // all was copied: what is put now is put under the settling lock
}

func (a *writingAhead) Reset() error {
	a.puts, a.over = 0, false
	return a.Ahead.Reset()
}

func (a *writingAhead) Put(i int64, data []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.puts++
	if a.puts == 10 {
		shell(a.t, a.db, "PRAGMA busy_timeout=60000;"+a.sql)
	}
	if st, err := os.Stat(a.db); err == nil && a.end != "" && !a.over && a.puts == int((st.Size()+chunkSize-1)/chunkSize) {
		shell(a.t, a.db, "PRAGMA busy_timeout=60000;"+a.end)
		a.over = true
	}
	return a.Ahead.Put(i, data)
}

// Small, but on a disk so slow that it cannot be read within the bound.
func TestSmallAndSlow(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	sqlitetest.Accounts(t, db, "truncate", 200)
	image, how, err := take(t, db, Options{MaxHold: 1})
	want, _ := os.ReadFile(db)
	if err != nil || how.Method != "ahead" || !bytes.Equal(image, want) {
		t.Errorf("%+v %v", how, err)
	}
}

// Between two slices the application switches to WAL.
func TestSwitchedToWAL(t *testing.T) {
	t.Parallel()
	db := bigEnough(t)
	openShell(t, db) // keeps the WAL from being taken in
	ahead := &writingAhead{Ahead: newAhead(), t: t, db: db, sql: "PRAGMA journal_mode=wal; INSERT INTO acc (id, bal) VALUES (9000, 9);"}
	image, how, err := take(t, db, Options{Ahead: ahead})
	if err != nil || how.Method != "live" || how.JournalMode != "wal" {
		t.Fatalf("%+v %v", how, err)
	}
	if got := shell(t, file(t, image), "PRAGMA integrity_check; SELECT bal FROM acc WHERE id = 9000;"); got != "ok\n9" {
		t.Error(got)
	}
}
