package sqlite

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// sliceChunks is how much is read under one lock at most: what waits in memory
// until the lock is gone.
const sliceChunks = 16

// maxChanged bounds the memory for pages that changed while they were copied
// ahead. Tests lower it.
var maxChanged int64 = 64 << 20

// copied is what was copied ahead of the settling lock.
type copied struct {
	seed    maphash.Seed
	hashes  []uint64 // per page, of the copy; the key is this process's own
	chunks  int64
	from    version          // that the first slice saw
	moved   bool             // a later slice saw another one
	changed map[int64][]byte // by page, from 0
	taken   map[int64]bool   // chunks that were put aside again, under the settling lock
}

// copyAhead copies, and settles if anything was committed meanwhile; the
// image's geometry and instant are those of the last lock taken.
func (r *rollbackReader) copyAhead(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		last := attempt >= r.opt.Attempts
		if err := r.copySlices(ctx); err != nil {
			return err
		}
		if !r.ahead.moved {
			r.image.Method = "ahead"
			return nil
		}
		err := r.settle(ctx, last && r.opt.AllowBlock)
		if err == nil || last || ctx.Err() != nil || !errors.Is(err, errUnsettled) {
			if errors.Is(err, errUnsettled) {
				return r.tooLong("settling which pages changed")
			}
			return err
		}
	}
}

// errUnsettled says that a settling lock was let go before all was compared.
var errUnsettled = errors.New("not settled")

// copySlices copies the whole file, a slice at a time.
func (r *rollbackReader) copySlices(ctx context.Context) error {
	if err := r.opt.Ahead.Reset(); err != nil {
		return err
	}
	r.ahead = copied{seed: maphash.MakeSeed()}
	slice := make([][]byte, sliceChunks)
	for i := range slice {
		slice[i] = make([]byte, chunkSize)
	}
	for next, first := int64(0), true; first || next < r.src.chunks(); first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := r.readSlice(ctx, next, slice, first)
		if err != nil {
			return err
		}
		if got == 0 {
			break // the file shrank; the settling lock will see to it
		}
		if err := r.keep(next, slice[:got]); err != nil {
			return err
		}
		next += int64(got)
		r.ahead.chunks = next
	}
	return nil
}

// readSlice reads chunks from next on while the lock may be held, at least one.
func (r *rollbackReader) readSlice(ctx context.Context, next int64, slice [][]byte, first bool) (got int, err error) {
	err = r.hold(ctx, func(since time.Time) error {
		v, err := r.src.version()
		if err != nil {
			return err
		}
		if first {
			r.ahead.from = v
		}
		r.ahead.moved = r.ahead.moved || v != r.ahead.from
		r.image.At = since.UTC()
		for got < len(slice) && next+int64(got) < r.src.chunks() && (got == 0 || time.Since(since) < r.opt.MaxHold/2) {
			data, err := r.src.chunk(next+int64(got), slice[got][:chunkSize])
			if err != nil {
				return err
			}
			slice[got] = data
			got++
		}
		return nil
	})
	return got, err
}

// keep hashes and puts chunks aside, after the lock is gone.
func (r *rollbackReader) keep(next int64, slice [][]byte) error {
	size := r.image.PageSize
	perChunk := chunkSize / size
	need := (int(next) + len(slice)) * perChunk
	if need > len(r.ahead.hashes) {
		r.ahead.hashes = append(r.ahead.hashes, make([]uint64, need-len(r.ahead.hashes))...)
	}
	errs := make([]error, len(slice))
	each(len(slice), func(i int) {
		chunk := next + int64(i)
		for at := 0; at+size <= len(slice[i]); at += size {
			r.ahead.hashes[int(chunk)*perChunk+at/size] = maphash.Bytes(r.ahead.seed, slice[i][at:at+size])
		}
		errs[i] = r.opt.Ahead.Put(chunk, slice[i])
	})
	return errors.Join(errs...)
}

// each runs do for 0 to n-1 on all cores.
func each(n int, do func(i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	group.Wait()
}

// settle compares every page with its copy under one lock, on all cores, and
// keeps those that differ. It lets go when the bound is near, unless it may
// block.
func (r *rollbackReader) settle(ctx context.Context, block bool) error {
	return r.hold(ctx, func(since time.Time) error {
		r.image.At, r.image.Method = since.UTC(), "settled"
		r.ahead.changed, r.ahead.taken = map[int64][]byte{}, map[int64]bool{}
		deadline := since.Add(r.opt.MaxHold * 9 / 10)
		s := &settling{r: r, block: block, buffers: sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}}
		each(int(r.src.chunks()), func(i int) {
			if s.failed() || ctx.Err() != nil {
				return
			}
			if !block && time.Now().After(deadline) {
				s.fail(fmt.Errorf("%w in %s", errUnsettled, r.opt.MaxHold))
				return
			}
			if err := s.chunk(int64(i)); err != nil {
				s.fail(err)
			}
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		return s.err
	})
}

// settling collects what the cores find.
type settling struct {
	r       *rollbackReader
	block   bool
	buffers sync.Pool
	mu      sync.Mutex
	bytes   int64
	err     error
}

func (s *settling) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

func (s *settling) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *settling) chunk(i int64) error {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	data, err := s.r.src.chunk(i, *buf)
	if err != nil {
		return err
	}
	size := s.r.image.PageSize
	for at := 0; at+size <= len(data); at += size {
		page := i*int64(chunkSize/size) + int64(at/size)
		known := int64(len(s.r.ahead.hashes)) > page
		if known && i < s.r.ahead.chunks && s.r.ahead.hashes[page] == maphash.Bytes(s.r.ahead.seed, data[at:at+size]) {
			continue
		}
		err := s.take(page, data[at:at+size])
		if s.block && errors.Is(err, errFull) {
			return s.putAgain(i, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take keeps a page in memory, or says that there is no room.
func (s *settling) take(page int64, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(len(data))
	if s.bytes > maxChanged {
		return errFull
	}
	s.r.ahead.changed[page] = append([]byte(nil), data...)
	return nil
}

// errFull says that more than maxChanged changed.
var errFull = fmt.Errorf("%w: too much changed meanwhile", errUnsettled)

// putAgain puts a whole chunk aside: slower than memory, and without a bound.
func (s *settling) putAgain(i int64, data []byte) error {
	s.mu.Lock()
	s.r.ahead.taken[i] = true
	s.mu.Unlock()
	return s.r.opt.Ahead.Put(i, data)
}
