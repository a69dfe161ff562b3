package runbook

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

// Format is that of records.
const Format = 1

// Record is what was done, by whom, when, and what came of it.
type Record struct {
	Format    int               `json:"format"`
	ID        string            `json:"id"`
	Runbook   string            `json:"runbook"`
	Title     string            `json:"title"`
	Digest    string            `json:"digest"` // SHA-256 of the runbook's text
	Host      string            `json:"host"`
	Operator  string            `json:"operator"`
	Incident  string            `json:"incident,omitempty"`
	Started   time.Time         `json:"started"`
	Ended     time.Time         `json:"ended,omitzero"`
	Outcome   Outcome           `json:"outcome"`
	DryRun    bool              `json:"dry_run,omitempty"`
	Variables map[string]string `json:"variables"`
	Before    []Checked         `json:"before"`
	Steps     []Done            `json:"steps"`
	Notes     []Note            `json:"notes"`
}

// Outcome is how a run stands.
type Outcome string

// The outcomes.
const (
	Running   Outcome = "running"   // or cut off
	Completed Outcome = "completed" // every step was done
	Partly    Outcome = "completed, with steps left out or failed"
	Stopped   Outcome = "stopped" // by the operator, to be resumed
)

// Checked is a precheck.
type Checked struct {
	Text   string `json:"text"`
	OK     bool   `json:"ok"`
	Output string `json:"output,omitempty"`
}

// Done is one step as it went.
type Done struct {
	Title    string    `json:"title"`
	Command  string    `json:"command,omitempty"` // as it was run
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Operator string    `json:"operator"`
	State    State     `json:"state"`
	Reason   string    `json:"reason,omitempty"` // why it was left out, or what was not as expected
	Code     *int      `json:"exit_code,omitempty"`
	Output   string    `json:"output,omitempty"`
	Attempts int       `json:"attempts,omitempty"`
	Undone   bool      `json:"undone,omitempty"`
}

// State is that of a step.
type State string

// The states.
const (
	Shown   State = "shown" // and nothing was decided
	Begun   State = "begun" // and cut off: what became of it is not known
	OK      State = "done"
	Skipped State = "left out"
	Failed  State = "failed"
)

// Note is something that an operator wrote down.
type Note struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	Step int       `json:"step"` // number; 0: none
	Text string    `json:"text"`
}

// Counts are how many steps were done, left out, and failed.
func (r *Record) Counts() (done, skipped, failed int) {
	for _, s := range r.Steps {
		switch s.State {
		case OK:
			done++
		case Skipped:
			skipped++
		case Begun, Failed:
			failed++
		}
	}
	return done, skipped, failed
}

// Store is where the records of this host are kept: a folder for each run.
type Store struct{ Folder string }

const recordFile = "record.json"

// Path is a file or folder of a run.
func (s Store) Path(id, name string) string { return filepath.Join(s.Folder, id, name) }

// Save keeps a record durably.
func (s Store) Save(r *Record) error {
	if err := os.MkdirAll(s.Path(r.ID, "work"), 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.Path(r.ID, recordFile), append(data, '\n'), 0o600)
}

// List gives all records, oldest first. What cannot be read is left out, and
// told.
func (s Store) List() (records []*Record, problems []error) {
	entries, err := os.ReadDir(s.Folder)
	if err != nil && !os.IsNotExist(err) {
		return nil, []error{err}
	}
	for _, e := range entries {
		data, err := os.ReadFile(s.Path(e.Name(), recordFile))
		if os.IsNotExist(err) {
			continue
		}
		r := &Record{}
		if err == nil {
			err = json.Unmarshal(data, r)
		}
		if err == nil && r.ID != e.Name() {
			err = fmt.Errorf("it is of the run %q", r.ID)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s.Path(e.Name(), recordFile), err))
			continue
		}
		records = append(records, r)
	}
	slices.SortStableFunc(records, func(a, b *Record) int { return a.Started.Compare(b.Started) })
	return records, problems
}

// Find gives the one record whose id begins so; the newest for "".
func (s Store) Find(id string, fits func(*Record) bool) (*Record, error) {
	records, _ := s.List()
	var found []*Record
	for _, r := range records {
		if strings.HasPrefix(r.ID, id) && (fits == nil || fits(r)) {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fault.New(fault.NotFound, "there is no such run").WithRemedy("`emsafe runbook log` shows them.")
	case len(found) > 1 && id != "":
		return nil, fault.New(fault.Usage, "several runs begin with %s", id).WithRemedy("Give more of it.")
	}
	return found[len(found)-1], nil
}
