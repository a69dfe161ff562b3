package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/drill"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/restore"
)

// The beginnings of the names of folders with plain data in them.
const (
	lookPrefix  = ".emsafe-look-" // a snapshot that doctor and evaluate examine
	filesPrefix = "emsafe-files-" // files of a sample
)

// sweepEvery is how often the daemon looks for what was left.
const sweepEvery = 10 * time.Minute

// sweep removes the plain data that killed commands left: drills in scratch,
// restores beside their destinations, copies that were examined. Folders and
// files of living processes are locked and stay. Every command that reads the
// configuration does it. The error is of what could not be removed.
func (s *site) sweep() error {
	if s.cfg == nil {
		return nil
	}
	failed := []error{drill.Sweep(s.cfg.DrillScratch), durable.SweepFolders(s.cfg.State, lookPrefix), durable.SweepFolders(os.TempDir(), filesPrefix)}
	for _, d := range s.cfg.Databases {
		failed = append(failed, restore.Sweep(d.Path), durable.SweepFolders(filepath.Dir(d.Path), lookPrefix))
	}
	return errors.Join(append(failed, s.sweepDestinations())...)
}

// leftOver is sweep's error as it is reported.
func leftOver(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Other, "plain data that an interrupted command left could not be removed: %w", err).
		WithSafe("Backups are not touched by this.").
		WithRemedy("Remove it by hand, and find out why it could not be removed: it can be a whole database.")
}

// destination is where a restore is under way. It is kept in the state folder
// while the restore runs, because nothing else knows of it after a kill.
type destination struct {
	Path   string `json:"path"`
	Folder bool   `json:"folder,omitempty"` // that the restore makes, and no database
}

func (s *site) restoring() string { return filepath.Join(s.cfg.State, "restoring") }

// remember notes a destination until the returned function is called. A state
// folder that cannot be written to keeps nobody from restoring.
func (s *site) remember(d destination) (forget func()) {
	nothing := func() {}
	path, err := restore.Resolve(d.Path)
	if s.cfg == nil || err != nil || os.MkdirAll(s.restoring(), 0o700) != nil {
		return nothing
	}
	d.Path = path
	f, err := durable.NewFile(func() string {
		return filepath.Join(s.restoring(), fmt.Sprintf("%d-%d.json", time.Now().UnixNano(), os.Getpid()))
	})
	if err != nil {
		return nothing
	}
	json.NewEncoder(f).Encode(d) //nolint:errcheck // what is not noted is not swept
	f.Sync()                     //nolint:errcheck // likewise
	return func() {
		os.Remove(f.Name())      //nolint:errcheck // the next sweep does
		os.Remove(s.restoring()) //nolint:errcheck // only if it is empty
		f.Close()                //nolint:errcheck // it is removed
	}
}

// sweepDestinations looks beside the destinations of restores that were killed.
func (s *site) sweepDestinations() error {
	entries, err := os.ReadDir(s.restoring())
	if err != nil {
		return nil // there were none
	}
	var failed []error
	for _, e := range entries {
		file := filepath.Join(s.restoring(), e.Name())
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		failed = append(failed, sweepDestination(file))
	}
	os.Remove(s.restoring()) //nolint:errcheck // only if it is empty
	return errors.Join(failed...)
}

func sweepDestination(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // under way
	}
	var d destination
	if err := json.NewDecoder(f).Decode(&d); err == nil && filepath.IsAbs(d.Path) {
		sweep := restore.Sweep
		if d.Folder {
			sweep = restore.SweepFolder
		}
		if err := sweep(d.Path); err != nil {
			return err // and is tried again
		}
		if restore.Pending(d.Path) {
			return nil // until the intent there is carried out
		}
	}
	os.Remove(file) //nolint:errcheck // the next sweep does
	return nil
}

// sweeps is the daemon's: at its start and from time to time.
func (d *service) sweeps(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		d.tell("scratch", "plain data of an interrupted command could not be removed", leftOver(d.current().sweep()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
