package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// Options are what a scheduler needs. State is the only one that must be set.
type Options struct {
	State *State
	Host  string // part of every fixed offset
	Heavy int    // heavy jobs at a time, at least 2: the last place is for backups only. 0: 2

	// Spread is how far the slots of jobs and hosts with one schedule are
	// spread: each is later by a fixed offset below this. 0: not at all.
	Spread time.Duration

	// CatchUp is how far runs that were missed are spread, so that all hosts
	// that come back with the power do not come at once. 0: 2 minutes.
	CatchUp time.Duration

	// Reference asks somebody else for the time: the storage, as a rule. It is
	// asked when the clock was set. nil: nobody is asked.
	Reference func(context.Context) (time.Time, error)

	Log     *slog.Logger  // nil: none
	Observe func(Event)   // called in order, one at a time; it must not wait, and may call nothing here but Status. nil: nobody
	Alive   func()        // called on every tick when all jobs have been looked at: feeds a watchdog. nil: nobody
	Tick    time.Duration // 0: 5 seconds

	Clock     clockwork.Clock      // nil: the real one
	Monotonic func() time.Duration // a clock that nobody can set, and that stops while the machine sleeps; nil: the real one
}

const (
	defaultTick    = 5 * time.Second
	defaultCatchUp = 2 * time.Minute
	defaultHeavy   = 2

	// networkGrace is how long a stop waits for runs that only wait for a
	// network, and for those that can be done again.
	networkGrace = 10 * time.Second

	// tolerance is what clocks may be corrected by without anybody caring.
	tolerance = 5 * time.Minute
)

// Scheduler runs jobs. Its methods are safe for concurrent use.
type Scheduler struct {
	o       Options
	trigger *trigger
	spawn   func(func()) // go, but for tests
	reload  sync.Mutex   // one Reload at a time; held without mu, which gocron's callbacks take

	mu        sync.Mutex
	jobs      map[string]Job
	waiting   map[string]*wait   // due, and not started
	running   map[string]*active // by job
	seen      map[string]seen
	noticed   map[string]time.Time // when a job's base was found to lie in the future
	events    []Event              // not told yet
	wall      time.Time            // at the last look
	mono      time.Duration
	doubt     doubt
	reloaded  time.Time
	refused   error // what the last reload was refused for
	stopping  bool
	unwritten bool
	cutOff    bool          // what was cut off has been told
	idle      chan struct{} // closed when nothing runs any more, while stopping

	telling sync.Mutex
}

// wait is a job that is due.
type wait struct {
	slot      time.Time
	cause     Cause
	notBefore time.Time
	because   string // what it waits for
}

type active struct {
	job    Job
	light  bool // it only waits for a network from here on
	run    Run
	cancel context.CancelCauseFunc
}

// New makes a scheduler without jobs, and starts its tick. End it with Stop.
func New(o Options) (*Scheduler, error) {
	if o.State == nil {
		return nil, errors.New("a scheduler needs its state")
	}
	if o.Heavy == 0 {
		o.Heavy = defaultHeavy
	}
	if o.Heavy < 2 {
		return nil, fmt.Errorf("%d heavy jobs at a time: at least 2, or nothing but backups could ever run", o.Heavy)
	}
	if o.CatchUp == 0 {
		o.CatchUp = defaultCatchUp
	}
	if o.Tick == 0 {
		o.Tick = defaultTick
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Monotonic == nil {
		start := time.Now()
		o.Monotonic = func() time.Duration { return time.Since(start) }
	}
	s := &Scheduler{
		o: o, spawn: func(f func()) { go f() }, jobs: map[string]Job{}, waiting: map[string]*wait{}, seen: map[string]seen{}, noticed: map[string]time.Time{}, running: map[string]*active{},
		wall: o.Clock.Now().Round(0), mono: o.Monotonic(),
	}
	var err error
	s.trigger, err = newTrigger(o.Clock, o.Tick, s.tick, s.look)
	return s, err
}

// Reload replaces the jobs. If they are not in order it says why and everything
// stays as it was. What runs goes on, also if its job is gone; a job that is
// there again keeps its history.
func (s *Scheduler) Reload(jobs []Job) error {
	s.reload.Lock()
	defer s.reload.Unlock()
	defer s.tell()
	if err := check(jobs); err != nil {
		s.Refused(err)
		return fmt.Errorf("the jobs stay as they were: %w", err)
	}
	names := make([]string, len(jobs))
	byName := map[string]Job{}
	for i, j := range jobs {
		if j.Schedule.offset == 0 {
			j.Schedule = j.Schedule.Shifted(Spread(s.o.Host, j.Name, s.o.Spread))
		}
		names[i], byName[j.Name] = j.Name, j
	}
	if err := s.replace(byName); err != nil {
		return err
	}
	// Without mu: gocron answers from a goroutine that asks for the next run.
	if err := s.trigger.set(names, s.next); err != nil {
		return err
	}
	s.look()
	return nil
}

func (s *Scheduler) replace(byName map[string]Job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return ErrStopped
	}
	s.jobs = byName
	clear(s.seen)
	for name := range s.waiting {
		if _, ok := byName[name]; !ok {
			delete(s.waiting, name)
		}
	}
	now := s.now()
	for _, j := range byName {
		s.introduce(j, now)
		if r, _ := s.o.State.Record(j.Name); !s.cutOff && r.Last != nil && r.Last.Verdict == CutOff {
			s.note(Event{Type: RunFinished, Job: j.Name, Run: r.Last})
		}
	}
	s.cutOff = true
	s.reloaded, s.refused = now, nil
	s.note(Event{Type: Reloaded, Text: fmt.Sprintf("%d jobs", len(byName))})
	return nil
}

// introduce writes a job into the state that is not there, or not like this.
// The slots of a cron line count from then on; `every` is due at once.
func (s *Scheduler) introduce(j Job, now time.Time) {
	r, known := s.o.State.Record(j.Name)
	if known && r.Kind == j.Kind && r.Key == j.Key && r.Schedule == j.Schedule.String() && r.Objective == j.Objective {
		return
	}
	err := s.o.State.change(j.Name, func(r *Record) {
		if r.Since.IsZero() {
			r.Since, r.Base = now, now
			if j.Schedule.every > 0 {
				r.Base = now.Add(-j.Schedule.every)
			}
		}
		r.Kind, r.Key, r.Schedule, r.Objective = j.Kind, j.Key, j.Schedule.String(), j.Objective
	})
	s.written(err)
}

// Refused records that a new configuration was not taken: the jobs stay.
func (s *Scheduler) Refused(err error) {
	s.mu.Lock()
	s.refused = err
	s.note(Event{Type: ReloadRefused, Text: err.Error()})
	s.mu.Unlock()
	s.tell()
}

// Trigger makes a job due now. It waits as any other, and covers the slots that
// have passed.
func (s *Scheduler) Trigger(name string) error {
	s.mu.Lock()
	_, ok := s.jobs[name]
	if ok && !s.stopping {
		s.waiting[name] = &wait{slot: s.now(), cause: Manual}
	}
	stopping := s.stopping
	s.mu.Unlock()
	switch {
	case stopping:
		return ErrStopped
	case !ok:
		return fmt.Errorf("there is no job %q", name)
	}
	s.look()
	return nil
}

// Stop schedules nothing any more and waits for what runs. When ctx ends it
// cancels that, with ErrStopped as the cause, and still waits: a run that is
// cancelled puts its things away. It gives up after another grace, and says
// what did not end; that shows as interrupted at the next start.
func (s *Scheduler) Stop(ctx context.Context, grace time.Duration) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return ErrStopped
	}
	s.stopping, s.idle = true, make(chan struct{})
	s.rest()
	if s.doubt.asking {
		s.doubt.cancel()
	}
	s.mu.Unlock()
	s.tell()
	defer s.tell()
	err := s.trigger.stop(context.WithoutCancel(ctx))
	waiting := s.o.Clock.NewTimer(networkGrace)
	defer waiting.Stop()
	select {
	case <-s.idle:
		return err
	case <-ctx.Done():
	case <-waiting.Chan():
		// What is sealed waits in the spool, and what is no backup can be done
		// again: neither is worth a stop that a hanging target holds up.
		s.cancelAll(func(a *active) bool { return a.light || a.job.Kind != Backup && a.job.Kind != Files })
		select {
		case <-s.idle:
			return err
		case <-ctx.Done():
		}
	}
	s.cancelAll(func(*active) bool { return true })
	timer := s.o.Clock.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-s.idle:
		return err
	case <-timer.Chan():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	for name := range s.running {
		left = append(left, name)
	}
	slices.Sort(left)
	if len(left) == 0 {
		return err
	}
	return errors.Join(err, fmt.Errorf("did not end: %s", strings.Join(left, ", ")))
}

func (s *Scheduler) cancelAll(which func(*active) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.running {
		if which(a) {
			a.cancel(ErrStopped)
		}
	}
}

// rest closes idle when the last run has ended.
func (s *Scheduler) rest() {
	if s.stopping && len(s.running) == 0 && s.idle != nil {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
}

// now is the time on the wall, without what Go remembers of the other clock.
func (s *Scheduler) now() time.Time { return s.o.Clock.Now().Round(0).UTC() }

// written reports a state file that could not be written.
func (s *Scheduler) written(err error) {
	switch {
	case err != nil:
		s.unwritten = true
		s.note(Event{Type: StateFailed, Text: err.Error()})
	case s.unwritten:
		s.unwritten = false
		s.note(Event{Type: StateWritten})
	}
}
