package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"emsafe/backup"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage/catalog"
)

func (p *program) daemonCommand() *cli.Command {
	return &cli.Command{
		Name: "daemon", Usage: "run backups, verification and pruning on schedule, and protect continuously, until stopped",
		Description: "What runs when is in the configuration: `schedule`, `continuous`, `verify_schedule`, `prune_schedule` of each database. " +
			"SIGHUP reads the configuration again, and keeps the old one if it is not right. SIGTERM stops: what runs is finished, or put away within a minute. " +
			"The log goes to stderr, as text on a terminal and as JSON elsewhere.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "show what would run when, and end"}},
		Action: func(c *cli.Context) error {
			s, err := p.site(c)
			if err != nil {
				return err
			}
			if s.cfg == nil {
				return noConfiguration()
			}
			if c.NArg() > 0 {
				return usage("daemon takes no argument: what it does is in the configuration")
			}
			if c.Bool("check") {
				return p.showSchedule(s)
			}
			yield()
			return p.serve(c, s)
		},
	}
}

// Times of the daemon.
const (
	spread       = 5 * time.Minute  // of hosts and jobs with one schedule
	stopGrace    = time.Minute      // for what runs, at the end
	protectAgain = 30 * time.Second // after continuous protection could not begin
)

// jobsOf are the jobs that a configuration wants.
func (p *program) jobsOf(s *site) ([]daemon.Job, error) {
	var jobs []daemon.Job
	var bad []error
	add := func(database, verb, schedule string, kind daemon.Kind, heavy bool, run func(context.Context, daemon.Run) (daemon.Result, error)) {
		if schedule == "" {
			return
		}
		when, err := daemon.ParseSchedule(schedule, s.zone())
		if err != nil {
			bad = append(bad, fault.New(fault.Config, "databases.%s: %w", database, err))
			return
		}
		jobs = append(jobs, daemon.Job{Name: verb + " " + database, Key: database, Kind: kind, Heavy: heavy, Schedule: when, Retry: 2, Run: run})
	}
	for name, d := range s.cfg.Databases {
		if d.Continuous && d.Schedule != "" {
			bad = append(bad, fault.New(fault.Config, "databases.%s: `continuous` and `schedule` exclude each other: the one backs up whenever something changed", name))
			continue
		}
		add(name, "backup", d.Schedule, daemon.Backup, true, p.backupJob(s, name))
		add(name, "verify", d.VerifySchedule, daemon.Verify, true, p.verifyJob(s, name))
		if prune := d.PruneSchedule; !d.Keep.IsZero() {
			if prune == "" {
				prune = "30 4 * * *"
			}
			add(name, "prune", prune, daemon.Prune, false, p.pruneJob(s, name))
		}
	}
	slices.SortFunc(jobs, func(a, b daemon.Job) int { return compare(a.Name, b.Name) })
	return jobs, errors.Join(bad...)
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (p *program) backupJob(s *site, name string) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		if restore.Pending(s.path(name)) {
			return daemon.Result{}, fault.New(fault.InUse, "a restore of %s was cut off half-way", s.path(name))
		}
		job, err := s.job(name, false)
		if err != nil {
			return daemon.Result{}, err
		}
		job.Now = p.now
		out, err := backup.Database(ctx, job)
		r := daemon.Result{Text: fmt.Sprintf("%s %s, %s sealed", out.Kind, out.ID, size(out.Sealed))}
		memory, _ := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, name))
		for _, t := range job.Targets {
			o := daemon.Outcome{Target: t.Name, Point: memory.AsOf(t.Name), Bytes: out.Sealed}
			for _, got := range out.Targets {
				if failed := errors.Join(got.Err, got.Alarm); got.Target == t.Name && failed != nil {
					o.Error = failed.Error()
				}
			}
			r.Targets = append(r.Targets, o)
		}
		return r, err
	}
}

func (p *program) verifyJob(s *site, name string) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		var r daemon.Result
		var failed []error
		for _, t := range s.targetsOf(name) {
			o := daemon.Outcome{Target: t.Name}
			v, err := restore.Verify(ctx, t, s.signers, name, restore.Depth{ReadData: true, Remembered: s.remembered(name)})
			if v != nil {
				o.Bytes = v.Bytes
				err = errors.Join(append([]error{err}, v.Problems...)...)
			}
			if err != nil {
				o.Error = err.Error()
				failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
			}
			r.Targets = append(r.Targets, o)
		}
		return r, worst(failed)
	}
}

func (p *program) pruneJob(s *site, name string) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		var r daemon.Result
		var failed []error
		removed := 0
		for _, t := range s.targetsOf(name) {
			o := daemon.Outcome{Target: t.Name}
			out, err := s.prune(ctx, name, t, p.now, func(*backup.Pruning) {})
			if out != nil {
				removed += out.Removed
				o.Bytes = out.Bytes
			}
			if err != nil {
				o.Error = err.Error()
				failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
			}
			r.Targets = append(r.Targets, o)
		}
		r.Text = fmt.Sprintf("%d backups removed", removed)
		return r, worst(failed)
	}
}

// showSchedule says what would run when.
func (p *program) showSchedule(s *site) error {
	jobs, err := p.jobsOf(s)
	if err != nil {
		return err
	}
	type next struct {
		Job      string    `json:"job"`
		Schedule string    `json:"schedule"`
		Next     time.Time `json:"next"`
	}
	docs, rows := []next{}, [][]string{{"JOB", "SCHEDULE", "NEXT (UTC)"}}
	for _, j := range jobs {
		when := j.Schedule.Shifted(daemon.Spread(s.cfg.Host, j.Name, spread))
		n := next{j.Name, j.Schedule.String(), when.Next(p.now()).UTC()}
		docs = append(docs, n)
		rows = append(rows, []string{n.Job, n.Schedule, n.Next.Format(time.DateTime)})
	}
	for name, d := range s.cfg.Databases {
		if d.Continuous {
			docs = append(docs, next{"protect " + name, "every " + d.Interval.String(), time.Time{}})
			rows = append(rows, []string{"protect " + name, "continuously, every " + d.Interval.String(), "now"})
		}
	}
	p.print.emit(map[string]any{"jobs": docs})
	p.print.table(rows)
	if len(rows) == 1 {
		p.print.line("nothing: no database has a `schedule` or `continuous: true`")
	}
	return nil
}

// serve is the daemon.
func (p *program) serve(c *cli.Context, s *site) error {
	unlock, err := daemon.Lock(s.cfg.State)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the process ends with it
	state, warning, err := daemon.OpenState(s.cfg.State)
	if err != nil {
		return err
	}
	log := p.logger()
	if warning != nil {
		log.Warn("state", "error", warning)
	}
	scheduler, err := daemon.New(daemon.Options{State: state, Host: s.cfg.Host, Spread: spread, Log: log})
	if err != nil {
		return err
	}
	d := &service{p: p, c: c, log: log, scheduler: scheduler}
	if err := d.load(s); err != nil {
		return errors.Join(err, scheduler.Stop(c.Context, time.Second))
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	log.Info("started", "version", version(), "host", s.cfg.Host, "databases", len(s.cfg.Databases))
	for {
		select {
		case <-hangup:
			d.reload()
		case <-c.Context.Done():
			log.Info("stopping")
			d.halt()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), stopGrace)
			defer cancel()
			err := scheduler.Stop(ctx, stopGrace/2)
			log.Info("stopped")
			return err
		}
	}
}

func (p *program) logger() *slog.Logger {
	if f, ok := p.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(p.stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, nil))
}

// service is the daemon with the configuration that it has.
type service struct {
	p         *program
	c         *cli.Context
	log       *slog.Logger
	scheduler *daemon.Scheduler
	stop      context.CancelFunc // of continuous protection
	running   sync.WaitGroup
}

// load takes a configuration over.
func (d *service) load(s *site) error {
	jobs, err := d.p.jobsOf(s)
	if err != nil {
		return err
	}
	if err := d.scheduler.Reload(jobs); err != nil {
		return err
	}
	d.halt()
	ctx, stop := context.WithCancel(d.c.Context)
	d.stop = stop
	for name, db := range s.cfg.Databases {
		if db.Continuous {
			d.running.Go(func() { d.protect(ctx, s, name, db.Interval) })
		}
	}
	return nil
}

// halt ends continuous protection; what changed last is taken along.
func (d *service) halt() {
	if d.stop != nil {
		d.stop()
		d.running.Wait()
	}
}

func (d *service) reload() {
	s, err := d.p.site(d.c)
	if err == nil {
		err = d.load(s)
	}
	if err != nil {
		d.scheduler.Refused(err)
		return
	}
	d.log.Info("configuration taken", "databases", len(s.cfg.Databases))
}

// protect keeps continuous protection of one database going.
func (d *service) protect(ctx context.Context, s *site, name string, interval time.Duration) {
	log := d.log.With("database", name)
	// At least once: what changed between a reload and the end is taken along.
	for first := true; first || ctx.Err() == nil; first = false {
		job, err := s.job(name, false)
		if err == nil && restore.Pending(s.path(name)) {
			err = fault.New(fault.InUse, "a restore of %s was cut off half-way", s.path(name))
		}
		if err == nil {
			job.Now = d.p.now
			log.Info("protected continuously", "interval", interval)
			err = backup.Protect(ctx, backup.Continuous{Job: job, Interval: interval, Taken: taken(log), Delivered: delivered(log), Dropped: dropped(log)})
		}
		if err == nil {
			return
		}
		log.Error("continuous protection cannot begin", "error", err, "again_in", protectAgain)
		select {
		case <-ctx.Done():
		case <-time.After(protectAgain):
		}
	}
}

// taken and delivered log what is news: full backups and failures. Deltas come
// every second, and are for those who want to see everything.
func taken(log *slog.Logger) func(backup.Outcome, error) {
	return func(out backup.Outcome, err error) {
		switch {
		case err != nil:
			log.Error("backup failed", "error", err)
		case out.Kind == catalog.KindFull:
			log.Info("full backup sealed", "id", out.ID, "why", out.WhyFull, "bytes", out.Sealed)
		default:
			log.Debug("delta sealed", "id", out.ID, "pages", out.Pages, "bytes", out.Sealed, "proven", out.Proven)
		}
	}
}

func dropped(log *slog.Logger) func(backup.Dropped) {
	return func(d backup.Dropped) {
		log.Warn("the spool is full", "dropped", d.Backups, "bytes", d.Bytes)
	}
}

func delivered(log *slog.Logger) func(backup.Delivery) {
	return func(d backup.Delivery) {
		log := log.With("target", d.Target)
		if d.Alarm != nil {
			log.Error("alarm", "error", d.Alarm)
		}
		switch {
		case d.Err != nil:
			log.Error("delivery failed", "id", d.ID, "error", d.Err, "waiting", d.Waiting, "again_in", d.Retry)
		case d.Kind == catalog.KindFull:
			log.Info("full backup committed", "id", d.ID, "number", d.Sequence, "lag", d.Lag)
		default:
			log.Debug("delta committed", "id", d.ID, "number", d.Sequence, "lag", d.Lag)
		}
	}
}
