package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// settable is a clock that can be set, over one that only goes on.
type settable struct {
	*clockwork.FakeClock
	set offset
}

// offset is how far the clock was set.
type offset struct{ atomic.Int64 }

func (o *offset) by(d time.Duration) { o.Add(int64(d)) }

func (c *settable) Now() time.Time                  { return c.FakeClock.Now().Add(time.Duration(c.set.Load())) }
func (c *settable) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// sim is a scheduler whose clock, ticks and runs are moved by hand.
type sim struct {
	*Scheduler
	t      testing.TB
	dir    string
	clock  *settable
	o      Options
	spawns []func()
	ran    []string // what was started: "job cause slot"
	said   []string // events besides those of runs
	fail   map[string]error
}

func newSim(t testing.TB, o Options) *sim {
	m := &sim{t: t, dir: t.TempDir(), clock: &settable{FakeClock: clockwork.NewFakeClockAt(start)}, o: o, fail: map[string]error{}}
	m.boot()
	return m
}

// boot starts the daemon, again after a crash.
func (m *sim) boot() {
	state, warning, err := OpenState(m.dir)
	if err != nil || warning != nil {
		m.t.Fatal(err, warning)
	}
	o := m.o
	o.State, o.Clock, o.CatchUp, o.Heavy, o.Tick = state, m.clock, time.Minute, 2, 5*time.Second
	o.Monotonic = func() time.Duration { return m.clock.FakeClock.Since(start) }
	o.Observe = m.observe
	m.spawns = nil
	m.Scheduler = &Scheduler{
		o: o, spawn: func(f func()) { m.spawns = append(m.spawns, f) }, jobs: map[string]Job{},
		waiting: map[string]*wait{}, seen: map[string]seen{}, noticed: map[string]time.Time{}, running: map[string]*active{}, wall: m.clock.Now(), mono: o.Monotonic(),
	}
	if o.Log == nil {
		m.Scheduler.o.Log = discard
	}
}

func (m *sim) observe(e Event) {
	switch e.Type {
	case RunStarted:
		m.ran = append(m.ran, fmt.Sprintf("%s %s %s", e.Job, e.Run.Cause, e.Run.Slot.Format("02T15:04")))
	case RunFinished:
	default:
		m.said = append(m.said, string(e.Type))
	}
}

// load is Reload without gocron.
func (m *sim) load(jobs ...Job) {
	m.t.Helper()
	byName := map[string]Job{}
	for _, j := range jobs {
		if j.Run == nil {
			j.Run = func(context.Context, Run) (Result, error) { return Result{}, m.fail[j.Name] }
		}
		byName[j.Name] = j
	}
	if err := m.replace(byName); err != nil {
		m.t.Fatal(err)
	}
	m.step(0)
}

// step lets time pass, looks, and lets all runs end at once.
func (m *sim) step(d time.Duration) {
	m.clock.Advance(d)
	m.look()
	m.finish()
}

// finish lets everything that was spawned end.
func (m *sim) finish() {
	for len(m.spawns) > 0 {
		f := m.spawns[0]
		m.spawns = m.spawns[1:]
		f()
	}
}

// pass lets time pass, and looks twice a minute.
func (m *sim) pass(d time.Duration) {
	for end := m.clock.FakeClock.Now().Add(d); m.clock.FakeClock.Now().Before(end); {
		m.step(min(30*time.Second, end.Sub(m.clock.FakeClock.Now())))
	}
}

func (m *sim) wantRan(what string, want ...string) {
	m.t.Helper()
	if !slices.Equal(m.ran, want) {
		m.t.Errorf("%s: ran\n %s, want\n %s", what, strings.Join(m.ran, "\n "), strings.Join(want, "\n "))
	}
	m.ran = nil
}

func (m *sim) wantSaid(what string, want ...string) {
	m.t.Helper()
	if !slices.Equal(m.said, want) {
		m.t.Errorf("%s: said %v, want %v", what, m.said, want)
	}
	m.said = nil
}

func daily(t testing.TB, name string, line string) Job {
	return Job{Name: name, Key: name, Schedule: schedule(t, line, "UTC")}
}

func (m *sim) state() *State { return m.Scheduler.o.State }
