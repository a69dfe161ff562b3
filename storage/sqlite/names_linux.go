package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
)

// A database is a device and an inode. SQLite looks for its -wal and its
// journal beside the name by which it was opened, so that a hard link or a bind
// mount of the file alone hides them from whoever has another name.

// otherNames is an error if something of the database lies, or may lie, beside
// another name than the source's. It is asked where nothing lies beside that
// one. What could not be established is said in the image.
func (s *source) otherNames(ctx context.Context, image *Image) error {
	id := fileID{image.Device, image.Inode}
	names, all, err := s.links(ctx, id)
	if err != nil {
		return err
	}
	held, err := s.heldElsewhere(id, image)
	if err != nil {
		return err
	}
	for _, name := range append(held, names...) {
		if err := s.beside(name); err != nil {
			return err
		}
	}
	if !all {
		return fault.New(fault.OtherName, "%s has %d names (hard links), and not all of the others were found: a -wal or a journal may lie beside one of them", s.path, s.linkCount()).
			WithRemedy("`find / -xdev -samefile %s` names them. Remove those that are not needed, or configure the one that the application uses.", fault.Shell(s.path))
	}
	return nil
}

// beside is an error if a -wal or a journal with content lies beside a name.
func (s *source) beside(n otherName) error {
	if n.path == s.path && !n.elsewhere {
		return nil
	}
	for _, ext := range []string{"-wal", "-journal"} {
		there, err := os.Lstat(n.root + n.path + ext)
		if err != nil || there.Size() == 0 {
			continue
		}
		if here, err := os.Lstat(s.path + ext); err == nil && os.SameFile(here, there) {
			continue // the same folder under another name
		}
		if ext == "-journal" {
			if hot, err := journalHot(n.root + n.path + ext); err == nil && !hot {
				continue
			}
			if reserved, err := reservedHeld(s.file); err == nil && reserved {
				continue // of a writer at work, which waits for this lock
			}
		}
		who := ""
		if n.by != "" {
			who = " by " + n.by
		}
		return fault.New(fault.OtherName, "%s is used%s as %s, and %s%s lies there: what it holds is not in the file", s.path, who, n.path, filepath.Base(n.path), ext)
	}
	return nil
}

// otherName is a name of the database file, as a process sees it under root.
type otherName struct {
	root, path string
	elsewhere  bool   // another process's view of the file system
	by         string // who has it open; "" if nobody is known
}

// severalNames reports whether the file is known to have more than one.
func (s *source) severalNames() bool {
	mounted, err := mountsOf(fileID{s.image.Device, s.image.Inode})
	return s.linkCount() > 1 || err == nil && len(mounted) > 0
}

func (s *source) linkCount() uint64 {
	st, err := s.file.Stat()
	if err != nil {
		return 0
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(sys.Nlink) //nolint:unconvert // not the same on all architectures
	}
	return 1
}

// mostSearched is how many files are looked at for the other names of one.
const mostSearched = 20000

// links finds the hard links of the file, and files that are mounted over, as
// far as the folders around it and this process's mounts show; all is false if
// there are more.
func (s *source) links(ctx context.Context, id fileID) (names []otherName, all bool, err error) {
	mounted, err := mountsOf(id)
	if err != nil {
		return nil, false, err
	}
	want := int(s.linkCount()) //nolint:gosec // a small number
	if want < 2 {
		return mounted, true, nil
	}
	found, seen := map[string]bool{}, 0
	dir := filepath.Dir(s.path)
	for range 3 { // the folder, the one around it, and one more
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if seen++; seen > mostSearched || ctx.Err() != nil {
				return fs.SkipAll
			}
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if st, err := d.Info(); err == nil && idOf(st) == id {
				found[path] = true
			}
			return nil
		})
		if err != nil || len(found) >= want || seen > mostSearched {
			break
		}
		dir = filepath.Dir(dir)
	}
	for path := range found {
		names = append(names, otherName{path: path})
	}
	return append(names, mounted...), len(found) >= want, ctx.Err()
}

func idOf(st fs.FileInfo) fileID {
	dev, ino, _, _ := identity(st)
	return fileID{dev, ino}
}

// holder is a process that has a file open under a name.
type holder struct {
	pid  int
	path string
	ours bool // it sees the same file system as this process
}

func (h holder) name() otherName {
	n := otherName{path: h.path, elsewhere: !h.ours, by: whoIs(h.pid)}
	if !h.ours {
		n.root = filepath.Join("/proc", strconv.Itoa(h.pid), "root")
	}
	return n
}

func whoIs(pid int) string {
	p := process(pid)
	return fmt.Sprintf("%s (process %d, user %s)", p.Name, p.PID, p.User)
}

// lockers are the other processes that hold a lock on the file. In WAL mode
// every connection holds one for as long as it is open, so that this is who
// can have a -wal somewhere; everybody may read it, of all users.
func lockers(id fileID) (pids []int, err error) {
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		// 1: POSIX  ADVISORY  READ 4711 fe:00:1234 1073741826 1073742335
		f := strings.Fields(line)
		if len(f) < 8 || f[1] == "->" || f[1] != "POSIX" {
			continue
		}
		place := strings.Split(f[5], ":")
		if len(place) != 3 || place[2] != strconv.FormatUint(id.ino, 10) {
			continue
		}
		major, _ := strconv.ParseUint(place[0], 16, 32) //nolint:errcheck // the kernel's own
		minor, _ := strconv.ParseUint(place[1], 16, 32) //nolint:errcheck // the kernel's own
		// A file system with subvolumes gives its files other devices.
		if dev := unix.Mkdev(uint32(major), uint32(minor)); dev != id.dev && unix.Major(id.dev) != 0 {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 && pid != os.Getpid() && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// held are the names under which a process has the file open; known is false if
// this user may not look.
func held(pid int, id fileID) (names []otherName, known bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, errors.Is(err, fs.ErrNotExist) // it has ended
	}
	same := func(what string) bool {
		its, err := os.Readlink(filepath.Join(dir, what))
		mine, merr := os.Readlink(filepath.Join("/proc/self", what))
		return err == nil && merr == nil && its == mine
	}
	for _, fd := range fds {
		link := filepath.Join(dir, "fd", fd.Name())
		path, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(path, "/") {
			continue
		}
		if st, err := os.Stat(link); err == nil && st.Mode().IsRegular() && idOf(st) == id {
			names = append(names, holder{pid, strings.TrimSuffix(path, " (deleted)"), same("ns/mnt") && same("root")}.name())
		}
	}
	return names, true
}

// stillOpen names a process that has a file open which lay at a path before; ""
// if none is seen.
func stillOpen(ctx context.Context, path string, id fileID) (string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", nil //nolint:nilerr // no /proc: nothing is known
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
		names, _ := held(pid, id)
		for _, n := range names {
			if filepath.Base(n.path) == filepath.Base(path) { // else the number was given to another file
				return n.by, nil
			}
		}
	}
	return "", nil
}

// initialPIDs is the pid namespace of the machine itself, by the number that the
// kernel gives it.
const initialPIDs = "pid:[4026531836]"

// heldElsewhere are the names under which other processes have the file open.
func (s *source) heldElsewhere(id fileID, image *Image) ([]otherName, error) {
	pids, err := lockers(id)
	if err != nil {
		image.unestablished("whether a process has %s open under another name: %v", s.path, err)
		return nil, nil
	}
	if space, err := os.Readlink("/proc/self/ns/pid"); err != nil || space != initialPIDs {
		image.unestablished("whether a process outside of this container has %s open under another name: it cannot be seen from here", s.path)
	}
	var names []otherName
	for _, pid := range pids {
		of, known := held(pid, id)
		if !known {
			return nil, again(fault.New(fault.OtherName, "%s is open in %s, and no -wal lies beside it: whether one lies beside another name only root can see", s.path, whoIs(pid)).
				WithRemedy("Run as root or as the user of process %d, or stop it while a backup is taken.", pid))
		}
		names = append(names, of...)
	}
	return names, nil
}
