package sqlite

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"emsafe/internal/fault"
)

// Not everybody who writes to a database honours its locks: the VFS unix-none
// and nolock=1 take none, unix-dotfile takes others, and a path through another
// file system may not show them. What moves under a lock that keeps writers out
// was moved by such a writer, and what was read meanwhile is not one instant.
//
// Where a rollback journal is written, no commit escapes: one that is going on
// when reading begins or ends has a journal then, and one that ends in between
// changes the change counter. A transaction that spills pages and is rolled back
// in between changes the time stamp, which kernels before 6.13 give to a few
// milliseconds only. With journal_mode=off or memory, a commit that pauses for
// as long as everything is read cannot be seen.

// witness is what a database with a rollback journal looks like under a lock.
type witness struct {
	size    int64
	changed time.Time
	head    [100]byte
}

// witness is an error if a writer is at work in spite of the lock. The journal
// is looked at first, and then the file: what ended in between shows in it.
func (s *source) witness() (witness, error) {
	hot, err := s.abandoned()
	if err != nil {
		return witness{}, err
	}
	if hot {
		return witness{}, again(ignored(s.path, "a rollback journal is being written, and nobody holds the lock of a writer"))
	}
	st, err := s.file.Stat()
	if err != nil {
		return witness{}, err
	}
	w := witness{size: st.Size(), changed: st.ModTime()}
	if _, err := s.file.ReadAt(w.head[:], 0); err != nil && err != io.EOF {
		return w, err
	}
	return w, nil
}

// unmoved is an error if somebody wrote since before, although a SHARED lock was
// held all the time.
func (s *source) unmoved(before witness) error {
	after, err := s.witness()
	if err == nil && after != before {
		err = again(ignored(s.path, "it was written to while a lock kept writers out"))
	}
	return err
}

// ignored is the error of a database with a writer that does not honour locks.
func ignored(path, what string) error {
	return fault.New(fault.LockIgnored, "%s has a writer that does not honour SQLite's locks: %s%s", path, what, heldBy(path))
}

// abandoned reports whether there is a journal with content and nobody holds
// the RESERVED lock that its writer would have. It looks twice, because a
// rollback removes the journal before the lock.
func (s *source) abandoned() (bool, error) {
	for range 2 {
		hot, err := journalHot(s.path + "-journal")
		if !hot || err != nil {
			return false, err
		}
		if reserved, err := reservedHeld(s.file); reserved || err != nil {
			return false, err
		}
	}
	return true, nil
}

// dotLocked is an error if a writer uses unix-dotfile: its lock is a folder
// beside the database, which nobody else looks at.
func dotLocked(path string) error {
	st, err := os.Lstat(path + ".lock")
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil
	}
	if err != nil {
		return pathError(path+".lock", err)
	}
	return ignored(path, "the folder "+path+".lock is a lock of the VFS unix-dotfile")
}

// journalOpen reports whether a process has the journal open: then no crash left
// it.
func journalOpen(ctx context.Context, path string) bool {
	st, err := os.Lstat(path + "-journal")
	if err != nil {
		return false
	}
	dev, ino, _, _ := identity(st)
	who, err := stillOpen(ctx, path+"-journal", fileID{dev, ino})
	return err == nil && who != ""
}

// journalOf is what a journal looks like, to tell one that a crash left from
// those of a writer that is at work.
func journalOf(path string) (witness, bool) {
	st, err := os.Lstat(path + "-journal")
	if err != nil {
		return witness{}, false
	}
	return witness{size: st.Size(), changed: st.ModTime()}, true
}
