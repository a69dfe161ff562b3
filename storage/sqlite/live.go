package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"emsafe/internal/fault"
)

// live reads a WAL database that applications may have open, in one pinned
// read transaction. Pages with a frame in the WAL come through SQLite; the
// others cannot change in the main file while the transaction lasts (a
// checkpoint copies frames only up to the oldest reader's mark) and are read
// raw, which is several times faster.
func live(ctx context.Context, src *source, opt Options, begin Begin) (Image, error) {
	path, image := src.path, src.image
	tail := opt.Tail
	if tail == nil {
		tail = NewTail(path, opt.Since)
	}
	tail.Poll() //nolint:errcheck // then there is nothing to mark at
	at := tail.mark()
	c, err := connect(ctx, path, "mode=ro", opt.Busy)
	if err != nil {
		return image, err
	}
	defer c.close()
	if err := c.pin(ctx); err != nil {
		return image, err
	}
	defer c.unpin()
	started, walBefore := time.Now(), walSize(path)
	image.At, image.Method = started.UTC(), "live"
	if err := c.geometry(ctx, &image); err != nil {
		return image, err
	}
	src.setImage(image)
	if image.Mark = image.mark(at, nil); tail.Poll() == nil {
		opt.prove(tail, &image)
	}

	r := &liveReader{source: src, conn: c}
	pages := opt.choose(image)
	if r.raw = pages == nil && rawAllowed(); r.raw {
		if r.inWAL, err = touched(path); err != nil {
			return image, err
		}
	}
	if err := r.prepare(ctx); err != nil {
		return image, err
	}
	defer r.page.Close()
	w, err := begin(image)
	if err != nil {
		return image, err
	}
	within := func() error {
		image.WALGrowth = max(image.WALGrowth, walSize(path)-walBefore)
		return opt.within(path, time.Since(started), image.WALGrowth)
	}
	if pages != nil {
		err = r.some(ctx, w, pages, within)
	} else {
		err = r.stream(ctx, w, within)
	}
	if err != nil {
		return image, err
	}
	return image, src.unreplaced()
}

// touched must be called after the transaction is pinned.
func touched(path string) (map[int64]bool, error) {
	w, err := openWAL(path)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.touched()
}

// within is an error when the transaction has cost more than it may.
func (o Options) within(path string, took time.Duration, growth int64) error {
	bound := func(what, setting string) error {
		return again(fault.New(fault.LockBound, "reading %s %s", path, what).
			WithRemedy("Raise `%s` for this database, or back it up at a quieter time.", setting))
	}
	switch {
	case took > o.MaxSnapshot:
		return bound(fmt.Sprintf("took longer than %s, and the WAL cannot be emptied meanwhile", o.MaxSnapshot), "max_snapshot")
	case growth > o.MaxWALGrowth:
		return bound(fmt.Sprintf("let the WAL grow by %d bytes, and %d are allowed", growth, o.MaxWALGrowth), "max_wal_growth")
	}
	return nil
}

// liveReader reads pages inside a pinned transaction.
type liveReader struct {
	*source
	conn  *connection
	raw   bool
	inWAL map[int64]bool
	page  *pageQuery
}

func (r *liveReader) prepare(ctx context.Context) (err error) {
	r.page, err = r.conn.pages(ctx)
	return err
}

func (r *liveReader) stream(ctx context.Context, w io.Writer, within func() error) error {
	buf := make([]byte, chunkSize)
	size := int64(r.image.PageSize)
	for i := range r.chunks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := within(); err != nil {
			return err
		}
		whole := min(chunkSize, r.image.Pages*size-i*chunkSize)
		got := int64(0)
		if r.raw {
			data, err := r.chunk(i, buf)
			if err != nil {
				return err
			}
			got = int64(len(data))
		}
		first := i*chunkSize/size + 1
		for at := int64(0); at < whole; at += size {
			number := first + at/size
			if number == r.lockPage || r.raw && at+size <= got && !r.inWAL[number] {
				continue
			}
			if err := r.page.read(ctx, number, buf[at:at+size]); err != nil {
				return err
			}
		}
		r.blank(i, buf[:whole])
		if _, err := w.Write(buf[:whole]); err != nil {
			return err
		}
	}
	return nil
}

// some reads single pages, ascending.
func (r *liveReader) some(ctx context.Context, w io.Writer, pages []int64, within func() error) error {
	buf := make([]byte, r.image.PageSize)
	for i, number := range pages {
		if i%256 == 0 {
			if err := errors.Join(ctx.Err(), within()); err != nil {
				return err
			}
		}
		if number == r.lockPage {
			clear(buf)
		} else if err := r.page.read(ctx, number, buf); err != nil {
			return err
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
