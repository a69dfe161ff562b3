package daemon

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

var discard = slog.New(slog.DiscardHandler)

// live is a scheduler as it runs, gocron and all, on a clock that a test moves.
func live(t *testing.T, o Options) (*Scheduler, *clockwork.FakeClock) {
	t.Helper()
	clock := clockwork.NewFakeClockAt(start)
	state, _, err := OpenState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o.State, o.Clock, o.Monotonic = state, clock, func() time.Duration { return clock.Since(start) }
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, clock
}

// TestLive: gocron fires, jobs run, slot after slot.
func TestLive(t *testing.T) {
	t.Parallel()
	ticks := make(chan struct{}, 1000)
	s, clock := live(t, Options{Tick: 24 * time.Hour, Alive: func() { ticks <- struct{}{} }}) // no help from the tick
	runs := make(chan Run)
	err := s.Reload([]Job{{Name: "app", Schedule: schedule(t, "*/10 * * * *", "UTC"), Run: func(_ context.Context, r Run) (Result, error) {
		runs <- r
		return Result{}, nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 50; i++ {
		if err := clock.BlockUntilContext(t.Context(), 2); err != nil { // the timers of the tick and of the job
			t.Fatal(err)
		}
		clock.Advance(10 * time.Minute)
		if r := <-runs; !r.Slot.Equal(start.Add(time.Duration(i)*10*time.Minute)) || r.Cause != OnTime {
			t.Fatalf("run %d: %+v", i, r)
		}
	}
	clock.BlockUntilContext(t.Context(), 2) //nolint:errcheck // the next line fails then
	clock.Advance(24*time.Hour - 500*time.Minute)
	<-runs
	<-ticks
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

// TestTickSurvivesTheClock: set ahead or back by ten years, gocron goes on.
func TestTickSurvivesTheClock(t *testing.T) {
	t.Parallel()
	clock := &settable{FakeClock: clockwork.NewFakeClockAt(start)}
	fired := make(chan string, 10000)
	tr, err := newTrigger(clock, 5*time.Second, func() { fired <- "tick" }, func() { fired <- "look" })
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.set([]string{"app"}, func(_ string, now time.Time) time.Time { return now.Truncate(time.Minute).Add(time.Minute) }); err != nil {
		t.Fatal(err)
	}
	for _, jump := range []time.Duration{0, 10 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, 0, 5 * time.Second, -5 * time.Second} {
		clock.BlockUntilContext(t.Context(), 2) //nolint:errcheck // nothing would fire then
		clock.set.by(jump)
		got := map[string]int{}
		for i := 0; got["tick"] < 3 || got["look"] < 1; i++ {
			if i == 1000 {
				t.Fatalf("a thousand seconds after %s: %v", jump, got)
			}
			clock.Advance(time.Second)
			clock.BlockUntilContext(t.Context(), 2) //nolint:errcheck // nothing would fire then
			for len(fired) > 0 {
				got[<-fired]++
			}
			runtime.Gosched()
		}
	}
	if err := tr.stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	began, finish := make(chan struct{}), make(chan struct{})
	polite := func(ctx context.Context, _ Run) (Result, error) {
		began <- struct{}{}
		select {
		case <-finish:
			return Result{Text: "done"}, nil
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	stubborn := func(context.Context, Run) (Result, error) {
		began <- struct{}{}
		<-finish
		return Result{}, nil
	}
	for _, c := range []struct {
		name    string
		run     func(context.Context, Run) (Result, error)
		wait    bool // the deadline is far
		verdict Verdict
		err     string
	}{
		{"finishes", polite, true, OK, ""},
		{"is cancelled at the deadline", polite, false, Stopped, ""},
		{"does not listen", stubborn, false, Running, "did not end: app"},
	} {
		ended := make(chan struct{}, 1)
		s, clock := live(t, Options{Observe: func(e Event) {
			if e.Type == RunFinished {
				ended <- struct{}{}
			}
		}})
		if err := s.Reload([]Job{{Name: "app", Schedule: schedule(t, "0 0 1 1 *", "UTC"), Run: c.run}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Trigger("app"); err != nil {
			t.Fatal(err)
		}
		<-began
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- s.Stop(ctx, time.Minute) }()
		if c.wait {
			finish <- struct{}{}
		} else {
			cancel()
		}
		var err error
		for over := false; !over; {
			select {
			case err = <-stopped:
				over = true
			default:
				if c.err != "" {
					clock.Advance(time.Minute)
				}
				runtime.Gosched()
			}
		}
		cancel()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if r, _ := s.o.State.Record("app"); r.Last.Verdict != c.verdict {
			t.Errorf("%s: %+v", c.name, r.Last)
		}
		if c.err != "" {
			finish <- struct{}{}
		}
		<-ended // before its folder goes
	}
}

// TestRunEnds: a run that takes too long, panics, or is asked for by hand.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan Run, 1)
	s, clock := live(t, Options{Observe: func(e Event) {
		if e.Type == RunFinished {
			ended <- *e.Run
		}
	}})
	began := make(chan struct{}, 1)
	never := schedule(t, "0 0 1 1 *", "UTC")
	err := s.Reload([]Job{
		{Name: "slow", Schedule: never, Limit: time.Hour, Run: func(ctx context.Context, _ Run) (Result, error) {
			began <- struct{}{}
			<-ctx.Done()
			return Result{Text: "half"}, errors.New("cut short")
		}},
		{Name: "panics", Schedule: never, Run: func(context.Context, Run) (Result, error) { panic("at the disco") }},
		{Name: "late", Schedule: never, Limit: time.Hour, Run: func(context.Context, Run) (Result, error) {
			return Result{Targets: []Outcome{{Target: "a", Point: start, Bytes: 7}, {Target: "b", Error: "down"}}}, nil
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	trigger := func(name string) {
		if err := s.Trigger(name); err != nil {
			t.Error(err)
		}
	}
	trigger("slow")
	<-began
	clock.BlockUntilContext(t.Context(), 5) //nolint:errcheck // tick, three jobs, the limit
	clock.Advance(time.Hour)
	if r := <-ended; r.Verdict != Failed || r.Error != "the run took longer than its limit: cut short" || r.Text != "half" || r.Cause != Manual {
		t.Errorf("%+v", r)
	}
	trigger("panics")
	if r := <-ended; r.Verdict != Failed || r.Error != "a bug in emsafe: panic: at the disco" {
		t.Errorf("%+v", r)
	}
	trigger("late")
	if r := <-ended; r.Verdict != OK {
		t.Errorf("%+v", r)
	}
	r, _ := s.o.State.Record("late")
	if len(r.Targets) != 1 || r.Targets["a"].Bytes != 7 {
		t.Errorf("%+v", r.Targets)
	}
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
