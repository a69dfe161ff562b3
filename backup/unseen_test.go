package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/storagetest"
)

// unreadable is a bucket for credentials that may put and list. It loses the
// reply to the create of a key.
type unreadable struct {
	storage.Bucket
	lose string
}

func (b *unreadable) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, fault.New(fault.Credentials, "access denied")
}

func (b *unreadable) Delete(context.Context, string) error {
	return fault.New(fault.Credentials, "access denied")
}

func (b *unreadable) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	info, err := b.Bucket.Create(ctx, key, r, size)
	if b.lose != "" && strings.Contains(key, b.lose) {
		return storage.Info{}, errors.New("the connection broke")
	}
	return info, err
}

// What was committed without an answer is found by the listing, and nothing is
// committed twice.
func TestLostRepliesUnseen(t *testing.T) {
	t.Parallel()
	inner := storagetest.Memory()
	b := &unreadable{Bucket: inner}
	job := newJob(t, in("a", b))
	job.Policy = Policy{FullShare: 100}
	for n := range 8 {
		if out, err := exec.Command("sqlite3", job.Path, fmt.Sprintf("INSERT INTO t VALUES (%d)", n)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if b.lose = ""; n%2 == 1 {
			b.lose = fmt.Sprintf("manifests/%020d", n+1)
		}
		out, err := Database(t.Context(), job)
		if (err != nil) != (n%2 == 1) {
			t.Fatalf("%d: %+v %v", n, out, err)
		}
		if got := sequences(t, job, inner); got != n+1 {
			t.Fatalf("%d manifests after %d backups", got, n+1)
		}
	}
	if left := job.spool(); len(left) != 2 { // the last one's, until the next run
		t.Errorf("left in the spool: %v", left)
	}
	// A manifest that goes is noticed, without reading.
	b.lose = ""
	if err := inner.Delete(t.Context(), "databases/app/manifests/00000000000000000008"); err != nil {
		t.Fatal(err)
	}
	job.Heartbeat = true
	if out, err := Database(t.Context(), job); err != nil && !errors.Is(err, fault.RolledBack) || out.Targets[0].Sequence == 0 {
		t.Errorf("%+v %v", out, err)
	}
}
