package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Process is a process that has a database open.
type Process struct {
	PID  int
	Name string
	User string
}

// Holders lists the other processes that have the main file, its -wal or its
// -shm open. complete is false if some processes could not be looked into, as
// happens to users other than root.
func Holders(path string) (processes []Process, complete bool, err error) {
	if real, err := resolve(path); err == nil {
		path = real // else its sidecars may still be there
	}
	wanted := map[[2]uint64]bool{}
	for _, ext := range []string{"", "-wal", "-shm", "-journal"} {
		if st, err := os.Stat(path + ext); err == nil {
			dev, ino, _, _ := identity(st)
			wanted[[2]uint64{dev, ino}] = true
		}
	}
	if len(wanted) == 0 {
		return nil, true, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false, nil
	}
	complete = true
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		holds, err := holdsAny(pid, wanted)
		if errors.Is(err, fs.ErrPermission) {
			complete = false
		}
		if holds {
			processes = append(processes, process(pid))
		}
	}
	return processes, complete, nil
}

func holdsAny(pid int, wanted map[[2]uint64]bool) (bool, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, fd := range fds {
		st, err := os.Stat(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue
		}
		dev, ino, _, _ := identity(st)
		if wanted[[2]uint64{dev, ino}] {
			return true, nil
		}
	}
	return false, nil
}

func process(pid int) Process {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	p := Process{PID: pid, Name: "?", User: "?"}
	if name, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
		p.Name = strings.TrimSpace(string(name))
	}
	if st, err := os.Stat(dir); err == nil {
		if s, ok := st.Sys().(*syscall.Stat_t); ok {
			p.User = strconv.Itoa(int(s.Uid))
			if u, err := user.LookupId(p.User); err == nil {
				p.User = u.Username
			}
		}
	}
	return p
}
