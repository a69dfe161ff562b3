package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"emsafe/storage"
)

func ranges(t *testing.T, b storage.Bucket) {
	const n = 9*mib + 17
	data := noise(7, n)
	if _, err := b.Create(t.Context(), "ranges", bytes.NewReader(data), n); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), "empty", bytes.NewReader(nil), 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key            string
		offset, length int64
		want           []byte
		fails          bool
	}{
		{"ranges", 0, -1, data, false},
		{"ranges", 0, n, data, false},
		{"ranges", 0, 1, data[:1], false},
		{"ranges", 8*mib - 1, 3, data[8*mib-1 : 8*mib+2], false},
		{"ranges", n - 1, 1, data[n-1:], false},
		{"ranges", n - 5, -1, data[n-5:], false},
		{"ranges", n, -1, nil, false},
		{"ranges", 0, 0, nil, false},
		{"ranges", 100, 0, nil, false},
		{"ranges", 0, n + 1, data, true},
		{"ranges", n - 5, 6, data[n-5:], true},
		{"ranges", n, 1, nil, true},
		{"ranges", n + 1, -1, nil, true},
		{"ranges", n + 1, 1, nil, true},
		{"ranges", -1, 1, nil, true},
		{"ranges", 0, -2, nil, true},
		{"empty", 0, -1, nil, false},
		{"empty", 0, 0, nil, false},
		{"empty", 0, 1, nil, true},
	} {
		r, err := b.Open(t.Context(), c.key, c.offset, c.length)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			r.Close()
		}
		if (err != nil) != c.fails {
			t.Errorf("%s from %d, %d bytes: error %v", c.key, c.offset, c.length, err)
		}
		if errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s from %d, %d bytes: a bad range is not a missing object: %v", c.key, c.offset, c.length, err)
		}
		if !bytes.HasPrefix(c.want, got) || !c.fails && len(got) != len(c.want) {
			t.Errorf("%s from %d, %d bytes: got %d other bytes", c.key, c.offset, c.length, len(got))
		}
	}
}

func openMissing(t *testing.T, b storage.Bucket) {
	if _, err := b.Create(t.Context(), "folder/object", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"missing", "folder", "folder/missing", "no/such/folder"} {
		for _, length := range []int64{-1, 0, 5} {
			r, err := b.Open(t.Context(), key, 0, length)
			if err == nil {
				r.Close()
			}
			if !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("open %s, %d bytes: %v, want ErrNotExist", key, length, err)
			}
		}
	}
}

// listOrder: byte order of whole keys, in which "a-b" < "a.b" < "a/b" < "a0".
func listOrder(t *testing.T, b storage.Bucket) {
	want := []string{
		"A", "B/x", "_", "a-b", "a-b-c/d", "a.b", "a/b-c", "a/b.c", "a/b/c", "a/b0", "a/c/d/e", "a0", "a_", "b", "b-", "b0/1",
		"m/00000000000000000009", "m/00000000000000000010", "z/y/x",
	}
	slices.Sort(want)
	for i := range want {
		key := want[(i*7)%len(want)]
		if _, err := b.Create(t.Context(), key, strings.NewReader(key), int64(len(key))); err != nil {
			t.Fatalf("create %s: %v", key, err)
		}
	}
	if got := keys(t, b, "", ""); !slices.Equal(got, want) {
		t.Errorf("listed\n%q, want\n%q", got, want)
	}
}

// listPrefixAndAfter compares every pair of prefix and start against a filter
// over all keys, with prefixes that end inside a name.
func listPrefixAndAfter(t *testing.T, b storage.Bucket) {
	all := []string{"a", "ab/c", "ab/d/e", "ab/d-e", "ab0", "abc/d", "b/a", "b/b/c", "b-a"}
	for _, key := range all {
		if _, err := b.Create(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	for _, prefix := range []string{"", "a", "ab", "ab/", "ab/d", "ab/d/", "abc/", "b/b", "c", "nothing/here", "a/"} {
		for _, after := range []string{"", "a", "ab", "ab/", "ab/c", "ab/d-e", "ab/d/e", "abc/d", "b", "b/b/c", "zz", "A"} {
			var want []string
			for _, k := range all {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			if got := keys(t, b, prefix, after); !slices.Equal(got, want) {
				t.Errorf("list %q after %q: %q, want %q", prefix, after, got, want)
			}
		}
	}
}

// listThousands crosses the page size of S3 listings.
func listThousands(t *testing.T, b storage.Bucket) {
	const n = 1050
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("many/%05d", i))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := b.Create(t.Context(), want[i], strings.NewReader("x"), 1); err != nil {
					t.Errorf("create %s: %v", want[i], err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := keys(t, b, "", ""); !slices.Equal(got, want) {
		t.Errorf("listed %d of %d keys, or out of order", len(got), n)
	}
	if got := keys(t, b, "many/", want[1003]); !slices.Equal(got, want[1004:]) {
		t.Errorf("after %s: %d keys, want %d", want[1003], len(got), n-1004)
	}
}

func listStopsEarly(t *testing.T, b storage.Bucket) {
	for _, key := range []string{"1", "2/a", "2/b", "3"} {
		if _, err := b.Create(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for _, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 2 {
			break
		}
	}
}

func deleting(t *testing.T, b storage.Bucket) {
	for _, key := range []string{"d/1", "d/2"} {
		if _, err := b.Create(t.Context(), key, strings.NewReader(key), 3); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := b.Delete(t.Context(), "d/1"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	for _, key := range []string{"never", "d", "no/such/folder"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s, which is not there: %v", key, err)
		}
	}
	absent(t, b, "d/1")
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"d/2"}) {
		t.Errorf("left %q", got)
	}
	// A bucket that keeps what was deleted may keep its key as well.
	kept := slices.Contains(keys(t, storage.Past(b), "d/", ""), "d/1")
	if _, err := b.Create(t.Context(), "d/1", strings.NewReader("new"), 3); err != nil && !(kept && errors.Is(err, storage.ErrExists)) {
		t.Errorf("create after delete: %v", err)
	}
}
