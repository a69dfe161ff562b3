package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// doubt is why the clock is not believed. Backups go on then: they are told
// apart by their numbers, and one that is not taken is lost. Nothing else is
// started on schedule: by a wrong time retention would misjudge what it removes.
type doubt struct {
	future   string    // jobs have run at a time that is still to come
	until    time.Time // that time: a backup by the new clock does not make it right
	contrary string    // the reference has another time
	ahead    bool      // it was set ahead, or the machine slept, and the reference has not answered yet
	told     bool
	asked    time.Duration
	asking   bool
	cancel   context.CancelFunc // while asking
}

func (d *doubt) String() string {
	switch {
	case d.future != "" && d.contrary != "":
		return d.future + "; " + d.contrary
	case d.future != "" || d.contrary != "":
		return d.future + d.contrary
	case d.ahead:
		return "the clock went ahead, and the storage is being asked for the time"
	}
	return ""
}

// watchClock finds out whether the clock was set, or the machine slept, since
// the last look, and whether the state knows of times to come.
func (s *Scheduler) watchClock(now time.Time) {
	mono := s.o.Monotonic()
	passed := mono - s.mono
	jump := now.Sub(s.wall) - passed
	s.wall, s.mono = now, mono
	if jump.Abs() > tolerance {
		s.note(Event{Type: ClockJumped, Text: fmt.Sprintf("the clock went %s while %s passed (a suspend, or it was set)", signed(jump), span(passed.Round(time.Second)))})
	}
	if jump > tolerance && s.o.Reference != nil {
		s.doubt.ahead, s.doubt.asked = true, 0
	}
	if future, until := s.future(now); future != "" {
		s.doubt.future, s.doubt.until = future, until
	} else if now.After(s.doubt.until) {
		s.doubt.future = ""
	}
	s.sayDoubt("the clock has passed the times in question")
	s.ask(mono)
}

// sayDoubt tells when a doubt comes or goes. That the clock went ahead is none
// before the answer.
func (s *Scheduler) sayDoubt(because string) {
	switch text := s.doubt.String(); {
	case text == "" && s.doubt.told:
		s.note(Event{Type: ClockTrusted, Text: because})
		s.doubt.told = false
	case s.doubt.future+s.doubt.contrary != "" && !s.doubt.told:
		s.note(Event{Type: ClockDoubted, Text: text})
		s.doubt.told = true
	}
}

func signed(d time.Duration) string {
	if d < 0 {
		return span(-d.Round(time.Second)) + " back"
	}
	return span(d.Round(time.Second)) + " ahead"
}

// future names the jobs that have run at a time that is still to come, and
// gives that time.
func (s *Scheduler) future(now time.Time) (text string, newest time.Time) {
	var names []string
	for name := range s.jobs {
		r, _ := s.o.State.Record(name)
		if t := r.newest(); t.After(now.Add(tolerance)) {
			names = append(names, name)
			if t.After(newest) {
				newest = t
			}
		}
	}
	if len(names) == 0 {
		return "", newest
	}
	slices.Sort(names)
	return fmt.Sprintf("it is %s, and %s ran for %s: the clock was set back, or was wrong before",
		now.Format(time.RFC3339), strings.Join(names, ", "), newest.Format(time.RFC3339)), newest
}

// ask asks the reference, once a minute at most, while there is a doubt.
func (s *Scheduler) ask(mono time.Duration) {
	if s.doubt.String() == "" || s.o.Reference == nil || s.doubt.asking || s.stopping ||
		s.doubt.asked > 0 && mono-s.doubt.asked < time.Minute {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.doubt.asking, s.doubt.asked, s.doubt.cancel = true, max(mono, 1), cancel
	s.spawn(func() {
		defer cancel()
		there, err := s.o.Reference(ctx)
		s.answered(there, err)
	})
}

func (s *Scheduler) answered(there time.Time, err error) {
	s.mu.Lock()
	s.doubt.asking = false
	now := s.now()
	switch {
	case err != nil:
		s.doubt.ahead = false // after a suspend the network may be late; a contradiction stays, and so does the future
	case there.Sub(now).Abs() <= tolerance:
		s.trust(now, "the storage has the same time")
	default:
		s.doubt.contrary = fmt.Sprintf("it is %s here and %s at the storage", now.Format(time.RFC3339), there.UTC().Format(time.RFC3339))
		s.sayDoubt("")
	}
	s.mu.Unlock()
	s.look()
}

// ConfirmClock is somebody's word that the clock is right: slots that the state
// has in the future are forgotten, and jobs go on from now.
func (s *Scheduler) ConfirmClock() {
	s.mu.Lock()
	s.trust(s.now(), "somebody says so")
	s.mu.Unlock()
	s.look()
}

func (s *Scheduler) trust(now time.Time, because string) {
	for name, j := range s.jobs {
		r, _ := s.o.State.Record(name)
		if r.newest().After(now.Add(tolerance)) {
			s.written(s.o.State.change(name, func(r *Record) { r.forget(now, j) }))
		}
	}
	for name, w := range s.waiting {
		if w.slot.After(now) {
			delete(s.waiting, name) // it was due by the clock as it was
		}
	}
	s.doubt.future, s.doubt.until, s.doubt.contrary, s.doubt.ahead = "", time.Time{}, "", false
	s.sayDoubt(because)
}

// forget brings what lies in the future to now: by the wrong clock it happened
// then, and a backup that is due by `every` is due at once.
func (r *Record) forget(now time.Time, j Job) {
	r.Base = now
	if j.Schedule.every > 0 {
		r.Base = now.Add(-j.Schedule.every)
	}
	for _, run := range []*Run{r.Last, r.Success} {
		if run == nil {
			continue
		}
		for _, t := range []*time.Time{&run.Slot, &run.Started, &run.Finished} {
			if t.After(now) {
				*t = now
			}
		}
	}
}
