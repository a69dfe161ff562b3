package backup

import (
	"context"
	"io"
	"iter"
	"os/exec"
	"strings"
	"testing"
	"time"

	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/s3"
	"emsafe/storage/storagetest"
)

// later is a bucket on a server whose clock is ahead by something: what is
// locked there stays so, and what was stored is as old as it looks.
type later struct {
	storage.Bucket
	s3 *s3.Bucket
	by *time.Duration
}

func (b later) Past() storage.Bucket { return later{b.s3.Past(), b.s3, b.by} }

func (b later) Versions(ctx context.Context, key string) iter.Seq2[io.Reader, error] {
	return b.s3.Versions(ctx, key)
}

var (
	_ storage.Versioned = later{}
	_ storage.Locking   = later{}
)

func (b later) LockedUntil(at time.Time) time.Time { return b.s3.LockedUntil(at) }

func (b later) ProveLock(ctx context.Context) (storage.LockProof, error) { return b.s3.ProveLock(ctx) }

func (b later) Relock(ctx context.Context, key string) error { return b.s3.Relock(ctx, key) }

func (b later) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range b.Bucket.List(ctx, prefix, after) {
			if strings.HasPrefix(prefix, "probes/") {
				info.Modified = info.Modified.Add(*b.by)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// versioned is a bucket with versions, and with locks of an hour or none.
func versioned(t *testing.T, lock bool, by *time.Duration) (later, *storagetest.Server) {
	t.Helper()
	server := storagetest.VersityGW(t)
	cfg := s3.Config{Bucket: "bucket", Endpoint: server.Endpoint, AccessKeyID: server.Access, SecretAccessKey: s3.Secret(server.Secret)}
	if lock {
		cfg.Lock = &s3.Lock{Mode: "compliance", For: time.Hour}
	}
	if err := server.MakeLockedBucket(cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	b, err := s3.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return later{b, b, by}, server
}

// TestPruneLocked: what is locked stays, is told, and is no error; also in the
// day for which objects are locked beyond what their manifests promise, and where
// the bucket has a longer term of its own. What stays restores.
func TestPruneLocked(t *testing.T) {
	t.Parallel()
	var by time.Duration
	b, _ := versioned(t, true, &by)
	job := grown(t, b, 9)
	p := pruning(job, b)
	p.Now = func() time.Time { return time.Now().Add(by) }
	for _, c := range []struct {
		by     time.Duration
		record uint64
	}{{0, 0}, {2 * time.Hour, 0}, {24 * time.Hour, 0}, {26 * time.Hour, 1}, {27 * time.Hour, 0}} {
		by = c.by
		out, err := Prune(t.Context(), p)
		if err != nil || out.Record != c.record || out.Locked == 0 || !out.LockedUntil.After(time.Now()) {
			t.Fatalf("after %v: %+v %v", c.by, out, err)
		}
		if c.record == 0 && c.by < 25*time.Hour && (out.Removed != 0 || sequencesLeft(t, job, b.Past()) != 9) {
			t.Fatalf("after %v: %+v", c.by, out)
		}
	}
	if got, want := count(t, b.Past(), "databases/app/payloads/"), 9; got != want {
		t.Errorf("%d payloads are left of %d", got, want)
	}
	if got := count(t, b.Past(), "databases/app/manifests/"); got != 9 {
		t.Errorf("%d manifests are left of 9", got)
	}
	// Backups go on beside what a record names and a lock keeps.
	if out, err := Database(t.Context(), job); err != nil || out.Targets[0].Alarm != nil {
		t.Errorf("the next backup: %+v %v", out, err)
	}
}

// TestPruneVersions: in a bucket that keeps versions and locks nothing, what a
// prune deleted is not deleted again by the next, and nothing of it comes back.
func TestPruneVersions(t *testing.T) {
	t.Parallel()
	var by time.Duration
	b, _ := versioned(t, false, &by)
	job := grown(t, b, 9)
	p := pruning(job, b)
	p.Now = func() time.Time { return time.Now().Add(by) }
	out, err := Prune(t.Context(), p)
	if err != nil || out.Removed == 0 {
		t.Fatalf("%+v %v", out, err)
	}
	left := sequencesLeft(t, job, b.Past())
	if left != 9-out.Removed {
		t.Errorf("%d manifests are left", left)
	}
	by = 8 * 24 * time.Hour
	if again, err := Prune(t.Context(), p); err != nil || again.Payloads != out.Removed || again.Removed != 0 {
		t.Fatalf("after the grace: %+v %v", again, err)
	}
	if again, err := Prune(t.Context(), p); err != nil || again.Payloads != 0 {
		t.Fatalf("payloads are deleted for ever: %+v %v", again, err)
	}
	if got := sequencesLeft(t, job, b.Past()); got != left {
		t.Errorf("%d manifests, there were %d", got, left)
	}
	c, err := catalog.Open(t.Context(), b.Past(), job.Signers)
	if err != nil {
		t.Fatal(err)
	}
	ch := c.Chain("app")
	if _, err := ch.Sequences(t.Context(), 0); err != nil || len(ch.Tampered()) != 0 {
		t.Errorf("a prune is taken for an attack: %v %v", err, ch.Tampered())
	}
}

// TestLockedWithItsParents: a backup is locked for as long as the first of what
// it is built on to be let go, and where that would be too short it is a full one.
func TestLockedWithItsParents(t *testing.T) {
	t.Parallel()
	var by time.Duration
	b, server := versioned(t, false, &by)
	job := grown(t, b, 1)
	take := func(kind string) catalog.Newest {
		t.Helper()
		if out, err := exec.Command("sqlite3", job.Path, "INSERT INTO t VALUES ('more')").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		out, err := Database(t.Context(), job)
		if err != nil || out.Kind != kind {
			t.Fatalf("%s, want %s: %+v %v", out.Kind, kind, out, err)
		}
		m, err := catalog.LoadMemory(MemoryFile(job.State, "app"))
		if err != nil {
			t.Fatal(err)
		}
		return m.Newest["a"]
	}
	within := func(term time.Duration) {
		t.Helper()
		cfg := s3.Config{Bucket: "bucket", Endpoint: server.Endpoint, AccessKeyID: server.Access, SecretAccessKey: s3.Secret(server.Secret)}
		cfg.Lock = &s3.Lock{Mode: "compliance", For: term + time.Hour} // the hour stands for full_every
		locked, err := s3.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		job.Targets = []storage.Target{in("a", later{locked, locked, &by})}
		job.Targets[0].Lock = term
	}
	job.Full = false
	job.Policy = Policy{FullEvery: time.Hour, FullShare: 10000}
	if n := take(catalog.KindDelta); !n.LockedUntil.IsZero() {
		t.Errorf("nothing is locked: %+v", n)
	}
	within(time.Hour)
	full := take(catalog.KindFull) // what there is is not locked
	if full.LockedUntil.IsZero() {
		t.Fatalf("%+v", full)
	}
	ahead := time.Duration(0)
	job.Now = func() time.Time { return time.Now().Add(ahead) }
	for _, ahead = range []time.Duration{time.Minute, 2 * time.Minute, 30 * time.Minute} {
		if n := take(catalog.KindDelta); !n.LockedUntil.Equal(full.LockedUntil) {
			t.Errorf("a delta is locked until %v, what it is built on until %v", n.LockedUntil, full.LockedUntil)
		}
	}
	job.Heartbeat = true
	if out, err := Database(t.Context(), job); err != nil || out.Kind != catalog.KindHeartbeat {
		t.Fatalf("%+v %v", out, err)
	}
	if m, err := catalog.LoadMemory(MemoryFile(job.State, "app")); err != nil || !m.Newest["a"].LockedUntil.Equal(full.LockedUntil) {
		t.Errorf("%+v %v", m.Newest, err)
	}
	within(3 * time.Hour)
	if n := take(catalog.KindFull); !n.LockedUntil.After(full.LockedUntil.Add(time.Hour)) {
		t.Errorf("%+v", n)
	}
	take(catalog.KindDelta)
}
