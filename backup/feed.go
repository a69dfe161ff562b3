package backup

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// errRestarted ends the readers of a stream whose snapshot was given up and
// taken again.
var errRestarted = errors.New("the snapshot was started again")

// feed hands sealed bytes to the shippers while they are being written. Each
// attempt at a snapshot is a stream of its own; a shipper that was reading the
// one before starts over.
type feed struct {
	mu      sync.Mutex
	changed *sync.Cond
	stream  *stream
	files   []*os.File // descriptors of all streams, for close
	item    *spooled   // set when the last stream is complete
	err     error
}

func newFeed() *feed {
	f := &feed{}
	f.changed = sync.NewCond(&f.mu)
	return f
}

// stream is a spool file that is being written.
type stream struct {
	feed *feed
	file *os.File
	size int64
	over bool // no reader gets beyond size any more
	err  error
}

// start opens the next stream, over file, and ends the one before.
func (f *feed) start(file *os.File) (*stream, error) {
	// Readers have a descriptor of their own: the writer's is closed early.
	r, err := os.Open(file.Name())
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stream != nil {
		f.stream.over, f.stream.err = true, errRestarted
	}
	f.files = append(f.files, r)
	f.stream = &stream{feed: f, file: r}
	f.changed.Broadcast()
	return &stream{feed: f, file: file}, nil
}

// Write appends to the spool file and wakes the readers.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.feed.mu.Lock()
	s.feed.stream.size += int64(n)
	s.feed.mu.Unlock()
	s.feed.changed.Broadcast()
	return n, err
}

// finish says that the current stream is whole and is item.
func (f *feed) finish(item *spooled) { f.end(item, nil) }

// fail says that there will be no backup; after finish it changes nothing but
// that nobody may commit.
func (f *feed) fail(err error) { f.end(nil, err) }

func (f *feed) end(item *spooled, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.item, f.err = item, err
	if f.stream != nil && !f.stream.over {
		f.stream.over, f.stream.err = true, err
	}
	f.changed.Broadcast()
}

// close gives the descriptors back when no reader is left.
func (f *feed) close() {
	for _, file := range f.files {
		file.Close()
	}
}

// current waits for a stream other than last, or for the end.
func (f *feed) current(ctx context.Context, last *stream) (*stream, error) {
	defer f.wakeOn(ctx)()
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.err != nil:
			return nil, f.err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case f.stream != nil && f.stream != last:
			return f.stream, nil
		}
		f.changed.Wait()
	}
}

// complete waits until the backup is described, and says so or why not.
func (f *feed) complete(ctx context.Context) (*spooled, error) {
	defer f.wakeOn(ctx)()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.item == nil && f.err == nil && ctx.Err() == nil {
		f.changed.Wait()
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.item, ctx.Err()
}

// wakeOn makes waiters look at ctx when it ends.
func (f *feed) wakeOn(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changed.Broadcast()
	})
}

// reader reads a stream from its beginning, waiting for what is not written yet.
func (s *stream) reader(ctx context.Context) io.Reader { return &streamReader{ctx: ctx, s: s} }

// streamReader holds a context because io.Reader has no place for one.
type streamReader struct {
	ctx context.Context
	s   *stream
	at  int64
}

func (r *streamReader) Read(p []byte) (int, error) {
	f := r.s.feed
	stop := f.wakeOn(r.ctx)
	f.mu.Lock()
	for r.at >= r.s.size && !r.s.over && r.ctx.Err() == nil {
		f.changed.Wait()
	}
	size, over, err := r.s.size, r.s.over, r.s.err
	f.mu.Unlock()
	stop()
	switch {
	case r.ctx.Err() != nil:
		return 0, r.ctx.Err()
	case over && err != nil:
		return 0, err
	case r.at >= size:
		return 0, io.EOF
	}
	n, err := r.s.file.ReadAt(p[:min(int64(len(p)), size-r.at)], r.at)
	r.at += int64(n)
	if err == io.EOF {
		err = nil
	}
	return n, err
}
