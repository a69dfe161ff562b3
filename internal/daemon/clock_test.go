package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClockSetBack(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	app := daily(t, "app", "0 * * * *")
	app.Kind = Verify
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
	often := Job{Name: "often", Kind: Verify, Schedule: schedule(t, "every 15m", "UTC")}
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

// TestBackupsInDoubt: the clock was ahead for an hour, and is right again. Backups
// go on from the moment at which that was noticed; retention waits.
func TestBackupsInDoubt(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	hourly, often := daily(t, "hourly", "30 * * * *"), Job{Name: "often", Schedule: schedule(t, "every 15m", "UTC")}
	prune := daily(t, "prune", "45 * * * *")
	prune.Kind = Prune
	m.load(hourly, often, prune)
	m.clock.set.by(5 * time.Hour)
	m.pass(time.Hour)
	m.ran, m.said = nil, nil
	m.clock.set.by(-5 * time.Hour)
	for i := range 4 {
		m.ran = nil
		m.pass(time.Hour)
		if ran := strings.Join(m.ran, "\n"); strings.Count(ran, "often ") != 4 || strings.Count(ran, "hourly ") != 1 || strings.Contains(ran, "prune") {
			t.Errorf("hour %d:\n%s", i, ran)
		}
		if i == 1 { // also with a process that knows nothing of before
			m.boot()
			m.load(hourly, often, prune)
		}
		if m.Status().Clock == "" {
			t.Errorf("hour %d: nobody is told", i)
		}
	}
	if !slices.Contains(m.said, "clock-doubted") {
		t.Error(m.said)
	}
	m.pass(2 * time.Hour)
	m.ran = nil
	m.pass(2 * time.Hour)
	if ran := strings.Join(m.ran, "\n"); !strings.Contains(ran, "prune") || m.Status().Clock != "" {
		t.Errorf("when the time in question has passed: %s\n%s", ran, m.Status().Clock)
	}
}

// TestLight: what only waits for a network holds no place, and does not hold up
// a stop.
func TestLight(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	let := make(chan struct{})
	hanging := func(ctx context.Context, _ Run) (Result, error) {
		Light(ctx)
		select {
		case <-let:
			return Result{}, nil
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		}
	}
	var running sync.WaitGroup
	m.Scheduler.spawn = func(f func()) { running.Go(f) }
	started := make(chan string, 10)
	jobs := []Job{}
	for _, name := range []string{"a", "b"} {
		jobs = append(jobs, m.held(Job{Name: name, Key: name, Heavy: true, Run: hanging}))
	}
	jobs = append(jobs, m.held(Job{Name: "c", Key: "c", Heavy: true, Run: func(context.Context, Run) (Result, error) {
		started <- "c"
		return Result{}, nil
	}}))
	byName := map[string]Job{}
	for _, j := range jobs {
		byName[j.Name] = j
	}
	if err := m.replace(byName); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	for _, j := range jobs {
		m.waiting[j.Name] = &wait{slot: start, cause: OnTime}
	}
	m.mu.Unlock()
	m.look()
	select {
	case <-started:
	case <-time.After(time.Minute):
		t.Fatalf("c waits for a place: %q runs", m.isRunning())
	}
	close(let)
	running.Wait()
}
