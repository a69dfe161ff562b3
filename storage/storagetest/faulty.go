package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"emsafe/storage"
)

// Op names a method of storage.Bucket in a fault's script.
type Op string

// The methods.
const (
	Create Op = "create"
	Open   Op = "open"
	List   Op = "list"
	Delete Op = "delete"
)

// Effect is what a fault does to the call that it hits.
type Effect int

const (
	// Fail: the call returns Fault.Err and does nothing.
	Fail Effect = iota
	// Stall: the call waits until its context ends and does nothing.
	Stall
	// LostReply: Create and Delete are done, but report ErrUnsettled.
	LostReply
	// Drop: Open's stream, Create's upload or a listing breaks with Fault.Err
	// at Fault.At (bytes, or entries of a listing). Nothing is stored.
	Drop
	// Cut: Open's stream or a listing just ends at Fault.At, as no honest
	// Bucket does: what is above must find it out by itself.
	Cut
	// Flip: the lowest bit of the byte at Fault.At of the object is inverted
	// in what Open gives.
	Flip
)

// ErrInjected is what a fault returns if it names no error.
var ErrInjected = errors.New("injected fault")

// Fault hits calls of Op ("" is any) whose key or prefix contains Key. Nth
// counts such calls from 1; 0 hits every one.
type Fault struct {
	Op     Op
	Key    string
	Nth    int
	Effect Effect
	At     int64
	Err    error
}

// Flawed is a bucket with a script of faults; its counters are per fault.
type Flawed struct {
	storage.Bucket
	mu     sync.Mutex
	script []Fault
	seen   []int
	hits   int
}

var _ storage.Bucket = (*Flawed)(nil)

// Faulty wraps b. The first fault of the script that matches a call decides.
func Faulty(b storage.Bucket, script ...Fault) *Flawed {
	return &Flawed{Bucket: b, script: script, seen: make([]int, len(script))}
}

// Hits is the number of calls that a fault has hit, so that a test can show
// that its script took effect.
func (f *Flawed) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

func (f *Flawed) next(op Op, key string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var hit *Fault
	for i, fault := range f.script {
		if fault.Op != "" && fault.Op != op || !strings.Contains(key, fault.Key) {
			continue
		}
		f.seen[i]++
		if hit == nil && (fault.Nth == 0 || fault.Nth == f.seen[i]) {
			hit = &fault
			if hit.Err == nil {
				hit.Err = ErrInjected
			}
		}
	}
	if hit != nil {
		f.hits++
	}
	return hit
}

// before handles the effects that any method can have; true means over.
func (h *Fault) before(ctx context.Context, op Op, key string) (bool, error) {
	switch {
	case h == nil:
		return false, nil
	case h.Effect == Fail:
		return true, fmt.Errorf("%s %s: %w", op, key, h.Err)
	case h.Effect == Stall:
		<-ctx.Done()
		return true, fmt.Errorf("%s %s: %w", op, key, ctx.Err())
	}
	return false, nil
}

// Create implements storage.Bucket.
func (f *Flawed) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	hit := f.next(Create, key)
	if over, err := hit.before(ctx, Create, key); over {
		return storage.Info{}, err
	}
	if hit != nil && hit.Effect == Drop {
		r = broken(io.LimitReader(r, hit.At), hit.Err)
	}
	info, err := f.Bucket.Create(ctx, key, r, size)
	if err == nil && hit != nil && hit.Effect == LostReply {
		return storage.Info{}, fmt.Errorf("create %s: %w", key, storage.ErrUnsettled)
	}
	return info, err
}

// Open implements storage.Bucket.
func (f *Flawed) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	hit := f.next(Open, key)
	if over, err := hit.before(ctx, Open, key); over {
		return nil, err
	}
	r, err := f.Bucket.Open(ctx, key, offset, length)
	if err != nil || hit == nil {
		return r, err
	}
	var bent io.Reader = r
	switch hit.Effect {
	case Drop:
		bent = broken(io.LimitReader(r, hit.At), hit.Err)
	case Cut:
		bent = io.LimitReader(r, hit.At)
	case Flip:
		at := offset
		bent = readerFunc(func(p []byte) (int, error) {
			n, err := r.Read(p)
			if i := hit.At - at; i >= 0 && i < int64(n) {
				p[i] ^= 1
			}
			at += int64(n)
			return n, err
		})
	}
	return struct {
		io.Reader
		io.Closer
	}{bent, r}, nil
}

// List implements storage.Bucket.
func (f *Flawed) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		hit := f.next(List, prefix)
		if over, err := hit.before(ctx, List, prefix); over {
			yield(storage.Info{}, err)
			return
		}
		bent := hit != nil && (hit.Effect == Drop || hit.Effect == Cut)
		n := int64(0)
		for info, err := range f.Bucket.List(ctx, prefix, after) {
			if bent && n >= hit.At {
				break
			}
			if n++; !yield(info, err) {
				return
			}
		}
		if bent && hit.Effect == Drop {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, hit.Err))
		}
	}
}

// Delete implements storage.Bucket.
func (f *Flawed) Delete(ctx context.Context, key string) error {
	hit := f.next(Delete, key)
	if over, err := hit.before(ctx, Delete, key); over {
		return err
	}
	err := f.Bucket.Delete(ctx, key)
	if err == nil && hit != nil && hit.Effect == LostReply {
		return fmt.Errorf("delete %s: %w", key, storage.ErrUnsettled)
	}
	return err
}
