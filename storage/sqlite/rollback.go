package sqlite

import (
	"context"
	"errors"
	"io"
	"time"

	"emsafe/internal/fault"
)

// inMemory is the size up to which a database is simply read into memory under
// one short lock.
const inMemory = 32 << 20

// rollback reads a database with a rollback journal, where a reader's SHARED
// lock keeps every commit waiting. Small ones are read into memory under one
// lock. Larger ones are copied ahead in slices, each under its own short lock;
// if nothing was committed meanwhile that is the snapshot, and otherwise one
// more short lock settles it: every page is compared with its copy, and the
// few that differ are taken along.
func rollback(ctx context.Context, path string, image Image, opt Options, begin Begin) (Image, error) {
	c, err := connect(ctx, path, "mode=ro", opt.Busy)
	if err != nil {
		return image, err
	}
	defer c.close()
	r := &rollbackReader{conn: c, opt: opt, path: path, image: image}
	// The first lock tells whether files may be read raw; then they are
	// opened.
	if err := r.hold(ctx, func(time.Time) error { return nil }); err != nil {
		return image, err
	}
	if !rawAllowed() {
		return r.slow(ctx, begin)
	}
	if r.src, err = openSource(path, r.image); err != nil {
		return image, err
	}
	defer r.src.close()
	if r.src.severalNames() {
		if err := r.src.otherNames(ctx, &r.image); err != nil {
			return image, err
		}
	}
	if same, err := r.same(ctx, begin); same || err != nil {
		return r.image, err
	}
	if opt.choose(r.image) != nil {
		return image, errors.New("pages were chosen though nothing was proven")
	}
	if r.src.bytes() <= inMemory {
		done, err := r.memory(ctx, begin)
		if done || err != nil {
			return r.image, err
		}
	}
	if opt.Ahead == nil {
		return image, errors.New("no place was given to copy pages ahead to")
	}
	if err := r.copyAhead(ctx); err != nil {
		return image, err
	}
	if err := r.deliver(ctx, begin); err != nil {
		return r.image, err
	}
	r.image.Mark = r.image.mark(nil, r.rest)
	return r.image, r.src.unreplaced()
}

// same reports whether the file is as it was at the mark that was given, and
// the caller is content with that.
func (r *rollbackReader) same(ctx context.Context, begin Begin) (same bool, err error) {
	err = r.hold(ctx, func(since time.Time) error {
		same = r.opt.Since.atRest(r.src.file, r.image)
		r.image.At, r.image.Method = since.UTC(), "memory"
		return nil
	})
	if err != nil || !same || !r.opt.unchanged(&r.image) {
		return false, err
	}
	_, err = begin(r.image)
	return true, errors.Join(err, r.src.unreplaced())
}

func (s *source) bytes() int64 { return s.image.Pages * int64(s.image.PageSize) }

type rollbackReader struct {
	conn  *connection
	src   *source
	opt   Options
	path  string
	image Image
	rest  *restStamp // of the last hold
	ahead copied
}

// version is what every commit changes.
type version struct {
	counter  uint32
	pages    int64
	pageSize int
}

// hold runs do while writers are kept out, with the moment since when they
// are, and keeps the longest hold.
func (r *rollbackReader) hold(ctx context.Context, do func(since time.Time) error) error {
	if err := r.conn.pin(ctx); errors.Is(err, fault.Corrupt) {
		return again(err) // or a writer that honours no lock was at it
	} else if err != nil {
		return err
	}
	since := time.Now()
	defer func() {
		r.conn.unpin()
		r.image.Held = max(r.image.Held, time.Since(since))
	}()
	if r.conn.journalMode(ctx) == "wal" {
		return again(fault.New(fault.Locked, "%s was switched to WAL mode while it was read", r.path))
	}
	if err := r.conn.geometry(ctx, &r.image); err != nil {
		return err
	}
	if r.src != nil {
		if r.image.PageSize != r.src.image.PageSize {
			return again(fault.New(fault.Locked, "the page size of %s was changed while it was read", r.path))
		}
		if err := r.src.unreplaced(); err != nil {
			return err
		}
		r.src.image = r.image
		r.rest = stampRest(r.src.file)
		return r.witnessed(since, do)
	}
	return do(since)
}

// witnessed runs do, and proves that nobody wrote meanwhile.
func (r *rollbackReader) witnessed(since time.Time, do func(since time.Time) error) error {
	if err := dotLocked(r.path); err != nil {
		return err
	}
	before, err := r.src.witness()
	if err == nil {
		err = do(since)
	}
	if err != nil {
		return err
	}
	return r.src.unmoved(before)
}

func (c *connection) journalMode(ctx context.Context) (mode string) {
	// An error shows at the next statement.
	c.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode) //nolint:errcheck
	return mode
}

// tooLong is the error of a hold that would exceed its bound.
func (r *rollbackReader) tooLong(doing string) error {
	return fault.New(fault.LockBound, "%s has a rollback journal, and %s would keep its writers out for longer than %s", r.path, doing, r.opt.MaxHold).
		WithRemedy("Raise `max_hold` for this database (below the application's busy timeout), set `allow_block: true`, or switch the database to WAL: sqlite3 %s 'PRAGMA journal_mode=wal'.", fault.Shell(r.path))
}

// memory reads the whole file under one lock. It is not done if that took too
// long, on a slow disk.
func (r *rollbackReader) memory(ctx context.Context, begin Begin) (done bool, err error) {
	var data []byte
	err = r.hold(ctx, func(since time.Time) error {
		r.image.At, r.image.Method = since.UTC(), "memory"
		buf := make([]byte, r.src.bytes())
		for i := range r.src.chunks() {
			if time.Since(since) > r.opt.MaxHold*9/10 {
				return nil
			}
			at := i * chunkSize
			got, err := r.src.chunk(i, buf[at:min(at+chunkSize, int64(len(buf)))])
			if err != nil {
				return err
			}
			r.src.blank(i, buf[at:at+int64(len(got))])
		}
		data = buf
		return nil
	})
	if err != nil || data == nil {
		return false, err
	}
	w, err := begin(r.image)
	if err != nil {
		return false, err
	}
	for len(data) > 0 {
		n := min(chunkSize, len(data))
		if _, err := w.Write(data[:n]); err != nil {
			return false, err
		}
		data = data[n:]
	}
	r.image.Mark = r.image.mark(nil, r.rest)
	return true, r.src.unreplaced()
}

// slow reads through SQLite alone, under one lock: where files must not be
// read raw there is no faster way that is safe.
func (r *rollbackReader) slow(ctx context.Context, begin Begin) (Image, error) {
	err := r.hold(ctx, func(since time.Time) error {
		src, err := openSource(r.path, r.image)
		if err != nil {
			return err
		}
		// Closed after the lock is gone: closing would drop it.
		r.src = src
		r.image.At, r.image.Method = since.UTC(), "dbpage"
		lr := &liveReader{source: src, conn: r.conn}
		if err := lr.prepare(ctx); err != nil {
			return err
		}
		defer lr.page.Close()
		w, err := begin(r.image)
		if err != nil {
			return err
		}
		return lr.stream(ctx, w, func() error {
			if time.Since(since) > r.opt.MaxHold && !r.opt.AllowBlock {
				return r.tooLong("reading it")
			}
			return nil
		})
	})
	if r.src != nil {
		defer r.src.close()
	}
	if err != nil {
		return r.image, err
	}
	return r.image, r.src.unreplaced()
}

// deliver streams the copies, with the settled pages laid over them.
func (r *rollbackReader) deliver(ctx context.Context, begin Begin) error {
	w, err := begin(r.image)
	if err != nil {
		return err
	}
	size := int64(r.image.PageSize)
	buf, out := make([]byte, 0, chunkSize), make([]byte, chunkSize)
	for i := range r.src.chunks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		whole := min(chunkSize, r.src.bytes()-i*chunkSize)
		data := buf[:0]
		if i < r.ahead.chunks || r.ahead.taken[i] {
			if data, err = r.opt.Ahead.Read(i, buf); err != nil {
				return err
			}
		}
		out = out[:whole]
		clear(out[copy(out, data):]) // pages that came after the copy
		for at := int64(0); at < whole; at += size {
			if page, ok := r.ahead.changed[i*chunkSize/size+at/size]; ok {
				copy(out[at:at+size], page)
			}
		}
		r.src.blank(i, out)
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
	return nil
}

// version reads the change counter raw, under the lock.
func (s *source) version() (version, error) {
	var head [32]byte
	if _, err := s.file.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return version{}, err
	}
	return version{beUint32(head[24:]), s.image.Pages, s.image.PageSize}, nil
}

func beUint32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
