package daemon

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"emsafe/internal/fault"
)

// TestKilledDaemon is the daemon that TestKill kills, where it is asked to be.
func TestKilledDaemon(t *testing.T) {
	dir := os.Getenv("EMSAFE_TEST_DAEMON")
	if dir == "" {
		t.Skip("the other half of TestKill")
	}
	if _, err := Lock(dir); err != nil {
		t.Fatal(err)
	}
	state, _, err := OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{State: state})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Reload([]Job{{Name: "app", Schedule: schedule(t, "every 1h", "UTC"), Run: func(ctx context.Context, _ Run) (Result, error) {
		os.Stdout.WriteString("runs\n") //nolint:errcheck // the other half waits for it
		<-ctx.Done()
		return Result{}, ctx.Err()
	}}})
	if err != nil {
		t.Fatal(err)
	}
	select {}
}

// TestKill: a daemon that is killed in the middle of a run leaves its lock, and
// the next one knows what was cut off and runs it once more.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledDaemon$")
	child.Env = append(os.Environ(), "EMSAFE_TEST_DAEMON="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "runs" {
		t.Log(lines.Text())
	}
	if _, err := Lock(dir); !errors.Is(err, fault.Locked) {
		t.Errorf("a second daemon: %v", err)
	}
	child.Process.Kill()                                                                               //nolint:errcheck // Wait tells
	child.Wait()                                                                                       //nolint:errcheck // it was killed
	if err := os.WriteFile(filepath.Join(dir, ".tmp-daemon.json-1"), []byte("{"), 0o600); err != nil { // killed while it wrote
		t.Fatal(err)
	}

	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock() //nolint:errcheck // the test is over
	state, warning, err := OpenState(dir)
	if err != nil || warning != nil {
		t.Fatal(err, warning)
	}
	if r, _ := state.Record("app"); r.Last == nil || r.Last.Verdict != CutOff || r.Counts.Interrupted != 1 {
		t.Fatalf("%+v", r.Last)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".tmp-*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	told, ran := make(chan Verdict, 2), make(chan Run, 1)
	s, err := New(Options{State: state, CatchUp: 1, Observe: func(e Event) {
		if e.Type == RunFinished {
			told <- e.Run.Verdict
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Reload([]Job{{Name: "app", Schedule: schedule(t, "every 1h", "UTC"), Run: func(_ context.Context, r Run) (Result, error) {
		ran <- r
		return Result{}, nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if r := <-ran; r.Cause != Interrupted {
		t.Errorf("%+v", r)
	}
	if first, second := <-told, <-told; first != CutOff || second != OK {
		t.Error(first, second)
	}
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
