package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// impact measures what an application notices of backups: the time its
// commits take while none run, and while they run one after another.
func (b *bench) impact(ctx context.Context) ([]section, error) {
	var sections []section
	for _, mode := range []string{"wal", "delete"} {
		s, err := b.impactOf(ctx, mode)
		if err != nil {
			return nil, err
		}
		sections = append(sections, s)
	}
	return sections, nil
}

const (
	walGrowth = 64 << 20               // configured, and promised
	maxHold   = 250 * time.Millisecond // so
	// longestNap is how long SQLite's busy handler sleeps at most before it
	// tries again: so much longer than it had to, an application may wait.
	longestNap = 100 * time.Millisecond
	settling   = time.Second // between two windows
)

// load is what runs during a window.
type load struct {
	name string
	run  func(ctx context.Context, l *lab, until time.Time) (backups int, err error)
}

func loadsOf(mode string) []load {
	// VACUUM INTO stands for what SQLite itself offers: .backup would start
	// over with every commit and not come to an end.
	loads := []load{
		{"no backup", func(ctx context.Context, _ *lab, until time.Time) (int, error) { return 0, wait(ctx, until) }},
		{"deltas, one after another", func(ctx context.Context, l *lab, until time.Time) (int, error) {
			return l.again(ctx, emsafeOnce, until)
		}},
		{"full backups, one after another", func(ctx context.Context, l *lab, until time.Time) (int, error) {
			return l.again(ctx, emsafeOnce+"--full", until)
		}},
	}
	loads = append(loads, load{vacuumInto, func(ctx context.Context, l *lab, until time.Time) (int, error) {
		return l.again(ctx, `rm -f "$DIR/copy.db"; exec sqlite3 -cmd '.timeout 5000' "$DB" "VACUUM INTO '$DIR/copy.db'"`, until)
	}})
	if mode == "wal" {
		loads = append(loads, load{"continuous, every second", func(ctx context.Context, l *lab, until time.Time) (int, error) { return l.protectUntil(ctx, until) }})
	}
	return loads
}

// window is a stretch of time with one load.
type window struct {
	commits int
	seconds float64
	p50     time.Duration
	p99     time.Duration
	max     time.Duration
	busy    int
	wal     int64 // largest
	backups int
}

func (b *bench) impactOf(ctx context.Context, mode string) (section, error) {
	l, err := b.lab(ctx, plan{name: "impact-" + mode, mib: b.mib, folder: true,
		keys: []string{"max_wal_growth: 64MiB", "max_hold: 250ms", "interval: 1s"}})
	if err != nil {
		return section{}, err
	}
	defer l.close()
	if _, err := l.again(ctx, emsafeOnce+"--full", time.Now()); err != nil {
		return section{}, err
	}
	w, err := l.startWriter(ctx, mode)
	if err != nil {
		return section{}, err
	}
	defer w.kill()
	loads := loadsOf(mode)
	windows := make([][]window, len(loads))
	for round := range b.runs {
		for k := range loads {
			i := (k + round) % len(loads)
			one, err := l.observe(ctx, w, loads[i])
			if err != nil {
				return section{}, fmt.Errorf("%s: %w", loads[i].name, err)
			}
			windows[i] = append(windows[i], one)
		}
	}
	return impactSection(mode, loads, windows), nil
}

// observe runs a load for a window and reads what the application noticed.
func (l *lab) observe(ctx context.Context, w *writer, what load) (window, error) {
	// The file of a WAL does not shrink by itself: what it grew to in one
	// window would count in the next.
	err := l.do(ctx, `sqlite3 -cmd '.timeout 5000' "$DB" "PRAGMA wal_checkpoint(TRUNCATE)" > /dev/null`)
	if err = errors.Join(err, wait(ctx, time.Now().Add(settling))); err != nil {
		return window{}, err
	}
	stop := make(chan struct{})
	largest := make(chan int64)
	go func() { largest <- watchSize(l.db+"-wal", stop) }()
	began := time.Now()
	backups, err := what.run(ctx, l, began.Add(l.window))
	ended := time.Now()
	close(stop)
	one := window{wal: <-largest, backups: backups, seconds: ended.Sub(began).Seconds()}
	if err == nil {
		err = w.alive()
	}
	if err != nil {
		return one, err
	}
	if err := l.thin(); err != nil {
		return one, err
	}
	all, err := w.commits()
	if err != nil {
		return one, err
	}
	var took []time.Duration
	for _, c := range all {
		switch {
		case c.begun.Before(began) || c.begun.After(ended):
		case c.busy:
			one.busy++
		default:
			took = append(took, c.took)
		}
	}
	if len(took) == 0 {
		return one, fmt.Errorf("no commit was acknowledged")
	}
	one.commits, one.p50, one.p99, one.max = len(took), quantile(took, 0.5), quantile(took, 0.99), slices.Max(took)
	return one, nil
}

const (
	emsafeOnce = `exec "$EMSAFE" --config "$CFG" backup -q `
	vacuumInto = "for comparison: VACUUM INTO, one after another"
)

// again takes backups one after another; one that has begun is finished.
func (l *lab) again(ctx context.Context, script string, until time.Time) (n int, err error) {
	for n == 0 || time.Now().Before(until) {
		if err := l.do(ctx, script); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// thin removes all payloads but the newest, so that a case of many full
// backups does not fill the disk. Nobody restores them.
func (l *lab) thin() error {
	files, err := filepath.Glob(filepath.Join(l.dir, "target", "databases", "app", "payloads", "*"))
	if err != nil {
		return err
	}
	newest, at := "", time.Time{}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && st.ModTime().After(at) {
			newest, at = f, st.ModTime()
		}
	}
	for _, f := range files {
		if f != newest {
			os.Remove(f)
		}
	}
	return nil
}

func wait(ctx context.Context, until time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(until)):
		return nil
	}
}

// watchSize is the largest size that a file has until stop is closed.
func watchSize(file string, stop <-chan struct{}) (largest int64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, err := os.Stat(file); err == nil {
			largest = max(largest, st.Size())
		}
		select {
		case <-stop:
			return largest
		case <-tick.C:
		}
	}
}

func impactSection(mode string, loads []load, windows [][]window) section {
	name := map[string]string{"wal": "WAL mode", "delete": "rollback-journal mode"}[mode]
	s := section{title: "Impact on the application, " + name}
	var t strings.Builder
	fmt.Fprintf(&t, "An application that wants %d commits a second; commit latency in ms, medians of the windows (max: of all).\n\n", commitRate)
	t.WriteString("| while there runs | commits/s | p50 | p99 (min–max) | ratio | max | SQLITE_BUSY | largest WAL MiB | backups |\n|---|---|---|---|---|---|---|---|---|\n")
	// What a commit takes when nobody is in its way comes on top of the bound.
	// The median of the windows' slowest: one hiccup of the disk in a window
	// without backups must not allow all others to wait as long.
	slowest := median(windows[0], func(w window) time.Duration { return w.max })
	limit := maxHold + longestNap + slowest
	for i, l := range loads { // the first is the baseline
		u := sumUp(windows[i], windows[0])
		fmt.Fprintf(&t, "| %s | %.0f | %s | %s (%s–%s) | %.2f | %s | %d | %.1f | %d |\n", l.name, u.rate, ms(u.p50), ms(u.p99), ms(u.low), ms(u.high),
			u.ratio, ms(u.max), u.busy, mib(u.wal), u.backups)
		if i == 0 || l.name == vacuumInto {
			continue
		}
		s.bars = append(s.bars, bar{l.name + ": no SQLITE_BUSY at a busy timeout of 1 s", fmt.Sprint(u.busy), u.busy == 0})
		if mode == "wal" {
			s.bars = append(s.bars, atMost(l.name+": p99 of its baseline", "", 1.5, u.ratio),
				atMost(l.name+": growth of the WAL, as configured", " MiB", mib(walGrowth), mib(max(0, u.wal-sumUp(windows[0], windows[0]).wal))))
			continue
		}
		s.bars = append(s.bars, bar{fmt.Sprintf("%s: no commit waits longer than the bound, %s ms (*)", l.name, ms(limit)), ms(u.max) + " ms", u.max <= limit})
	}
	if mode != "wal" {
		fmt.Fprintf(&t, "\n(*) `max_hold`, %d ms; %d ms, which SQLite's busy handler may sleep before it looks again; and the slowest commit of a window without backups, %s ms (median of the windows).\n",
			maxHold.Milliseconds(), longestNap.Milliseconds(), ms(slowest))
	}
	s.text = t.String()
	return s
}

// summary is what all windows of a load come to.
type summary struct {
	window
	rate, ratio float64 // commits a second; p99 against the same round's baseline
	low, high   time.Duration
}

func sumUp(windows, quiet []window) (u summary) {
	var ratios []float64
	for i, w := range windows {
		u.busy += w.busy
		u.backups += w.backups
		u.wal = max(u.wal, w.wal)
		u.max = max(u.max, w.max)
		ratios = append(ratios, ratio(w.p99, quiet[i].p99))
	}
	u.p50 = median(windows, func(w window) time.Duration { return w.p50 })
	u.p99 = median(windows, func(w window) time.Duration { return w.p99 })
	u.low = slices.MinFunc(windows, byP99).p99
	u.high = slices.MaxFunc(windows, byP99).p99
	u.rate = median(windows, func(w window) float64 { return float64(w.commits) / w.seconds })
	u.ratio = quantile(ratios, 0.5)
	return u
}

func byP99(a, b window) int { return int(a.p99 - b.p99) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }
