package runbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

// Incident is a timeline while something is wrong.
type Incident struct {
	Format   int       `json:"format"`
	ID       string    `json:"id"`
	Title    string    `json:"title"`
	Severity string    `json:"severity"`
	Host     string    `json:"host"`
	Started  time.Time `json:"started"`
	By       string    `json:"by"`
	Ended    time.Time `json:"ended,omitzero"`
	EndedBy  string    `json:"ended_by,omitempty"`
	Notes    []Note    `json:"notes"`
}

// Moment is one line of a timeline.
type Moment struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	What string    `json:"what"`
}

// Incidents are those of this host, a file each in a folder.
type Incidents struct{ Folder string }

func (s Incidents) file(id string) string { return filepath.Join(s.Folder, id+".json") }

// Save keeps one durably.
func (s Incidents) Save(i *Incident) error {
	if err := os.MkdirAll(s.Folder, 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.file(i.ID), append(data, '\n'), 0o600)
}

// List gives all, oldest first.
func (s Incidents) List() (list []*Incident, err error) {
	files, _ := filepath.Glob(filepath.Join(s.Folder, "*.json"))
	for _, file := range files {
		data, rerr := os.ReadFile(file)
		i := &Incident{}
		if rerr == nil {
			rerr = json.Unmarshal(data, i)
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", file, rerr))
			continue
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b *Incident) int { return a.Started.Compare(b.Started) })
	return list, err
}

// Open is the one that is going on; nil if none is.
func (s Incidents) Open() (*Incident, error) {
	list, err := s.List()
	for _, i := range slices.Backward(list) {
		if i.Ended.IsZero() {
			return i, nil
		}
	}
	return nil, err
}

// Find gives the one whose id begins so; the newest for "".
func (s Incidents) Find(id string) (*Incident, error) {
	list, err := s.List()
	for _, i := range slices.Backward(list) {
		if strings.HasPrefix(i.ID, id) {
			return i, nil
		}
	}
	return nil, errors.Join(fault.New(fault.NotFound, "there is no incident %s", id).WithRemedy("`emsafe incident list` shows them."), err)
}

// Covers reports whether a moment belongs to the incident.
func (i *Incident) Covers(at time.Time) bool {
	return !at.Before(i.Started) && (i.Ended.IsZero() || !at.After(i.Ended))
}

// Timeline puts notes, runs of runbooks and what else happened in order.
func (i *Incident) Timeline(records []*Record, others []Moment) (list []Moment) {
	list = append(list, Moment{i.Started, i.By, "the incident was declared: " + i.Title})
	for _, n := range i.Notes {
		list = append(list, Moment{n.At, n.By, n.Text})
	}
	for _, r := range records {
		if r.Incident != i.ID {
			continue
		}
		list = append(list, Moment{r.Started, r.Operator, fmt.Sprintf("runbook %s was begun (run %s)", r.Runbook, r.ID)})
		for _, d := range r.Steps {
			if d.State == OK && d.Command == "" {
				continue
			}
			what := fmt.Sprintf("%s: %s: %s", r.Runbook, d.Title, d.State)
			if d.Reason != "" {
				what += " (" + d.Reason + ")"
			}
			list = append(list, Moment{d.Ended, d.Operator, what})
		}
		for _, n := range r.Notes {
			list = append(list, Moment{n.At, n.By, n.Text})
		}
		if !r.Ended.IsZero() {
			list = append(list, Moment{r.Ended, r.Operator, fmt.Sprintf("runbook %s ended: %s", r.Runbook, r.Outcome)})
		}
	}
	for _, m := range others {
		if i.Covers(m.At) {
			list = append(list, m)
		}
	}
	if !i.Ended.IsZero() {
		list = append(list, Moment{i.Ended, i.EndedBy, "the incident was closed"})
	}
	slices.SortStableFunc(list, func(a, b Moment) int { return a.At.Compare(b.At) })
	return list
}

// Skeleton is a post-incident report to be finished by people: what can be told
// is told, what cannot is asked.
func (i *Incident) Skeleton(timeline []Moment, state []string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Incident %s: %s", i.ID, i.Title)
	line("\n- severity: %s", i.Severity)
	line("- host: %s", i.Host)
	line("- declared %s by %s", stamp(i.Started), i.By)
	line("- closed %s by %s", stamp(i.Ended), i.EndedBy)
	if !i.Ended.IsZero() {
		line("- took %s", i.Ended.Sub(i.Started).Round(time.Second))
	}
	line("\n## Summary\n\n_Two sentences: what happened, and what it meant for those who use the service._")
	line("\n## Impact\n\n_Who could not do what, from when to when? What data was lost, or seen by others?_")
	line("\n## Timeline\n\n| when (UTC) | who | what |\n|---|---|---|")
	for _, m := range timeline {
		line("| %s | %s | %s |", m.At.UTC().Format(time.DateTime), cell(m.Who), cell(m.What))
	}
	if len(state) > 0 {
		line("\n## Backups at the time\n")
		for _, s := range state {
			line("- %s", s)
		}
	}
	line("\n## Cause\n\n_Why did it happen? Why was it not noticed before? Ask why five times._")
	line("\n## What went well\n\n_…_\n\n## What went badly, and where we were lucky\n\n_…_")
	line("\n## Actions\n\n| what | owner | until | done |\n|---|---|---|---|\n| _…_ | _…_ | _…_ | |")
	return b.String()
}

func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
