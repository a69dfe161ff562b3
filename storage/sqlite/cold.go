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

// quietFor is how long ago the last change of a file must lie before an
// unchanged time stamp proves an unchanged file: file systems stamp coarsely.
const quietFor = 2 * time.Second

// cold reads a WAL database that no SQLite connection has a wal-index for: its
// application is not running, or crashed. The main file is overlaid with the
// committed frames of the WAL, as recovery would do, without opening SQLite
// and so without leaving files; afterwards time stamps and the WAL's header
// prove that nothing moved. An application that starts meanwhile is not kept
// out: if it checkpointed, the attempt is repeated.
func cold(ctx context.Context, path string, image Image, opt Options, begin Begin) (Image, error) {
	src, err := openSource(path, image)
	if err != nil {
		return image, err
	}
	defer src.close()
	unlock, err := lockShared(src.file)
	if err != nil {
		return image, sharedError(path, err)
	}
	defer unlock()
	before, err := settled(ctx, src.file)
	if err != nil {
		return image, err
	}
	if _, err := os.Lstat(path + "-journal"); err == nil {
		return image, fault.New(fault.HotJournal, "%s is in WAL mode and has a -journal as well: a change of its journal mode was cut off", path)
	}
	w, err := openWAL(path)
	if err != nil {
		return image, err
	}
	defer w.close()
	image.At, image.Method = time.Now().UTC(), "cold"
	frames, err := overlay(w, src, &image)
	if err != nil {
		return image, err
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
	return image, unmoved(src, w, before)
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
			return fmt.Errorf("%s: the -wal was cut off: %w", src.path, errAgain)
		}
	}
	src.blank(i, buf)
	_, err = out.Write(buf)
	return err
}

// settled waits until the file's last change lies far enough back, and returns
// its state then.
func settled(ctx context.Context, f *os.File) (fs.FileInfo, error) {
	for {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		wait := quietFor - time.Since(lastChange(st))
		// A stamp in the future needs no waiting: a write would bring it back
		// to now, and show.
		if wait <= 0 || wait > quietFor {
			return st, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// unmoved proves that nothing was written while the file was read.
func unmoved(src *source, w *wal, before fs.FileInfo) error {
	after, err := src.file.Stat()
	if err != nil {
		return err
	}
	same := after.Size() == before.Size() && after.ModTime().Equal(before.ModTime()) && lastChange(after).Equal(lastChange(before))
	if !same || w != nil && !w.unrestarted() {
		return fault.New(fault.Locked, "an application began to write %s while it was read: %w", src.path, errAgain)
	}
	return src.unreplaced()
}

func sharedError(path string, err error) error {
	if errors.Is(err, errHeld) {
		return fault.New(fault.Locked, "%s is locked exclusively%s", path, heldBy(path))
	}
	return err
}
