// Package sqlite reads databases that other processes write. [Snapshot]
// streams every page of a database as it was at one instant; [Inspect],
// [Find], [Check], [Holders], [Settle] and [LockExclusive] are what backup and
// restore need besides.
//
// Nothing is left beside a source that was not there before, no checkpoint is
// forced, the main file is never written, and writers are kept out no longer
// than the options allow. Locks that other connections of this process hold
// survive: on Linux the package uses open file description locks, and where
// there are none it reads through SQLite alone.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"emsafe/internal/fault"
)

// chunkSize is how much is read and handed on at once: a multiple of every
// page size.
const chunkSize = 1 << 20

// Image describes a snapshot, or a database at rest.
type Image struct {
	PageSize      int    // bytes
	Pages         int64  // of PageSize
	JournalMode   string // as the file says: "wal" or "delete" (any rollback journal)
	Device, Inode uint64
	UID, GID      int
	Owner, Group  string // "" if the host has no name for the number
	Mode          fs.FileMode
	WriterVersion string        // SQLite that wrote last
	At            time.Time     // the instant, UTC
	Held          time.Duration // longest time that writers were kept out; 0 in WAL mode
	WALGrowth     int64         // bytes that the WAL grew meanwhile
	Method        string        // how it was read: live, cold, memory, ahead, settled
}

// Options bound what a snapshot may cost the application. Zero values are the
// defaults.
type Options struct {
	MaxHold      time.Duration // rollback journal: longest time that writers wait; default 250 ms
	AllowBlock   bool          // rollback journal: exceed MaxHold rather than fail
	MaxSnapshot  time.Duration // WAL: longest read transaction; default 10 min
	MaxWALGrowth int64         // WAL: bytes it may grow under the transaction; default 1 GiB
	Busy         time.Duration // how long to wait for an exclusive lock to go; default 5 s
	Attempts     int           // default 3
	Ahead        Ahead         // where pages wait that are copied ahead; needed for large databases with a rollback journal
}

// Ahead keeps chunks of pages that were copied ahead of the settling lock.
// They are plaintext: the implementation must not let them reach a disk in
// clear. Put and Read may be called concurrently for different chunks.
type Ahead interface {
	Put(chunk int64, data []byte) error
	Read(chunk int64, buf []byte) ([]byte, error)
	Reset() error
}

// Begin is called before the first page of every attempt with the geometry and
// returns where the pages go. Another call means that the attempt before was
// given up and what it wrote must be discarded.
type Begin func(Image) (io.Writer, error)

// errAgain is wrapped by an attempt that may succeed when it is repeated.
var errAgain = errors.New("the snapshot must be taken again")

// Snapshot streams all pages of the database at path, in page order, in pieces
// of at most 1 MiB, as they were at one instant. The lock-byte page comes as
// zeros. Errors that an operator must act on are faults.
func Snapshot(ctx context.Context, path string, opt Options, begin Begin) (Image, error) {
	opt = opt.withDefaults()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Image{}, pathError(path, err)
	}
	var last error
	for range opt.Attempts {
		image, err := snapshotOnce(ctx, real, opt, begin)
		if err == nil {
			return image, nil
		}
		if ctx.Err() != nil {
			return Image{}, ctx.Err()
		}
		if last = err; !errors.Is(err, errAgain) {
			return Image{}, err
		}
	}
	return Image{}, last
}

func (o Options) withDefaults() Options {
	if o.MaxHold <= 0 {
		o.MaxHold = 250 * time.Millisecond
	}
	if o.MaxSnapshot <= 0 {
		o.MaxSnapshot = 10 * time.Minute
	}
	if o.MaxWALGrowth <= 0 {
		o.MaxWALGrowth = 1 << 30
	}
	if o.Busy <= 0 {
		o.Busy = 5 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 3
	}
	return o
}

// snapshotOnce chooses the way by what the file is right now.
func snapshotOnce(ctx context.Context, path string, opt Options, begin Begin) (Image, error) {
	image, err := Inspect(path)
	if err != nil {
		return image, err
	}
	if image.JournalMode != "wal" {
		return rollback(ctx, path, image, opt, begin)
	}
	if err := refuseNetwork(path); err != nil {
		return image, err
	}
	for _, ext := range []string{"-shm", "-wal"} {
		if _, err := os.Lstat(path + ext); errors.Is(err, fs.ErrNotExist) {
			// Nobody has it open. SQLite would leave -wal and -shm behind,
			// perhaps owned by a user that shuts the application out.
			return cold(ctx, path, image, opt, begin)
		}
	}
	got, err := live(ctx, path, image, opt, begin)
	if errors.Is(err, errNoIndex) {
		return cold(ctx, path, image, opt, begin)
	}
	return got, err
}

// source is the main file, open for raw reading.
type source struct {
	file     *os.File
	path     string
	image    Image
	lockPage int64 // number of the page that SQLite locks in and never uses
}

func openSource(path string, image Image) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	s := &source{file: f, path: path, image: image, lockPage: 1<<30/int64(image.PageSize) + 1}
	if err := s.unreplaced(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) close() { s.file.Close() }

// unreplaced is an error unless the path still names the file that was
// inspected and opened.
func (s *source) unreplaced() error {
	open, err := s.file.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = os.Stat(s.path); err == nil {
			dev, ino, _, _ := identity(open)
			if os.SameFile(open, named) && dev == s.image.Device && ino == s.image.Inode {
				return nil
			}
		}
	}
	return fault.New(fault.Replaced, "%s was replaced by another file while it was read", s.path)
}

// chunk reads the pages of one chunk raw. It returns fewer bytes where the
// file ends early.
func (s *source) chunk(i int64, buf []byte) ([]byte, error) {
	offset := i * chunkSize
	want := min(chunkSize, s.image.Pages*int64(s.image.PageSize)-offset)
	n, err := s.file.ReadAt(buf[:want], offset)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", s.path, err)
	}
	return buf[:n], nil
}

// chunks is how many chunks the image has.
func (s *source) chunks() int64 {
	return (s.image.Pages*int64(s.image.PageSize) + chunkSize - 1) / chunkSize
}

// blank zeroes the lock-byte page if it lies in the chunk: its bytes are no
// content, and may differ from one file system to the next.
func (s *source) blank(i int64, data []byte) {
	size := int64(s.image.PageSize)
	at := (s.lockPage-1)*size - i*chunkSize
	if at >= 0 && at < int64(len(data)) {
		clear(data[at:min(at+size, int64(len(data)))])
	}
}
