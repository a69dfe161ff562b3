package restore_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

var seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of random damage")

// altered is a bucket as somebody who can write to it may leave it.
type altered map[string][]byte

func copyOf(t testing.TB, b storage.Bucket) altered {
	t.Helper()
	objects := altered{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		data, err := storage.ReadAll(t.Context(), b, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		objects[info.Key] = data
	}
	return objects
}

func (a altered) Create(context.Context, string, io.Reader, int64) (storage.Info, error) {
	return storage.Info{}, errors.New("read-only")
}

func (a altered) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	data, ok := a[key]
	if !ok {
		return nil, storage.ErrNotExist
	}
	offset = min(offset, int64(len(data)))
	end := int64(len(data))
	if length >= 0 {
		end = min(end, offset+length)
	}
	return io.NopCloser(bytes.NewReader(data[offset:end])), nil
}

func (a altered) List(_ context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(a)) {
			if strings.HasPrefix(key, prefix) && key > after && !yield(storage.Info{Key: key, Size: int64(len(a[key]))}, nil) {
				return
			}
		}
	}
}

func (a altered) Delete(context.Context, string) error { return errors.New("read-only") }
func (a altered) String() string                       { return "altered" }

// with returns the bucket with one object replaced.
func (a altered) with(key string, data []byte) altered {
	b := maps.Clone(a)
	b[key] = data
	return b
}

func (a altered) without(key string) altered {
	b := maps.Clone(a)
	delete(b, key)
	return b
}

func manifest(n int) string { return fmt.Sprintf("databases/app/manifests/%020d", n) }

// refused restores from a bucket and returns the error; placing a file is the
// one thing that must not happen.
func (w *world) refused(t testing.TB, b storage.Bucket, to string, change func(*restore.Request)) error {
	t.Helper()
	req := w.request(to)
	req.Targets = []storage.Target{target("main", b)}
	if change != nil {
		change(&req)
	}
	_, err := run(t, req)
	if _, serr := os.Lstat(to); serr == nil {
		t.Fatalf("a file was placed; error %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "%!") {
		t.Errorf("an error with a hole in it: %v", err)
	}
	return err
}

// Ten thousand flipped bits and two thousand truncations over every object
// that the restore of backup 1 of 3 rests on.
func TestEveryDamageIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	for range 3 {
		w.backup()
	}
	whole := copyOf(t, w.bucket)
	entry, err := restore.Choose(t.Context(), w.wanted(whole, "#1"))
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"repository.json", manifest(1), manifest(2), manifest(3), entry.Entry.Payload.Key}
	t.Logf("-seed %d", *seed)
	const flips, cuts = 10_000, 2_000
	var group sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		group.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(core)))
			to := filepath.Join(w.dir, fmt.Sprintf("never%d.db", core))
			for i := range (flips + cuts) / cores {
				key := keys[r.IntN(len(keys))]
				bad := bytes.Clone(whole[key])
				what := ""
				if i%6 == 5 {
					bad = bad[:r.IntN(len(bad))]
					what = fmt.Sprintf("%s cut to %d bytes", key, len(bad))
				} else {
					bit := r.IntN(len(bad) * 8)
					bad[bit/8] ^= 1 << (bit % 8)
					what = fmt.Sprintf("%s with bit %d flipped", key, bit)
				}
				err := w.refused(t, whole.with(key, bad), to, func(q *restore.Request) { q.Wanted.ID = "#1" })
				if f := fault.Find(err); f == nil || f.Kind.Exit != fault.Damaged.Exit {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// What a delta is built on is cut off: the error names it, and what is wrong.
func TestDamagedParentIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema+" INSERT INTO t SELECT value, hex(randomblob(500)) FROM generate_series(10, 1000);")
	job := w.job()
	job.Policy = backup.Policy{FullEvery: 24 * time.Hour, FullShare: 50}
	for range 2 {
		if _, err := backup.Database(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		w.sqlite(w.db, "INSERT INTO t VALUES (NULL, 'later')")
	}
	whole := copyOf(t, w.bucket)
	first, err := restore.Choose(t.Context(), w.wanted(whole, "#1"))
	if err != nil {
		t.Fatal(err)
	}
	key := first.Entry.Payload.Key
	for what, bad := range map[string][]byte{"has 10 bytes": whole[key][:10], "is missing": nil} {
		b := whole.with(key, bad)
		if bad == nil {
			delete(b, key)
		}
		err := w.refused(t, b, filepath.Join(w.dir, "never.db"), nil)
		if f := fault.Find(err); f == nil || f.Kind != fault.Damaged || !strings.Contains(err.Error(), "needs number 1: ") || !strings.Contains(err.Error(), what) {
			t.Errorf("%v", err)
		}
	}
}

func (w *world) wanted(b storage.Bucket, id string) restore.Request {
	req := w.request(filepath.Join(w.dir, "wanted.db"))
	req.Targets = []storage.Target{target("main", b)}
	req.Wanted.ID = id
	return req
}

// What somebody does who may write and delete in the bucket, and holds no key.
func TestForgeriesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	for range 4 {
		w.backup()
	}
	good := copyOf(t, w.bucket)
	other := newWorld(t, schema)
	other.key, other.signers, other.ids, other.to = w.key, w.signers, w.ids, w.to
	other.backup()
	second := copyOf(t, other.bucket) // same host and key, another repository
	stranger := newWorld(t, schema)
	stranger.backup()
	strange := copyOf(t, stranger.bucket)

	payload := func(n string) string {
		p, err := restore.Choose(t.Context(), w.wanted(good, n))
		if err != nil {
			t.Fatal(err)
		}
		return p.Entry.Payload.Key
	}
	remembered := func(q *restore.Request) {
		req := w.wanted(good, "#4")
		req.Destination = ""
		p, err := restore.Choose(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		q.Remembered = map[string]catalog.Head{p.Entry.Repository: p.Entry.Head()}
	}
	cases := map[string]struct {
		bucket altered
		change func(*restore.Request)
		kind   *fault.Kind
	}{
		"a manifest replayed as a newer one": {good.with(manifest(5), good[manifest(2)]), nil, fault.Forged},
		"two manifests swapped":              {good.with(manifest(4), good[manifest(3)]).with(manifest(3), good[manifest(4)]), nil, fault.Forged},
		"a manifest of another repository":   {good.with(manifest(4), second[manifest(1)]), nil, fault.Forged},
		"a stranger's repository":            {strange, nil, fault.Forged},
		"a stranger's manifest":              {good.with(manifest(5), strange[manifest(1)]), nil, fault.Forged},
		"two payloads swapped":               {good.with(payload("#4"), good[payload("#3")]), nil, fault.Damaged},
		"a payload removed":                  {good.without(payload("#4")), nil, fault.Damaged},
		"the newest removed, remembered":     {good.without(manifest(4)), remembered, fault.RolledBack},
		"the newest removed, --min-sequence": {good.without(manifest(4)), func(q *restore.Request) { q.MinSequence = 4 }, fault.RolledBack},
		"the newest removed, --head": {good.without(manifest(4)), func(q *restore.Request) {
			q.Head = catalog.Head{Sequence: 4, Digest: w.mustHead(good)}
		}, fault.RolledBack},
		"the newest is another than --head": {good, func(q *restore.Request) { q.Head = catalog.Head{Sequence: 4} }, fault.RolledBack},
		"one in the middle removed":         {good.without(manifest(3)), func(q *restore.Request) { q.Wanted.ID = "#2" }, fault.BrokenChain},
		"one in the middle replaced":        {good.with(manifest(3), good[manifest(2)]), func(q *restore.Request) { q.Wanted.ID = "#2" }, fault.Forged},
		"everything removed":                {altered{}, nil, fault.NotFound},
		"all manifests removed":             {altered{"repository.json": good["repository.json"]}, nil, fault.NotFound},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := w.refused(t, c.bucket, filepath.Join(t.TempDir(), "never.db"), c.change)
			if !errors.Is(err, c.kind) {
				t.Errorf("%v is not %s", err, c.kind.ID)
			}
		})
	}
	// The way out for an operator who knows: a signed backup on this side of
	// a gap.
	req := w.wanted(good.without(manifest(3)), "#2")
	req.AllowBroken = true
	if _, err := run(t, req); err != nil {
		t.Errorf("--allow-broken-chain: %v", err)
	}
}

func (w *world) mustHead(b storage.Bucket) (d [32]byte) {
	req := w.wanted(b, "")
	req.Destination = ""
	p, err := restore.Choose(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Entry.Digest
}

// One target hides its newest backups; the other's signed manifests tell.
func TestTargetsWatchEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	a, b := w.bucket, newWorld(t, schema).bucket
	for range 3 {
		if _, err := backup.Database(t.Context(), w.job(target("a", a), target("b", b))); err != nil {
			t.Fatal(err)
		}
	}
	hidden := copyOf(t, a).without(manifest(2)).without(manifest(3))
	req := w.request(filepath.Join(w.dir, "x.db"))
	req.Targets = []storage.Target{target("a", hidden), target("b", b)}
	req.Wanted.ID = "#1"
	plan, err := restore.Choose(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Target != "b" || len(plan.Warnings) == 0 || !strings.Contains(plan.Warnings[0], "known to exist") {
		t.Errorf("chose %s with warnings %q", plan.Target, plan.Warnings)
	}
}

// The next backup notices what was done to the target, goes on, and says so.
func TestBackupAlarms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	w.backup()
	w.backup()
	if err := w.bucket.Delete(t.Context(), manifest(2)); err != nil {
		t.Fatal(err)
	}
	out, err := backup.Database(t.Context(), w.job())
	if !errors.Is(err, fault.RolledBack) || out.Targets[0].Sequence != 3 {
		t.Fatalf("%+v: %v", out.Targets, err)
	}
	req := w.request(filepath.Join(w.dir, "x.db"))
	if _, err := run(t, req); err != nil {
		t.Errorf("the backup that was made under the alarm: %v", err)
	}
	v, err := restore.Verify(t.Context(), target("main", w.bucket), w.signers, "app", restore.Depth{})
	if err != nil || len(v.Problems) == 0 {
		t.Errorf("verify sees no gap: %+v, %v", v, err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	w.backup()
	w.backup()
	good := copyOf(t, w.bucket)
	p, err := restore.Choose(t.Context(), w.wanted(good, "#1"))
	if err != nil {
		t.Fatal(err)
	}
	key := p.Entry.Payload.Key
	bad := bytes.Clone(good[key])
	bad[len(bad)/2] ^= 1
	for name, c := range map[string]struct {
		bucket   altered
		depth    restore.Depth
		problems int
	}{
		"whole":               {good, restore.Depth{}, 0},
		"whole, read":         {good, restore.Depth{ReadData: true}, 0},
		"whole, opened":       {good, restore.Depth{Open: true, Identities: w.ids}, 0},
		"a bit, not read":     {good.with(key, bad), restore.Depth{}, 0},
		"a bit, read":         {good.with(key, bad), restore.Depth{ReadData: true}, 1},
		"a bit, opened":       {good.with(key, bad), restore.Depth{Open: true, Identities: w.ids}, 1},
		"shorter":             {good.with(key, bad[:100]), restore.Depth{}, 1},
		"missing":             {good.without(key), restore.Depth{}, 1},
		"first manifest gone": {good.without(manifest(1)), restore.Depth{}, 1},
	} {
		v, err := restore.Verify(t.Context(), target("main", c.bucket), w.signers, "app", c.depth)
		if err != nil || len(v.Problems) != c.problems {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}
