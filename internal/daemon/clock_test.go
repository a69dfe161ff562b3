package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClockSetBack(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	app := daily(t, "app", "0 * * * *")
	m.load(app)
	m.pass(90 * time.Minute)
	m.wantRan("first", "app schedule 23T13:00")
	m.said = nil

	m.clock.set.by(-3 * time.Minute) // a correction that nobody cares about
	m.pass(time.Minute)
	m.wantSaid("a small correction")

	m.mu.Lock()
	m.waiting["app"] = &wait{slot: start, cause: Missed} // also what was due already
	m.mu.Unlock()
	m.clock.set.by(-5 * time.Hour)
	m.pass(2 * time.Hour)
	m.wantSaid("back", "clock-jumped", "clock-doubted")
	m.wantRan("nothing while the clock is in doubt")
	m.mu.Lock()
	delete(m.waiting, "app")
	m.mu.Unlock()
	if clock := m.Status().Clock; !strings.Contains(clock, "app ran for 2026-11-23T13:00:00Z") {
		t.Error(clock)
	}
	if err := m.replace(m.jobs); err != nil { // a reload does not heal it, nor does a restart
		t.Fatal(err)
	}
	m.pass(time.Minute)
	m.boot()
	m.load(app)
	m.pass(time.Minute)
	m.wantRan("still nothing")
	m.said = nil

	m.clock.set.by(5 * time.Hour) // and right again
	m.pass(2 * time.Minute)
	m.wantSaid("right again", "clock-jumped", "clock-trusted", "slot-missed")
	m.wantRan("what was missed, once", "app missed 23T15:00")

	m.clock.set.by(-24 * time.Hour)
	m.pass(time.Hour)
	m.wantRan("doubt again")
	m.mu.Lock()
	m.waiting["app"] = &wait{slot: m.now().Add(10 * time.Hour), cause: Retried} // due by the clock as it was
	m.mu.Unlock()
	m.ConfirmClock()
	m.finish()
	m.wantRan("said to be right: not at once")
	m.pass(time.Hour)
	m.wantRan("but from now on", "app schedule 22T17:00")
}

func TestClockReference(t *testing.T) {
	t.Parallel()
	var there time.Duration // how far the storage's clock is from the one that only goes on
	var silent error
	var m *sim
	m = newSim(t, Options{Reference: func(context.Context) (time.Time, error) { return m.clock.FakeClock.Now().Add(there), silent }})
	often := Job{Name: "often", Schedule: schedule(t, "every 15m", "UTC")}
	m.load(often)
	m.pass(20 * time.Minute)
	m.ran, m.said = nil, nil

	silent = errors.New("no network")
	m.clock.set.by(-10 * time.Hour) // wrong from now on, and nobody to ask
	m.pass(time.Hour)
	m.wantRan("nobody answers")
	m.wantSaid("nobody answers", "clock-jumped", "clock-doubted")
	silent = nil
	m.pass(2 * time.Minute)
	if clock := m.Status().Clock; !strings.Contains(clock, "it is 2026-11-23T03:2") || !strings.Contains(clock, "at the storage") {
		t.Error(clock)
	}
	m.wantRan("the storage contradicts")
	m.said = nil
	there = -10 * time.Hour // it agrees: the time before was the wrong one
	m.pass(2 * time.Minute)
	m.wantSaid("agreed", "clock-trusted")
	if len(m.ran) != 1 {
		t.Error(m.ran)
	}
	m.pass(time.Hour)
	m.ran, m.said = nil, nil

	m.clock.set.by(1000 * time.Hour) // ahead, wrongly
	m.pass(time.Hour)
	m.wantRan("ahead, and the storage contradicts")
	m.wantSaid("ahead", "clock-jumped", "clock-doubted")
	silent = errors.New("no network")
	m.pass(time.Hour)
	m.wantRan("what was contradicted stays so")
	silent, there = nil, 990*time.Hour
	m.pass(2 * time.Minute)
	if len(m.ran) != 1 {
		t.Error(m.ran)
	}
	m.ran, m.said = nil, nil
	silent = errors.New("no network yet")
	m.clock.set.by(10 * time.Hour) // a suspend, and the network comes later
	m.pass(2 * time.Minute)
	if len(m.ran) != 1 || slices.Contains(m.said, "clock-doubted") {
		t.Error(m.ran, m.said)
	}
}
