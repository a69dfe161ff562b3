package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"emsafe/internal/command"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

// scratch is a drill's own folder, which nobody else may list. It is locked
// while its process lives, so that any later run can tell litter.
type scratch struct{ *durable.Folder }

const (
	scratchPrefix = "emsafe-drill-"
	// inMemory is the share of the memory that is free which a drill may take.
	inMemory = 4
	// headroom is what else a disk keeps free, besides the database.
	headroom = 64 << 20
)

// memoryFolder and diskFolder are where a drill restores if nothing says where.
const (
	memoryFolder = "/dev/shm"
	diskFolder   = "/var/tmp"
)

// newScratch makes the folder for a database of size bytes, where there is
// room, and removes what killed drills left.
func newScratch(folder string, size int64) (*scratch, error) {
	Sweep(folder) //nolint:errcheck // status and the daemon report what stays
	base, err := choose(folder, size)
	if err != nil {
		return nil, err
	}
	made, err := durable.NewFolder(base, scratchPrefix)
	if err != nil {
		return nil, fault.New(fault.Permission, "the scratch folder cannot be made: %w", err)
	}
	// Entered by whoever knows what is in it: the user of the checks.
	if err := made.Dir().Chmod(0o711); err != nil {
		return nil, errors.Join(err, made.Remove())
	}
	return &scratch{made}, nil
}

// Sweep removes what drills left in scratch folders that were killed, or could
// not clean up: folder is the configured one, or empty. The error is of what
// could not be removed: a database may lie there in plain.
func Sweep(folder string) error {
	var failed []error
	for _, base := range []string{folder, memoryFolder, diskFolder} {
		if base != "" {
			failed = append(failed, durable.SweepFolders(base, scratchPrefix))
		}
	}
	return errors.Join(failed...)
}

// choose is the configured folder, or memory where the database fits with
// plenty of room, or the disk.
func choose(folder string, size int64) (string, error) {
	if folder != "" {
		return folder, fits(folder, size)
	}
	var st unix.Statfs_t
	const tmpfs = 0x01021994
	if unix.Statfs(memoryFolder, &st) == nil && int64(st.Type) == tmpfs &&
		int64(st.Bavail)*int64(st.Bsize) > 2*size && availableMemory() > inMemory*size {
		return memoryFolder, nil
	}
	return diskFolder, fits(diskFolder, size)
}

func fits(folder string, size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return fault.New(fault.Permission, "the scratch folder %s cannot be used: %w", folder, err).WithRemedy("Make it, or set drill_scratch.")
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < size+headroom {
		return fault.New(fault.NoSpace, "the drill needs %d bytes in %s, and %d are free", size+headroom, folder, free).
			WithSafe("Nothing was restored.").WithRemedy("Free space there, or set drill_scratch to a place that has it.")
	}
	return nil
}

// availableMemory is what the kernel says could be taken; 0 if it does not.
func availableMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64) //nolint:errcheck // 0 then
			return kib << 10
		}
	}
	return 0
}

// folder makes a private folder for one restore.
func (s *scratch) folder(name string) (string, error) {
	dir := filepath.Join(s.Path, name)
	return dir, os.Mkdir(dir, 0o700)
}

// giveTo makes a restored file the property of the user that checks run as: the
// file first, while nobody but this process can enter the folder, and then the
// folder. Both are held by descriptors, so that no name can lead elsewhere.
func giveTo(user *command.User, dir, file string) error {
	if user == nil {
		return nil
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	folder := os.NewFile(uintptr(fd), dir)
	defer folder.Close()
	if err := ours(folder, 0); err != nil {
		return err
	}
	if fd, err = unix.Openat(fd, filepath.Base(file), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	restored := os.NewFile(uintptr(fd), file)
	defer restored.Close()
	if err := ours(restored, 1); err != nil {
		return err
	}
	uid, gid := int(user.UID), int(user.GID)
	return errors.Join(restored.Chmod(0o600), restored.Chown(uid, gid), folder.Chmod(0o700), folder.Chown(uid, gid))
}

// ours refuses to give away what this process did not make: a folder that others
// may enter, or a file that is no regular one or has another name.
func ours(f *os.File, links uint64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
	case links > 0 && (!st.Mode().IsRegular() || uint64(sys.Nlink) != links): //nolint:unconvert // of another type elsewhere
		return fmt.Errorf("%s is no longer the file that was restored", f.Name())
	case links == 0 && (int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o077 != 0):
		return fmt.Errorf("%s is no longer the folder that was made", f.Name())
	}
	return nil
}
