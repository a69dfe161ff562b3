package harden

import (
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/storage/sqlite"
)

// TestJudge: each rule, at its bounds.
func TestJudge(t *testing.T) {
	t.Parallel()
	base := func() Evaluation {
		return Evaluation{
			Journal: "wal", Facts: &sqlite.Facts{Integrity: "ok"}, Sample: time.Minute,
			PerSecond: slices.Repeat([]int{10}, 60), Waits: slices.Repeat([]float64{0.001}, 60),
			Rates: []sqlite.Rate{{Journal: "delete", Synchronous: "full", Writers: 8, Commits: 20}, {Journal: "wal", Synchronous: "full", Writers: 1, Commits: 9}, {Journal: "wal", Synchronous: "full", Writers: 8, Commits: 1000}, {Journal: "wal", Synchronous: "normal", Writers: 8, Commits: 5000}},
		}
	}
	for name, c := range map[string]struct {
		change  func(*Evaluation)
		verdict string
		rule    string // whose opinion it is
	}{
		"well":                   {func(*Evaluation) {}, "stay", "headroom"},
		"short":                  {func(e *Evaluation) { e.Sample = 29 * time.Second }, "unknown", "headroom"},
		"idle":                   {func(e *Evaluation) { e.PerSecond = make([]int, 60) }, "unknown", "headroom"},
		"rollback is too slow":   {func(e *Evaluation) { e.Journal = "delete" }, "tune", "headroom"},
		"WAL is too slow":        {func(e *Evaluation) { e.PerSecond = slices.Repeat([]int{400}, 60) }, "tune", "headroom"},
		"nothing is fast enough": {func(e *Evaluation) { e.PerSecond = slices.Repeat([]int{2000}, 60) }, "move", "headroom"},
		"network":                {func(e *Evaluation) { e.Network = "nfs4" }, "move", "network-file-system"},
		"waits":                  {func(e *Evaluation) { e.Waits = slices.Repeat([]float64{0.2}, 60) }, "move", "lock-wait"},
		"waits with a journal":   {func(e *Evaluation) { e.Journal = "delete"; e.Waits = slices.Repeat([]float64{0.2}, 60) }, "tune", "lock-wait"},
		"busy":                   {func(e *Evaluation) { e.Busy = 1 }, "move", "lock-wait"},
		"no loss at all":         {func(e *Evaluation) { e.RPO = 100 * time.Millisecond }, "move", "loss-near-zero"},
		"slow to recover":        {func(e *Evaluation) { e.RTO, e.Recovers = time.Minute, time.Hour }, "tune", "recovery"},
		"damaged":                {func(e *Evaluation) { e.Facts.Integrity, e.Facts.Damaged = "row 1 missing", true }, "tune", "integrity"},
	} {
		e := base()
		c.change(&e)
		verdict, opinions := Judge(e)
		i := slices.IndexFunc(opinions, func(o Opinion) bool { return o.Rule == c.rule })
		if verdict != c.verdict || i < 0 || opinions[i].Verdict != c.verdict || strings.Contains(opinions[i].Because, "%!") {
			t.Errorf("%s: %s %+v", name, verdict, opinions)
		}
	}
	if Quantile(nil, 0.5) != 0 || Quantile([]float64{3, 1, 2}, 0.5) != 2 || Quantile([]float64{1}, 1) != 1 {
		t.Error("quantiles")
	}
}
