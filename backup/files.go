package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/point"
	"emsafe/storage/restic"
	"emsafe/storage/seal"
)

// Files is all that a recovery point of one fileset takes.
type Files struct {
	Fileset string
	Source  restic.Source // without tags
	Program string        // "": restic
	Host    string
	State   string
	Targets []storage.Target
	// Reach makes a repository of a fileset's folder in a bucket: its location
	// and what else restic needs to get there.
	Reach func(ctx context.Context, b storage.Bucket, target string) (*restic.Repository, error)

	Databases []string
	// Database backs one up. Failed are the targets that do not have it; an
	// error without any is about all.
	Database func(ctx context.Context, name string) (failed map[string]error, err error)
	// Before and After surround the point; nil: nothing does.
	Before, After func(ctx context.Context) error

	Recipients seal.Recipients
	Key        *seal.SigningKey
	Signers    seal.Signers
	Now        func() time.Time
	Progress   func(target string, p restic.Progress) // may be nil
}

// PointOutcome is what became of a recovery point.
type PointOutcome struct {
	Fileset string        `json:"fileset"`
	ID      string        `json:"id"`
	At      time.Time     `json:"taken_at"`
	Targets []FilesTarget `json:"targets"`
	Woken   bool          `json:"woken,omitempty"` // After was run for an earlier run that was cut off
}

// FilesTarget is what one target has of it.
type FilesTarget struct {
	Target  string         `json:"target"`
	Summary restic.Summary `json:"files"`
	Point   *point.Point   `json:"point,omitempty"` // nil: there is none, see Err
	Err     error          `json:"-"`
}

// Point makes a recovery point: it backs up the databases, then the files, and
// signs what belongs together where both halves are. The outcome is valid as far
// as it goes also when the error is not nil.
func Point(ctx context.Context, f Files) (out PointOutcome, err error) {
	if f.Now == nil {
		f.Now = time.Now
	}
	unlock, err := f.lock()
	if err != nil {
		return out, err
	}
	defer unlock() //nolint:errcheck // the process is done with it
	out.At = f.Now().UTC().Truncate(time.Millisecond)
	out.Fileset, out.ID = f.Fileset, point.NewID(out.At)
	if _, err := restic.Find(ctx, f.Program); err != nil {
		_, failed := f.databases(ctx)
		return out, errors.Join(append([]error{err}, failed...)...)
	}
	if out.Woken, err = f.wake(ctx); err != nil {
		return out, err
	}
	if err := f.quiesce(ctx); err != nil {
		return out, err
	}
	halves, failed := f.databases(ctx)
	gone := restic.CheckPaths(f.Source.Paths)
	for _, t := range f.Targets {
		got := FilesTarget{Target: t.Name}
		switch {
		case gone != nil:
		case ctx.Err() != nil:
			got.Err = context.Cause(ctx)
		default:
			got.Summary, got.Err = f.keep(ctx, t, out.ID)
		}
		out.Targets = append(out.Targets, got)
	}
	_, woke := f.wake(ctx)
	if failed = append(failed, woke, gone); gone != nil {
		return out, errors.Join(failed...)
	}
	for i := range out.Targets {
		t := &out.Targets[i]
		failed = append(failed, f.commit(ctx, out, f.Targets[i], halves[t.Target], t))
	}
	return out, f.judge(out, failed)
}

// judge makes a Partial of errors beside which some target has the point, unless
// one is damage, which leads.
func (f Files) judge(out PointOutcome, failed []error) error {
	damage := func(err error) bool { return errors.Is(err, fault.Damaged) || errors.Is(err, fault.Forged) }
	slices.SortStableFunc(failed, func(a, b error) int {
		switch {
		case damage(a) == damage(b):
			return 0
		case damage(a):
			return -1
		}
		return 1
	})
	err := errors.Join(failed...)
	if err == nil || damage(err) || errors.Is(err, context.Canceled) {
		return err
	}
	have := 0
	for _, t := range out.Targets {
		if t.Point != nil {
			have++
		}
	}
	switch {
	case have == 0:
		return err
	case errors.Is(err, fault.HookFailed):
		return fault.New(fault.HookFailed, "%w", err).WithSafe("The recovery point was made, and is whole, in %d of %d targets.", have, len(out.Targets)).WithRemedy(stillQuiesced, f.Fileset)
	}
	if have == len(out.Targets) {
		return fault.New(fault.Partial, "%w", err)
	}
	return fault.New(fault.Partial, "%d of %d targets have the recovery point: %w", have, len(out.Targets), err)
}

// half is a backup of each database in one target, or why there is none.
type half struct {
	backups []point.Database
	err     error
}

// databases backs up what belongs to the files, and says what every target then
// has. It is called before the files are read: what a row names was there then.
func (f Files) databases(ctx context.Context) (halves map[string]half, failed []error) {
	halves = map[string]half{}
	for _, name := range f.Databases {
		missing, err := f.Database(ctx, name)
		if err != nil {
			failed = append(failed, fmt.Errorf("database %s: %w", name, err))
		}
		memory, merr := catalog.LoadMemory(MemoryFile(f.State, name))
		for _, t := range f.Targets {
			h := halves[t.Name]
			newest := memory.Newest[t.Name]
			switch {
			case merr != nil:
				h.err = merr
			case missing[t.Name] != nil:
				h.err = fmt.Errorf("%s is not there: %w", name, missing[t.Name])
			case err != nil && len(missing) == 0:
				h.err = fmt.Errorf("the backup of %s did not go well", name)
			case newest.ID == "":
				h.err = fmt.Errorf("no backup of %s is there", name)
			default:
				h.backups = append(h.backups, point.Database{Name: name, Backup: newest.ID, Sequence: newest.Sequence, Manifest: digestOf(memory, t.Name, newest), SnapshotAt: newest.SnapshotAt})
			}
			halves[t.Name] = h
		}
	}
	return halves, failed
}

func digestOf(m catalog.Memory, target string, n catalog.Newest) seal.Digest {
	for _, h := range m.Heads {
		if h.Target == target && h.Sequence == n.Sequence {
			return h.Digest
		}
	}
	return m.Parents[target][n.ID].Manifest
}

// keep puts the files into one target.
func (f Files) keep(ctx context.Context, t storage.Target, id string) (restic.Summary, error) {
	b, err := t.Open(ctx)
	if err != nil {
		return restic.Summary{}, err
	}
	r, err := f.repository(ctx, b, t.Name)
	if err != nil {
		return restic.Summary{}, err
	}
	s := f.Source
	s.Host, s.Tags = f.Host, []string{"emsafe", "emsafe:" + id}
	out, err := r.Backup(ctx, s, func(p restic.Progress) {
		if f.Progress != nil {
			f.Progress(t.Name, p)
		}
	})
	if out.Snapshot == "" || len(out.Snapshot) == 64 {
		return out, err
	}
	// The old version gives the beginning of the id only.
	whole, lerr := point.Snapshots(ctx, b, f.Fileset, out.Snapshot)
	if lerr == nil && len(whole) != 1 {
		lerr = fmt.Errorf("restic took the snapshot %s, and %d of that name are there", out.Snapshot, len(whole))
	}
	if lerr != nil {
		return out, errors.Join(err, lerr)
	}
	out.Snapshot = whole[0]
	return out, err
}

// commit signs the point in a target that has both halves.
func (f Files) commit(ctx context.Context, out PointOutcome, t storage.Target, databases half, got *FilesTarget) error {
	err := got.Err
	if len(got.Summary.Snapshot) == 64 && databases.err == nil {
		p := point.Point{
			ID: out.ID, Fileset: f.Fileset, Host: f.Host, TakenAt: out.At, Databases: databases.backups,
			Files: point.Files{
				Repository: point.Repository(f.Fileset), Snapshot: got.Summary.Snapshot, TakenAt: got.Summary.At.Truncate(time.Millisecond),
				Count: got.Summary.Files, Bytes: got.Summary.Bytes, Unread: got.Summary.Missed,
			},
		}
		if p.Databases == nil {
			p.Databases = []point.Database{}
		}
		b, perr := t.Open(ctx)
		if perr == nil {
			perr = point.Put(ctx, b, p, f.Key, f.Signers)
		}
		if perr == nil {
			got.Point = &p
			m := f.remembered()
			m.Points[t.Name] = LastPoint{p.ID, p.TakenAt, p.Files.Count, p.Files.Bytes}
			perr = f.remember(m)
		}
		err = errors.Join(err, perr)
	} else if databases.err != nil {
		err = errors.Join(err, fmt.Errorf("there is no recovery point: %w", databases.err))
	}
	if got.Err = err; err != nil {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	return nil
}

func (f Files) path(ext string) string {
	return filepath.Join(f.State, "filesets", f.Fileset+ext)
}

func (f Files) lock() (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Join(f.State, "filesets"), 0o700); err != nil {
		return nil, err
	}
	return durable.Lock(f.path(".lock"), "fileset "+f.Fileset)
}

const stillQuiesced = "The application may still be quiesced: wake it. The next backup of %s, and a start of the daemon, run it again before anything else."

// quiesce runs Before. That it is to be undone is written down first.
func (f Files) quiesce(ctx context.Context) error {
	if f.Before == nil {
		return nil
	}
	if err := durable.WriteFile(f.path(".quiesced"), []byte(f.Now().UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return err
	}
	err := f.Before(ctx)
	if err == nil {
		return nil
	}
	// It may have come half-way.
	_, woke := f.wake(ctx)
	return errors.Join(fault.New(fault.HookFailed, "before: %w", err), woke)
}

// wake runs After, where Before was begun and this was not done yet. An end of
// ctx does not keep it from that.
func (f Files) wake(ctx context.Context) (woken bool, err error) {
	if _, err := os.Stat(f.path(".quiesced")); f.After == nil || err != nil {
		return false, nil //nolint:nilerr // it is not there
	}
	if err := f.After(context.WithoutCancel(ctx)); err != nil {
		return false, fault.New(fault.HookFailed, "after: %w", err).
			WithRemedy(stillQuiesced, f.Fileset)
	}
	return true, os.Remove(f.path(".quiesced"))
}

// Wake runs After for a run that was cut off; it does nothing where none was.
func Wake(ctx context.Context, f Files) (woken bool, err error) {
	unlock, err := f.lock()
	if err != nil {
		return false, err
	}
	defer unlock() //nolint:errcheck // the process is done with it
	return f.wake(ctx)
}

// fileMemory is what the host remembers of a fileset.
type fileMemory struct {
	// Points are the newest that every target has.
	Points map[string]LastPoint `json:"points"`
	// Sealed is what copy of the password every target has, by its address: a
	// digest of the password and of whom it is sealed to.
	Sealed map[string]string `json:"sealed"`
}

// LastPoint is what the host remembers of the newest point in a target.
type LastPoint struct {
	ID    string    `json:"id"`
	At    time.Time `json:"taken_at"`
	Count int64     `json:"files"`
	Bytes int64     `json:"bytes"`
}

func (f Files) remembered() fileMemory {
	m := fileMemory{}
	if data, err := os.ReadFile(f.path(".json")); err != nil || json.Unmarshal(data, &m) != nil {
		m = fileMemory{} // it is only a cache
	}
	if m.Sealed == nil {
		m.Sealed = map[string]string{}
	}
	if m.Points == nil {
		m.Points = map[string]LastPoint{}
	}
	return m
}

func (f Files) remember(m fileMemory) error {
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	return durable.WriteFile(f.path(".json"), append(data, '\n'), 0o600)
}

// LastPoints are the newest recovery points of a fileset that this host made, by
// target.
func LastPoints(state, fileset string) map[string]LastPoint {
	return Files{State: state, Fileset: fileset}.remembered().Points
}
