package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"emsafe/internal/fault"
)

const (
	// quietFor is how long ago the last change of a file must lie before an
	// unchanged time stamp proves an unchanged file: file systems stamp
	// coarsely.
	quietFor = 2 * time.Second

	// patience is how long a file is waited for that is never quiet.
	patience = 10 * time.Second
)

// cold reads a WAL database without opening SQLite, and so without leaving
// files: its application is not running, or crashed, or has a wal-index that
// this user cannot use. The main file is overlaid with the committed frames of
// the WAL, as recovery would do. src is locked SHARED.
//
// An application that starts meanwhile is not kept out. It makes a -shm, which
// the lock keeps it from removing again: none before and none afterwards
// proves that nobody wrote. Where there is one, the main file's time stamps
// and the WAL's header prove that no checkpoint moved anything.
func cold(ctx context.Context, src *source, opt Options, begin Begin) (Image, error) {
	path := src.path
	hot, err := journalHot(path + "-journal")
	if err != nil {
		return src.image, pathError(path+"-journal", err)
	}
	if hot {
		return src.image, fault.New(fault.HotJournal, "%s is in WAL mode and has a hot journal as well: a change of its journal mode was cut off", path)
	}
	p, err := premise(ctx, src)
	image := src.image
	if err != nil {
		return image, err
	}
	w, err := openWAL(path)
	if err != nil {
		return image, err
	}
	defer w.close()
	image.At, image.Method = time.Now().UTC(), "cold"
	if w == nil { // nothing of it lies beside this name
		if err := src.otherNames(ctx, &image); err != nil {
			return image, err
		}
	}
	frames, err := overlay(w, src, &image)
	if err != nil {
		return image, err
	}
	if len(frames) == 0 && p.unindexed && opt.Since.atRest(src.file, image) && opt.unchanged(&image) {
		if _, err := begin(image); err != nil {
			return image, err
		}
		return image, errors.Join(p.holds(src, w), src.unreplaced())
	}
	rest, at := stampRest(src.file), (*position)(nil)
	if len(frames) > 0 {
		tail := NewTail(path, nil)
		tail.Poll() //nolint:errcheck // then there is nothing to mark at
		rest, at = nil, tail.mark()
	}
	if pages := opt.choose(image); pages != nil {
		return image, errors.New("pages were chosen though nothing was proven")
	}
	out, err := begin(image)
	if err != nil {
		return image, err
	}
	started, buf := time.Now(), make([]byte, chunkSize)
	for i := range src.chunks() {
		if err := ctx.Err(); err != nil {
			return image, err
		}
		if err := opt.within(path, time.Since(started), 0); err != nil {
			return image, err
		}
		if err := coldChunk(src, w, frames, i, buf, out); err != nil {
			return image, err
		}
	}
	if err := p.holds(src, w); err != nil {
		return image, err
	}
	image.Mark = image.mark(at, rest)
	return image, src.unreplaced()
}

// overlay finds the committed frames and the geometry that they lead to.
func overlay(w *wal, src *source, image *Image) (map[int64]int64, error) {
	if w == nil {
		return nil, nil
	}
	frames, pages, err := w.committed()
	if err != nil {
		return nil, err
	}
	if pages == 0 {
		return nil, nil
	}
	if w.pageSize != image.PageSize {
		return nil, fault.New(fault.HotJournal, "%s has pages of %d bytes and its -wal of %d: a VACUUM was cut off", src.path, image.PageSize, w.pageSize)
	}
	image.Pages = pages
	src.image.Pages = pages
	return frames, nil
}

func coldChunk(src *source, w *wal, frames map[int64]int64, i int64, buf []byte, out io.Writer) error {
	size := int64(src.image.PageSize)
	whole := min(chunkSize, src.image.Pages*size-i*chunkSize)
	buf = buf[:whole]
	got, err := src.chunk(i, buf)
	if err != nil {
		return err
	}
	clear(buf[len(got):]) // pages that only the WAL holds
	for at := int64(0); at < whole; at += size {
		where, ok := frames[i*chunkSize/size+at/size+1]
		if !ok {
			continue
		}
		if _, err := w.file.ReadAt(buf[at:at+size], where); err != nil {
			return again(fmt.Errorf("%s: the -wal was cut off: %w", src.path, err))
		}
	}
	src.blank(i, buf)
	_, err = out.Write(buf)
	return err
}

// before is what the proof that nothing moved starts from.
type before struct {
	unindexed bool        // there was no -shm
	quiet     bool        // time stamps tell
	stamps    fs.FileInfo // of the main file
}

// premise looks before anything is read, and waits for time stamps to tell
// where they must.
func premise(ctx context.Context, src *source) (before, error) {
	const pause = 50 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		st, err := src.file.Stat()
		if err != nil {
			return before{}, err
		}
		// A stamp in the future needs no waiting: a write would bring it back
		// to now, and show.
		age := time.Since(lastChange(st))
		b := before{missing(src.path + "-shm"), age < 0 || age >= quietFor, st}
		if b.unindexed || b.quiet {
			return b, src.reread()
		}
		if waited >= patience {
			return b, again(fault.New(fault.Locked, "%s is written to all the time", src.path))
		}
		if err := pauseFor(ctx, pause); err != nil {
			return b, err
		}
	}
}

// holds proves that nothing was written while the file was read.
func (b before) holds(src *source, w *wal) error {
	after, err := src.file.Stat()
	if err != nil {
		return err
	}
	same := after.Size() == b.stamps.Size() && after.ModTime().Equal(b.stamps.ModTime()) && lastChange(after).Equal(lastChange(b.stamps))
	unopened := b.unindexed && missing(src.path+"-shm")
	if !same || !unopened && !b.quiet || w != nil && !w.unrestarted() {
		return again(fault.New(fault.Locked, "an application began to write %s while it was read", src.path))
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}
