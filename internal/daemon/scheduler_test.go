package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOnTime(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	m.load(daily(t, "app", "0 13 * * *"), Job{Name: "often", Schedule: schedule(t, "every 25m", "UTC")})
	m.wantRan("what is new: every at once, a line at its time", "often schedule 23T12:00")
	m.pass(59 * time.Minute)
	m.wantRan("before", "often schedule 23T12:25", "often schedule 23T12:50")
	m.pass(time.Minute)
	m.wantRan("at its time", "app schedule 23T13:00")
	m.pass(24 * time.Hour)
	if n := len(m.ran); n != 1+58 {
		t.Errorf("%d runs in a day", n)
	}
	r, _ := m.state().Record("app")
	if r.Counts.OK != 2 || r.Success == nil || r.Success.Verdict != OK || r.Counts.Missed != 0 || r.Last.ID == "" {
		t.Errorf("%+v", r)
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{Host: "h"})
	app := daily(t, "app", "0 13 * * *")
	m.load(app)
	m.pass(2 * time.Hour)
	m.wantRan("once", "app schedule 23T13:00")

	m.clock.Advance(72 * time.Hour) // the process was down
	m.boot()
	m.load(app)
	m.wantRan("not at once: every host has an offset")
	if w := m.Status().Jobs[0].Waits; !strings.HasPrefix(w, "not before ") {
		t.Error(w)
	}
	m.pass(time.Minute)
	m.wantRan("three slots passed: one run, of the newest", "app missed 26T13:00")
	m.pass(time.Hour)
	m.wantRan("no second one")
	if r, _ := m.state().Record("app"); r.Counts.Missed != 2 {
		t.Error(r.Counts)
	}

	m.said = nil
	m.clock.set.by(40 * time.Hour) // the machine slept: the other clock stands still
	m.pass(2 * time.Minute)
	m.wantRan("after the suspend, once", "app missed 27T13:00")
	m.wantSaid("suspend", "clock-jumped", "slot-missed")

	m.boot()
	m.load(app)
	m.pass(time.Hour)
	m.wantRan("a restart alone runs nothing")
}

func TestCutOff(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	app := daily(t, "app", "0 13 * * *")
	m.load(app)
	m.clock.Advance(time.Hour)
	m.look() // started; and the machine goes down before it ends
	m.wantRan("starts", "app schedule 23T13:00")
	for i, want := range []string{"app interrupted 23T13:00", ""} {
		m.clock.Advance(time.Minute)
		m.boot()
		if r, _ := m.state().Record("app"); r.Last.Verdict != CutOff || r.Counts.Interrupted != uint64(i+1) {
			t.Errorf("%+v", r.Last)
		}
		m.load(app)
		m.spawns = nil
		for range 30 { // the second run is cut off as well
			m.clock.Advance(5 * time.Second)
			m.look()
		}
		if want == "" {
			m.wantRan("what ends the daemon is not tried again and again")
		} else {
			m.wantRan("once more", want)
		}
	}
	m.pass(24 * time.Hour)
	m.wantRan("and in its next slot", "app schedule 24T13:00")
}

func TestRetry(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	app := daily(t, "app", "0 13 * * *")
	app.Retry = 2
	m.fail["app"] = errors.New("no network")
	m.load(app)
	m.pass(3 * time.Hour)
	m.wantRan("two more", "app schedule 23T13:00", "app retry 23T13:00", "app retry 23T13:00")
	if r, _ := m.state().Record("app"); r.Failures != 3 || r.Last.Error != "no network" || r.Success != nil {
		t.Errorf("%+v", r)
	}
	m.fail["app"] = nil
	m.pass(24 * time.Hour)
	m.wantRan("the next slot", "app schedule 24T13:00")
	if r, _ := m.state().Record("app"); r.Failures != 0 || r.Counts != (Counts{OK: 1, Failed: 3}) {
		t.Errorf("%+v", r)
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	if _, err := ParseWindow("25:00-01:00", nil); err == nil {
		t.Error("25 o'clock")
	}
	w, err := ParseWindow("22:30-01:00", zone(t, "Europe/Berlin"))
	if err != nil || w.String() != "22:30-01:00" {
		t.Fatal(w, err)
	}
	m := newSim(t, Options{})
	drill := daily(t, "drill", "0 22 * * *") // 23:00 in Berlin: inside
	drill.Kind, drill.Window = Drill, w
	m.load(drill)
	m.pass(11 * time.Hour)
	m.wantRan("inside", "drill schedule 23T22:00")
	m.clock.Advance(36 * time.Hour) // down, and up again at 11:00
	m.boot()
	m.load(drill)
	m.pass(10*time.Hour + 29*time.Minute)
	m.wantRan("outside")
	if got := m.Status().Jobs[0].Waits; got != "its window opens 2026-11-25T21:30:00Z" {
		t.Error(got)
	}
	m.pass(2 * time.Minute)
	m.wantRan("when it opens", "drill missed 24T22:00")
	m.pass(time.Hour)
	m.wantRan("the slot of today", "drill schedule 25T22:00")
}

// held makes a job whose runs last until they are let go.
func (m *sim) held(j Job) Job {
	j.Schedule = schedule(m.t, "0 0 1 1 *", "UTC")
	return j
}

func (m *sim) isRunning() string {
	var names []string
	for _, j := range m.Status().Jobs {
		if j.Running {
			names = append(names, j.Name)
		}
	}
	return strings.Join(names, " ")
}

// TestOrder: who may run beside whom, and who goes first.
func TestOrder(t *testing.T) {
	t.Parallel()
	jobs := map[string]Job{
		"a-backup": {Kind: Backup, Key: "a", Heavy: true}, "a-deep": {Kind: Backup, Key: "a"}, "a-verify": {Kind: Verify, Key: "a"}, "a-prune": {Kind: Prune, Key: "a"}, "a-drill": {Kind: Drill, Key: "a", Heavy: true},
		"b-backup": {Kind: Backup, Key: "b", Heavy: true}, "b-drill": {Kind: Drill, Key: "b", Heavy: true}, "c-drill": {Kind: Drill, Key: "c", Heavy: true}, "c-backup": {Kind: Backup, Key: "c", Heavy: true},
		"harden": {Kind: Harden}, "x": {Kind: Harden},
	}
	for _, c := range []struct{ due, want string }{
		{"a-prune a-verify a-backup", "a-backup"},
		{"a-backup, a-verify", "a-backup"},
		{"a-verify, a-backup", "a-backup a-verify"}, // a backup does not wait for what reads the target
		{"a-drill, a-backup", "a-backup a-drill"},
		{"a-backup a-deep", "a-backup"},
		{"a-verify, a-prune a-drill", "a-verify"},
		{"a-prune a-verify", "a-verify"},
		{"a-drill b-drill c-drill", "a-drill"}, // the last place is for backups
		{"a-drill b-drill, b-backup", "a-drill b-backup"},
		{"a-backup b-backup, c-backup c-drill", "a-backup b-backup"},
		{"a-backup, b-drill", "a-backup"},
		{"harden x a-drill", "a-drill harden x"}, // no key: nobody is in the way
	} {
		m := newSim(t, Options{})
		var all []Job
		for name, j := range jobs {
			j.Name = name
			all = append(all, m.held(j))
		}
		m.load(all...)
		for group := range strings.SplitSeq(c.due, ", ") {
			m.mu.Lock()
			for name := range strings.FieldsSeq(group) {
				m.waiting[name] = &wait{slot: start, cause: OnTime}
			}
			m.mu.Unlock()
			m.look()
		}
		if got := m.isRunning(); got != c.want {
			t.Errorf("%s: %s runs, want %s", c.due, got, c.want)
		}
		m.finish()
		if got := m.isRunning(); got != "" || len(m.waiting) > 0 || len(m.ran) != len(strings.Fields(c.due)) {
			t.Errorf("%s: at the end %q runs, %d wait, %d ran", c.due, got, len(m.waiting), len(m.ran))
		}
	}
}

func TestReloadRefuses(t *testing.T) {
	t.Parallel()
	s, err := New(Options{State: newSim(t, Options{}).state()})
	if err != nil {
		t.Fatal(err)
	}
	run := func(context.Context, Run) (Result, error) { return Result{}, nil }
	good := Job{Name: "app", Schedule: schedule(t, "0 0 1 1 *", "UTC"), Run: run}
	if err := s.Reload([]Job{good}); err != nil {
		t.Fatal(err)
	}
	for want, jobs := range map[string][]Job{
		"two jobs are called app":    {good, good},
		"has no name":                {{Run: run}},
		"x has nothing to run":       {{Name: "x"}},
		"x has a negative setting":   {{Name: "x", Run: run, Retry: -1}},
		"x is of an unknown kind":    {{Name: "x", Run: run, Kind: 9}},
		"the jobs stay as they were": {{}},
	} {
		if err := s.Reload(jobs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if st := s.Status(); len(st.Jobs) != 1 || st.Jobs[0].Name != "app" || !strings.Contains(st.Refused, "") || st.Refused == "" {
			t.Errorf("%+v", st)
		}
	}
	if err := s.Reload(nil); err != nil {
		t.Error(err)
	}
	if st := s.Status(); len(st.Jobs) != 0 || st.Refused != "" {
		t.Errorf("%+v", st)
	}
	if err := s.Trigger("app"); err == nil {
		t.Error("a job that is gone")
	}
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if !errors.Is(s.Reload(nil), ErrStopped) || !errors.Is(s.Stop(t.Context(), 0), ErrStopped) {
		t.Error("stopped twice")
	}
	if _, err := New(Options{State: s.o.State, Heavy: 1}); err == nil {
		t.Error("one place for heavy jobs")
	}
}
