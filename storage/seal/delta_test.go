package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
)

// version is one state of a database in a test.
type version struct {
	pages [][]byte
}

func (v version) bytes() []byte { return slices.Concat(v.pages...) }

func (v version) content(size int) Content {
	d := NewPageDigest(size)
	d.Add(hashPages(nil, v.bytes(), size))
	return d.Sum()
}

// next changes some pages, and the number of pages at times.
func (v version) next(r *rand.Rand, size int) (version, []int64) {
	n := version{slices.Clone(v.pages)}
	changed := map[int64]bool{}
	for range r.IntN(1 + len(v.pages)/3) {
		p := r.IntN(len(n.pages))
		n.pages[p] = pages(size, r.Uint64())
		changed[int64(p+1)] = true
	}
	switch r.IntN(4) {
	case 0:
		n.pages = n.pages[:1+r.IntN(len(n.pages))]
	case 1:
		for range r.IntN(40) {
			n.pages = append(n.pages, pages(size, r.Uint64()))
			changed[int64(len(n.pages))] = true
		}
	}
	var list []int64
	for p := range changed {
		if p <= int64(len(n.pages)) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return n, list
}

func sealDelta(t testing.TB, to Recipients, size int, v version, changed []int64) ([]byte, Sealed, Delta) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewDeltaWriter(&out, Options{Recipients: to, PageSize: size})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range changed {
		if err := w.Add(p, v.pages[p-1]); err != nil {
			t.Fatal(err)
		}
	}
	s, d, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s, d
}

// chain makes a full payload and n deltas, some against an earlier parent than
// the one before; layers is the path to the last.
func chain(t testing.TB, k key, r *rand.Rand, size, n int) (layers []Layer, last version) {
	t.Helper()
	v := version{}
	for range min(200, 2<<20/size) + r.IntN(100) {
		v.pages = append(v.pages, pages(size, r.Uint64()))
	}
	sealed, s, c := sealBytes(t, k.to, size, v.bytes())
	layers = []Layer{{Fetch: fetchFrom(sealed), Sealed: s, Content: c}}
	for range n {
		next, changed := v.next(r, size)
		if len(next.pages) > len(v.pages) {
			for p := len(v.pages) + 1; p <= len(next.pages); p++ {
				if !slices.Contains(changed, int64(p)) {
					t.Fatal("the test forgot a page")
				}
			}
		}
		v = next
		sealed, s, d := sealDelta(t, k.to, size, v, changed)
		layers = append(layers, Layer{Fetch: fetchFrom(sealed), Sealed: s, Content: v.content(size), Delta: &d})
	}
	return layers, v
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	rounds := 12
	if os.Getenv("EMSAFE_SOAK") != "" {
		rounds = 1000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	k := newKey(t, false)
	for range rounds {
		size := 512 << r.IntN(8)
		layers, want := chain(t, k, r, size, r.IntN(6))
		out := make(memory, len(want.pages)*size)
		if err := Assemble(t.Context(), layers, k.ids, out); err != nil {
			t.Fatalf("%d layers of %d byte pages: %v", len(layers), size, err)
		}
		if !bytes.Equal(out, want.bytes()) {
			t.Fatalf("%d layers of %d byte pages: other bytes", len(layers), size)
		}
	}
}

// A layer that is left out, doubled in another's place, or of another order is
// refused; a damaged one is named.
func TestAssembleRefuses(t *testing.T) {
	t.Parallel()
	k, other := newKey(t, false), newKey(t, false)
	v := version{}
	for p := range 100 {
		v.pages = append(v.pages, pages(4096, uint64(p)))
	}
	sealed, s, c := sealBytes(t, k.to, 4096, v.bytes())
	layers := []Layer{{Fetch: fetchFrom(sealed), Sealed: s, Content: c}}
	for i, changed := range [][]int64{{1, 50}, {2, 50}, {3}, {4}} {
		for _, p := range changed {
			v.pages[p-1] = pages(4096, uint64(1000*i)+uint64(p)+500)
		}
		sealed, s, d := sealDelta(t, k.to, 4096, v, changed)
		layers = append(layers, Layer{Fetch: fetchFrom(sealed), Sealed: s, Content: v.content(4096), Delta: &d})
	}
	out := make(memory, 100*4096)
	run := func(layers []Layer, ids Identities) error { return Assemble(t.Context(), layers, ids, out) }
	if err := run(layers, k.ids); err != nil {
		t.Fatal(err)
	}
	if err := run(layers, other.ids); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("wrong identity: %v", err)
	}
	for name, bad := range map[string][]Layer{
		"left out":  slices.Delete(slices.Clone(layers), 2, 3),
		"swapped":   {layers[0], layers[2], layers[1], layers[3], layers[4]},
		"no full":   layers[1:],
		"two fulls": {layers[0], layers[0], layers[1]},
	} {
		if err := run(bad, k.ids); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range layers {
		bad := slices.Clone(layers)
		bad[i].Fetch = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
			rc, err := layers[i].Fetch(ctx, off, n)
			data, _ := io.ReadAll(rc)
			data[len(data)/2] ^= 4
			return io.NopCloser(bytes.NewReader(data)), err
		}
		err := run(bad, k.ids)
		var of *LayerError
		if !errors.Is(err, ErrDamaged) || !errors.As(err, &of) || of.Layer != i {
			t.Errorf("layer %d damaged: %v", i, err)
		}
	}
}

// The parts of a large delta that a later one replaces are not fetched.
func TestAssembleFetchesNoReplacedPart(t *testing.T) {
	t.Parallel()
	k := newKey(t, false)
	const size = 4096
	v := version{}
	r := rand.New(rand.NewPCG(1, 9))
	random := func() []byte {
		b := make([]byte, 0, size)
		for len(b) < size {
			b = binary.LittleEndian.AppendUint64(b, r.Uint64())
		}
		return b
	}
	for range 6144 { // 24 MiB that do not compress: more than three parts
		v.pages = append(v.pages, random())
	}
	sealed, s, c := sealBytes(t, k.to, size, v.bytes())
	layers := []Layer{{Fetch: fetchFrom(sealed), Sealed: s, Content: c}}
	var all []int64
	for p := range v.pages {
		v.pages[p] = random()
		all = append(all, int64(p+1))
	}
	var fetched atomic.Int64
	for range 2 {
		for p := range v.pages {
			if p < 6000 || len(layers) == 1 {
				v.pages[p] = random()
			}
		}
		changed := all
		if len(layers) == 2 {
			changed = all[:6000]
		}
		sealed, s, d := sealDelta(t, k.to, size, v, changed)
		fetch := fetchFrom(sealed)
		if len(layers) == 1 {
			plain := fetch
			fetch = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
				fetched.Add(n)
				return plain(ctx, off, n)
			}
		}
		layers = append(layers, Layer{Fetch: fetch, Sealed: s, Content: v.content(size), Delta: &d})
	}
	out := make(memory, len(v.pages)*size)
	if err := Assemble(t.Context(), layers, k.ids, out); err != nil || !bytes.Equal(out, v.bytes()) {
		t.Fatalf("%v", err)
	}
	if most := int64(20 << 20); fetched.Load() > most {
		t.Errorf("%d bytes of a delta of %d were fetched", fetched.Load(), layers[1].Sealed.Size)
	}
}

func TestDeltaWriterRefuses(t *testing.T) {
	t.Parallel()
	k := newKey(t, false)
	for name, add := range map[string][]int64{"descending": {5, 4}, "twice": {5, 5}, "zero": {0}} {
		w, err := NewDeltaWriter(io.Discard, Options{Recipients: k.to, PageSize: 512})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range add {
			err = w.Add(p, make([]byte, 512))
		}
		if _, _, cerr := w.Close(); err == nil || cerr == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	c := Content{Size: 1000 * 512, PageSize: 512, Pages: 1000}
	runs := []Run{{1, 3}, {7, 1}, {900, 101}}
	b := marshalRuns(runs)
	got, err := parseRuns(b, Delta{105, int64(len(b))}, c)
	if err != nil || !slices.Equal(got, runs) {
		t.Fatalf("%v %v", got, err)
	}
	for name, bad := range map[string]struct {
		index []byte
		pages int64
	}{
		"beyond the database": {marshalRuns([]Run{{900, 102}}), 102},
		"other count":         {b, 104},
		"cut":                 {b[:len(b)-1], 105},
		"empty run":           {[]byte{1, 0}, 0},
		"not one run":         {[]byte{0, 1, 0, 1}, 2},
		"overflow":            {bytes.Repeat([]byte{0xff}, 20), 1},
	} {
		if runs, err := parseRuns(bad.index, Delta{bad.pages, int64(len(bad.index))}, c); err == nil {
			t.Errorf("%s: %v", name, runs)
		}
	}
}

func FuzzRuns(f *testing.F) {
	f.Add(marshalRuns([]Run{{1, 3}, {7, 1}}), int64(4))
	f.Fuzz(func(t *testing.T, b []byte, pages int64) {
		c := Content{Size: 1000 * 512, PageSize: 512, Pages: 1000}
		runs, err := parseRuns(b, Delta{pages, int64(len(b))}, c)
		if err == nil && len(runs) > 0 && !bytes.Equal(marshalRuns(runs), b) {
			// Varints have longer forms; what they say must be the same.
			again, _ := parseRuns(marshalRuns(runs), Delta{pages, int64(len(b))}, c)
			if !slices.Equal(again, runs) {
				t.Fatal("read back otherwise")
			}
		}
	})
}
