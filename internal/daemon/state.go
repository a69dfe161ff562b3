package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

// StateFile is the name of the state file in the state directory.
const StateFile = "daemon.json"

// stateVersion counts up when an older emsafe could misread the file.
const stateVersion = 1

// Cause is why a run was started.
type Cause string

// The causes.
const (
	OnTime      Cause = "schedule"
	Missed      Cause = "missed"      // its slot passed without a run
	Interrupted Cause = "interrupted" // the run before was cut off
	Retried     Cause = "retry"
	Manual      Cause = "manual"
)

// Verdict is how a run ended.
type Verdict string

// The verdicts. A run that is found without one after a crash is cut off.
const (
	Running Verdict = "running"
	OK      Verdict = "ok"
	Failed  Verdict = "failed"
	Stopped Verdict = "stopped"     // given up because the daemon stopped
	CutOff  Verdict = "interrupted" // by a crash, a kill or a power cut
)

// Run is one run of a job.
type Run struct {
	ID       string    `json:"id"`
	Job      string    `json:"job"`
	Slot     time.Time `json:"slot"`
	Cause    Cause     `json:"cause"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Verdict  Verdict   `json:"verdict"`
	Error    string    `json:"error,omitempty"`
	Result
}

// Took is how long a finished run took.
func (r Run) Took() time.Duration {
	if r.Finished.Before(r.Started) {
		return 0 // not finished, or the clock was set back
	}
	return r.Finished.Sub(r.Started)
}

// Record is what the state file knows about one job.
type Record struct {
	Kind      Kind               `json:"kind"`
	Key       string             `json:"key,omitempty"`
	Schedule  string             `json:"schedule,omitempty"`
	Objective time.Duration      `json:"objective,omitempty"`
	Since     time.Time          `json:"since"` // when the job was first seen
	Base      time.Time          `json:"base"`  // slots up to this one are done with
	Last      *Run               `json:"last,omitempty"`
	Success   *Run               `json:"success,omitempty"` // the last that went well
	Targets   map[string]Outcome `json:"targets,omitempty"` // the last that went well, at each
	Failures  int                `json:"failures"`          // in a row
	Counts    Counts             `json:"counts"`
}

// Counts only grow.
type Counts struct {
	OK          uint64 `json:"ok"`
	Failed      uint64 `json:"failed"`
	Interrupted uint64 `json:"interrupted"`
	Missed      uint64 `json:"missed"` // slots that passed and were never run
}

// newest is the latest time that the record knows of.
func (r *Record) newest() time.Time {
	t := r.Base
	if r.Last != nil {
		for _, other := range []time.Time{r.Last.Started, r.Last.Finished} {
			if other.After(t) {
				t = other
			}
		}
	}
	return t
}

// State is the state file. Its methods are safe for concurrent use.
type State struct {
	file string
	mu   sync.Mutex
	doc  document
}

type document struct {
	Version int                `json:"version"`
	Jobs    map[string]*Record `json:"jobs"`
}

// OpenState reads the state file in dir, or begins one. The caller holds the
// [Lock]: runs without an end are taken for cut off. A file that cannot be
// parsed is set aside, and the warning says so; nothing is known then about
// what was missed.
func OpenState(dir string) (s *State, warning, err error) {
	s = &State{file: filepath.Join(dir, StateFile), doc: document{Version: stateVersion, Jobs: map[string]*Record{}}}
	durable.Sweep(s.file)
	doc, err := ReadState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil, nil
	case errors.Is(err, errNotState):
		aside := s.file + ".damaged"
		if err := os.Rename(s.file, aside); err != nil {
			return nil, nil, err
		}
		return s, fmt.Errorf("%w; it is kept as %s, and what ran before is not known", err, aside), nil
	case err != nil:
		return nil, nil, err
	}
	s.doc.Jobs = doc
	for _, r := range doc {
		if r.Last != nil && r.Last.Verdict == Running {
			r.Last.Verdict = CutOff
			r.Last.Error = "the daemon ended in the middle of the run"
			r.Counts.Interrupted++
		}
	}
	return s, nil, nil
}

var errNotState = errors.New("the state file cannot be read")

// ReadState reads the records of all jobs without a lock and changes nothing:
// for `status` when no daemon answers.
func ReadState(dir string) (map[string]*Record, error) {
	file := filepath.Join(dir, StateFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.New(fault.Permission, "no access to the daemon's state: %w", err)
	}
	if err != nil {
		return nil, err
	}
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errNotState, file, err)
	}
	if doc.Version > stateVersion {
		return nil, fault.New(fault.Unsupported, "%s is of version %d and this emsafe knows %d", file, doc.Version, stateVersion).
			WithSafe("Nothing was changed; nothing was run.")
	}
	for name, r := range doc.Jobs {
		if r == nil {
			return nil, fmt.Errorf("%w: %s: %s is empty", errNotState, file, name)
		}
	}
	return doc.Jobs, nil
}

// Record is a copy of what is known about a job.
func (s *State) Record(job string) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.doc.Jobs[job]
	if r == nil {
		return Record{}, false
	}
	return r.copied(), true
}

// Jobs are copies of all records.
func (s *State) Jobs() map[string]Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]Record, len(s.doc.Jobs))
	for name, r := range s.doc.Jobs {
		all[name] = r.copied()
	}
	return all
}

func (r *Record) copied() Record {
	c := *r
	c.Targets = maps.Clone(r.Targets)
	for _, run := range []**Run{&c.Last, &c.Success} {
		if *run != nil {
			copied := **run
			copied.Targets = slices.Clone(copied.Targets)
			*run = &copied
		}
	}
	return c
}

// change edits the record of a job and writes the file. The change counts also
// if the file cannot be written: a backup is worth more than its record.
func (s *State) change(job string, edit func(*Record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.doc.Jobs[job]
	if r == nil {
		r = &Record{}
		s.doc.Jobs[job] = r
	}
	edit(r)
	data, err := json.MarshalIndent(s.doc, "", " ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.file, append(data, '\n'), 0o600)
}

// begin records that a run starts.
func (s *State) begin(run Run, base time.Time, missed int) error {
	return s.change(run.Job, func(r *Record) {
		r.Last, r.Base = &run, base
		r.Counts.Missed += uint64(missed) //nolint:gosec // at most 1000
	})
}

// end records how it ended.
func (s *State) end(run Run) error {
	return s.change(run.Job, func(r *Record) {
		r.Last = &run
		for _, o := range run.Targets {
			if o.Error == "" && !o.Point.IsZero() {
				if r.Targets == nil {
					r.Targets = map[string]Outcome{}
				}
				r.Targets[o.Target] = o
			}
		}
		switch run.Verdict {
		case OK:
			r.Success, r.Failures = &run, 0
			r.Counts.OK++
		case Stopped:
			r.Counts.Interrupted++
		default:
			r.Failures++
			r.Counts.Failed++
		}
	})
}

// Lock makes sure that one daemon works on a state directory.
func Lock(dir string) (unlock func() error, err error) {
	return durable.Lock(filepath.Join(dir, "daemon.lock"), "the state folder "+dir)
}
