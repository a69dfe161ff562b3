package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// rounds is how often a random test runs: a few by default, all of them with
// EMSAFE_SOAK=1.
func rounds(few, all int) int {
	if os.Getenv("EMSAFE_SOAK") != "" {
		return all
	}
	return few
}

// seeded is randomness that can be had again with EMSAFE_SEED.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("EMSAFE_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("EMSAFE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestRandomLives: random schedules in random zones, with suspends, crashes,
// clocks that are set by up to ten years either way, and failing runs. Whatever
// happens: no slot is run twice but for retries and what was cut off, at most
// one run follows a jump, nothing but backups is started on schedule while the state has a
// time to come, and what is due is run in the end.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}
	for round := range rounds(6, 1000) {
		m := newSim(t, Options{Host: fmt.Sprint(round)})
		m.clock.set.by(time.Duration(r.IntN(2*365*24)) * time.Hour)
		line := randomLine(r)
		if r.IntN(3) == 0 {
			line = fmt.Sprintf("every %dm", 1+r.IntN(3000))
		}
		j := Job{Name: "app", Kind: Verify, Key: "app", Retry: r.IntN(2), Schedule: schedule(t, line, zones[r.IntN(len(zones))]), Run: func(context.Context, Run) (Result, error) {
			if r.IntN(4) == 0 {
				return Result{}, errors.New("fails")
			}
			return Result{}, nil
		}}
		var starts []Run
		m.o.Observe = nil
		watch := func() {
			m.Scheduler.o.Observe = func(e Event) {
				if e.Type == RunStarted {
					starts = append(starts, *e.Run)
				}
			}
		}
		watch()
		m.load(j)
		for range 12 {
			starts = nil
			before, _ := m.state().Record("app")
			jumped := true
			switch r.IntN(6) {
			case 0:
				m.clock.set.by(time.Duration(r.Int64N(int64(10 * 365 * 24 * time.Hour))))
			case 1:
				m.clock.set.by(-time.Duration(r.Int64N(int64(10 * 365 * 24 * time.Hour))))
			case 2:
				m.clock.Advance(time.Duration(r.IntN(400)) * time.Hour) // down
				m.boot()
				watch()
				m.load(j)
			case 3: // killed, perhaps in the middle of a run
				m.clock.Advance(time.Duration(r.IntN(3000)) * time.Second)
				m.look()
				m.boot()
				watch()
				m.load(j)
			case 4:
				m.ConfirmClock()
			default:
				jumped = false
			}
			now := m.now()
			hours := 1 + r.IntN(5)
			for range hours * 60 {
				m.step(time.Minute)
			}
			checkStarts(t, m, j, before, now, starts, jumped)
			if t.Failed() {
				t.Fatalf("round %d: %s", round, j.Schedule)
			}
		}
	}
}

// checkStarts holds what was started since now against the rules.
func checkStarts(t *testing.T, m *sim, j Job, before Record, now time.Time, starts []Run, jumped bool) {
	slots := map[time.Time]int{}
	caughtUp := 0
	for _, run := range starts {
		if before.newest().After(run.Started.Add(tolerance)) && run.Started.Before(now) {
			t.Errorf("started at %s, and the state knew of %s", run.Started, before.newest())
		}
		switch run.Cause {
		case Missed:
			caughtUp++
			slots[run.Slot]++
		case OnTime:
			slots[run.Slot]++
		}
		if run.Started.Before(run.Slot) {
			t.Errorf("started at %s for the slot of %s", run.Started, run.Slot)
		}
	}
	for slot, n := range slots {
		if n > 1 {
			t.Errorf("the slot of %s was run %d times", slot, n)
		}
	}
	if caughtUp > 1 || caughtUp > 0 && !jumped && before.Last != nil {
		t.Errorf("%d runs to catch up, jumped: %t", caughtUp, jumped)
	}
	// Everything that was due is run, unless the clock is in doubt.
	r, _ := m.state().Record("app")
	if slot, due := j.Schedule.Due(r.Base, m.now()); due && m.doubt.String() == "" && m.now().Sub(slot) > 2*time.Minute+m.late() {
		t.Errorf("it is %s, and the slot of %s was not run", m.now(), slot)
	}
}

// TestThousandBackups: every slot is run, what failed is tried again, nothing
// is called good that was not, and nothing piles up.
func TestThousandBackups(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	m := newSim(t, Options{})
	good := 0
	job := daily(t, "app", "*/15 * * * *")
	job.Retry = 3
	job.Run = func(context.Context, Run) (Result, error) {
		if r.IntN(10) < 3 {
			return Result{}, errors.New("no storage")
		}
		good++
		return Result{}, nil
	}
	m.load(job)
	goroutines, n := runtime.NumGoroutine(), rounds(100, 1000)
	for range n * 15 {
		m.step(time.Minute)
	}
	record, _ := m.state().Record("app")
	if int(record.Counts.OK) != good || record.Counts.Missed != 0 { //nolint:gosec // small
		t.Errorf("%+v, and %d were good", record.Counts, good)
	}
	firsts := 0
	for _, run := range m.ran {
		if run[:12] == "app schedule" {
			firsts++
		}
	}
	if firsts != n || good < n*9/10 {
		t.Errorf("%d slots were run of %d, %d with success", firsts, n, good)
	}
	if now := runtime.NumGoroutine(); now > goroutines+20 { // other tests run beside
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
}
