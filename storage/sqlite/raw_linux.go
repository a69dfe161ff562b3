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

// SQLite's lock bytes, at 1 GiB: PENDING, RESERVED, and 510 SHARED ones.
const (
	pendingByte = 1 << 30
	sharedFirst = pendingByte + 2
	sharedSize  = 510
)

// errHeld says that another process holds a lock that excludes ours.
var errHeld = errors.New("held by another process")

// lockShared takes SQLite's SHARED lock on a raw descriptor, as an open file
// description lock that is independent of this process's other locks.
func lockShared(f *os.File) (unlock func(), err error) {
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: sharedFirst, Len: sharedSize}
	if err := setLock(f, &lock); err != nil {
		return nil, err
	}
	return func() {
		lock.Type = unix.F_UNLCK
		setLock(f, &lock) //nolint:errcheck // closing the descriptor unlocks as well
	}, nil
}

func setLock(f *os.File, lock *unix.Flock_t) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errHeld
	}
	return err
}

// reservedHeld reports whether a process holds SQLite's RESERVED lock.
func reservedHeld(f *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: pendingByte + 1, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return lock.Type != unix.F_UNLCK, err
}

// LockExclusive keeps every SQLite process out of the database at path until
// release is called: it holds the write locks over all of SQLite's lock bytes.
// It is a fault.InUse if anybody holds a lock there now. No SQLite connection
// of this process may have the file open.
func LockExclusive(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, pathError(path, err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: pendingByte, Len: 2 + sharedSize}
	if err := setLock(f, &lock); err != nil {
		f.Close()
		if errors.Is(err, errHeld) {
			return nil, fault.New(fault.InUse, "%s is in use%s", path, heldBy(path))
		}
		return nil, err
	}
	// Unlocked by word: a child between fork and exec shares the description.
	return func() error {
		lock.Type = unix.F_UNLCK
		return errors.Join(setLock(f, &lock), f.Close())
	}, nil
}

// lastChange is the later of a file's two time stamps.
func lastChange(st fs.FileInfo) time.Time {
	last := st.ModTime()
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		if c := time.Unix(s.Ctim.Unix()); c.After(last) {
			last = c
		}
	}
	return last
}

// networks are the statfs magic numbers of network file systems, where the
// shared memory of WAL mode does not work.
var networks = map[int64]string{
	0x6969: "NFS", 0x517B: "SMB", 0xFF534D42: "CIFS", 0xFE534D42: "SMB2", 0x01021997: "9p", 0x00C36400: "Ceph", 0x5346414F: "AFS", 0x0BD00BD0: "Lustre",
}

// fileSystem is statfs, or a test's stand-in.
var fileSystem = func(path string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	return int64(uint32(st.Type)), err
}

func refuseNetwork(path string) error {
	kind, err := fileSystem(path)
	if err != nil {
		return pathError(path, err)
	}
	if name, ok := networks[kind]; ok {
		return fault.New(fault.NetworkFS, "%s is in WAL mode on a network file system (%s)", path, name)
	}
	return nil
}
