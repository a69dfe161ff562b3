package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"emsafe/storage"
)

// sizes stores and reads back objects around the sizes where uploads change
// their ways, both announced and as streams of unknown length.
func sizes(t *testing.T, b storage.Bucket) {
	for i, n := range []int{0, 1, 8*mib - 1, 8 * mib, 8*mib + 1, 30 * mib} {
		for _, announced := range []int64{int64(n), -1} {
			key := fmt.Sprintf("sizes/%d/%d", n, i*2+int(min(announced, 0)))
			data := noise(uint64(i), n)
			info, err := b.Create(t.Context(), key, plain(bytes.NewReader(data)), announced)
			if err != nil {
				t.Fatalf("create %d bytes (announced %d): %v", n, announced, err)
			}
			if info.Key != key || info.Size != int64(n) || info.Modified.IsZero() {
				t.Errorf("create %d bytes: info %+v", n, info)
			}
			if age := time.Since(info.Modified); age < -time.Hour || age > time.Hour {
				t.Errorf("create: modified %v is not about now", info.Modified)
			}
			got, err := storage.ReadAll(t.Context(), b, key, 64*mib)
			if err != nil {
				t.Fatalf("read %d bytes: %v", n, err)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back changed (%d bytes)", n, len(got))
			}
		}
	}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if want := "sizes/" + fmt.Sprint(info.Size) + "/"; !strings.HasPrefix(info.Key, want) || info.Modified.IsZero() {
			t.Errorf("listed %+v", info)
		}
	}
}

// createOnce: the second Create of a key fails and changes nothing, whatever
// the sizes of both.
func createOnce(t *testing.T, b storage.Bucket) {
	big := noise(3, 9*mib)
	for _, first := range [][]byte{[]byte("first"), big} {
		key := fmt.Sprintf("once/%d", len(first))
		if _, err := b.Create(t.Context(), key, bytes.NewReader(first), -1); err != nil {
			t.Fatal(err)
		}
		for _, second := range [][]byte{nil, []byte("other"), noise(4, 9*mib), first} {
			_, err := b.Create(t.Context(), key, bytes.NewReader(second), int64(len(second)))
			if !errors.Is(err, storage.ErrExists) {
				t.Errorf("create %d over %d bytes: %v, want ErrExists", len(second), len(first), err)
			}
		}
		if got, err := storage.ReadAll(t.Context(), b, key, 64*mib); err != nil || !bytes.Equal(got, first) {
			t.Errorf("the first object changed: %d bytes, %v", len(got), err)
		}
	}
}

// racers: of sixteen writers of one key exactly one succeeds, the others are
// told so, and the winner's bytes are what is stored.
func racers(t *testing.T, b storage.Bucket) {
	for round, size := range []int{10, 6 * mib, 9 * mib} {
		key := fmt.Sprintf("race/%d", round)
		var wg sync.WaitGroup
		errs := make([]error, 16)
		start := make(chan struct{})
		for i := range errs {
			wg.Go(func() {
				data := noise(uint64(100+i), size)
				<-start
				_, errs[i] = b.Create(t.Context(), key, bytes.NewReader(data), int64(size))
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Errorf("writers %d and %d of %s both succeeded", winner, i, key)
			case err == nil:
				winner = i
			case !errors.Is(err, storage.ErrExists):
				t.Errorf("writer %d of %s: %v, want ErrExists", i, key, err)
			}
		}
		if winner < 0 {
			t.Fatalf("no writer of %s succeeded", key)
		}
		got, err := storage.ReadAll(t.Context(), b, key, 64*mib)
		if err != nil || !bytes.Equal(got, noise(uint64(100+winner), size)) {
			t.Errorf("%s does not hold the winner's bytes (%v)", key, err)
		}
	}
}

var errReader = errors.New("the reader broke")

// readerError: an error of the reader aborts, is in the chain, and leaves
// nothing; the key stays free.
func readerError(t *testing.T, b storage.Bucket) {
	for _, n := range []int{0, 5, 8 * mib, 20 * mib} {
		for _, announced := range []int64{-1, int64(n) + 5} {
			key := "broken"
			_, err := b.Create(t.Context(), key, broken(bytes.NewReader(noise(1, n)), errReader), announced)
			if !errors.Is(err, errReader) {
				t.Errorf("after %d bytes: %v, want the reader's error", n, err)
			}
			absent(t, b, key)
		}
	}
	if _, err := b.Create(t.Context(), "broken", strings.NewReader("whole"), 5); err != nil {
		t.Errorf("the key is not free after failures: %v", err)
	}
}

// sizeMismatch: a reader that gives another number of bytes than announced is
// refused and leaves nothing.
func sizeMismatch(t *testing.T, b storage.Bucket) {
	for _, c := range []struct{ gives, announced int }{
		{0, 1}, {5, 4}, {4, 5}, {1, 0}, {9 * mib, 9*mib - 1}, {9 * mib, 9*mib + 1}, {9 * mib, 3}, {3, 9 * mib},
	} {
		_, err := b.Create(t.Context(), "mismatch", bytes.NewReader(noise(1, c.gives)), int64(c.announced))
		if err == nil {
			t.Errorf("%d bytes announced as %d were accepted", c.gives, c.announced)
		}
		absent(t, b, "mismatch")
	}
}

// cancelled: a context that ends stops every method; Create leaves nothing.
func cancelled(t *testing.T, b storage.Bucket) {
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Create(dead, "dead", strings.NewReader("x"), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("create with a dead context: %v", err)
	}
	for _, n := range []int{100, 20 * mib} {
		ctx, cancel := context.WithCancel(t.Context())
		stop := readerFunc(func([]byte) (int, error) { cancel(); return 0, nil })
		body := io.MultiReader(bytes.NewReader(noise(1, n)), &io.LimitedReader{R: onceThen(stop, noise(2, mib)), N: mib})
		_, err := b.Create(ctx, "cancelled", body, -1)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("create cancelled after %d bytes: %v", n, err)
		}
		cancel()
	}
	absent(t, b, "dead")
	absent(t, b, "cancelled")

	if _, err := b.Create(t.Context(), "there", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(dead, "there", 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("open with a dead context: %v", err)
	}
	if err := b.Delete(dead, "there"); !errors.Is(err, context.Canceled) {
		t.Errorf("delete with a dead context: %v", err)
	}
	var last error
	for _, err := range b.List(dead, "", "") {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("list with a dead context ended in %v", last)
	}
}

// growingReader: Create must not need the reader's end to begin, and must
// take a reader that gives little at a time.
func growingReader(t *testing.T, b storage.Bucket) {
	pr, pw := io.Pipe()
	data := noise(9, 17*mib+3)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 300_001)
			if _, err := pw.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		pw.Close()
	}()
	if _, err := b.Create(t.Context(), "growing", pr, -1); err != nil {
		pr.Close()
		t.Fatal(err)
	}
	if got, err := storage.ReadAll(t.Context(), b, "growing", 64*mib); err != nil || !bytes.Equal(got, data) {
		t.Errorf("came back as %d bytes, %v", len(got), err)
	}
}

// badKeys: nothing outside the grammar reaches the storage.
func badKeys(t *testing.T, b storage.Bucket) {
	for _, key := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "./a", "a/.", "a b", "a\x00b", "ä", "a\\b", "a~b", "a?b",
		strings.Repeat("k/", 256) + "k", strings.Repeat("k", 256), "a/" + strings.Repeat("k", 256),
	} {
		if _, err := b.Create(t.Context(), key, strings.NewReader("x"), 1); err == nil {
			t.Errorf("create %q was accepted", key)
		}
		if r, err := b.Open(t.Context(), key, 0, -1); err == nil {
			r.Close()
			t.Errorf("open %q was accepted", key)
		}
		if err := b.Delete(t.Context(), key); err == nil {
			t.Errorf("delete %q was accepted", key)
		}
	}
	if got := keys(t, b, "", ""); len(got) > 0 {
		t.Errorf("bad keys left %q", got)
	}
	for _, key := range []string{"A-z_0.9", "...", "a/.b/c-", strings.Repeat("k/", 100) + "k", strings.Repeat("k", 200)} {
		if _, err := b.Create(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Errorf("create %q: %v", key, err)
		}
	}
}

func concurrent(t *testing.T, b storage.Bucket) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				key := fmt.Sprintf("concurrent/%d/%d", i, j)
				data := noise(uint64(i*10+j), 1000*(i+1))
				if _, err := b.Create(t.Context(), key, bytes.NewReader(data), -1); err != nil {
					t.Errorf("create %s: %v", key, err)
				}
				if got, err := storage.ReadAll(t.Context(), b, key, mib); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read %s: %v", key, err)
				}
				for _, err := range b.List(t.Context(), "concurrent/", "") {
					if err != nil {
						t.Errorf("list: %v", err)
					}
				}
				if err := b.Delete(t.Context(), key); j%2 == 0 && err != nil {
					t.Errorf("delete %s: %v", key, err)
				}
			}
		})
	}
	wg.Wait()
}

func address(t *testing.T, b storage.Bucket) {
	if s := b.String(); s == "" || strings.ContainsAny(s, " \n") {
		t.Errorf("address %q", s)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// onceThen reads first once, then gives data.
func onceThen(first io.Reader, data []byte) io.Reader {
	rest, done := bytes.NewReader(data), false
	return readerFunc(func(p []byte) (int, error) {
		if !done {
			done = true
			return first.Read(p)
		}
		return rest.Read(p)
	})
}
