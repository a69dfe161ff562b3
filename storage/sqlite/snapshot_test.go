package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"emsafe/internal/fault"
)

// shell runs the stock sqlite3.
func shell(t testing.TB, db, sql string) string {
	t.Helper()
	out, err := exec.Command("sqlite3", "-bail", db, sql).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3 %.200s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

// inMemoryAhead is an Ahead for tests.
type inMemoryAhead struct {
	mu     sync.Mutex
	chunks map[int64][]byte
}

func (a *inMemoryAhead) Put(i int64, data []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chunks[i] = bytes.Clone(data)
	return nil
}

func (a *inMemoryAhead) Read(i int64, buf []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(buf[:0], a.chunks[i]...), nil
}

func (a *inMemoryAhead) Reset() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chunks = map[int64][]byte{}
	return nil
}

func newAhead() *inMemoryAhead { return &inMemoryAhead{chunks: map[int64][]byte{}} }

// take snapshots a database into memory.
func take(t testing.TB, db string, opt Options) ([]byte, Image, error) {
	t.Helper()
	var out bytes.Buffer
	if opt.Ahead == nil {
		opt.Ahead = newAhead()
	}
	image, err := Snapshot(t.Context(), db, opt, func(Image) (io.Writer, error) { out.Reset(); return &out, nil })
	return out.Bytes(), image, err
}

// beside lists the files in a database's folder.
func beside(t testing.TB, db string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(db))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

const rows = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<400) INSERT INTO t(v) SELECT hex(randomblob(60)) FROM c; CREATE INDEX i ON t(v);"

// zoo is one of every kind of database file.
func zoo() map[string]string {
	z := map[string]string{}
	for size := 512; size <= 65536; size *= 2 {
		for _, mode := range []string{"wal", "delete"} {
			z[fmt.Sprintf("page-%d-%s", size, mode)] = fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=%s; %s", size, mode, rows)
		}
	}
	for _, v := range []string{"full", "incremental"} {
		z["auto-vacuum-"+v] = "PRAGMA auto_vacuum=" + v + "; PRAGMA journal_mode=wal; " + rows + " DELETE FROM t WHERE id%2;"
	}
	for _, m := range []string{"truncate", "persist"} {
		z["journal-"+m] = "PRAGMA journal_mode=" + m + ";" + rows
	}
	for _, e := range []string{"UTF-16le", "UTF-16be"} {
		z["encoding-"+e] = "PRAGMA encoding='" + e + "';" + rows
	}
	z["fts5"] = rows + "CREATE VIRTUAL TABLE f USING fts5(v); INSERT INTO f SELECT v FROM t;"
	z["without-rowid"] = "CREATE TABLE w (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID; INSERT INTO w VALUES ('a', randomblob(9000));"
	z["strict"] = "CREATE TABLE s (n INTEGER, v TEXT) STRICT; INSERT INTO s VALUES (1, 'x');"
	z["reserved-bytes"] = ".filectrl reserve_bytes 32\n" + rows + "VACUUM;"
	z["one-page"] = "CREATE TABLE only (x);"
	z["free-pages"] = rows + "DELETE FROM t;"
	return z
}

func TestZooByteForByte(t *testing.T) {
	t.Parallel()
	// All are made first: while one waits until its WAL has been quiet for
	// long enough, so do the others.
	made := map[string]string{}
	for name, sql := range zoo() {
		made[name] = filepath.Join(t.TempDir(), "a b?c#d%20é.db")
		cmd := exec.Command("sqlite3", "-bail", made[name])
		cmd.Stdin = strings.NewReader(sql + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	for name, db := range made {
		t.Run(name, func(t *testing.T) {
			before := beside(t, db)
			want, err := os.ReadFile(db)
			if err != nil {
				t.Fatal(err)
			}
			got, image, err := take(t, db, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes came out, by %s, and they are not the file's %d", len(got), image.Method, len(want))
			}
			if after := beside(t, db); !slices.Equal(before, after) {
				t.Errorf("beside the source: %q, before %q", after, before)
			}
			if name == "reserved-bytes" && got[20] != 32 {
				t.Errorf("the specimen has %d reserved bytes", got[20])
			}
		})
	}
}

// compare is a sink that holds what it gets against a file.
type compare struct {
	file *os.File
	at   int64
	buf  []byte
}

func (c *compare) Write(p []byte) (int, error) {
	c.buf = append(c.buf[:0], p...)
	n, err := c.file.ReadAt(c.buf, c.at)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if n != len(p) || !bytes.Equal(c.buf, p) {
		return 0, fmt.Errorf("other bytes at %d", c.at)
	}
	c.at += int64(n)
	return n, nil
}

// Beyond 1 GiB there is a page that SQLite never uses.
func TestAcrossTheLockBytePage(t *testing.T) {
	t.Parallel()
	sizes := []int{65536}
	if os.Getenv("EMSAFE_SOAK") != "" {
		sizes = []int{4096, 65536, 512}
	}
	for _, size := range sizes {
		db := filepath.Join(t.TempDir(), "big.db")
		shell(t, db, fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=off; PRAGMA synchronous=off; CREATE TABLE b (x); INSERT INTO b VALUES (zeroblob(700000000)), (zeroblob(420000000)); CREATE TABLE after (v); INSERT INTO after VALUES (hex(randomblob(3000)));", size))
		f, err := os.Open(db)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, _ := f.Stat()
		c := &compare{file: f}
		image, err := Snapshot(t.Context(), db, Options{AllowBlock: true, Ahead: discardAhead{f}}, func(Image) (io.Writer, error) { c.at = 0; return c, nil })
		if err != nil || c.at != st.Size() || c.at < 1<<30 {
			t.Errorf("page size %d: %d of %d bytes, %+v: %v", size, c.at, st.Size(), image, err)
		}
	}
}

// discardAhead reads back from the still file: a gigabyte stays out of memory.
type discardAhead struct{ file *os.File }

func (discardAhead) Put(int64, []byte) error { return nil }
func (discardAhead) Reset() error            { return nil }
func (a discardAhead) Read(i int64, buf []byte) ([]byte, error) {
	n, err := a.file.ReadAt(buf[:chunkSize], i*chunkSize)
	if err == io.EOF {
		err = nil
	}
	return buf[:n], err
}

// writer commits transfers that keep a sum, in a way that changes many pages,
// checkpoints, vacuums and opens anew, until its input ends.
const writer = `
import sqlite3, random, sys, threading
db, mode, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(seed)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
def conn():
    c = sqlite3.connect(db, isolation_level=None, timeout=60)
    c.execute("pragma journal_mode=" + mode)
    return c
c = conn()
print("ready", flush=True)
while not stop.is_set():
    try:
        c.execute("begin immediate")
        for _ in range(random.choice([1, 1, 1, 5, 300])):
            a, b = random.randrange(3000), random.randrange(3000)
            c.execute("update acc set bal = bal - 1, pad = hex(randomblob(?)) where id = ?", (random.randrange(200), a))
            c.execute("update acc set bal = bal + 1 where id = ?", (b,))
        c.execute("commit")
        r = random.random()
        if r < 0.02: c.execute("pragma wal_checkpoint(%s)" % random.choice(["passive", "restart", "truncate"]))
        elif r < 0.03: c.execute("vacuum")
        elif r < 0.06: c.close(); c = conn()
    except sqlite3.OperationalError:
        if c.in_transaction: c.execute("rollback")
c.close()
`

func startWriter(t testing.TB, db, mode string, seed int) (stop func()) {
	t.Helper()
	cmd := exec.Command("python3", "-c", writer, db, mode, fmt.Sprint(seed))
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatalf("the writer did not start: %v %s", err, errs.String())
	}
	return func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("writer: %v %s", err, errs.String())
		}
	}
}

const accounts = "CREATE TABLE acc (id INTEGER PRIMARY KEY, bal INT, pad TEXT); WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM c WHERE n<2999) INSERT INTO acc SELECT n, 100, hex(randomblob(%d)) FROM c; CREATE INDEX i ON acc(pad);"

// Two processes write; every image must be one that SQLite takes for whole,
// with the sum that every committed state has.
func TestLiveImagesAreConsistent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode   string
		pad    int // bytes a row, which makes the size
		images int // with a rollback journal each one waits for its turn
	}{{"wal", 300, 40}, {"delete", 300, 12}, {"delete", 7000, 12}} {
		images := c.images
		if os.Getenv("EMSAFE_SOAK") != "" {
			images *= 25
		}
		t.Run(fmt.Sprintf("%s-%d", c.mode, c.pad), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			db := filepath.Join(dir, "app.db")
			shell(t, db, "PRAGMA journal_mode="+c.mode+";"+fmt.Sprintf(accounts, c.pad))
			for seed := range 2 {
				defer startWriter(t, db, c.mode, seed)()
			}
			methods := map[string]int{}
			for i := range images {
				image, how, err := take(t, db, Options{})
				if errors.Is(err, fault.LockBound) || errors.Is(err, fault.Locked) {
					methods[fault.Find(err).Kind.ID]++ // allowed to give up, not to be wrong
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				methods[how.Method]++
				file := filepath.Join(dir, "image")
				if err := os.WriteFile(file, image, 0o600); err != nil {
					t.Fatal(err)
				}
				if got := shell(t, "file:"+file+"?immutable=1", "PRAGMA integrity_check; SELECT sum(bal), count(*) FROM acc;"); got != "ok\n300000|3000" {
					t.Fatalf("image %d, by %s: %s", i, how.Method, got)
				}
			}
			t.Log(methods)
		})
	}
}

func TestAheadAndSettled(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, fmt.Sprintf(accounts, 7000)) // about 80 MiB
	image, how, err := take(t, db, Options{})
	want, _ := os.ReadFile(db)
	if err != nil || how.Method != "ahead" || !bytes.Equal(image, want) {
		t.Fatalf("still: %+v %v", how, err)
	}
	// A commit between two slices: the hash of the ahead copy no longer fits.
	write := &writingAhead{Ahead: newAhead(), t: t, db: db}
	image, how, err = take(t, db, Options{Ahead: write})
	want, _ = os.ReadFile(db)
	if err != nil || how.Method != "settled" || !bytes.Equal(image, want) {
		t.Fatalf("written to: %+v %v", how, err)
	}
	// No time to settle in.
	write = &writingAhead{Ahead: newAhead(), t: t, db: db}
	_, _, err = take(t, db, Options{Ahead: write, MaxHold: 1})
	if f := fault.Find(err); f == nil || f.Kind != fault.LockBound || !strings.Contains(f.Remedy, "max_hold") || !strings.Contains(f.Remedy, "allow_block") {
		t.Errorf("bound of a nanosecond: %v", err)
	}
	write = &writingAhead{Ahead: newAhead(), t: t, db: db}
	image, how, err = take(t, db, Options{Ahead: write, MaxHold: 1, AllowBlock: true})
	want, _ = os.ReadFile(db)
	if err != nil || !bytes.Equal(image, want) {
		t.Errorf("allow_block: %+v %v", how, err)
	}
}

// writingAhead commits to the database after some chunks of each copy.
type writingAhead struct {
	Ahead
	t    *testing.T
	db   string
	once sync.Mutex
	puts int
}

func (a *writingAhead) Put(i int64, data []byte) error {
	a.once.Lock()
	a.puts++
	if a.puts%20 == 0 {
		shell(a.t, a.db, "PRAGMA busy_timeout=9000; UPDATE acc SET bal = bal + 1, pad = pad || 'grown' WHERE id % 100 = 1;")
	}
	a.once.Unlock()
	return a.Ahead.Put(i, data)
}

// openShell keeps a stock sqlite3 on the database, idle, until close is called.
func openShell(t testing.TB, db string) (close func()) {
	t.Helper()
	cmd := exec.Command("sqlite3", db)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "SELECT count(*) FROM sqlite_schema;\n") //nolint:errcheck // the read tells
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	return func() { in.Close(); cmd.Wait() } //nolint:errcheck // it ends with its input
}

func TestBoundsOfTheReadTransaction(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal;"+fmt.Sprintf(accounts, 300))
	defer openShell(t, db)()
	for setting, opt := range map[string]Options{"max_snapshot": {MaxSnapshot: 1}, "max_wal_growth": {MaxWALGrowth: 1}} {
		opt.Attempts = 1
		grow := func(Image) (io.Writer, error) {
			shell(t, db, "PRAGMA busy_timeout=9000; UPDATE acc SET pad = hex(randomblob(200)) WHERE id < 500;")
			return io.Discard, nil
		}
		_, err := Snapshot(t.Context(), db, opt, grow)
		if f := fault.Find(err); f == nil || f.Kind != fault.LockBound || !strings.Contains(f.Remedy, setting) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// An idle WAL database is read without SQLite; one that an application opens,
// writes, checkpoints and closes meanwhile must not come out torn.
func TestColdWhileAnApplicationRuns(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal;"+fmt.Sprintf(accounts, 300))
	attempts := 0
	var out bytes.Buffer
	_, err := Snapshot(t.Context(), db, Options{}, func(image Image) (io.Writer, error) {
		out.Reset()
		if attempts++; attempts == 1 {
			if image.Method != "cold" {
				t.Errorf("method %s", image.Method)
			}
			shell(t, db, "UPDATE acc SET pad = hex(randomblob(300)); PRAGMA wal_checkpoint(truncate);")
		}
		return &out, nil
	})
	if err != nil || attempts != 2 {
		t.Fatalf("%d attempts: %v", attempts, err)
	}
	if want, _ := os.ReadFile(db); !bytes.Equal(out.Bytes(), want) {
		t.Error("not the file as the application left it")
	}
}

// What a crash leaves in the WAL belongs to the database; what was not
// committed does not. Nothing is recovered on the application's behalf.
func TestColdWithACrashedWAL(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	crash := exec.Command("python3", "-c", `
import sqlite3, os, sys, signal
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma wal_autocheckpoint=0"); c.execute("pragma cache_size=5")
for i in range(50): c.execute("insert into t values (hex(randomblob(500)))")
c.execute("begin")
for i in range(500): c.execute("insert into t values (hex(randomblob(500)))")
os.kill(os.getpid(), signal.SIGKILL)`, db)
	crash.Run() //nolint:errcheck // it kills itself
	os.Remove(db + "-shm")
	before := beside(t, db)
	walBefore, _ := os.ReadFile(db + "-wal")
	image, how, err := take(t, db, Options{})
	if err != nil || how.Method != "cold" {
		t.Fatalf("%+v %v", how, err)
	}
	if walAfter, _ := os.ReadFile(db + "-wal"); !bytes.Equal(walBefore, walAfter) || !slices.Equal(before, beside(t, db)) {
		t.Error("something was changed beside the source")
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, "file:"+file+"?immutable=1", "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != "ok\n50" {
		t.Errorf("%s", got)
	}
}
