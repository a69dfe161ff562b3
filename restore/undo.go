package restore

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

const (
	beforeInfix = ".before-"
	noteName    = "why.txt"
)

// Undone says what an undo did.
type Undone struct {
	Path     string
	From     string // folder that held the old database, gone now
	Aside    string // folder that holds what was there before the undo
	Warnings []string
}

// LastAside returns the newest folder that a restore over destination left,
// with its note, or a fault.NotFound.
func LastAside(destination string) (folder, note string, err error) {
	found, _ := filepath.Glob(globQuote(destination+beforeInfix) + "*")
	slices.SortFunc(found, func(a, b string) int {
		// .10 comes after .9: longer first differing suffixes are later.
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	slices.SortStableFunc(found, func(a, b string) int {
		stamp := func(s string) string {
			s = strings.TrimPrefix(s, destination+beforeInfix)
			stamp, _, _ := strings.Cut(s, ".")
			return stamp
		}
		return strings.Compare(stamp(a), stamp(b))
	})
	for _, folder := range slices.Backward(found) {
		if _, err := os.Lstat(filepath.Join(folder, filepath.Base(destination))); err == nil {
			text, _ := os.ReadFile(filepath.Join(folder, noteName))
			return folder, strings.TrimSpace(string(text)), nil
		}
	}
	return "", "", fault.New(fault.NotFound, "no restore over %s left anything to put back", destination).
		WithRemedy("Look for folders named %s…", destination+beforeInfix)
}

// Undo puts the newest set-aside database back in place. What is there now is
// set aside in its turn, so that an undo can be undone.
func Undo(ctx context.Context, destination string, now func() time.Time) (*Undone, error) {
	if now == nil {
		now = time.Now
	}
	destination, err := filepath.Abs(destination)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(destination); err == nil {
		destination = real
	}
	if err := recoverIntent(destination); err != nil {
		return nil, err
	}
	if err := refuseHolders(destination); err != nil {
		return nil, err
	}
	sweep(destination)
	dropStale(destination)
	from, note, err := LastAside(destination)
	if err != nil {
		return nil, err
	}
	u, err := putBack(ctx, destination, from, "put back by --undo was: "+note, now())
	if err != nil {
		return nil, placeError(err, filepath.Dir(destination))
	}
	if err := os.RemoveAll(from); err != nil {
		u.Warnings = append(u.Warnings, "the emptied folder could not be removed: "+err.Error())
	}
	return u, durable.SyncDir(filepath.Dir(destination))
}

func putBack(ctx context.Context, destination, from, note string, now time.Time) (*Undone, error) {
	s, err := newStaged(destination)
	if err != nil {
		return nil, err
	}
	defer s.discard()
	// The staged name becomes a second link of the old main file.
	if err := os.Remove(s.path); err != nil {
		return nil, err
	}
	if err := os.Link(filepath.Join(from, filepath.Base(destination)), s.path); err != nil {
		return nil, err
	}
	var back []string
	for _, ext := range sidecars {
		if _, err := os.Lstat(filepath.Join(from, filepath.Base(destination)+ext)); err == nil {
			back = append(back, ext)
		}
	}
	u := &Undone{Path: destination, From: from}
	if len(back) == 0 {
		u.Aside, u.Warnings, err = replace(ctx, s, destination, note, now)
		return u, err
	}
	// The old set is more than one file: what is there now is set aside first,
	// then the set goes back under an intent.
	if u.Aside, err = setAside(destination, note, now, existing(destination)); err != nil {
		return nil, err
	}
	if err := carryOut(destination, intent{Staged: s.path, Aside: u.Aside, Back: back, From: from}); err != nil {
		return nil, err
	}
	s.placed = true
	return u, nil
}

func existing(destination string) []string {
	var have []string
	for _, ext := range []string{"", "-wal", "-journal"} {
		if _, err := os.Lstat(destination + ext); err == nil {
			have = append(have, ext)
		}
	}
	return have
}

// dropStale removes set-aside folders of runs that were killed before their
// switch: what they hold is still the file at the destination.
func dropStale(destination string) {
	now, _ := os.Lstat(destination) // nothing there is no file's name
	found, _ := filepath.Glob(globQuote(destination+beforeInfix) + "*")
	for _, folder := range found {
		old, err := os.Lstat(filepath.Join(folder, filepath.Base(destination)))
		// A folder without a main file held only sidecars that a restore
		// found alone: that is kept.
		if err == nil && os.SameFile(now, old) || onlyNote(folder) {
			os.RemoveAll(folder)
		}
	}
}

// onlyNote tells a folder that was made a moment before its run was killed.
func onlyNote(folder string) bool {
	entries, err := os.ReadDir(folder)
	return err == nil && (len(entries) == 0 || len(entries) == 1 && entries[0].Name() == noteName)
}
