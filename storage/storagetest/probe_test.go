package storagetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// overwriting is a bucket that does not honour create-once.
type overwriting struct{ *RAM }

func (b overwriting) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	if err := b.Delete(ctx, key); err != nil {
		return storage.Info{}, err
	}
	return b.RAM.Create(ctx, key, r, size)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	b := Memory()
	p, err := storage.Probe(t.Context(), b)
	if err != nil || !p.Read || !p.Removed {
		t.Errorf("a good bucket: %+v %v", p, err)
	}
	for info := range b.List(t.Context(), "", "") {
		t.Errorf("left behind: %s", info.Key)
	}
	denied := fault.New(fault.Credentials, "may not")
	p, err = storage.Probe(t.Context(), Faulty(Memory(), Fault{Op: Open, Err: denied}, Fault{Op: Delete, Err: denied}))
	if err != nil || p.Read || p.Removed || !errors.Is(p.ReadError, fault.Credentials) {
		t.Errorf("write and list only: %+v %v", p, err)
	}
	if _, err = storage.Probe(t.Context(), overwriting{Memory()}); !errors.Is(err, fault.Storage) {
		t.Errorf("a bucket that overwrites: %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), "overwritten") {
		t.Errorf("a bucket that overwrites: %v", err)
	}
	// A second create that fails for another reason says nothing about overwriting.
	for _, why := range []error{fault.New(fault.Credentials, "may not"), fault.New(fault.NoSpace, "the quota is used up"), storage.ErrUnsettled, context.DeadlineExceeded} {
		_, err = storage.Probe(t.Context(), Faulty(Memory(), Fault{Op: Create, Nth: 2, Err: why}))
		if !errors.Is(err, why) || strings.Contains(err.Error(), "overwritten") {
			t.Errorf("a second create that ends in %q: %v", why, err)
		}
	}
	if _, err = storage.Probe(t.Context(), Faulty(Memory(), Fault{Op: List, Effect: Cut})); !errors.Is(err, fault.Storage) {
		t.Errorf("a listing that ends early: %v", err)
	}
	if _, err = storage.Probe(t.Context(), Faulty(Memory(), Fault{Op: Open, Effect: Flip})); !errors.Is(err, fault.Storage) {
		t.Errorf("other bytes: %v", err)
	}
}
