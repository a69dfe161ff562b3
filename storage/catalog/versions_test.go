package catalog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/storagetest"
)

// fronted is a bucket with versions in which somebody put one in front of each
// of some keys: an upload in parts that was begun before there was anything, and
// completed afterwards, is the oldest version.
type fronted struct {
	*storagetest.RAM
	front map[string]string
}

func (b fronted) Past() storage.Bucket { return b }

func (b fronted) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if front, ok := b.front[key]; ok {
		return io.NopCloser(strings.NewReader(front[offset:])), nil
	}
	return b.RAM.Open(ctx, key, offset, length)
}

func (b fronted) Versions(_ context.Context, key string) iter.Seq2[io.Reader, error] {
	return func(yield func(io.Reader, error) bool) {
		if front, ok := b.front[key]; !ok || yield(strings.NewReader(front), nil) {
			yield(bytes.NewReader(b.Peek(key)), nil)
		}
	}
}

// TestTheOldestThatIsSignedCounts: whoever may write can put a version in front of
// a manifest, a prune record or the repository document, and stops nobody by it.
func TestTheOldestThatIsSignedCounts(t *testing.T) {
	t.Parallel()
	ch, key, entries := newChain(t, 5)
	prune(t, ch, key, entries[1])
	front := map[string]string{}
	b := fronted{ch.Bucket.(*storagetest.RAM), front}
	read := func(want *fault.Kind) {
		t.Helper()
		c, err := Open(t.Context(), b, ch.signers)
		if err == nil {
			again := c.Chain("app")
			results := again.results(t)
			for _, r := range results {
				err = errors.Join(err, r.Err)
			}
			err = errors.Join(append(again.Links(t.Context(), results, 1), err)...)
			if records, perr := again.Prunes(t.Context()); len(records) != 1 && err == nil {
				err = errors.Join(perr, errors.New("the record is lost"))
			}
		}
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("with %d in front: %v, want %v", len(front), err, want)
		}
	}
	read(nil)
	other := string(b.Peek(manifestKey("app", 3)))
	for _, k := range []string{manifestKey("app", 1), manifestKey("app", 4), manifestKey("app", 5), pruneKey("app", 1), repositoryKey} {
		for _, text := range []string{"", "nothing", other, strings.Repeat("x", maxRepository+1)} {
			front[k] = text
			read(nil)
		}
	}
	// What is nowhere signed stays what it is.
	b.Poke(manifestKey("app", 4), []byte("nothing"))
	read(fault.Forged)
}
