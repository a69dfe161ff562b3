package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Folder is a private folder for what must not outlive its process. The kernel
// holds a lock on the folder itself while the process lives: whoever gets the
// lock knows that the folder is litter, whatever is or is not in it, and
// whichever process has the number now.
type Folder struct {
	Path string
	dir  *os.File
}

// NewFolder makes a folder in base whose name begins with prefix.
func NewFolder(base, prefix string) (*Folder, error) {
	for {
		path, err := os.MkdirTemp(base, prefix)
		if err != nil {
			return nil, err
		}
		dir, err := openFolder(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a sweep came before the lock
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		// A file system without locks on folders, as NFS: there a sweep gets
		// none either, and leaves the folder alone.
		unlockable := err != nil && !errors.Is(err, unix.EWOULDBLOCK)
		if (err == nil || unlockable) && sameAsOpen(path, dir) {
			return &Folder{path, dir}, nil
		}
		dir.Close()
	}
}

// Keep gives the lock back and leaves the folder, which has another name by now.
func (f *Folder) Keep() error { return unlockFile(f.dir) }

// Dir is the folder's descriptor: changes through it cannot be led elsewhere.
func (f *Folder) Dir() *os.File { return f.dir }

// Remove removes the folder and what is in it, and only then gives the lock
// back: what a kill interrupts, the next sweep completes.
func (f *Folder) Remove() error {
	err := os.RemoveAll(f.Path)
	if err != nil {
		err = os.RemoveAll(f.Path) // what hindered it may have passed
	}
	return errors.Join(err, unlockFile(f.dir))
}

// unlockFile does so by word: a child between fork and exec has the descriptor
// too, and would keep the lock for a moment.
func unlockFile(f *os.File) error {
	unix.Flock(int(f.Fd()), unix.LOCK_UN) //nolint:errcheck // closing unlocks as well
	return f.Close()
}

// SweepFolders removes the folders in base that processes of this user left
// which no longer live. Folders of living processes and of other users are left
// alone, and no link is followed. The errors are of what could not be removed.
func SweepFolders(base, prefix string) error {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // this user left nothing there
	}
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.IsDir() {
			failed = append(failed, sweepFolder(filepath.Join(base, e.Name())))
		}
	}
	return errors.Join(failed...)
}

func sweepFolder(path string) error {
	dir, err := openFolder(path)
	if err != nil {
		return nil // gone, another user's, or no folder
	}
	defer unlockFile(dir) //nolint:errcheck // it was only looked at
	st, err := dir.Stat()
	if err != nil {
		return nil
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return nil
	}
	if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || lockedInside(path) || !sameAsOpen(path, dir) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("what a process left that has ended could not be removed: %w", err)
	}
	return nil
}

// lockedInside reports whether an earlier version of emsafe uses the folder: it
// locked a file in it.
func lockedInside(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

func openFolder(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func sameAsOpen(path string, f *os.File) bool {
	named, err1 := os.Lstat(path)
	open, err2 := f.Stat()
	return err1 == nil && err2 == nil && os.SameFile(named, open)
}

// SweepFiles removes the regular files in dir whose names begin with prefix and
// end with suffix, if nobody holds a lock on them, as their makers do while they
// live. The owner does not tell whose they are: a restored file is given to the
// user whom the database belongs to.
func SweepFiles(dir, prefix, suffix string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		if e.Type().IsRegular() && len(e.Name()) >= len(prefix)+len(suffix) && strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), suffix) {
			failed = append(failed, sweepFile(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(failed...)
}

func sweepFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer unlockFile(f) //nolint:errcheck // it was only looked at
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !sameAsOpen(path, f) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("what a process left that has ended could not be removed: %w", err)
	}
	return nil
}

// NewFile makes a file with a name that is free, and locks it, so that
// SweepFiles leaves it alone while this process lives. Path gives another name
// each time that it is asked.
func NewFile(path func() string) (*os.File, error) {
	for {
		name := path()
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameAsOpen(name, f) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), os.Remove(name))
		}
	}
}
