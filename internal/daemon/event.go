package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// EventType is what happened.
type EventType string

// The types.
const (
	RunStarted    EventType = "run-started"
	RunFinished   EventType = "run-finished"
	SlotMissed    EventType = "slot-missed" // and will be caught up with
	ClockJumped   EventType = "clock-jumped"
	ClockDoubted  EventType = "clock-doubted" // only backups are started on schedule
	ClockTrusted  EventType = "clock-trusted"
	Reloaded      EventType = "reloaded"
	ReloadRefused EventType = "reload-refused" // the old jobs stay
	StateFailed   EventType = "state-failed"   // the state file cannot be written
	StateWritten  EventType = "state-written"  // it can again
)

// Event is something worth a line in a log, and perhaps a message to somebody.
type Event struct {
	At   time.Time
	Type EventType
	Job  string // "" if it is about the daemon
	Run  *Run   // of RunStarted and RunFinished
	Text string

	Retrying bool // RunFinished: it failed and is tried again before its next slot
}

// note keeps an event until the lock is free. The caller holds mu.
func (s *Scheduler) note(e Event) {
	e.At = s.now()
	s.events = append(s.events, e)
}

// tell passes on what was noted, in order. The caller does not hold mu.
func (s *Scheduler) tell() {
	s.telling.Lock()
	defer s.telling.Unlock()
	for {
		s.mu.Lock()
		events := s.events
		s.events = nil
		s.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for _, e := range events {
			s.log(e)
			if s.o.Observe != nil {
				s.o.Observe(e)
			}
		}
	}
}

func (s *Scheduler) log(e Event) {
	level, args := slog.LevelInfo, []any{}
	if e.Job != "" {
		args = append(args, "job", e.Job)
	}
	if e.Text != "" {
		args = append(args, "text", e.Text)
	}
	if e.Run != nil {
		args = append(args, "run", e.Run.ID, "cause", string(e.Run.Cause), "slot", e.Run.Slot)
	}
	switch {
	case e.Type == ClockDoubted, e.Type == StateFailed, e.Type == ReloadRefused:
		level = slog.LevelError
	case e.Type == ClockJumped, e.Type == SlotMissed:
		level = slog.LevelWarn
	case e.Type == RunFinished:
		args = append(args, "verdict", string(e.Run.Verdict), "took", e.Run.Took())
		if e.Run.Error != "" {
			level, args = slog.LevelError, append(args, "error", e.Run.Error)
		}
	}
	s.o.Log.Log(context.Background(), level, strings.ReplaceAll(string(e.Type), "-", " "), args...)
}

// Status is what the scheduler can tell about itself.
type Status struct {
	At       time.Time   `json:"at"`
	Clock    string      `json:"clock,omitempty"` // why it is in doubt
	Reloaded time.Time   `json:"reloaded"`
	Refused  string      `json:"refused,omitempty"` // the configuration that was not taken, and why
	Stopping bool        `json:"stopping,omitempty"`
	Jobs     []JobStatus `json:"jobs"`
}

// JobStatus is one job's part of it.
type JobStatus struct {
	Name    string    `json:"name"`
	Next    time.Time `json:"next,omitzero"`     // when it will run; in the past: it is due
	Waits   string    `json:"waits,omitempty"`   // what it waits for, if it is due
	Running bool      `json:"running,omitempty"` // Record.Last is that run
	Window  string    `json:"window,omitempty"`
	Record
}

// Status is how things are, jobs by name.
func (s *Scheduler) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := Status{At: now, Clock: s.doubt.String(), Reloaded: s.reloaded, Stopping: s.stopping}
	if s.refused != nil {
		out.Refused = s.refused.Error()
	}
	for name, j := range s.jobs {
		js := JobStatus{Name: name, Running: s.running[name] != nil, Window: j.Window.String(), Next: s.nextRun(j, now)}
		js.Record, _ = s.o.State.Record(name)
		if w := s.waiting[name]; w != nil {
			js.Next, js.Waits = w.slot, w.because
		}
		out.Jobs = append(out.Jobs, js)
	}
	slices.SortFunc(out.Jobs, func(a, b JobStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}
