package storagetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"emsafe/storage"
)

func TestMemory(t *testing.T) {
	Conformance(t, func(*testing.T) storage.Bucket { return Memory() })
}

func TestFaultyEffects(t *testing.T) {
	mem := Memory()
	listDelete(t, Faulty(mem))
	for _, key := range []string{"a", "b", "c"} {
		mem.Poke(key, []byte("0123456789"))
	}
	read := func(b storage.Bucket, offset int64) (string, error) {
		r, err := b.Open(t.Context(), "b", offset, -1)
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(r)
		return string(data), err
	}
	b := Faulty(mem, Fault{Op: Open, Key: "b", Nth: 2, Effect: Fail})
	for i, want := range []error{nil, ErrInjected, nil} {
		if _, err := read(b, 0); !errors.Is(err, want) {
			t.Errorf("open %d: %v, want %v", i+1, err, want)
		}
	}
	if got, err := read(Faulty(mem, Fault{Op: Open, Effect: Drop, At: 4}), 0); got != "0123" || !errors.Is(err, ErrInjected) {
		t.Errorf("drop: %q, %v", got, err)
	}
	if got, err := read(Faulty(mem, Fault{Op: Open, Effect: Cut, At: 4}), 0); got != "0123" || err != nil {
		t.Errorf("cut: %q, %v", got, err)
	}
	if got, err := read(Faulty(mem, Fault{Effect: Flip, At: 6}), 5); got != "57789" || err != nil {
		t.Errorf("flip: %q, %v", got, err)
	}
	lost := Faulty(mem, Fault{Op: Create, Effect: LostReply})
	if _, err := lost.Create(t.Context(), "d", strings.NewReader("x"), 1); !errors.Is(err, storage.ErrUnsettled) || mem.Peek("d") == nil {
		t.Errorf("lost reply: %v", err)
	}
	if _, err := Faulty(mem, Fault{Effect: Drop, At: 1}).Create(t.Context(), "e", strings.NewReader("xyz"), 3); !errors.Is(err, ErrInjected) || mem.Peek("e") != nil {
		t.Errorf("dropped upload: %v", err)
	}
	for _, c := range []struct {
		effect Effect
		want   error
	}{{Drop, ErrInjected}, {Cut, nil}} {
		n, last := 0, error(nil)
		for _, err := range Faulty(mem, Fault{Op: List, Effect: c.effect, At: 2}).List(t.Context(), "", "") {
			if last = err; err == nil {
				n++
			}
		}
		if n != 2 || !errors.Is(last, c.want) {
			t.Errorf("listing with effect %d: %d entries, %v", c.effect, n, last)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stalled := Faulty(mem, Fault{Effect: Stall})
	if err := stalled.Delete(ctx, "a"); !errors.Is(err, context.Canceled) || stalled.Hits() != 1 {
		t.Errorf("stall: %v, %d hits", err, stalled.Hits())
	}
}

// listDelete: an empty script changes nothing.
func listDelete(t *testing.T, b storage.Bucket) {
	t.Helper()
	listPrefixAndAfter(t, b)
	for _, key := range keys(t, b, "", "") {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}
