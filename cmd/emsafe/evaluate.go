package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/storage/catalog"
	"emsafe/storage/harden"
	"emsafe/storage/sqlite"
)

func (p *program) evaluateCommand() *cli.Command {
	return &cli.Command{
		Name: "evaluate", Usage: "measure whether SQLite is still the right place for a database", ArgsUsage: "NAME",
		Description: "Samples the load while the application runs, looks at a snapshot, and measures on a copy in the same file system how many commits are possible. " +
			"The verdict is by named rules: stay, tune, move, or unknown where the sample tells too little. Sample at the busiest time. Once a second the write lock is taken and given back at once.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "sample", Usage: "watch the application for so `LONG`", Value: time.Minute},
			&cli.StringFlag{Name: "log", Usage: "count in the application's log `FILE` what it says of a busy database during the sample"},
		},
		Action: p.evaluate,
	}
}

// evaluated is what `evaluate --json` gives.
type evaluated struct {
	Verdict  string           `json:"verdict"`
	Opinions []harden.Opinion `json:"rules"`
	harden.Evaluation
}

func (p *program) evaluate(c *cli.Context) error {
	s, name, err := p.hardenOne(c)
	if err != nil {
		return err
	}
	sample := c.Duration("sample")
	if sample < time.Second || sample > 24*time.Hour {
		return usage("--sample is between a second and a day, not %s", sample)
	}
	path := s.path(name)
	image, err := sqlite.Inspect(path)
	if err != nil {
		return err
	}
	d := s.cfg.Databases[name]
	e := harden.Evaluation{Database: name, Journal: image.JournalMode, Network: harden.NetworkFS(path), RPO: d.RPO, RTO: d.RTO}
	if holders, _, err := sqlite.Holders(path); err == nil {
		e.Holders = len(holders)
	}
	s.history(c.Context, name, &e)
	logged, err := openLog(c.String("log"))
	if err != nil {
		return err
	}
	p.print.note("watching %s for %s", path, sample)
	if err := watchLoad(c.Context, path, sample, &e); err != nil {
		return err
	}
	if e.Logged, err = logged.busy(); err != nil {
		return err
	}
	if err := p.measureCopy(c.Context, s, name, &e); err != nil {
		return err
	}
	out := evaluated{Evaluation: e}
	out.Verdict, out.Opinions = harden.Judge(e)
	p.print.emit(out)
	p.showEvaluation(out)
	return nil
}

// history is what backups and drills tell.
func (s *site) history(ctx context.Context, name string, e *harden.Evaluation) {
	if m, err := drill.Remember(s.cfg.State, name); err == nil {
		if last := m.Last(); last != nil {
			e.Recovers = time.Duration(last.RTO.Achieved * float64(time.Second))
		}
	}
	for _, t := range s.targetsOf(name) {
		chain, err := s.chain(ctx, t, name)
		if err != nil {
			continue
		}
		all, err := chain.Sequences(ctx, 0)
		if err != nil || len(all) < 2 {
			continue
		}
		ends, err := chain.Walk(ctx, []uint64{all[0], all[len(all)-1]})
		if err != nil || ends[0].Entry == nil || ends[1].Entry == nil {
			continue
		}
		e.Growth, e.Known = growth(ends[0].Entry, ends[1].Entry)
		return
	}
}

// growth is in bytes a day; over less than an hour nothing can be said.
func growth(first, last *catalog.Entry) (perDay float64, known bool) {
	apart := last.SnapshotAt.Sub(first.SnapshotAt)
	if apart < time.Hour {
		return 0, false
	}
	return float64(last.Content.Size-first.Content.Size) / apart.Hours() * 24, true
}

// watchLoad counts commits, and once a second asks for the write lock.
func watchLoad(ctx context.Context, path string, sample time.Duration, e *harden.Evaluation) error {
	const polls = 10 // a second: a log can be begun anew several times
	commits, err := sqlite.CountCommits(path)
	if err != nil {
		return err
	}
	began := time.Now()
	tick := time.NewTicker(time.Second / polls)
	defer tick.Stop()
	this, readers := 0, readers{}
	for i := 1; time.Since(began) < sample; i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		n, err := commits.Poll()
		if err != nil {
			return err
		}
		readers.look(path)
		if this += n; i%polls != 0 {
			continue
		}
		if e.Journal == "wal" && e.Holders > 0 {
			if frames, copied, err := sqlite.Backlog(ctx, path); err == nil {
				e.Behind = append(e.Behind, frames-copied)
			}
		}
		e.PerSecond = append(e.PerSecond, this)
		this = 0
		wait, busy, err := sqlite.WriteLock(ctx, path, time.Second)
		if err != nil {
			return err
		}
		e.Waits = append(e.Waits, wait.Seconds())
		if busy {
			e.Busy++
		}
	}
	e.Sample, e.Reader = time.Since(began), readers.longest
	return nil
}

// readers follows who reads. A lock that is there at every look may have been
// given back and taken again in between: what comes out is an upper bound.
type readers struct {
	since   map[string]time.Time
	longest time.Duration
}

func (r *readers) look(path string) {
	locks, err := sqlite.ReadLocks(path)
	if err != nil {
		return
	}
	now, next := time.Now(), map[string]time.Time{}
	for _, lock := range locks {
		next[lock] = now
		if since, ok := r.since[lock]; ok {
			next[lock] = since
			r.longest = max(r.longest, now.Sub(since))
		}
	}
	r.since = next
}

// busyWords are how drivers say SQLITE_BUSY.
var busyWords = regexp.MustCompile(`(?i)database (table )?is locked|SQLITE_BUSY|BusyException|database is busy`)

// appLog is an application's log, from where it ended.
type appLog struct {
	file *os.File
}

func openLog(file string) (appLog, error) {
	if file == "" {
		return appLog{}, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return appLog{}, fault.New(fault.NotFound, "--log: there is no file %s", file)
	}
	if err != nil {
		return appLog{}, permission(err)
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return appLog{}, usage("--log: %s is not a file that grows: %w", file, err)
	}
	return appLog{f}, nil
}

// busy counts lines since; nil without a log.
func (l appLog) busy() (*int, error) {
	if l.file == nil {
		return nil, nil
	}
	defer l.file.Close()
	n := 0
	lines := bufio.NewReader(l.file)
	for {
		line, err := lines.ReadSlice('\n')
		if busyWords.Match(line) {
			n++
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return &n, err
		}
	}
}

// rateFor is how long each rate is measured.
const rateFor = 2 * time.Second

// measureCopy looks at a snapshot, and then has it written to. It lies in the
// database's own file system: another disk would tell about another disk.
func (p *program) measureCopy(ctx context.Context, s *site, name string, e *harden.Evaluation) error {
	beside := s.cfg.State
	if !sameDisk(beside, s.path(name)) {
		beside = filepath.Dir(s.path(name))
	}
	return p.withCopy(ctx, s, name, beside, func(copied string) (err error) {
		if e.Facts, err = sqlite.Look(ctx, copied); err != nil {
			return err
		}
		began := time.Now()
		if e.Hazards, e.Rows, err = sqlite.Hazards(ctx, copied); err != nil {
			return err
		}
		e.Scan = time.Since(began)
		if e.Dialects, err = sqlite.Dialects(ctx, copied); err != nil {
			return err
		}
		p.print.note("measuring commits on a copy")
		for _, r := range []struct {
			journal, synchronous string
			writers              int
		}{{"delete", "full", 1}, {"delete", "full", 8}, {"wal", "full", 1}, {"wal", "full", 8}, {"wal", "normal", 8}} {
			rate, err := sqlite.MeasureRate(ctx, copied, r.journal, r.synchronous, r.writers, rateFor)
			if err != nil {
				return err
			}
			e.Rates = append(e.Rates, rate)
		}
		return nil
	})
}

func (p *program) showEvaluation(e evaluated) {
	f := e.Facts
	rows := [][]string{
		{"size", fmt.Sprintf("%s, %d rows, %s free", size(f.Pages*f.PageSize), e.Rows, size(f.Free*f.PageSize))},
		{"load", fmt.Sprintf("commits a second: median %.0f, p95 %.0f, most %.0f; over %s", harden.Quantile(counts(e.PerSecond), 0.5), harden.Quantile(counts(e.PerSecond), 0.95), harden.Quantile(counts(e.PerSecond), 1), e.Sample.Round(time.Second))},
		{"write lock", fmt.Sprintf("p99 %.1f ms, %d times not to be had", 1000*harden.Quantile(e.Waits, 0.99), e.Busy)},
		{"open in", fmt.Sprintf("%d processes", e.Holders)},
	}
	if len(e.Behind) > 0 {
		rows = append(rows, []string{"log", fmt.Sprintf("at most %d frames not copied yet; longest reader at most %s", slices.Max(e.Behind), e.Reader.Round(100*time.Millisecond))})
	}
	if e.Logged != nil {
		rows = append(rows, []string{"busy", fmt.Sprintf("%d times in the application's log", *e.Logged)})
	}
	if e.Known {
		rows = append(rows, []string{"growth", size(int64(e.Growth)) + " a day, by the backups"})
	}
	for i, r := range e.Rates {
		what := ""
		if i == 0 {
			what = "possible"
		}
		rows = append(rows, []string{what, fmt.Sprintf("%s, synchronous=%s, writers: %d: %.0f commits a second, worst wait %s", r.Journal, r.Synchronous, r.Writers, r.Commits, r.Worst.Round(time.Millisecond))})
	}
	for _, h := range e.Hazards {
		rows = append(rows, []string{"hazard", fmt.Sprintf("%s.%s %s: %d rows: %s", h.Table, h.Column, h.Declared, h.Rows, h.Problem)})
	}
	for _, d := range e.Dialects {
		rows = append(rows, []string{"SQLite only", fmt.Sprintf("%s: %d, as %s", d.What, d.Objects, d.First)})
	}
	p.print.table(rows)
	p.print.line("")
	for _, o := range e.Opinions {
		p.print.line("%-8s %s: %s", o.Verdict, o.Rule, o.Because)
	}
	p.print.line("verdict: %s", strings.ToUpper(e.Verdict))
	p.print.line("not looked at: whether more than one host must write, whether roles in the database or failover are needed. Each means: move.")
	if e.Verdict == "move" {
		p.print.line("what moving costs: %d rows to copy, which to read and check took %s here, and writing them there comes on top; %d kinds of values that another database refuses and %d of SQL in the schema that only SQLite takes (above), and what the application's own statements have of it; a server to run, back up and drill. The steps: a copy from a backup, tried by the application against the new server; then a last backup with the application stopped, the copy, the switch. The way back is that backup.", e.Rows, e.Scan.Round(time.Millisecond), len(e.Hazards), len(e.Dialects))
	}
}

func counts(list []int) []float64 {
	out := make([]float64, len(list))
	for i, n := range list {
		out[i] = float64(n)
	}
	return out
}
