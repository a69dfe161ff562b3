package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"emsafe/internal/crash"
)

// tick is what the watchdog watches.
func (s *Scheduler) tick() {
	s.look()
	if s.o.Alive != nil {
		s.o.Alive()
	}
}

// look holds all jobs against the state and the clock, and starts what may
// start. Every tick, every timer and the end of every run come here.
func (s *Scheduler) look() {
	s.mu.Lock()
	now := s.now()
	s.watchClock(now)
	if !s.stopping {
		for _, j := range s.jobs {
			if s.doubt.String() == "" || j.Kind.goesOn() {
				s.plan(j, now)
			}
		}
	}
	s.pump(now)
	s.mu.Unlock()
	s.tell()
}

// late is how long after its slot a run is no longer on time.
func (s *Scheduler) late() time.Duration { return max(time.Minute, 2*s.o.Tick) }

// plan puts a job among the waiting if it is due, or brings what waits up to
// date: of several slots that pass while a job waits it runs the newest.
func (s *Scheduler) plan(j Job, now time.Time) {
	if s.running[j.Name] != nil {
		return
	}
	r, _ := s.o.State.Record(j.Name)
	if slot, due := s.due(j, s.base(j, r.Base, now), now); due {
		w := s.waiting[j.Name]
		if w == nil {
			w = &wait{cause: OnTime}
			s.waiting[j.Name] = w
			from := slot
			if r.Last != nil && r.Last.Finished.After(slot) {
				from = r.Last.Finished // it could not start while the one before ran
			}
			if now.Sub(from) > s.late() {
				w.cause, w.notBefore = Missed, now.Add(s.offset(j))
				s.note(Event{Type: SlotMissed, Job: j.Name, Text: fmt.Sprintf("was due %s", slot.Format(time.RFC3339))})
			} else if j.Schedule.every > 0 && r.Last == nil {
				w.notBefore = now.Add(min(j.Schedule.offset, j.Schedule.every))
			}
		}
		if w.cause != Manual {
			w.slot = slot
		}
		return
	}
	if s.waiting[j.Name] != nil || r.Last == nil {
		return
	}
	switch last := r.Last; {
	case last.Verdict == Stopped, last.Verdict == CutOff && last.Cause != Interrupted:
		// Once: what kills the daemon must not kill it for ever.
		s.waiting[j.Name] = &wait{slot: last.Slot, cause: Interrupted, notBefore: now.Add(s.offset(j))}
	case last.Verdict == Failed && r.Failures <= j.Retry:
		s.waiting[j.Name] = &wait{slot: last.Slot, cause: Retried, notBefore: last.Finished.Add(backOff(r.Failures))}
	}
}

// seen is what was found out about a schedule: nothing is due from one time to
// another while the base is the same. Lines that come once a year cost as
// little to look at as others then.
type seen struct{ base, from, until time.Time }

func (s *Scheduler) due(j Job, base, now time.Time) (time.Time, bool) {
	if c := s.seen[j.Name]; c.base.Equal(base) && !now.Before(c.from) && now.Before(c.until) {
		return time.Time{}, false
	}
	slot, due := j.Schedule.Due(base, now)
	if !due {
		s.seen[j.Name] = seen{base, now, s.nextRun(j, now)}
	}
	return slot, due
}

// base is where the slots of a job count from. One that lies in the future was
// written by a wrong clock: they then count from when that was noticed, and
// `every` is due at once.
func (s *Scheduler) base(j Job, base, now time.Time) time.Time {
	if !base.After(now.Add(tolerance)) {
		delete(s.noticed, j.Name)
		return base
	}
	at, known := s.noticed[j.Name]
	if !known || at.After(now) {
		if at = now; j.Schedule.every > 0 {
			at = now.Add(-j.Schedule.every)
		}
		s.noticed[j.Name] = at
	}
	return at
}

// backOff is 1, 4, 16 minutes and so on, at most an hour.
func backOff(failures int) time.Duration {
	return min(time.Hour, time.Minute<<(2*min(failures-1, 3)))
}

// offset is the fixed offset of a run that was missed.
func (s *Scheduler) offset(j Job) time.Duration { return Spread(s.o.Host, j.Name, s.o.CatchUp) }

// pump starts what is due and may start: earlier kinds first, then older slots.
func (s *Scheduler) pump(now time.Time) {
	if s.stopping {
		return
	}
	names := make([]string, 0, len(s.waiting))
	for name := range s.waiting {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.jobs[a].Kind, s.jobs[b].Kind), s.waiting[a].slot.Compare(s.waiting[b].slot), strings.Compare(a, b))
	})
	for _, name := range names {
		w := s.waiting[name]
		if w.because = s.hindrance(s.jobs[name], w, now); w.because == "" {
			delete(s.waiting, name)
			s.start(s.jobs[name], w, now)
		}
	}
}

// hindrance is why a job that is due may not start yet, or "".
func (s *Scheduler) hindrance(j Job, w *wait, now time.Time) string {
	if w.cause != Manual {
		if s.doubt.String() != "" && !j.Kind.goesOn() {
			return "the clock is in doubt"
		}
		if wait := w.notBefore.Sub(now); wait > 0 && wait <= max(s.o.CatchUp, time.Hour, j.Schedule.offset) {
			return "not before " + w.notBefore.Format(time.RFC3339)
		}
		if !j.Window.Contains(now) {
			return "its window opens " + j.Window.Opens(now).Format(time.RFC3339)
		}
	}
	heavy := 0
	for _, a := range s.running {
		if a.job.Name == j.Name || a.job.Key != "" && a.job.Key == j.Key && (j.Kind != Backup || a.job.Kind == Backup) {
			return a.job.Name + " runs"
		}
		if a.job.Heavy && !a.light {
			heavy++
		}
	}
	if places := s.o.Heavy; j.Heavy {
		if j.Kind != Backup {
			places--
		}
		if heavy >= places {
			return fmt.Sprintf("%d heavy jobs run", heavy)
		}
	}
	if j.Kind != Backup && j.Key != "" {
		for name, other := range s.waiting { // a backup of the same that could go now goes first
			if o := s.jobs[name]; name != j.Name && o.Kind == Backup && o.Key == j.Key && !other.notBefore.After(now) && o.Window.Contains(now) {
				return name + " goes first"
			}
		}
	}
	return ""
}

// start runs a job, in a goroutine that ends with done.
func (s *Scheduler) start(j Job, w *wait, now time.Time) {
	run := Run{ID: runID(), Job: j.Name, Slot: w.slot, Cause: w.cause, Started: now, Verdict: Running}
	r, _ := s.o.State.Record(j.Name)
	base, missed := s.base(j, r.Base, now), 0
	if w.cause == OnTime || w.cause == Missed {
		missed = j.Schedule.Between(base, w.slot)
	}
	switch {
	case j.Schedule.every > 0:
		base = now
	case w.slot.After(base) && w.cause != Retried && w.cause != Interrupted:
		base = w.slot
	}
	s.written(s.o.State.begin(run, base, missed))
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &active{job: j, run: run, cancel: cancel}
	s.running[j.Name] = a
	ctx = context.WithValue(ctx, lightKey{}, func() { s.lighten(a) })
	s.note(Event{Type: RunStarted, Job: j.Name, Run: &run})
	s.spawn(func() {
		stop := func() bool { return true }
		if j.Limit > 0 {
			stop = s.o.Clock.AfterFunc(j.Limit, func() { cancel(ErrLimit) }).Stop
		}
		result, err := s.guarded(ctx, j, run)
		stop()
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		cancel(nil)
		s.done(run, result, err)
	})
}

type lightKey struct{}

// Light says that a run has done its heavy work, and only waits for a network
// from here on: others may start in its place. ctx is the one that the run got.
func Light(ctx context.Context) {
	if lighten, ok := ctx.Value(lightKey{}).(func()); ok {
		lighten()
	}
}

func (s *Scheduler) lighten(a *active) {
	s.mu.Lock()
	already := a.light
	a.light = true
	s.mu.Unlock()
	if !already {
		s.spawn(s.look) // what waits for its place
	}
}

// guarded keeps a run that panics from taking the others along.
func (s *Scheduler) guarded(ctx context.Context, j Job, run Run) (result Result, err error) {
	err = crash.Run(func() (err error) {
		result, err = j.Run(ctx, run)
		return err
	})
	return result, err
}

func (s *Scheduler) done(run Run, result Result, err error) {
	s.mu.Lock()
	run.Finished, run.Result, run.Verdict = s.now(), result, OK
	switch {
	case errors.Is(err, ErrStopped):
		run.Verdict, run.Error = Stopped, err.Error()
	case err != nil:
		run.Verdict, run.Error = Failed, err.Error()
	}
	s.written(s.o.State.end(run))
	delete(s.running, run.Job)
	r, _ := s.o.State.Record(run.Job)
	s.note(Event{Type: RunFinished, Job: run.Job, Run: &run, Retrying: run.Verdict == Failed && r.Failures <= s.jobs[run.Job].Retry})
	s.rest()
	s.mu.Unlock()
	s.look()
}

// runID tells runs apart in logs.
func runID() string { return strings.ToLower(rand.Text()[:10]) }

// next is when a job is due next, for its timer.
func (s *Scheduler) next(name string, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[name]
	if t := s.nextRun(j, now); !t.IsZero() {
		return t
	}
	return now.Add(24 * time.Hour)
}

// nextRun is the next slot of a job that is not due yet, zero if there is none.
func (s *Scheduler) nextRun(j Job, now time.Time) time.Time {
	if j.Schedule.every > 0 {
		r, _ := s.o.State.Record(j.Name)
		return j.Schedule.Next(r.Base)
	}
	return j.Schedule.Next(now)
}
