package backup

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/storagetest"
)

// sql runs a statement with the stock sqlite3.
func sql(t *testing.T, db, text string) string {
	t.Helper()
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 5000", db, text).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// hourDown backs up every minute of an hour in which the target is down, and
// then once more. It returns what is left of it in the target.
func hourDown(t *testing.T, limit int64) (j Job, restored []string, most, largest int64, dropped int) {
	t.Helper()
	b := storagetest.Memory()
	down := storagetest.Faulty(b, storagetest.Fault{Err: fault.New(fault.Storage, "connection refused")})
	j = newJob(t, in("main", b))
	j.SpoolLimit = limit
	j.Policy = Policy{FullShare: 50}
	sql(t, j.Path, "PRAGMA journal_mode=wal; CREATE TABLE ballast AS SELECT randomblob(400000);")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j.Now = func() time.Time { return now }
	if _, err := Database(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	var before, last string
	for i := range 61 {
		now = now.Add(time.Minute)
		sql(t, j.Path, fmt.Sprintf("INSERT INTO t VALUES (randomblob(6000)); UPDATE t SET v = '%d' WHERE rowid = 1;", i))
		j.Targets = append(j.Targets[:0], in("main", down))
		if i == 60 {
			j.Targets[0] = in("main", b)
		}
		out, err := Database(t.Context(), j)
		if (err == nil) != (i == 60) {
			t.Fatalf("minute %d: %v", i, err)
		}
		dropped += out.Dropped.Backups
		before, last = last, out.ID
		most, largest = max(most, held(j.State)), max(largest, out.Sealed)
	}
	if left := j.spool(); len(left) != 0 {
		t.Errorf("left in the spool: %q", left)
	}
	c, err := catalog.Open(t.Context(), b, j.Signers)
	if err != nil {
		t.Fatal(err)
	}
	chain := c.Chain("app")
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
	for i, r := range results {
		if i > 0 && !r.Entry.SnapshotAt.After(results[i-1].Entry.SnapshotAt) {
			t.Errorf("%d came after %d", r.Sequence, results[i-1].Sequence)
		}
		if _, err := chain.Path(t.Context(), r.Entry); err != nil {
			t.Errorf("%d cannot be restored: %v", r.Sequence, err)
		}
		restored = append(restored, r.Entry.ID)
	}
	if want := []string{before, last}; !slices.Equal(restored[len(restored)-2:], want) {
		t.Errorf("the newest of %q are not %q", restored, want)
	}
	return j, restored, most, largest, dropped
}

// TestHourDown: a target that was down for an hour gets everything afterwards,
// in order.
func TestHourDown(t *testing.T) {
	t.Parallel()
	_, points, _, _, dropped := hourDown(t, 1<<40)
	if len(points) != 62 || dropped != 0 {
		t.Errorf("%d of 62 arrived, %d were dropped", len(points), dropped)
	}
}

// TestSpoolIsBounded: with less room the newest is kept, what is dropped is
// said, and everything that arrives restores.
func TestSpoolIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 450 << 10
	_, points, most, largest, dropped := hourDown(t, limit)
	if len(points)+dropped != 62 || dropped == 0 {
		t.Errorf("%d arrived and %d were dropped, of 62", len(points), dropped)
	}
	// A full backup replaces what waits when it is durable, and deltas of a
	// quarter are let be beside one that is larger than the limit.
	if most > max(limit, largest*4/3)+largest {
		t.Errorf("the spool grew to %d bytes", most)
	}
}

// TestDroppedInFlight: a courier that finds its backup gone goes on.
func TestDroppedInFlight(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	j := newJob(t, in("main", b))
	if _, err := Database(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	j.Now = time.Now
	k, err := open(j)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	sql(t, j.Path, "INSERT INTO t VALUES (1)")
	k.job.Full = true
	var out Outcome
	streams := newFeed()
	defer streams.close()
	item, err := k.sealFull(t.Context(), streams, &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.spool.remove(item.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := newCourier(k, j.Targets[0], []*spooled{item}, func(d Delivery) { t.Errorf("%+v", d) }, func(*spooled, string, bool) { t.Error("settled") })
	done := make(chan struct{})
	go func() { defer close(done); c.run(ctx) }()
	for !c.idle() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
}

// TestContinuousIsBounded: continuous protection through an outage keeps the
// newest, says what it drops, and delivers what is left.
func TestContinuousIsBounded(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	var up atomic.Bool
	j := newJob(t, storage.Target{Name: "main", Open: func(context.Context) (storage.Bucket, error) {
		if !up.Load() {
			return nil, fault.New(fault.Storage, "connection refused")
		}
		return b, nil
	}})
	j.SpoolLimit = 450 << 10
	j.Policy = Policy{FullShare: 90}
	sql(t, j.Path, "PRAGMA journal_mode=wal; CREATE TABLE ballast AS SELECT randomblob(300000);")
	var mu sync.Mutex
	var dropped, taken int
	var delivered []string
	waiting := 1
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Protect(ctx, Continuous{
			Job: j, Interval: 10 * time.Millisecond, RetryMost: 100 * time.Millisecond,
			Taken: func(_ Outcome, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				taken++
			},
			Delivered: func(d Delivery) {
				mu.Lock()
				defer mu.Unlock()
				if d.Err == nil {
					delivered, waiting = append(delivered, d.ID), d.Waiting
				}
			},
			Dropped: func(d Dropped) {
				mu.Lock()
				defer mu.Unlock()
				dropped += d.Backups
			},
		})
	}()
	count := func(n *int) int { mu.Lock(); defer mu.Unlock(); return *n }
	for i := 0; count(&dropped) < 20; i++ {
		before := count(&taken)
		sql(t, j.Path, fmt.Sprintf("INSERT INTO t VALUES (randomblob(20000)); UPDATE t SET v = '%d' WHERE rowid = 1;", i))
		for count(&taken) == before {
			time.Sleep(time.Millisecond)
		}
		if i > 500 {
			t.Fatal("nothing is dropped")
		}
	}
	up.Store(true)
	for count(&waiting) > 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := sequences(t, j, b); n != len(delivered) || n+dropped > taken {
		t.Errorf("%d arrived, %d were delivered, %d dropped, %d taken", n, len(delivered), dropped, taken)
	}
	c, err := catalog.Open(t.Context(), b, j.Signers)
	if err != nil {
		t.Fatal(err)
	}
	chain := c.Chain("app")
	newest, err := chain.Newest(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := newest; n > 0; n-- {
		e, err := chain.Read(t.Context(), n)
		if err == nil {
			_, err = chain.Path(t.Context(), e)
		}
		if err != nil {
			t.Errorf("%d cannot be restored: %v", n, err)
		}
	}
}
