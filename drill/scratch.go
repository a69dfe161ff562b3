package drill

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/command"
	"emsafe/internal/fault"
)

// scratch is a drill's own folder, which nobody else may list. It is locked
// while its process lives, so that a later drill can tell litter.
type scratch struct {
	dir  string
	lock *os.File
}

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
	for _, base := range []string{folder, memoryFolder, diskFolder} {
		if base != "" {
			sweep(base)
		}
	}
	base, err := choose(folder, size)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(base, scratchPrefix)
	if err != nil {
		return nil, fault.New(fault.Permission, "the scratch folder cannot be made: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		// Entered by whoever knows what is in it: the user of the checks.
		err = os.Chmod(dir, 0o711) //nolint:gosec // the folders in it are private
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &scratch{dir, lock}, nil
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
	dir := filepath.Join(s.dir, name)
	return dir, os.Mkdir(dir, 0o700)
}

// giveTo makes a restored file the property of the user that checks run as.
func giveTo(user *command.User, dir, file string) error {
	if user == nil {
		return nil
	}
	for path, mode := range map[string]fs.FileMode{dir: 0o700, file: 0o600} {
		if err := errors.Join(os.Chmod(path, mode), os.Chown(path, int(user.UID), int(user.GID))); err != nil {
			return err
		}
	}
	return nil
}

func (s *scratch) remove() error {
	err := os.RemoveAll(s.dir)
	unix.Flock(int(s.lock.Fd()), unix.LOCK_UN) //nolint:errcheck // closing unlocks as well
	return errors.Join(err, s.lock.Close())
}

// sweep removes the folders of drills that are dead: our own, and not locked.
func sweep(base string) {
	left, _ := filepath.Glob(filepath.Join(base, scratchPrefix+"*")) //nolint:errcheck // the pattern is sound
	for _, dir := range left {
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() {
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Getuid() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) && time.Since(st.ModTime()) > time.Minute {
			os.RemoveAll(dir) // killed before it was locked
		}
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		f.Close()
	}
}
