package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
)

func TestStateFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadState(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	s, warning, err := OpenState(dir)
	if err != nil || warning != nil {
		t.Fatal(err, warning)
	}
	run := Run{ID: "1", Job: "app", Slot: start, Cause: OnTime, Started: start, Verdict: Running}
	if err := s.begin(run, start, 2); err != nil {
		t.Fatal(err)
	}
	on, err := ReadState(dir)
	if err != nil || on["app"].Last.Verdict != Running || on["app"].Counts.Missed != 2 || !on["app"].Base.Equal(start) {
		t.Fatalf("before the run has ended: %+v %v", on["app"], err)
	}
	run.Finished, run.Verdict = start.Add(time.Second), OK
	run.Targets = []Outcome{{Target: "a", Point: start, Bytes: 5}, {Target: "b", Error: "down"}}
	if err := s.end(run); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Record("app"); r.Success.Took() != time.Second || len(r.Targets) != 1 {
		t.Errorf("%+v", r)
	}
	r, _ := s.Record("app")
	r.Targets["a"], r.Last.Targets[0].Bytes, r.Last.Verdict = Outcome{}, 0, Failed // a copy
	again, _, err := OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := again.Record("app"); got.Targets["a"].Bytes != 5 || got.Last.Verdict != OK || got.Last.Targets[0].Bytes != 5 {
		t.Errorf("%+v", got)
	}
	if st, err := os.Stat(filepath.Join(dir, StateFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

func TestStateDamaged(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "cannot be read",
		"{":                               "cannot be read",
		`{"version":1,"jobs":{"a":null}}`: "a is empty",
		`{"version":1,"jobs":{"a":{"kind":"dance"}}}`: "not a kind",
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, StateFile)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, warning, err := OpenState(dir)
		if err != nil || warning == nil || !strings.Contains(warning.Error(), want) {
			t.Fatalf("%q: %v %v", text, warning, err)
		}
		if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != text {
			t.Errorf("%q: %q %v", text, kept, err)
		}
		if err := s.begin(Run{Job: "a"}, start, 0); err != nil {
			t.Error(err)
		}
	}
	dir := t.TempDir()
	newer, _ := json.Marshal(document{Version: stateVersion + 1})
	if err := os.WriteFile(filepath.Join(dir, StateFile), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenState(dir); !errors.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

// TestStateNotWritten: a full disk keeps nothing from running, and is told.
func TestStateNotWritten(t *testing.T) {
	t.Parallel()
	m := newSim(t, Options{})
	m.load(daily(t, "app", "*/10 * * * *"))
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	m.pass(20 * time.Minute)
	m.wantRan("without a state file", "app schedule 23T12:10", "app schedule 23T12:20")
	if len(m.said) < 2 || m.said[len(m.said)-1] != string(StateFailed) {
		t.Error(m.said)
	}
}

func TestDaemonLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, fault.Locked) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
