package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"emsafe/backup"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

// moody fails some of its calls, before or after they are done.
type moody struct {
	storage.Bucket
	rate atomic.Int64 // of a hundred calls
	mu   sync.Mutex
	rng  *rand.Rand
}

var errMood = errors.New("connection reset")

// fails decides for one call; late says that it fails after it is done.
func (m *moody) fails() (fails, late bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.Int64N(100) < m.rate.Load(), m.rng.IntN(2) == 0
}

func (m *moody) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	fails, late := m.fails()
	if fails && !late {
		return storage.Info{}, errMood
	}
	info, err := m.Bucket.Create(ctx, key, r, size)
	if err == nil && fails {
		return storage.Info{}, fmt.Errorf("%w: %w", storage.ErrUnsettled, errMood)
	}
	return info, err
}

func (m *moody) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if fails, _ := m.fails(); fails {
		return nil, errMood
	}
	return m.Bucket.Open(ctx, key, offset, length)
}

func (m *moody) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if fails, _ := m.fails(); fails {
		return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, errMood) }
	}
	return m.Bucket.List(ctx, prefix, after)
}

func shell(t *testing.T, db, text string) {
	t.Helper()
	if out, err := exec.Command("sqlite3", "-cmd", ".timeout 5000", db, text).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

func realJob(t *testing.T, b storage.Bucket) backup.Job {
	t.Helper()
	dir := t.TempDir()
	key, _, err := seal.NewSigningKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signers, err := seal.ParseSigners([]byte(key.AllowedSigners("*")))
	if err != nil {
		t.Fatal(err)
	}
	_, recipient, err := seal.NewIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipients(recipient)
	if err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(dir, "app.db")
	shell(t, db, "CREATE TABLE t (n INTEGER PRIMARY KEY, v); CREATE TABLE ballast AS SELECT randomblob(200000);")
	return backup.Job{
		Database: "app", Path: db, Recipients: to, Key: key, Signers: signers, Host: "test", State: filepath.Join(dir, "state"),
		Policy: backup.Policy{FullShare: 50}, Heartbeat: true,
		Targets: []storage.Target{{Name: "main", Open: func(context.Context) (storage.Bucket, error) { return b, nil }}},
	}
}

// TestRealBackups: scheduled backups of a database that changes, under a clock
// that is moved, to a store that fails three calls of ten, so that hardly a run
// gets through, and then one of thirty, so that three runs of ten fail. What was
// sealed arrives, what is called good is there, nothing piles up.
func TestRealBackups(t *testing.T) {
	t.Parallel()
	kept := storagetest.Memory()
	store := &moody{Bucket: kept, rng: seeded(t)}
	job := realJob(t, store)
	m := newSim(t, Options{})
	job.Now = m.now
	sealed := map[string]bool{}
	lies := 0
	j := daily(t, "backup app", "* * * * *")
	j.Run = func(ctx context.Context, run Run) (Result, error) {
		out, err := backup.Database(ctx, job)
		if out.ID != "" && out.Kind != catalog.KindHeartbeat {
			sealed[out.ID] = true
		}
		if err == nil && newest(t, job, kept).ID != out.ID {
			lies++
		}
		return Result{Text: out.ID}, err
	}
	shell(t, job.Path, "INSERT INTO t (v) VALUES (randomblob(500))")
	m.load(j)
	store.rate.Store(30)
	n := rounds(60, 1000)
	var heap, files [2]int
	for i := range n {
		if i%5 != 4 { // every fifth time nothing changed
			shell(t, job.Path, fmt.Sprintf("INSERT INTO t (v) VALUES (randomblob(500)); DELETE FROM t WHERE n < %d;", i-50))
		}
		m.step(time.Minute)
		if i == n/4 {
			store.rate.Store(3)
		}
		if i == n/3 || i == n-1 {
			heap[i/(n-1)], files[i/(n-1)] = inUse(t)
		}
	}
	store.rate.Store(0)
	shell(t, job.Path, "INSERT INTO t (v) VALUES (1)")
	m.step(time.Minute)

	record, _ := m.state().Record("backup app")
	if lies > 0 || record.Last.Verdict != OK || int(record.Counts.OK+record.Counts.Failed) < n { //nolint:gosec // small
		t.Errorf("%d were called good and were not there; %+v", lies, record)
	}
	t.Logf("%d runs went well, %d failed", record.Counts.OK, record.Counts.Failed)
	if record.Counts.OK < uint64(n)/3 || record.Counts.Failed < uint64(n)/5 { //nolint:gosec // small
		t.Errorf("the store was not moody: %+v", record.Counts)
	}
	there := arrived(t, job, kept)
	for id := range sealed {
		if !there[id] {
			t.Errorf("%s was sealed and never arrived", id)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(job.State, "spool", "app", "*")); len(left) > 0 {
		t.Errorf("left in the spool: %q", left)
	}
	if grown := heap[1] - heap[0]; grown > 10<<20 {
		t.Errorf("%d bytes more are in use after %d backups", grown, n)
	}
	if files[1] > files[0]+10 { // other tests run beside
		t.Errorf("%d files are open, and %d were before", files[1], files[0])
	}
}

func inUse(t *testing.T) (heap, files int) {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return int(m.HeapAlloc), len(open) //nolint:gosec // small
}

func chainOf(t *testing.T, job backup.Job, b storage.Bucket) *catalog.Chain {
	t.Helper()
	c, err := catalog.Open(t.Context(), b, job.Signers)
	if err != nil {
		t.Fatal(err)
	}
	return c.Chain(job.Database)
}

func newest(t *testing.T, job backup.Job, b storage.Bucket) *catalog.Entry {
	t.Helper()
	chain := chainOf(t, job, b)
	n, err := chain.Newest(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := chain.Read(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// arrived are the backups that are in the chain, which holds, and each of which
// can be restored.
func arrived(t *testing.T, job backup.Job, b storage.Bucket) map[string]bool {
	t.Helper()
	chain := chainOf(t, job, b)
	all, err := chain.Sequences(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	results, err := chain.Walk(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	if problems := catalog.Links(results, 1); len(problems) > 0 {
		t.Errorf("the chain does not hold: %v", problems)
	}
	ids := map[string]bool{}
	for _, r := range results {
		if _, err := chain.Path(t.Context(), r.Entry); err != nil {
			t.Errorf("%s cannot be restored: %v", r.Entry.ID, err)
		}
		if ids[r.Entry.ID] {
			t.Errorf("%s was committed twice", r.Entry.ID)
		}
		ids[r.Entry.ID] = true
	}
	return ids
}
