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

	// Unestablished is what could not be known of who else uses the database, in
	// sentences. The snapshot is right if none of it is the case.
	Unestablished []string

	Mark    *Mark   // for the next snapshot's Since; nil if nothing could be proven from here
	Proven  bool    // only pages in Changed can differ from the snapshot that Since is of
	Changed []int64 // with Proven: ascending page numbers from 1, at most Pages; may be empty
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

	Since  *Mark               // of the earlier snapshot; nil if there is none
	Tail   *Tail               // follows the -wal between snapshots; nil: only what lies there now counts
	Select func(Image) []int64 // called before begin on every attempt: the pages to stream, ascending; nil result (or nil func): all pages
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

// errAgain marks the error of an attempt that may succeed when it is repeated.
var errAgain = errors.New("the snapshot must be taken again")

// again marks err; the mark is for Snapshot, and not shown to anybody.
func again(err error) error { return repeatable{err} }

type repeatable struct{ error }

func (r repeatable) Unwrap() []error { return []error{r.error, errAgain} }

// Snapshot streams all pages of the database at path, in page order, in pieces
// of at most 1 MiB, as they were at one instant. The lock-byte page comes as
// zeros. Errors that an operator must act on are faults.
func Snapshot(ctx context.Context, path string, opt Options, begin Begin) (Image, error) {
	opt = opt.withDefaults()
	real, err := resolve(path)
	if err != nil {
		return Image{}, err
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

func (i *Image) unestablished(format string, args ...any) {
	i.Unestablished = append(i.Unestablished, fmt.Sprintf(format, args...))
}

// snapshotOnce chooses the way by what the file is right now.
func snapshotOnce(ctx context.Context, path string, opt Options, begin Begin) (Image, error) {
	image, err := Inspect(path)
	if err != nil {
		return image, err
	}
	if err := opt.Since.refuseReplaced(ctx, path, image); err != nil {
		return image, err
	}
	if err := refuseIrregular(path); err != nil {
		return image, err
	}
	if err := refuseOverlay(ctx, path); err != nil {
		return image, err
	}
	if image.JournalMode != "wal" {
		return rollback(ctx, path, image, opt, begin)
	}
	if err := refuseNetwork(path); err != nil {
		return image, err
	}
	return walMode(ctx, path, image, opt, begin)
}

// walMode holds a SHARED lock of its own before it looks for the wal-index.
// Under it nobody removes -wal and -shm or leaves WAL mode, because both need
// the exclusive lock: what is there stays, and what appears shows.
func walMode(ctx context.Context, path string, image Image, opt Options, begin Begin) (Image, error) {
	src, err := openSource(path, image)
	if err != nil {
		return image, err
	}
	// Closed after SQLite's connection: where there are no open file
	// description locks, closing drops that one's locks as well.
	defer src.close()
	unlock, err := src.share(ctx, opt.Busy)
	if errors.Is(err, errHeld) {
		return image, fault.New(fault.Locked, "%s is locked exclusively%s", path, heldBy(path))
	}
	locked := err == nil
	if locked {
		defer unlock()
	}
	if err := src.reread(); err != nil {
		return image, err
	}
	indexed := !missing(path+"-shm") && !missing(path+"-wal")
	switch {
	case indexed && src.severalNames():
		if err := src.otherNames(ctx, &src.image); err != nil {
			return src.image, err
		}
		fallthrough
	case indexed:
		got, lerr := live(ctx, src, opt, begin)
		if !locked || !errors.Is(lerr, errNoIndex) && !errors.Is(lerr, fault.Permission) {
			return got, lerr
		}
		got, err := cold(ctx, src, opt, begin)
		if errors.Is(err, errAgain) {
			return got, again(fault.New(fault.Permission, "%s is in use, and its -shm cannot be used by this user: %w", path, lerr).
				WithRemedy("Run as the owner of %s-shm or as root.", path))
		}
		return got, err
	case !locked:
		return image, err // a file system without locks: nothing can be proven
	}
	// Nobody has it open. SQLite would leave -wal and -shm behind, perhaps
	// owned by a user that shuts the application out.
	return cold(ctx, src, opt, begin)
}

// source is the main file, open for raw reading.
type source struct {
	file     *os.File
	path     string
	image    Image
	lockPage int64 // number of the page that SQLite locks in and never uses
}

func openSource(path string, image Image) (*source, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	s := &source{file: f, path: path}
	s.setImage(image)
	if err := s.unreplaced(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) close() { s.file.Close() }

// share takes SQLite's SHARED lock, and waits up to busy for an exclusive one
// to go: an application that closes holds one for a moment.
func (s *source) share(ctx context.Context, busy time.Duration) (unlock func(), err error) {
	const pause = 5 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		unlock, err := lockShared(s.file)
		if !errors.Is(err, errHeld) || waited >= busy {
			return unlock, err
		}
		if err := pauseFor(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// reread takes the header anew, under a lock: it may have changed since it was
// read without one.
func (s *source) reread() error {
	image, err := inspectOpen(s.path, s.file)
	if err != nil {
		return err
	}
	if image.JournalMode != s.image.JournalMode {
		return again(fault.New(fault.Locked, "%s changed its journal mode while it was read", s.path))
	}
	s.setImage(image)
	return s.unreplaced()
}

func (s *source) setImage(image Image) {
	s.image, s.lockPage = image, 1<<30/int64(image.PageSize)+1
}

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
