package daemon

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func exampleMetrics() Metrics {
	good := &Run{ID: "r1", Started: start, Finished: start.Add(1500 * time.Millisecond), Verdict: OK}
	return Metrics{
		Version: "1.2.3",
		Status: Status{At: start, Reloaded: start.Add(-time.Hour), Refused: "line 3", Jobs: []JobStatus{
			{Name: "backup app", Next: start.Add(time.Hour), Running: true, Record: Record{Kind: Backup, Key: "app", Objective: 26 * time.Hour, Last: &Run{Started: start.Add(time.Minute), Verdict: Running}, Success: good,
				Targets: map[string]Outcome{"b": {Point: start, Bytes: 7}, "a": {Point: start.Add(-time.Hour), Bytes: 1 << 40}}, Counts: Counts{OK: 5, Failed: 1, Missed: 2}}},
			{Name: `drill "q"` + "\n\\", Record: Record{Kind: Drill, Key: "app", Last: &Run{Started: start, Verdict: Failed}, Failures: 3, Counts: Counts{Failed: 3}}},
			{Name: "files scans", Record: Record{Kind: Files, Key: "scans", Objective: time.Hour, Targets: map[string]Outcome{"a": {}}}},
			{Name: "forget scans", Record: Record{Kind: Forget, Key: "scans", Success: good, Targets: map[string]Outcome{"a": {}}}},
			{Name: "new", Record: Record{Kind: Harden}},
		}},
		Sent:  map[string]SendCounts{"mail": {OK: 1, Failed: 2, Dropped: 3}},
		Spool: map[string]int64{"app": 12345678901}, WAL: map[string]int64{"app": 0},
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := exampleMetrics().Write(&b); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "metrics.txt")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("differs from %s (UPDATE=1 writes it): %v\n%s", golden, err, b.Bytes())
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		lint := exec.Command(promtool, "check", "metrics")
		lint.Stdin = &b
		if out, err := lint.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v %s", err, out)
		}
	}
	b.Reset()
	if err := (Metrics{Status: StatusOf(map[string]*Record{"app": {Kind: Backup}}, start)}).Write(&b); err != nil || !strings.Contains(b.String(), `emsafe_running{name="app",kind="backup",database=""} 0`) || strings.Contains(b.String(), "reload") {
		t.Errorf("from the state alone: %v\n%s", err, b.String())
	}
}
