package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	if aside, err = setAside(destination, note, now, []string{""}); err != nil {
		return "", false, err
	}
	for _, ext := range sidecars {
		if err := os.Remove(destination + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			os.RemoveAll(aside)
			return "", false, err
		}
	}
	dir := filepath.Dir(destination)
	if err := durable.SyncDir(dir); err != nil {
		return "", false, err
	}
	if err := os.Rename(s.path, destination); err != nil {
		os.RemoveAll(aside)
		return "", false, err
	}
	s.placed = true
	return aside, false, durable.SyncDir(dir)
}

// intent is what a switch that takes more than one step is about to do, so
// that a run after a crash can finish it. It lies beside the destination.
type intent struct {
	Staged string   `json:"staged"` // the new main file, beside the destination
	Aside  string   `json:"aside"`  // where the old set is, complete
	Back   []string `json:"back"`   // sidecars to put beside the new main file: from the folder in From
	From   string   `json:"from"`
}

func intentFile(destination string) string { return destination + ".emsafe-intent" }

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
		if aside, err = setAside(destination, note, now, have); err != nil {
			return "", nil, err
		}
	}
	if err := carryOut(destination, intent{Staged: s.path, Aside: aside}); err != nil {
		return "", nil, err
	}
	s.placed = true
	return aside, nil, nil
}

// carryOut writes the intent, does it, and forgets it.
func carryOut(destination string, in intent) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(intentFile(destination), data, 0o600); err != nil {
		return err
	}
	return finish(destination, in)
}

// finish does what is left of an intent; doing it twice does no harm.
func finish(destination string, in intent) error {
	dir := filepath.Dir(destination)
	if _, err := os.Lstat(in.Staged); err == nil {
		for _, ext := range sidecars {
			if err := os.Remove(destination + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		// The sidecars of the new main file come first: without them it
		// would be half a database.
		for _, ext := range in.Back {
			from := filepath.Join(in.From, filepath.Base(destination)+ext)
			if err := os.Link(from, destination+ext); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
		if err := os.Rename(in.Staged, destination); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	if err := os.Remove(intentFile(destination)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// Pending reports whether an interrupted restore left its intent beside a
// database: it must be finished before anything else uses it.
func Pending(destination string) bool {
	_, err := os.Lstat(intentFile(destination))
	return err == nil
}

// recoverIntent finishes what an interrupted run began.
func recoverIntent(destination string) error {
	data, err := os.ReadFile(intentFile(destination))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var in intent
	if err := json.Unmarshal(data, &in); err != nil || !strings.HasPrefix(in.Staged, stagePattern(destination)) {
		return fault.New(fault.Damaged, "%s is not readable", intentFile(destination)).
			WithRemedy("An earlier restore was cut off. Look at the folders %s.before-…: the newest holds the old database. Then remove the file.", destination)
	}
	if err := refuseHolders(destination); err != nil {
		return err
	}
	return finish(destination, in)
}

// setAside hard-links the named files of a set into a fresh folder: the old
// database survives its name.
func setAside(destination, note string, now time.Time, exts []string) (string, error) {
	aside := nextAside(destination, now).path
	if err := os.Mkdir(aside, 0o700); err != nil {
		return "", err
	}
	err := os.WriteFile(filepath.Join(aside, noteName), []byte(note+"\n"), 0o600)
	for _, ext := range exts {
		if err == nil {
			err = os.Link(destination+ext, filepath.Join(aside, filepath.Base(destination)+ext))
		}
	}
	if err == nil {
		err = durable.SyncDir(aside)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(aside))
	}
	if err != nil {
		os.RemoveAll(aside)
		return "", fmt.Errorf("set the old database aside: %w", err)
	}
	return aside, nil
}

// lateHolders warns of a process that opened the old database in the moment
// of the switch: it goes on writing into what was set aside.
func lateHolders(old string) []string {
	if err := refuseHolders(old); err != nil {
		return []string{"opened in the moment of the switch, and now using the old database: " + err.Error() + "; stop it before it is used on"}
	}
	return nil
}
