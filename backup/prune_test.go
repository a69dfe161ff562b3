package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

// aged is a bucket whose clock, and what lies in it, is behind by something.
type aged struct {
	storage.Bucket
	by *time.Duration
}

func (b aged) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range b.Bucket.List(ctx, prefix, after) {
			if !strings.HasPrefix(info.Key, "probes/") {
				info.Modified = info.Modified.Add(-*b.by)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// stubborn refuses to delete after so many times.
type stubborn struct {
	storage.Bucket
	left int
}

func (b *stubborn) Delete(ctx context.Context, key string) error {
	if b.left--; b.left < 0 {
		return errors.New("the power went")
	}
	return b.Bucket.Delete(ctx, key)
}

// grown makes n backups, each of a changed database.
func grown(t *testing.T, b storage.Bucket, n int) Job {
	t.Helper()
	job := newJob(t, in("a", b))
	job.Policy = Policy{FullShare: 100}
	for i := range n {
		job.Full = i%4 == 0
		if out, err := exec.Command("sqlite3", job.Path, fmt.Sprintf("INSERT INTO t VALUES ('%s')", strings.Repeat("x", 100*i))).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if _, err := Database(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	return job
}

func pruning(job Job, b storage.Bucket) Pruning {
	return Pruning{Database: "app", Target: in("a", b), Signers: job.Signers, Key: job.Key, Host: "test", Keep: catalog.Keep{Last: 2}, Grace: 12 * time.Hour, Now: time.Now}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	var by time.Duration
	b := aged{storagetest.Memory(), &by}
	job := grown(t, b, 10)
	p := pruning(job, b)

	dry := p
	dry.DryRun = true
	out, err := Prune(t.Context(), dry)
	if err != nil || out.Removed == 0 || out.Record != 0 || sequences(t, job, b) != 10 {
		t.Fatalf("dry run: %+v %v", out, err)
	}
	planned := out.Removed
	out, err = Prune(t.Context(), p)
	if err != nil || out.Removed != planned || out.Record != 1 || out.Payloads != 0 {
		t.Fatalf("%+v %v", out, err)
	}
	if n := sequencesLeft(t, job, b); n != 10-planned {
		t.Errorf("%d manifests are left", n)
	}
	payloads := count(t, b, "databases/app/payloads/")
	// Right away nothing more happens; after the grace the payloads go.
	if out, err = Prune(t.Context(), p); err != nil || out.Removed != 0 || out.Payloads != 0 {
		t.Fatalf("again: %+v %v", out, err)
	}
	by = 8 * 24 * time.Hour
	p.Grace = 0
	if out, err = Prune(t.Context(), p); err != nil || out.Payloads != planned || count(t, b, "databases/app/payloads/") != payloads-planned {
		t.Fatalf("after the grace: %+v %v", out, err)
	}
	// Backups go on.
	job.Full = false
	if out, err := Database(t.Context(), job); err != nil || out.Targets[0].Alarm != nil {
		t.Errorf("the next backup: %+v %v", out, err)
	}
}

// sequencesLeft counts manifests and holds the chain with its prune records.
func sequencesLeft(t *testing.T, j Job, b storage.Bucket) int {
	t.Helper()
	c, err := catalog.Open(t.Context(), b, j.Signers)
	if err != nil {
		t.Fatal(err)
	}
	ch := c.Chain("app")
	left, err := ch.Sequences(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	results, err := ch.Walk(t.Context(), left)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range ch.Links(t.Context(), results, 1) {
		t.Error(err)
	}
	for _, r := range results {
		if _, err := ch.Path(t.Context(), r.Entry); err != nil {
			t.Errorf("number %d does not restore any more: %v", r.Sequence, err)
		}
	}
	return len(left)
}

func count(t *testing.T, b storage.Bucket, prefix string) (n int) {
	t.Helper()
	for _, err := range b.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A prune that is cut off anywhere is finished by the next, and at no time is
// there a gap that no record bridges.
func TestPruneCutOff(t *testing.T) {
	t.Parallel()
	for range 6 {
		b := &stubborn{storagetest.Memory(), 1 << 30}
		job := grown(t, b, 9)
		p := pruning(job, b)
		for n := 0; ; n++ {
			b.left = 1 + rand.IntN(4) // the clock's probe is the first
			_, err := Prune(t.Context(), p)
			b.left = 1 << 30
			sequencesLeft(t, job, b)
			if err == nil {
				break
			}
			if n > 50 {
				t.Fatal("it never ends")
			}
		}
		records := count(t, b, "databases/app/prunes/")
		if out, err := Prune(t.Context(), p); err != nil || out.Removed != 0 || records != 1 {
			t.Fatalf("something was left: %+v %v, %d records", out, err, records)
		}
	}
}

func TestPruneRefuses(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	job := grown(t, b, 6)
	c, err := catalog.Open(t.Context(), b, job.Signers)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, _ := seal.NewSigningKey("stranger")
	for name, c := range map[string]struct {
		change func(*Pruning)
		want   *fault.Kind
	}{
		"an old view":  {func(p *Pruning) { p.Remembered = map[string]catalog.Head{c.Repository: {Sequence: 7}} }, fault.RolledBack},
		"a clock":      {func(p *Pruning) { p.Now = func() time.Time { return time.Now().Add(6 * time.Minute) } }, fault.ClockSkew},
		"a stranger":   {func(p *Pruning) { p.Key = stranger }, fault.Forged},
		"no such name": {func(p *Pruning) { p.Database = "other" }, fault.NotFound},
	} {
		p := pruning(job, b)
		c.change(&p)
		if _, err := Prune(t.Context(), p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A database that was emptied.
	if out, err := exec.Command("sqlite3", job.Path, "INSERT INTO t SELECT randomblob(1000) FROM generate_series(1, 100)").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for i := range 6 {
		if out, err := exec.Command("sqlite3", job.Path, fmt.Sprintf("INSERT INTO t VALUES (%d)", i)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if _, err := Database(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("sqlite3", job.Path, "DELETE FROM t; VACUUM").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if _, err := Database(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	p := pruning(job, b)
	if _, err := Prune(t.Context(), p); !errors.Is(err, fault.Damaged) {
		t.Errorf("a database that was emptied: %v", err)
	}
	if n := sequencesLeft(t, job, b); n != 13 {
		t.Errorf("something was removed: %d are left", n)
	}
	p.Force = true
	if out, err := Prune(t.Context(), p); err != nil || out.Removed == 0 {
		t.Errorf("--force: %+v %v", out, err)
	}
}
