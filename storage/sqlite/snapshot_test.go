package sqlite

import (
	"bufio"
	"bytes"
	"context"
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
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/sqlite/sqlitetest"
)

// soak makes tests run for long.
var soak = os.Getenv("EMSAFE_SOAK") != ""

// shell runs the stock sqlite3.
func shell(t testing.TB, db, sql string) string {
	t.Helper()
	return sqlitetest.Script(t, db, sql)
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
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	close = sync.OnceFunc(func() { in.Close(); cmd.Wait() }) //nolint:errcheck // it ends with its input
	t.Cleanup(close)
	return close
}

// inMemoryAhead is an Ahead for tests.
type inMemoryAhead struct {
	mu     sync.Mutex
	chunks map[int64][]byte
}

func newAhead() *inMemoryAhead { return &inMemoryAhead{chunks: map[int64][]byte{}} }

func (a *inMemoryAhead) Put(i int64, data []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chunks[i] = bytes.Clone(data)
	return nil
}

func (a *inMemoryAhead) Read(i int64, buf []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	data, ok := a.chunks[i]
	if !ok {
		return nil, fmt.Errorf("chunk %d was never put", i)
	}
	return append(buf[:0], data...), nil
}

func (a *inMemoryAhead) Reset() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.chunks)
	return nil
}

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

// file keeps an image for stock SQLite to look at.
func file(t testing.TB, image []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// surroundings is a database's folder, with what a reader must not change.
func surroundings(t testing.TB, db string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(db))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name()
		if !strings.HasSuffix(name, "-shm") { // read marks are written there
			name = fmt.Sprintf("%s %d %s %s", name, st.Size(), st.Mode(), st.ModTime())
		}
		names = append(names, name)
	}
	return names
}

func TestZooByteForByte(t *testing.T) {
	t.Parallel()
	for _, s := range sqlitetest.Zoo(t) {
		t.Run(s.Name, func(t *testing.T) {
			before := surroundings(t, s.Path)
			want, err := os.ReadFile(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			got, image, err := take(t, s.Path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes came out, by %s, and they are not the file's %d", len(got), image.Method, len(want))
			}
			if after := surroundings(t, s.Path); !slices.Equal(before, after) {
				t.Errorf("beside the source: %q, before %q", after, before)
			}
			if s.Name == "reserved-bytes" && got[20] != 32 {
				t.Errorf("the specimen has %d reserved bytes", got[20])
			}
			if size := int64(image.PageSize) * image.Pages; size != int64(len(want)) {
				t.Errorf("%d pages of %d are not %d bytes", image.Pages, image.PageSize, len(want))
			}
		})
	}
}

// The same while an application has them open, with commits that only the WAL
// holds.
func TestOpenZooByteForByte(t *testing.T) {
	t.Parallel()
	for _, s := range sqlitetest.Zoo(t) {
		if !strings.HasSuffix(s.Name, "-wal") && !strings.HasPrefix(s.Name, "auto-vacuum") {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			closeShell := openShell(t, s.Path)
			shell(t, s.Path, "UPDATE t SET v = hex(randomblob(70)) WHERE id % 3 = 0; INSERT INTO t(v) SELECT v || v FROM t;")
			got, image, err := take(t, s.Path, Options{})
			if err != nil || image.Method != "live" {
				t.Fatalf("%+v %v", image, err)
			}
			closeShell()
			want, err := os.ReadFile(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("not the file as the last checkpoint left it")
			}
			if !missing(s.Path+"-wal") || !missing(s.Path+"-shm") {
				t.Errorf("the application could not clean up: %q", surroundings(t, s.Path))
			}
		})
	}
}

// Two processes write; every image must be one that SQLite takes for whole,
// with the sum that every committed state has, and no older than the moment it
// was asked for.
func TestLiveImagesAreConsistent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, mode string
		ballast    int
		images     int
	}{{"wal", "wal", 200, 25}, {"memory", "delete", 200, 20}, {"ahead", "persist", 12000, 4}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "app.db")
			sqlitetest.Accounts(t, db, c.mode, c.ballast)
			writers := []*sqlitetest.Writer{sqlitetest.Start(t, db, c.mode, 1), sqlitetest.Start(t, db, c.mode, 2)}
			methods := map[string]int{}
			if soak {
				c.images *= 40
			}
			for range c.images {
				since := []int64{writers[0].Acknowledged(), writers[1].Acknowledged()}
				image, how, err := take(t, db, Options{Busy: time.Minute})
				if errors.Is(err, fault.LockBound) {
					methods["gave up"]++ // allowed, on a busy machine; to be wrong is not
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				methods[how.Method]++
				sqlitetest.VerifyAccounts(t, file(t, image), writers, since)
			}
			t.Log(methods, writers[0].Acknowledged()+writers[1].Acknowledged(), "commits")
		})
	}
}

// What is read raw under the pinned transaction is what SQLite reads in it,
// page by page; and raw pages alone would not be, or this proves nothing.
func TestRawIsWhatTheTransactionSees(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	sqlitetest.Accounts(t, db, "wal", 200)
	for seed := range 2 {
		sqlitetest.Start(t, db, "wal", seed)
	}
	rounds, torn := 10, 0
	if soak {
		rounds = 1000
	}
	for range rounds {
		mixed, sql, raw := threeWays(t, db)
		if !bytes.Equal(mixed, sql) {
			t.Fatal("a page differs from what dbpage returned in the same transaction")
		}
		if !bytes.Equal(raw, sql) {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no round had a page in the WAL that the main file did not have: nothing was tested")
	}
	t.Logf("raw pages alone are wrong in %d of %d rounds", torn, rounds)
}

// threeWays reads one transaction as live does, through SQLite alone, and raw
// alone.
func threeWays(t *testing.T, db string) (mixed, sql, raw []byte) {
	t.Helper()
	c, err := connect(t.Context(), db, "mode=ro", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.unpin()
	image, err := Inspect(db)
	if err == nil {
		err = c.geometry(t.Context(), &image)
	}
	if err != nil {
		t.Fatal(err)
	}
	src, err := openSource(db, image)
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	inWAL, err := touched(db)
	if err != nil || !rawAllowed() {
		t.Fatal(err, rawAllowed())
	}
	read := func(r *liveReader) []byte {
		var out bytes.Buffer
		r.source, r.conn = src, c
		if err := r.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer r.page.Close()
		if err := r.stream(t.Context(), &out, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	raw = read(&liveReader{raw: true}) // before a checkpoint brings the main file up
	mixed = read(&liveReader{raw: true, inWAL: inWAL})
	return mixed, read(&liveReader{}), raw
}

func TestBoundsOfTheReadTransaction(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	sqlitetest.Accounts(t, db, "wal", 200)
	openShell(t, db)
	for setting, opt := range map[string]Options{"max_snapshot": {MaxSnapshot: 1}, "max_wal_growth": {MaxWALGrowth: 1}} {
		opt.Attempts = 2
		attempts := 0
		grow := func(Image) (io.Writer, error) {
			attempts++
			shell(t, db, "PRAGMA busy_timeout=60000; UPDATE acc SET pad = hex(randomblob(200)) WHERE id < 500;")
			return io.Discard, nil
		}
		_, err := Snapshot(t.Context(), db, opt, grow)
		if f := fault.Find(err); f == nil || f.Kind != fault.LockBound || !strings.Contains(f.Remedy, setting) || attempts != 2 {
			t.Errorf("%s, %d attempts: %v", setting, attempts, err)
		}
		if err != nil && strings.Contains(err.Error(), errAgain.Error()) {
			t.Errorf("%s: the mark shows: %v", setting, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		db := filepath.Join(t.TempDir(), "app.db")
		sqlitetest.Accounts(t, db, mode, 13000)
		for _, open := range []bool{true, false} {
			if open {
				openShell(t, db)
			}
			ctx, cancel := context.WithCancel(t.Context())
			_, err := Snapshot(ctx, db, Options{Ahead: newAhead()}, func(Image) (io.Writer, error) { cancel(); return io.Discard, nil })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", mode, err)
			}
			shell(t, db, "UPDATE acc SET bal = bal WHERE id = 1;") // no lock is left
		}
	}
}

// Paths as people give them.
func TestPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	shell(t, "real.db", "CREATE TABLE t (v); INSERT INTO t VALUES (1);")
	if err := os.Symlink("real.db", "link.db"); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile("real.db")
	for _, path := range []string{"real.db", "./real.db", "link.db", filepath.Join(dir, "link.db")} {
		got, _, err := take(t, path, Options{})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", path, err)
		}
		if err := Settle(t.Context(), path); err != nil {
			t.Errorf("settle %s: %v", path, err)
		}
		if err := Check(t.Context(), path, "quick"); err != nil {
			t.Errorf("check %s: %v", path, err)
		}
	}
	if names := surroundings(t, filepath.Join(dir, "real.db")); len(names) != 2 {
		t.Errorf("left behind: %q", names)
	}
}
