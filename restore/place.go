package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/sqlite"
)

// Existing is what lies at a destination before a restore.
type Existing struct {
	Path     string
	Size     int64
	Modified time.Time
}

// sidecars are SQLite's files beside a database. A restored file next to
// another database's sidecar is silent corruption.
var sidecars = []string{"-wal", "-shm", "-journal"}

// look resolves the destination and refuses what cannot be right.
func (p *Plan) look() error {
	dst, err := Resolve(p.req.Destination)
	if err != nil {
		return err
	}
	p.req.Destination = dst
	dir := filepath.Dir(dst)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fault.New(fault.NotFound, "there is no folder %s", dir).WithRemedy("Make it first: mkdir -p %s", fault.Shell(dir))
	}
	st, err := os.Lstat(dst)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return placeError(err, dir)
	case st.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(dst) //nolint:errcheck // it is shown, and no more
		return fault.New(fault.TargetExists, "%s is a symbolic link to %s, and nothing is there", dst, to).
			WithRemedy("Give the file that it should lead to: --to %s. Or remove the link: rm %s", fault.Shell(linkTarget(dst, to)), fault.Shell(dst))
	case st.IsDir():
		return fault.New(fault.TargetExists, "%s is a folder; the destination is the database file itself", dst).
			WithRemedy("For example: --to %s", fault.Shell(filepath.Join(dst, p.req.Database+".db")))
	case !st.Mode().IsRegular():
		return fault.New(fault.TargetExists, "%s is not a regular file", dst)
	default:
		p.Existing = &Existing{Path: dst, Size: st.Size(), Modified: st.ModTime()}
	}
	if p.req.InPlace {
		return nil
	}
	if p.Existing != nil {
		return fault.New(fault.TargetExists, "%s exists (%d bytes, changed %s)", dst, st.Size(), st.ModTime().UTC().Format(time.RFC3339))
	}
	for _, ext := range sidecars {
		if _, err := os.Lstat(dst + ext); err == nil {
			return fault.New(fault.TargetExists, "%s is left of another database: beside it the restored file would be corrupted", dst+ext).
				WithRemedy("Choose another --to, or restore with --in-place, which sets it aside.")
		}
	}
	return nil
}

func linkTarget(link, to string) string {
	if filepath.IsAbs(to) {
		return to
	}
	return filepath.Join(filepath.Dir(link), to)
}

// placeNew gives the staged file its name, which must be free.
func placeNew(s *staged, destination string) error {
	if err := renameNew(s.path, destination); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fault.New(fault.TargetExists, "%s was made by somebody else meanwhile", destination)
		}
		return err
	}
	s.placed = true
	return durable.SyncDir(filepath.Dir(destination))
}

// placeOver replaces the database at the destination and keeps the old one.
func (p *Plan) placeOver(ctx context.Context, s *staged, out *Outcome) error {
	note := fmt.Sprintf("replaced by backup %s of %s, restored from target %s", p.Entry.ID, p.Entry.Database, p.Target)
	aside, warnings, err := replace(ctx, s, p.req.Destination, note, p.req.Now())
	out.Aside = aside
	out.Warnings = append(out.Warnings, warnings...)
	return err
}

// refuseHolders is an error that names the processes which have the database
// open.
func refuseHolders(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	holders, _, err := sqlite.Holders(path)
	if err != nil || len(holders) == 0 {
		// What /proc cannot tell, the lock will.
		return nil
	}
	var names []string
	for _, h := range holders {
		names = append(names, fmt.Sprintf("%s (process %d, user %s)", h.Name, h.PID, h.User))
	}
	return fault.New(fault.InUse, "%s is open in %s", path, strings.Join(names, ", "))
}

// placeError gives errors of the destination's file system their kinds.
func placeError(err error, dir string) error {
	switch {
	case err == nil || fault.Find(err) != nil:
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fault.New(fault.NoSpace, "no space in %s for the restored database: %w", dir, err).
			WithSafe("The half-written file has been removed; the destination is as it was.")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fault.New(fault.Permission, "cannot write in %s: %w", dir, err)
	}
	return err
}
