package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/sqlite"
)

// switchTries bounds how often an application that sneaks in between two
// steps is waited out.
const switchTries = 3

// replace switches the staged file into the destination's place with one
// rename, and returns the folder where the old database was set aside.
//
// First the old database is made whole in its main file alone, so that a
// single name is all there is to switch. Four renames could be cut in half.
func replace(ctx context.Context, s *staged, destination, note string, now time.Time) (aside string, warnings []string, err error) {
	dropStale(destination)
	if _, err := os.Lstat(destination); errors.Is(err, fs.ErrNotExist) {
		return replaceUnsettled(s, destination, note, now)
	}
	if aside, err := replaceUnfinished(s, destination, note); aside != "" || err != nil {
		return aside, nil, err
	}
	for try := 1; ; try++ {
		err := sqlite.Settle(ctx, destination)
		if ctx.Err() != nil {
			return "", nil, ctx.Err()
		}
		if errors.Is(err, fault.InUse) || errors.Is(err, fault.Locked) {
			return "", nil, err
		}
		if err != nil {
			aside, warnings, rerr := replaceUnsettled(s, destination, note, now)
			return aside, append(warnings, fmt.Sprintf("the old database could not be brought into one file (%v); it was set aside as it was, with its -wal and -journal", err)), rerr
		}
		aside, again, err := replaceSettled(s, destination, note, now)
		if again && try < switchTries {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		return aside, lateHolders(filepath.Join(aside, filepath.Base(destination))), nil
	}
}

// replaceSettled switches under an exclusive lock. again means that somebody
// opened the database after it was settled.
func replaceSettled(s *staged, destination, note string, now time.Time) (aside string, again bool, err error) {
	release, err := sqlite.LockExclusive(destination)
	if err != nil {
		return "", errors.Is(err, fault.InUse) || errors.Is(err, fault.Locked), err
	}
	defer release() //nolint:errcheck // the lock was on the old file, which is not used any more
	if err := refuseHolders(destination); err != nil {
		return "", false, err
	}
	for _, ext := range sidecars {
		st, err := os.Lstat(destination + ext)
		if err == nil && st.Size() > 0 && ext != "-shm" {
			return "", true, fault.New(fault.InUse, "%s appeared while the old database was set aside", destination+ext)
		}
	}
	if aside, err = s.setAside(destination, note, now, []string{""}); err != nil {
		return "", false, err
	}
	if err := s.takePlace(destination); err != nil {
		if !s.placed {
			os.RemoveAll(aside) //nolint:errcheck // the next run does
		}
		return "", false, err
	}
	return aside, false, s.settled(aside)
}

// takePlace gives the staged file the destination's name: what is there is set
// aside and has no sidecars that hold anything.
func (s *staged) takePlace(destination string) error {
	for _, ext := range sidecars {
		if err := os.Remove(destination + ext); err != nil && !absent(err) {
			return err
		}
	}
	dir := filepath.Dir(destination)
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	if err := os.Rename(s.path, destination); err != nil {
		return err
	}
	s.placed = true
	return durable.SyncDir(dir)
}

// replaceUnfinished switches where the destination is what a restore placed
// that was killed before it could say so, and nobody has written to it since:
// the folder that restore made has the old database, and stays the one that an
// undo takes. aside is empty if there is no such folder.
func replaceUnfinished(s *staged, destination, note string) (aside string, err error) {
	if aside = unfinished(destination, opRestore); aside == "" || s.operation != opRestore {
		return "", nil
	}
	release, err := sqlite.LockExclusive(destination)
	if err != nil {
		return "", err
	}
	defer release() //nolint:errcheck // the lock was on a file that is not used any more
	if err := refuseHolders(destination); err != nil {
		return "", err
	}
	if unfinished(destination, opRestore) != aside {
		return "", nil // written to meanwhile: it is a database like any other
	}
	if err := s.renew(aside, destination, note); err != nil {
		return "", err
	}
	if err := s.takePlace(destination); err != nil {
		return "", err
	}
	return aside, s.settled(aside)
}

// replaceUnsettled switches where the old set cannot be made one file: it is
// damaged, or its main file is missing and only sidecars are left.
func replaceUnsettled(s *staged, destination, note string, now time.Time) (aside string, warnings []string, err error) {
	if err := refuseHolders(destination); err != nil {
		return "", nil, err
	}
	var have []string
	for _, ext := range append([]string{""}, sidecars...) {
		if _, err := os.Lstat(destination + ext); err == nil && ext != "-shm" {
			have = append(have, ext)
		}
	}
	if len(have) > 0 {
		if aside, err = s.setAside(destination, note, now, have); err != nil {
			return "", nil, err
		}
	}
	if err := s.carryOut(destination, intent{Staged: s.path, Aside: aside}); err != nil {
		return "", nil, err
	}
	return aside, nil, s.settled(aside)
}

// lateHolders warns of a process that opened the old database in the moment
// of the switch: it goes on writing into what was set aside.
func lateHolders(old string) []string {
	if err := refuseHolders(old); err != nil {
		return []string{"opened in the moment of the switch, and now using the old database: " + err.Error() + "; stop it before it is used on"}
	}
	return nil
}
