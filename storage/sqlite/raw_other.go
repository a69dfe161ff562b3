//go:build !linux

package sqlite

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
)

const (
	pendingByte = 1 << 30
	sharedFirst = pendingByte + 2
	sharedSize  = 510
)

var errHeld = errors.New("held by another process")

// lockShared takes SQLite's SHARED lock. Without open file description locks
// it belongs to the process, and is lost when any descriptor of the file is
// closed: emsafe then reads one database at a time.
func lockShared(f *os.File) (unlock func(), err error) {
	if err := setLock(f, unix.F_RDLCK, sharedFirst, sharedSize); err != nil {
		return nil, err
	}
	return func() { setLock(f, unix.F_UNLCK, sharedFirst, sharedSize) }, nil //nolint:errcheck // closing unlocks as well
}

func setLock(f *os.File, kind int16, start, length int64) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errHeld
	}
	return err
}

// reservedHeld reports whether a process holds SQLite's RESERVED lock.
func reservedHeld(f *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: pendingByte + 1, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return lock.Type != unix.F_UNLCK, err
}

// LockExclusive keeps every SQLite process out of the database at path until
// release is called. It is a fault.InUse if anybody holds a lock there now. No
// SQLite connection of this process may have the file open.
func LockExclusive(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, pathError(path, err)
	}
	if err := setLock(f, unix.F_WRLCK, pendingByte, 2+sharedSize); err != nil {
		f.Close()
		if errors.Is(err, errHeld) {
			return nil, fault.New(fault.InUse, "%s is in use%s", path, heldBy(path))
		}
		return nil, err
	}
	return f.Close, nil
}

func lastChange(st fs.FileInfo) time.Time {
	last := st.ModTime()
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		if c := time.Unix(s.Ctimespec.Unix()); c.After(last) {
			last = c
		}
	}
	return last
}

func refuseNetwork(string) error { return nil }
