package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/durable"
)

// markName is the file in a set-aside folder that says that its switch has not
// been completed. It is removed as the last step.
const (
	markName   = "unfinished.json"
	comingName = "unfinished-2.json" // of a second restore, over what the first one placed
)

// The operations that set a database aside.
const (
	opRestore = "restore"
	opUndo    = "undo"
)

// mark knows the file that an operation was about to place, and places with its
// inode: with it, a run after a kill finds out whether what lies at the
// destination is that file.
type mark struct {
	Operation string `json:"operation"`
	Device    uint64 `json:"device"`
	Inode     uint64 `json:"inode"`
	Size      int64  `json:"size"`
	Changed   int64  `json:"modified_ns"`
}

func markOf(operation string, st fs.FileInfo) (m mark, ok bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return m, false
	}
	return mark{operation, uint64(s.Dev), s.Ino, st.Size(), st.ModTime().UnixNano()}, true //nolint:unconvert,gosec // of other types elsewhere
}

// setAside hard-links the named files of a set into a fresh folder: the old
// database survives its name.
func (s *staged) setAside(destination, note string, now time.Time, exts []string) (string, error) {
	aside := nextAside(destination, now).path
	if err := os.Mkdir(aside, 0o700); err != nil {
		return "", err
	}
	err := s.fillAside(aside, destination, note, exts)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(aside))
	}
	if err != nil {
		os.RemoveAll(aside) //nolint:errcheck // the first error counts
		return "", fmt.Errorf("set the old database aside: %w", err)
	}
	return aside, nil
}

// fillAside works on the folder's descriptor: the folder around it may be
// another user's, who could put a link in its place.
func (s *staged) fillAside(aside, destination, note string, exts []string) error {
	dir, err := openOwn(aside)
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := os.Lstat(s.path)
	if err != nil {
		return err
	}
	if m, ok := markOf(s.operation, st); ok {
		data, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := writeIn(dir, markName, data); err != nil {
			return err
		}
	}
	if err := writeIn(dir, noteName, []byte(note+"\n")); err != nil {
		return err
	}
	for _, ext := range exts {
		if err := unix.Linkat(unix.AT_FDCWD, destination+ext, int(dir.Fd()), filepath.Base(destination)+ext, 0); err != nil {
			return &fs.PathError{Op: "link", Path: destination + ext, Err: err}
		}
	}
	return dir.Sync()
}

// renew makes an unfinished folder that of this restore.
func (s *staged) renew(aside, destination, note string) error {
	dir, err := openOwn(aside)
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := s.file.Stat()
	if err != nil {
		return err
	}
	// Both marks are there during the switch: one is of the file that is at the
	// destination now, the other of the one that comes.
	fd := int(dir.Fd())
	if now, err := os.Lstat(destination); err == nil {
		m, _ := markOf(s.operation, now)
		if coming, ok := readMark(filepath.Join(aside, comingName)); ok && coming == m {
			if err := unix.Renameat(fd, comingName, fd, markName); err != nil {
				return err
			}
		}
	}
	m, _ := markOf(s.operation, st)
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{noteName: []byte(note + "\n"), comingName: data} {
		if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := writeIn(dir, name, text); err != nil {
			return err
		}
	}
	return dir.Sync()
}

// openOwn opens a folder that this process made.
func openOwn(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	st, err := dir.Stat()
	if err == nil {
		if o := ownershipOf(st); o != nil && o.uid != os.Geteuid() && o.uid != 0 {
			err = fmt.Errorf("%s was replaced by a folder of user %s", path, userName(o.uid))
		}
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

func writeIn(dir *os.File, name string, data []byte) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// settled says that a restore is complete; an undo is when the folder that it
// emptied is gone.
func (s *staged) settled(aside string) error {
	if s.operation != opRestore {
		return nil
	}
	return settled(aside)
}

// settled says that a switch is complete.
func settled(aside string) error {
	if aside == "" {
		return nil
	}
	for _, name := range []string{comingName, markName} {
		if err := os.Remove(filepath.Join(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(aside)
}

// unfinished is the newest set-aside folder, if the operation that made it has
// placed its file at the destination and was killed before it could say so. For
// a restore the file must not have been written to since, nor have sidecars
// that hold anything: then it is a copy of a backup, and nobody's data.
func unfinished(destination, operation string) string {
	all := asides(destination)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1].path
	st, err := os.Lstat(destination)
	if err != nil {
		return ""
	}
	for _, name := range []string{markName, comingName} {
		placed, ok := readMark(filepath.Join(last, name))
		now, known := markOf(operation, st)
		if !ok || !known || placed.Operation != operation || placed.Device != now.Device || placed.Inode != now.Inode {
			continue
		}
		if operation == opUndo || placed == now && !heldBeside(destination) {
			return last
		}
	}
	return ""
}

func heldBeside(destination string) bool {
	for _, ext := range []string{"-wal", "-journal"} {
		if st, err := os.Lstat(destination + ext); err == nil && st.Size() > 0 {
			return true
		}
	}
	return false
}

func readMark(file string) (m mark, ok bool) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return m, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<12))
	return m, err == nil && json.Unmarshal(data, &m) == nil
}
