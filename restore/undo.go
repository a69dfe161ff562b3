package restore

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

const (
	beforeInfix = ".before-"
	noteName    = "why.txt"
)

func asidePrefix(destination string) string { return besideName(destination, "", beforeInfix) }

// Undone says what an undo did.
type Undone struct {
	Path     string
	From     string // folder that held the old database, gone now
	Aside    string // folder that holds what was there before the undo
	Warnings []string
}

const stampLayout = "20060102T150405Z"

// aside is a folder that a restore over a destination left. Several of one
// second are numbered: the second one is .2.
type aside struct {
	path   string
	stamp  string
	number int
}

func (a aside) compare(b aside) int {
	return cmp.Or(strings.Compare(a.stamp, b.stamp), cmp.Compare(a.number, b.number))
}

// asides are the folders that restores over destination left, the newest last.
// Folders that only look like them are somebody else's.
func asides(destination string) (all []aside) {
	// A long name was not cut before, where it still fitted.
	prefixes := []string{destination + beforeInfix, asidePrefix(destination)}
	entries, _ := os.ReadDir(filepath.Dir(destination)) //nolint:errcheck // what cannot be read has none
	for _, entry := range entries {
		path := filepath.Join(filepath.Dir(destination), entry.Name())
		at := slices.IndexFunc(prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
		if at < 0 || !entry.IsDir() {
			continue
		}
		stamp, number, numbered := strings.Cut(strings.TrimPrefix(path, prefixes[at]), ".")
		a := aside{path, stamp, 1}
		_, err := time.Parse(stampLayout, stamp)
		if err == nil && numbered {
			a.number, err = strconv.Atoi(number)
		}
		if err == nil {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, aside.compare)
	return all
}

// nextAside is a name behind all that are there, also where the clock went
// back, or an undo has removed one of this second: undo takes the last.
func nextAside(destination string, now time.Time) aside {
	next := aside{stamp: now.UTC().Format(stampLayout), number: 1}
	if all := asides(destination); len(all) > 0 {
		if last := all[len(all)-1]; last.compare(next) >= 0 {
			next = aside{stamp: last.stamp, number: last.number + 1}
		}
	}
	next.path = asidePrefix(destination) + next.stamp
	if next.number > 1 {
		next.path += "." + strconv.Itoa(next.number)
	}
	return next
}

// LastAside returns the newest folder that a restore over destination left,
// with its note, or a fault.NotFound.
func LastAside(destination string) (folder, note string, err error) {
	if destination, err = Resolve(destination); err != nil {
		return "", "", err
	}
	now, _ := os.Lstat(destination) //nolint:errcheck // nothing there is no file's name
	for _, a := range slices.Backward(asides(destination)) {
		// What a run left that was killed before its switch is still in its place.
		if st, err := os.Lstat(filepath.Join(a.path, filepath.Base(destination))); err == nil && !os.SameFile(now, st) {
			text, _ := os.ReadFile(filepath.Join(a.path, noteName))
			return a.path, strings.TrimSpace(string(text)), nil
		}
	}
	return "", "", fault.New(fault.NotFound, "no restore over %s left anything to put back", destination).
		WithRemedy("Look for folders named %s…", asidePrefix(destination))
}

// UndoInterrupted reports whether an undo put the old database back and was
// killed before it could say so: to run it again completes it.
func UndoInterrupted(destination string) bool {
	destination, err := Resolve(destination)
	return err == nil && unfinished(destination, opUndo) != ""
}

// Undo puts the newest set-aside database back in place. What is there now is
// set aside in its turn, so that an undo can be undone.
func Undo(ctx context.Context, destination string, now func() time.Time) (*Undone, error) {
	if now == nil {
		now = time.Now
	}
	destination, err := Resolve(destination)
	if err != nil {
		return nil, err
	}
	if err := recoverIntent(destination); err != nil {
		return nil, err
	}
	if err := refuseHolders(destination); err != nil {
		return nil, err
	}
	sweep(destination)
	if aside := unfinished(destination, opUndo); aside != "" {
		dropStale(destination) // the folder that the old database was in
		return &Undone{Path: destination, Aside: aside, Warnings: []string{"an interrupted run had put it back already"}}, settled(aside)
	}
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
	if err := settled(u.Aside); err != nil {
		u.Warnings = append(u.Warnings, "the undo could not be marked as complete: "+err.Error())
	}
	return u, durable.SyncDir(filepath.Dir(destination))
}

func putBack(ctx context.Context, destination, from, note string, now time.Time) (*Undone, error) {
	s, err := newStaged(destination, opUndo)
	if err != nil {
		return nil, err
	}
	defer s.discard()
	// The staged name becomes a second link of the old main file, which is locked
	// before, so that no sweep takes it.
	main := filepath.Join(from, filepath.Base(destination))
	old, err := os.OpenFile(main, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(old.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		old.Close()
		return nil, fmt.Errorf("lock %s: %w", main, err)
	}
	s.file.Close()
	s.file = old
	if err := os.Remove(s.path); err != nil {
		return nil, err
	}
	if err := os.Link(main, s.path); err != nil {
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
	if u.Aside, err = s.setAside(destination, note, now, existing(destination)); err != nil {
		return nil, err
	}
	return u, s.carryOut(destination, intent{Staged: s.path, Aside: u.Aside, Back: back, From: from})
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
	for _, a := range asides(destination) {
		old, err := os.Lstat(filepath.Join(a.path, filepath.Base(destination)))
		// A folder without a main file held only sidecars that a restore
		// found alone: that is kept.
		if err == nil && os.SameFile(now, old) || onlyNote(a.path) {
			os.RemoveAll(a.path)
		}
	}
}

// onlyNote tells a folder that was made a moment before its run was killed.
func onlyNote(folder string) bool {
	entries, err := os.ReadDir(folder)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return !slices.Contains([]string{noteName, markName, comingName}, e.Name())
	})
}
