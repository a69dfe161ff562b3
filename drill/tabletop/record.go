package tabletop

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

// Format is that of reports.
const Format = 1

// Inventory is what there really is, as the exercise begins.
type Inventory struct {
	Host      string     `json:"host"`
	At        time.Time  `json:"at"`
	Databases []Database `json:"databases"`
	Filesets  []Fileset  `json:"filesets"`
	Targets   []Named    `json:"targets"` // name, and where
	Keys      []string   `json:"keys"`    // who opens what, and when that was last proven
	Told      []string   `json:"told"`    // who is told when something is wrong
}

// Database is one database in it.
type Database struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Service string   `json:"service,omitempty"`
	RPO     string   `json:"rpo,omitempty"`
	RTO     string   `json:"rto,omitempty"`
	Backups []string `json:"backups"` // what each target has
	Drill   string   `json:"drill"`   // the last one, in words
}

// Fileset is one fileset in it.
type Fileset struct {
	Name      string   `json:"name"`
	Paths     []string `json:"paths"`
	Databases []string `json:"databases"`
}

// Report is what was played, decided and found.
type Report struct {
	Format      int               `json:"format"`
	ID          string            `json:"id"`
	Scenario    string            `json:"scenario"`
	Title       string            `json:"title"`
	Digest      string            `json:"digest"` // SHA-256 of the scenario's text
	Host        string            `json:"host"`
	Facilitator string            `json:"facilitator"`
	Players     map[string]string `json:"players"` // by role
	Started     time.Time         `json:"started"`
	Ended       time.Time         `json:"ended,omitzero"`
	Elapsed     time.Duration     `json:"elapsed_ns"` // on the exercise's own clock, pauses left out
	Fast        bool              `json:"fast,omitempty"`
	Stage       Stage             `json:"stage"`
	Inventory   Inventory         `json:"inventory"`
	Injects     []Shown           `json:"injects"`
	Decisions   []Decision        `json:"decisions"`
	Scores      []Score           `json:"scores"`
	Objectives  []Judged          `json:"objectives"`
	Findings    []Finding         `json:"findings"`
}

// Stage is how far an exercise is.
type Stage string

// The stages.
const (
	Playing  Stage = "playing"
	Judging  Stage = "judging"
	Finished Stage = "finished"
)

// Shown is an inject that was brought.
type Shown struct {
	ID      string        `json:"id"`
	Title   string        `json:"title"`
	Planned time.Duration `json:"planned_ns"`
	Clock   time.Duration `json:"clock_ns"`
	At      time.Time     `json:"at"`
	Choice  string        `json:"choice,omitempty"`
	Drill   string        `json:"drill,omitempty"` // what a real drill found
	Done    bool          `json:"done"`
}

// Decision is what somebody decided, or a note.
type Decision struct {
	At     time.Time     `json:"at"`
	Clock  time.Duration `json:"clock_ns"`
	By     string        `json:"by"`
	Inject string        `json:"inject"`
	Text   string        `json:"text"`
	Note   bool          `json:"note,omitempty"`
}

// Score is whether the team did what was expected.
type Score struct {
	Inject    string `json:"inject"`
	Action    string `json:"action"`
	Runbook   string `json:"runbook,omitempty"`
	Objective string `json:"objective,omitempty"`
	Done      string `json:"done"` // yes, partly or no
}

// Judged is an objective, met or not.
type Judged struct {
	Named
	Met string `json:"met"` // yes, partly or no
	Why string `json:"why,omitempty"`
}

// Finding is something to be mended.
type Finding struct {
	ID     string    `json:"id"`
	What   string    `json:"what"`
	Owner  string    `json:"owner"`
	Due    time.Time `json:"due"`
	Closed time.Time `json:"closed,omitzero"`
	By     string    `json:"closed_by,omitempty"`
	How    string    `json:"how,omitempty"`
}

// Open reports whether it is still to be mended.
func (f Finding) Open() bool { return f.Closed.IsZero() }

// Overdue reports whether its day has passed.
func (f Finding) Overdue(now time.Time) bool {
	return f.Open() && now.After(f.Due.AddDate(0, 0, 1))
}

// Store is where the exercises of this host are kept. The report of one that is
// over is never changed; what becomes of its findings lies beside it.
type Store struct{ Folder string }

// Path is a file of an exercise.
func (s Store) Path(id, name string) string { return filepath.Join(s.Folder, id, name) }

// Save keeps a report durably.
func (s Store) Save(r *Report) error { return s.write(r.ID, "exercise.json", r) }

func (s Store) write(id, name string, doc any) error {
	if err := os.MkdirAll(filepath.Join(s.Folder, id), 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.Path(id, name), append(data, '\n'), 0o600)
}

// List gives all exercises, oldest first, with their findings as they are now.
func (s Store) List() (list []*Report, problems []error) {
	entries, err := os.ReadDir(s.Folder)
	if err != nil && !os.IsNotExist(err) {
		return nil, []error{err}
	}
	for _, e := range entries {
		r, err := s.read(e.Name())
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b *Report) int { return a.Started.Compare(b.Started) })
	return list, problems
}

func (s Store) read(id string) (*Report, error) {
	data, err := os.ReadFile(s.Path(id, "exercise.json"))
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil || r.ID != id {
		return nil, fmt.Errorf("%s is no exercise: %w", s.Path(id, "exercise.json"), err)
	}
	closed := map[string]Finding{}
	if data, err := os.ReadFile(s.Path(id, "closed.json")); err == nil {
		if err := json.Unmarshal(data, &closed); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Path(id, "closed.json"), err)
		}
	}
	for n, f := range r.Findings {
		if c, ok := closed[f.ID]; ok {
			r.Findings[n].Closed, r.Findings[n].By, r.Findings[n].How = c.Closed, c.By, c.How
		}
	}
	return r, nil
}

// Find gives the one exercise whose id begins so; the newest for "".
func (s Store) Find(id string, fits func(*Report) bool) (*Report, error) {
	list, _ := s.List()
	var found []*Report
	for _, r := range list {
		if strings.HasPrefix(r.ID, id) && (fits == nil || fits(r)) {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fault.New(fault.NotFound, "there is no such exercise").WithRemedy("`emsafe exercise report --list` shows them.")
	case len(found) > 1 && id != "":
		return nil, fault.New(fault.Usage, "several exercises begin with %s", id).WithRemedy("Give more of it.")
	}
	return found[len(found)-1], nil
}

// Close writes down that a finding is mended.
func (s Store) Close(id, by, how string, at time.Time) (Finding, error) {
	list, problems := s.List()
	for _, r := range list {
		for _, f := range r.Findings {
			if f.ID != id {
				continue
			}
			if !f.Open() {
				return f, fault.New(fault.Usage, "%s was closed at %s by %s", id, f.Closed.Format(time.DateOnly), f.By)
			}
			closed := map[string]Finding{}
			for _, other := range r.Findings {
				if !other.Open() {
					closed[other.ID] = other
				}
			}
			f.Closed, f.By, f.How = at, by, how
			closed[id] = f
			return f, s.write(r.ID, "closed.json", closed)
		}
	}
	if len(problems) > 0 {
		return Finding{}, problems[0]
	}
	return Finding{}, fault.New(fault.NotFound, "there is no finding %s", id).WithRemedy("`emsafe exercise findings` shows them.")
}
