package restore

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	found, _ := filepath.Glob(globQuote(destination+beforeInfix) + "*")
	for _, path := range found {
		stamp, number, numbered := strings.Cut(strings.TrimPrefix(path, destination+beforeInfix), ".")
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
	next.path = destination + beforeInfix + next.stamp
	if next.number > 1 {
		next.path += "." + strconv.Itoa(next.number)
	}
	return next
}

// LastAside returns the newest folder that a restore over destination left,
// with its note, or a fault.NotFound.
func LastAside(destination string) (folder, note string, err error) {
	for _, a := range slices.Backward(asides(destination)) {
		if _, err := os.Lstat(filepath.Join(a.path, filepath.Base(destination))); err == nil {
			text, _ := os.ReadFile(filepath.Join(a.path, noteName))
			return a.path, strings.TrimSpace(string(text)), nil
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
	return err == nil && (len(entries) == 0 || len(entries) == 1 && entries[0].Name() == noteName)
}
