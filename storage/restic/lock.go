package restic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"emsafe/internal/fault"
)

// Lock is who says to be using a repository.
type Lock struct {
	ID        string    `json:"-"`
	Time      time.Time `json:"time"` // restic refreshes it every five minutes
	Exclusive bool      `json:"exclusive"`
	Hostname  string    `json:"hostname"`
	User      string    `json:"username"`
	PID       int       `json:"pid"`
}

func (l Lock) String() string {
	return fmt.Sprintf("by process %d of %s on %s since %s", l.PID, l.User, l.Hostname, l.Time.UTC().Format(time.DateTime))
}

// Dead reports whether who took the lock is provably gone: it was a process of
// this machine and there is none of that
// number, or one that began after the lock was taken. A lock of another machine is
// never dead, however old: its clock may be wrong, or ours.
func (l Lock) Dead() bool {
	host, err := os.Hostname()
	if err != nil || host != l.Hostname || l.PID <= 0 {
		return false
	}
	if errors.Is(syscall.Kill(l.PID, 0), syscall.ESRCH) {
		return true
	}
	began, ok := processStart(l.PID)
	return ok && began.After(l.Time.Add(time.Minute)) // to the second, and clocks are set
}

// Locks are those that there are.
func (r *Repository) Locks(ctx context.Context) ([]Lock, error) {
	var ids []string
	err := r.look(ctx, func(line []byte) error {
		if id := strings.TrimSpace(string(line)); len(id) == 64 {
			ids = append(ids, id)
		}
		return nil
	}, "list", "locks", "--no-lock")
	if err != nil {
		return nil, r.explain(err)
	}
	var locks []Lock
	for _, id := range ids {
		var text bytes.Buffer
		err := r.look(ctx, func(line []byte) error { text.Write(line); return nil }, "cat", "lock", id, "--no-lock")
		l := Lock{ID: id}
		if err == nil {
			err = json.Unmarshal(text.Bytes(), &l)
		}
		if err != nil {
			continue // it is gone meanwhile, as locks go
		}
		locks = append(locks, l)
	}
	return locks, nil
}

// unlocking does something, and once more if only locks of the dead were in the
// way. It names who holds the others.
func (r *Repository) unlocking(ctx context.Context, do func() error) error {
	err := do()
	var f *failed
	if !errors.As(err, &f) || !f.locked() {
		return err
	}
	locks, lerr := r.Locks(ctx)
	if lerr != nil {
		return err
	}
	var held []string
	for _, l := range locks {
		if r.Unlock == nil || !l.Dead() {
			held = append(held, l.String())
			continue
		}
		if uerr := r.Unlock(ctx, l.ID); uerr != nil {
			return errors.Join(err, uerr)
		}
	}
	if len(held) > 0 {
		return fault.New(fault.Locked, "the restic repository %s is locked %s", r.Location, strings.Join(held, ", and ")).
			WithRemedy("Wait until that ends. If it cannot be running any more, though that cannot be proven from here: `restic unlock`.")
	}
	return do()
}
