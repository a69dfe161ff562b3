package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

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
		Subcommands: []*cli.Command{
			{Name: "run", Usage: "have the running daemon start a job now", ArgsUsage: "JOB", Description: "A job is named as in `emsafe status`: `emsafe daemon run backup app`. It waits its turn as any other.", Action: p.daemonRun},
			{Name: "reload", Usage: "have the running daemon read its configuration again, and say whether it took it", Action: p.daemonReload},
			{Name: "confirm-clock", Usage: "tell the running daemon that the clock is right", Description: "After a jump of the clock only backups are started on schedule until the clock has passed the times in question. This says that it is right as it is.", Action: p.daemonConfirm},
		},
		Action: func(c *cli.Context) error {
			s, err := p.ownSite(c)
			if err != nil {
				return err
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

// spread is how far hosts and jobs with one schedule are spread.
const spread = 5 * time.Minute

func (p *program) daemonRun(c *cli.Context) error {
	if c.NArg() == 0 {
		return usage("which job? `emsafe status` names them")
	}
	job := strings.Join(c.Args().Slice(), " ")
	if err := p.tellDaemon(c, func(d daemon.Client) error { return d.Run(c.Context, job) }); err != nil {
		return err
	}
	p.print.done("%s  due now", job)
	p.print.emit(map[string]string{"job": job})
	return nil
}

func (p *program) daemonReload(c *cli.Context) error {
	err := p.tellDaemon(c, func(d daemon.Client) error { return d.Reload(c.Context) })
	if err == nil {
		p.print.done("the configuration was taken")
	}
	return err
}

func (p *program) daemonConfirm(c *cli.Context) error {
	err := p.tellDaemon(c, func(d daemon.Client) error { return d.ConfirmClock(c.Context) })
	if err == nil {
		p.print.done("the clock is believed")
	}
	return err
}

// tellDaemon finds the running daemon of this configuration.
func (p *program) tellDaemon(c *cli.Context, tell func(daemon.Client) error) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	for _, socket := range s.sockets() {
		var o overview
		d := daemon.Client{Socket: socket}
		switch err := d.Ask(c.Context, "/overview", &o); {
		case err == nil && o.State == s.cfg.State:
			return tell(d)
		case err != nil && !errors.Is(err, daemon.ErrNoDaemon):
			return err
		}
	}
	return fault.New(fault.NotFound, "no daemon of this configuration is running").WithRemedy("`systemctl status emsafe`, or start `emsafe daemon`.")
}

// tell says of a subject what is wrong, or, without an error, that it is right.
type tell func(subject, title string, err error)

// jobsOf are the jobs that a configuration wants.
func (p *program) jobsOf(s *site, tell tell) ([]daemon.Job, error) {
	var jobs []daemon.Job
	var bad []error
	add := func(name, verb, schedule string, kind daemon.Kind, heavy bool, run func(context.Context, daemon.Run) (daemon.Result, error)) {
		if schedule == "" {
			return
		}
		when, err := daemon.ParseSchedule(schedule, s.zone())
		if err != nil {
			bad = append(bad, fault.New(fault.Config, "%s %s: %w", verb, name, err))
			return
		}
		jobs = append(jobs, daemon.Job{Name: verb + " " + name, Key: name, Kind: kind, Heavy: heavy, Schedule: when, Retry: 2, Run: run})
	}
	for name, d := range s.cfg.Databases {
		if d.Continuous && d.Schedule != "" {
			bad = append(bad, fault.New(fault.Config, "databases.%s: `continuous` and `schedule` exclude each other: the one backs up whenever something changed", name))
			continue
		}
		add(name, "backup", d.Schedule, daemon.Backup, true, p.backupJob(s, name, tell))
		add(name, "verify", d.VerifySchedule, daemon.Verify, true, p.verifyJob(s, name))
		add(name, "harden", s.cfg.Harden.Schedule, daemon.Harden, false, p.hardenJob(s, name, tell))
		add(name, "drill", s.drillWhen(name), daemon.Drill, true, p.drillJob(s, name))
		if prune := d.PruneSchedule; !d.Keep.IsZero() {
			if prune == "" {
				prune = "30 4 * * *"
			}
			add(name, "prune", prune, daemon.Prune, false, p.pruneJob(s, name))
		}
	}
	for name, f := range s.cfg.Filesets {
		add(name, "files", f.Schedule, daemon.Files, true, p.filesJob(s, name, tell))
		if forget := f.ForgetSchedule; !f.Keep.IsZero() {
			if forget == "" {
				forget = "15 5 * * *"
			}
			add(name, "forget", forget, daemon.Forget, true, p.forgetJob(s, name))
		}
	}
	selftest := s.cfg.Runbooks.Selftest
	if selftest == "" {
		selftest = "20 6 * * 2"
	}
	add("runbooks", "selftest", selftest, daemon.Selftest, false, func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		text, err := p.selftest(ctx, s)
		return daemon.Result{Text: text}, err
	})
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

func (p *program) backupJob(s *site, name string, tell tell) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		if restore.Pending(s.path(name)) {
			return daemon.Result{}, fault.New(fault.InUse, "a restore of %s was cut off half-way", s.path(name))
		}
		job, err := s.job(name, false)
		if err != nil {
			return daemon.Result{}, err
		}
		job.Now = p.now
		job.Sealed = func() { daemon.Light(ctx) }
		tell("canary of "+name, "the canary of "+name+" is not stamped", s.stamp(ctx, name))
		var out backup.Outcome
		err = patient(ctx, func() (err error) { out, err = backup.Database(ctx, job); return err })
		r := daemon.Result{Text: fmt.Sprintf("%s %s, %s sealed", out.Kind, out.ID, size(out.Sealed))}
		if spool := "spool of " + name; out.Dropped.Backups > 0 {
			tell(spool, "the spool is full", errors.New(droppedText(name, out.Dropped)))
		} else if err == nil {
			tell(spool, "", nil)
		}
		tell("configuration", "a target has no copy of the configuration", s.keepConfiguration(ctx))
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
		r.Text = several(removed, "backup", "backups") + " removed"
		return r, worst(failed)
	}
}

// showSchedule says what would run when.
func (p *program) showSchedule(s *site) error {
	jobs, err := p.jobsOf(s, nil)
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
		p.print.line("nothing: no database or fileset has a `schedule`, and no database `continuous: true`")
	}
	return nil
}
