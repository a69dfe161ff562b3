package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind is what a job does. Earlier kinds go first when several are due.
type Kind int

// The kinds, in the order of their rights.
const (
	Backup Kind = iota
	Files
	Verify
	Prune
	Forget
	Drill
	Harden
	Selftest
)

var kinds = []string{"backup", "files", "verify", "prune", "forget", "drill", "harden", "selftest"}

// goesOn reports whether jobs of this kind run while the clock is in doubt.
func (k Kind) goesOn() bool { return k == Backup || k == Files }

func (k Kind) String() string {
	if k < 0 || int(k) >= len(kinds) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kinds[k]
}

// MarshalText writes the kind by its name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads it.
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kinds {
		if name == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a kind of job", text)
}

// Job is something to run again and again.
type Job struct {
	Name string // unique; the state is kept by it
	Kind Kind

	// Key is what runs exclude each other by, the name of a database. One job
	// of a key runs at a time, except that a backup waits for other backups
	// only: whatever else runs reads and tidies the target.
	Key string

	Heavy    bool // counts against Options.Heavy
	Schedule Schedule
	Window   Window        // the times of day in which it may start
	Limit    time.Duration // a run is cancelled after this; 0: never
	Retry    int           // how often a failed run is tried again before its next slot: after 1, 4, 16, 60 minutes …

	// Objective is the most time that may pass between successes; 0: none.
	Objective time.Duration

	// Run does it. The context ends at the limit, or when the daemon stops and
	// can wait no longer; context.Cause says which.
	Run func(context.Context, Run) (Result, error)
}

// Result is what a run has to tell, also one that failed.
type Result struct {
	Text    string    `json:"text,omitempty"` // one line
	Targets []Outcome `json:"targets,omitempty"`
}

// Outcome is what became of a run at one target.
type Outcome struct {
	Target string    `json:"target"`
	Point  time.Time `json:"point,omitzero"` // the instant that is safe there now; zero if the run did not get there
	Bytes  int64     `json:"bytes,omitempty"`
	Error  string    `json:"error,omitempty"`
}

// Why a run is cancelled.
var (
	ErrStopped = errors.New("the daemon stops")
	ErrLimit   = errors.New("the run took longer than its limit")
)

// check finds what cannot be run.
func check(jobs []Job) error {
	var errs []error
	seen := map[string]bool{}
	for _, j := range jobs {
		switch {
		case j.Name == "":
			errs = append(errs, errors.New("a job has no name"))
		case seen[j.Name]:
			errs = append(errs, fmt.Errorf("two jobs are called %s", j.Name))
		case j.Run == nil:
			errs = append(errs, fmt.Errorf("%s has nothing to run", j.Name))
		case j.Kind < 0 || int(j.Kind) >= len(kinds):
			errs = append(errs, fmt.Errorf("%s is of an unknown kind", j.Name))
		case j.Limit < 0 || j.Retry < 0 || j.Objective < 0:
			errs = append(errs, fmt.Errorf("%s has a negative setting", j.Name))
		}
		seen[j.Name] = true
	}
	return errors.Join(errs...)
}
