package catalog

import (
	"context"
	"iter"
	"testing"

	"emsafe/storage"
)

// listing is a bucket that has manifests 1 to n and counts what is asked of it.
// A page has a thousand keys, as S3's.
type listing struct {
	storage.Bucket
	n               uint64
	requests, pages int
}

func (l *listing) List(_ context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		l.requests++
		from := uint64(1)
		if seq, ok := sequenceOf("app", after); ok {
			from = seq + 1
		}
		for i := from; i <= l.n; i++ {
			if (i-from)%1000 == 0 {
				l.pages++
			}
			if !yield(storage.Info{Key: manifestKey("app", i)}, nil) {
				return
			}
		}
	}
}

// TestNewestOfMany: the end of a chain is found by looking, not by listing it
// whole; from what is remembered with one request.
func TestNewestOfMany(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, known    uint64
		requests    int
		description string
	}{
		{100_000, 100_000, 2, "remembered"},
		{100_000, 99_000, 4, "nearly remembered"},
		{100_000, 0, 20, "nothing is remembered"},
		{100_000_000, 0, 40, "three years of every second"},
	} {
		l := &listing{n: c.n}
		got, err := (&Chain{Catalog: &Catalog{Bucket: l}, Database: "app"}).Newest(t.Context(), c.known)
		if err != nil || got != c.n {
			t.Errorf("%s: %d %v", c.description, got, err)
		}
		t.Logf("%s: %d requests, %d pages", c.description, l.requests, l.pages)
		if l.requests > c.requests || l.pages > l.requests+2 {
			t.Errorf("%s: %d requests, %d pages", c.description, l.requests, l.pages)
		}
	}
}
