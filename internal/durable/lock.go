package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
)

// Lock takes an exclusive lock on file without waiting. What names what the
// lock protects in the error, a fault.Locked that says who holds it. The
// kernel gives the lock back however the process ends.
func Lock(file, what string) (unlock func() error, err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return nil, fault.New(fault.Permission, "no access to the state folder: %w", err)
	}
	if err != nil {
		if f := fault.Of(err); f != nil {
			return nil, fault.New(f.Kind, "cannot write in the state folder: %w", err)
		}
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 64))
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.Locked, "%s is in use by another emsafe%s", what, process(string(holder)))
		}
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	// Unlocked by word, not only by closing: a child between fork and exec has
	// the descriptor too, and would keep the lock for a moment.
	return func() error { return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close()) }, nil
}

// process names the holder of a lock. Between taking it and writing its number
// into the file a holder has none, and where the disk is full it never gets one.
func process(holder string) string {
	if n, err := strconv.Atoi(strings.TrimSpace(holder)); err == nil && n > 0 {
		return fmt.Sprintf(" (process %d)", n)
	}
	return ""
}
