package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"
)

// trigger is gocron, as a source of moments. Its tasks do nothing but look at
// the state, so that they end at once: gocron's shutdown cancels tasks and
// spins while it waits for them.
type trigger struct {
	cron  gocron.Scheduler
	clock clockwork.Clock
	look  func()
	jobs  []gocron.Job
}

// tickName cannot be a job's.
const tickName = "\x00tick"

func newTrigger(clock clockwork.Clock, every time.Duration, tick, look func()) (*trigger, error) {
	cron, err := gocron.NewScheduler(gocron.WithClock(clock), gocron.WithLocation(time.UTC), gocron.WithStopTimeout(time.Second))
	if err != nil {
		return nil, err
	}
	t := &trigger{cron: cron, clock: clock, look: look}
	_, err = t.add(tickName, tick, func(now time.Time) time.Time { return now.Add(every) })
	if err != nil {
		return nil, errors.Join(err, cron.Shutdown())
	}
	cron.Start()
	return t, nil
}

func (t *trigger) add(name string, task func(), next func(time.Time) time.Time) (gocron.Job, error) {
	return t.cron.NewJob(gocron.CronJob("", false), gocron.NewTask(task),
		gocron.WithName(name), gocron.WithCronImplementation(moments{t.clock, next}))
}

// set replaces what there is, besides the tick.
func (t *trigger) set(names []string, next func(name string, now time.Time) time.Time) error {
	for _, j := range t.jobs {
		if err := t.cron.RemoveJob(j.ID()); err != nil && !errors.Is(err, gocron.ErrJobNotFound) {
			return err
		}
	}
	t.jobs = nil
	for _, name := range names {
		j, err := t.add(name, t.look, func(now time.Time) time.Time { return next(name, now) })
		if err != nil {
			return err
		}
		t.jobs = append(t.jobs, j)
	}
	return nil
}

func (t *trigger) stop(ctx context.Context) error { return t.cron.ShutdownWithContext(ctx) }

// moments tells gocron when to look next. It counts from the time that it is,
// not from the slot before, as gocron would: that walks through every slot of
// ten years after the clock was set ahead, and waits ten years after it was
// set back.
type moments struct {
	clock clockwork.Clock
	next  func(time.Time) time.Time
}

var _ gocron.Cron = moments{}

// IsValid is for lines of text, and there are none here.
func (moments) IsValid(string, *time.Location, time.Time) error { return nil }

// Next is later than last where the two are close: gocron asks again and again
// until the answer is one that it has not planned yet, and takes two in one
// second for the hour that is doubled in autumn.
func (m moments) Next(last time.Time) time.Time {
	now := m.clock.Now()
	next := m.next(now)
	if !next.After(now) {
		next = now.Add(time.Second)
	}
	if !last.Before(next) && last.Sub(next) < time.Hour {
		next = last.Add(time.Second)
	}
	return next
}
