package harden

import (
	"fmt"
	"slices"
	"time"

	"emsafe/storage/sqlite"
)

// Evaluation is what was measured of a database and its load: the ground on
// which [Judge] says whether SQLite is still the right place for it.
type Evaluation struct {
	Database string          `json:"database"`
	Journal  string          `json:"journal_mode"`
	Facts    *sqlite.Facts   `json:"facts"`
	Rows     int64           `json:"rows"`
	Hazards  []sqlite.Hazard `json:"type_hazards"`
	Holders  int             `json:"processes"`
	Network  string          `json:"network_file_system,omitempty"`
	Growth   float64         `json:"growth_bytes_per_day"`
	Known    bool            `json:"growth_known"`

	Sample    time.Duration    `json:"sample_ns"`
	PerSecond []int            `json:"commits_each_second"`
	Waits     []float64        `json:"lock_waits_seconds"` // one a second
	Busy      int              `json:"busy"`               // of these could not get the lock at all
	Rates     []sqlite.Rate    `json:"rates_on_a_copy"`
	Behind    []int64          `json:"frames_not_copied"`     // of the log, once a second; of WAL databases that somebody has open
	Reader    time.Duration    `json:"longest_reader_ns"`     // at most: a lock on one mark was there at every look
	Logged    *int             `json:"busy_in_log,omitempty"` // lines of the application's log that tell of a busy database, written during the sample
	Scan      time.Duration    `json:"scan_ns"`               // reading all rows of the copy once
	Dialects  []sqlite.Dialect `json:"sqlite_only"`

	RPO, RTO, Recovers time.Duration `json:"-"` // objectives, and the last drill's time
}

// Opinion is one rule's.
type Opinion struct {
	Rule    string `json:"rule"`
	Verdict string `json:"verdict"` // stay, tune, move or unknown
	Because string `json:"because"`
}

// The bounds of the rules. They are ours: where another is right for a service,
// the measured facts stand beside them.
const (
	leastSample   = 30 * time.Second
	leastHeadroom = 3.0
	mostWait      = 100 * time.Millisecond
	nearZero      = time.Second
)

// Judge says by each rule, and in all, whether to stay with SQLite, to tune it,
// or to move. A sample that is too short, or in which nothing was written, gives
// no opinion on the load.
func Judge(e Evaluation) (verdict string, opinions []Opinion) {
	add := func(rule, verdict, because string, args ...any) {
		opinions = append(opinions, Opinion{rule, verdict, fmt.Sprintf(because, args...)})
	}
	if e.Network != "" {
		add("network-file-system", "move", "the file lies on %s: locks there are unreliable; a local disk would do as well", e.Network)
	} else {
		add("network-file-system", "stay", "the file lies on a local disk")
	}
	e.headroom(add)
	e.waits(add)
	e.checkpoints(add)
	if e.RPO > 0 && e.RPO < nearZero {
		add("loss-near-zero", "move", "the objective allows a loss of %s: that needs a second machine that takes part in every commit", e.RPO)
	}
	switch {
	case e.RTO > 0 && e.Recovers > e.RTO:
		add("recovery", "tune", "the last drill took %s, and the objective is %s: a nearer target, or fewer and larger fulls, come before another database", e.Recovers.Round(time.Second), e.RTO)
	case e.RTO > 0 && e.Recovers > 0:
		add("recovery", "stay", "the last drill took %s of the %s that the objective allows", e.Recovers.Round(time.Millisecond), e.RTO)
	default:
		add("recovery", "unknown", "there is no objective for the time to recover, or no drill has measured it")
	}
	switch {
	case e.Facts == nil:
	case e.Facts.Damaged:
		add("integrity", "tune", "the database is damaged: %s. Repair it first", e.Facts.Integrity)
	case len(e.Facts.Unchecked) > 0:
		add("integrity", "stay", "no damage was found; %s", e.Facts.Integrity)
	}
	verdict = "stay"
	for _, v := range []string{"unknown", "tune", "move"} { // the last that is found counts
		if slices.ContainsFunc(opinions, func(o Opinion) bool { return o.Verdict == v && (v != "unknown" || o.Rule == "headroom") }) {
			verdict = v
		}
	}
	return verdict, opinions
}

func (e Evaluation) headroom(add func(rule, verdict, because string, args ...any)) {
	p95 := Quantile(ints(e.PerSecond), 0.95)
	now, ok := e.rate(e.Journal, "full")
	best, _ := e.rate("wal", "normal")
	switch {
	case e.Sample < leastSample:
		add("headroom", "unknown", "the sample of %s is too short: at least %s, at the busiest time", e.Sample.Round(time.Second), leastSample)
	case p95 == 0 || !ok:
		add("headroom", "unknown", "in nearly every second of the sample nothing was committed: sample at the busiest time")
	case now/p95 >= leastHeadroom:
		add("headroom", "stay", "%.0f commits a second are possible as it is set, %.0f times the %.0f of the busiest seconds (p95)", now, now/p95, p95)
	case best/p95 >= leastHeadroom:
		add("headroom", "tune", "%.0f commits a second are possible as it is set, %.1f times what is needed; WAL with synchronous=NORMAL gives %.0f", now, now/p95, best)
	default:
		add("headroom", "move", "even tuned, %.0f commits a second are only %.1f times what is needed at p95 (%.0f)", best, best/p95, p95)
	}
}

// rate is what was measured with most writers.
func (e Evaluation) rate(journal, synchronous string) (float64, bool) {
	if journal != "wal" {
		journal = "delete"
	}
	found, writers := 0.0, 0
	for _, r := range e.Rates {
		if r.Journal == journal && r.Synchronous == synchronous && r.Writers > writers {
			found, writers = r.Commits, r.Writers
		}
	}
	return found, writers > 0
}

func (e Evaluation) waits(add func(rule, verdict, because string, args ...any)) {
	p99 := time.Duration(Quantile(e.Waits, 0.99) * float64(time.Second))
	switch {
	case len(e.Waits) < int(leastSample/time.Second):
		add("lock-wait", "unknown", "the sample is too short")
	case e.Logged != nil && *e.Logged > 0 && e.Journal == "wal":
		add("lock-wait", "tune", "the application logged %d times that the database was busy, in WAL mode already: a busy timeout, and BEGIN IMMEDIATE for what writes (`emsafe harden connection`); if it stays, another database", *e.Logged)
	case e.Logged != nil && *e.Logged > 0:
		add("lock-wait", "tune", "the application logged %d times that the database was busy: WAL mode and a busy timeout first", *e.Logged)
	case p99 <= mostWait && e.Busy == 0:
		add("lock-wait", "stay", "the write lock was had within %s (p99)", p99.Round(10*time.Microsecond))
	case e.Journal != "wal":
		add("lock-wait", "tune", "the write lock took %s (p99), and %d times could not be had: WAL mode and a busy timeout first", p99.Round(time.Millisecond), e.Busy)
	default:
		add("lock-wait", "move", "the write lock took %s (p99), and %d times could not be had, in WAL mode already: shorter transactions, or another database", p99.Round(time.Millisecond), e.Busy)
	}
}

// The bounds from which on the log of a database says that some reader stays too
// long.
const longReader = 10 * time.Second

// checkpoints judges what keeps the log from being begun anew.
func (e Evaluation) checkpoints(add func(rule, verdict, because string, args ...any)) {
	if e.Journal != "wal" || len(e.Behind) == 0 {
		return
	}
	first, last := e.Behind[0], e.Behind[len(e.Behind)-1]
	switch {
	case last > behindMuch && last > first:
		add("checkpoints", "tune", "%d frames of the log are not copied, %d more than when the sample began, and a reader was there for up to %s: shorter reads", last, last-first, e.Reader.Round(100*time.Millisecond))
	case e.Reader >= longReader:
		add("checkpoints", "tune", "a reader was there for up to %s: the log cannot be begun anew meanwhile", e.Reader.Round(100*time.Millisecond))
	default:
		add("checkpoints", "stay", "at most %d frames of the log waited to be copied", slices.Max(e.Behind))
	}
}

func ints(list []int) []float64 {
	out := make([]float64, len(list))
	for i, n := range list {
		out[i] = float64(n)
	}
	return out
}

// Quantile is the value below which a share of the list lies; 0 of nothing.
func Quantile(list []float64, share float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[int(share*float64(len(sorted)-1))]
}

// NetworkFS is the kind of a network file system that a path lies on; "" if it
// is on none.
func NetworkFS(path string) string {
	if m, ok := mountOf(path); ok && network(m.kind) {
		return m.kind
	}
	return ""
}
