package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/restore"
	"emsafe/storage/catalog"
)

func (p *program) backupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "back up databases now, while applications write, and filesets with theirs", ArgsUsage: "[NAME…]",
		Description: "Without a NAME all databases and filesets of the configuration; a fileset takes its databases with it, as a recovery point. What an earlier run could not ship goes first. " +
			"Exit code 3 means that some targets have the backup and some do not.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "full", Usage: "store every page, though a delta would do"},
			&cli.BoolFlag{Name: "continuous", Usage: "go on until stopped: a delta whenever something changed, for the databases with `continuous: true` or those named"},
			&cli.BoolFlag{Name: "take-over", Usage: "go on from what the target holds, though another installation made it or it holds less than this host remembers"},
		},
		Action: func(c *cli.Context) error {
			s, err := p.ownSite(c)
			if err != nil {
				return err
			}
			yield()
			if c.Bool("continuous") {
				return p.protect(c, s)
			}
			names, filesets, err := s.backupOrder(c)
			if err != nil {
				return err
			}
			var failed []error
			done := 0
			for i, name := range append(names, filesets...) {
				one := p.backupOne
				if i >= len(names) {
					one = p.pointOne
				}
				err := one(c, s, name)
				if err == nil {
					done++
					continue
				}
				failed = append(failed, fmt.Errorf("%s: %w", name, err))
				if c.Context.Err() != nil {
					break
				}
			}
			if err := s.keepConfiguration(c.Context); err != nil {
				p.print.warn("%v", err)
			}
			if len(failed) > 0 && done > 0 && c.Context.Err() == nil {
				return fault.New(fault.Partial, "%d of %d were backed up without trouble: %w", done, done+len(failed), worst(failed))
			}
			return worst(failed)
		},
	}
}

// backupOrder are the databases to back up by themselves, and the filesets,
// whose recovery points take theirs with them.
func (s *site) backupOrder(c *cli.Context) (databases, filesets []string, err error) {
	databases, filesets = s.kinds(c.Args().Slice())
	if c.NArg() > 0 {
		for _, name := range databases {
			if _, ok := s.cfg.Databases[name]; !ok {
				return nil, nil, noDatabase(name, append(slices.Sorted(maps.Keys(s.cfg.Databases)), slices.Sorted(maps.Keys(s.cfg.Filesets))...))
			}
		}
		return databases, filesets, nil
	}
	if len(databases)+len(filesets) == 0 {
		return nil, nil, fault.New(fault.NotFound, "there are no databases yet")
	}
	return slices.DeleteFunc(databases, func(name string) bool {
		return slices.ContainsFunc(filesets, func(f string) bool { return slices.Contains(s.cfg.Filesets[f].Databases, name) })
	}), filesets, nil
}

// backedUp is one database's result in JSON.
type backedUp struct {
	backup.Outcome
	Targets []shipped `json:"targets"`
	Error   *failure  `json:"error,omitempty"`
}

type shipped struct {
	backup.TargetOutcome
	Head  string   `json:"head,omitempty"`
	Error *failure `json:"error,omitempty"`
	Alarm *failure `json:"alarm,omitempty"`
}

func (p *program) backupOne(c *cli.Context, s *site, name string) error {
	if err := s.stamp(c.Context, name); err != nil {
		p.print.warn("%v", err)
	}
	job, err := p.jobOf(c, s, name)
	if err != nil {
		return err
	}
	began := time.Now()
	out, err := backup.Database(c.Context, job)
	p.print.clearProgress()
	p.reportBackup(out, err, time.Since(began))
	if c.Bool("take-over") {
		s.record(journal.Entry{Action: "take-over", Database: name, What: out.ID}, err)
	}
	return err
}

// jobOf is what a backup of one database takes, unless a restore of it must be
// finished first.
func (p *program) jobOf(c *cli.Context, s *site, name string) (backup.Job, error) {
	if restore.Pending(s.path(name)) {
		return backup.Job{}, fault.New(fault.InUse, "a restore of %s was cut off half-way", s.path(name)).
			WithRemedy("Finish it first: `emsafe restore %s --in-place`, or `--undo`.", name)
	}
	job, err := s.job(name, c.Bool("take-over"))
	job.Full = c.Bool("full")
	job.Progress = p.print.progress(name)
	job.Now = p.now
	return job, err
}

func (p *program) reportBackup(out backup.Outcome, err error, took time.Duration) {
	doc := backedUp{Outcome: out, Targets: []shipped{}}
	if err != nil {
		f := describe(err)
		doc.Error = &f
	}
	p.reportTaken(out, took)
	if out.Dropped.Backups > 0 {
		p.print.line("  %s", droppedText(out.Database, out.Dropped))
	}
	for _, t := range out.Targets {
		s := shipped{TargetOutcome: t}
		if t.Sequence > 0 {
			s.Head = fmt.Sprintf("%d:%s", t.Sequence, t.Manifest)
			p.print.done("  %s  number %d, head %s", t.Target, t.Sequence, s.Head)
		}
		if t.Caught > 0 {
			p.print.done("  %s  %d earlier backups shipped from the spool", t.Target, t.Caught)
		}
		if t.Err != nil {
			f := describe(t.Err)
			s.Error = &f
			p.print.line("  %s  FAILED: %v", t.Target, t.Err)
		}
		if t.Alarm != nil {
			f := describe(t.Alarm)
			s.Alarm = &f
			p.print.line("  %s  ALARM: %v", t.Target, t.Alarm)
		}
		doc.Targets = append(doc.Targets, s)
	}
	p.print.emit(doc)
}

func droppedText(database string, d backup.Dropped) string {
	return fmt.Sprintf("%s  the SPOOL IS FULL: %d older backups (%s) were dropped from it before every target had them; the newest is kept", database, d.Backups, size(d.Bytes))
}

// reportTaken says what was sealed.
func (p *program) reportTaken(out backup.Outcome, took time.Duration) {
	for _, what := range out.Unestablished {
		p.print.warn("%s: not established: %s", out.Database, what)
	}
	took = took.Round(10 * time.Millisecond)
	switch {
	case out.Kind == backup.Unchanged:
		p.print.done("%s  nothing changed since %s; nothing was stored, as configured", out.Database, out.At.Format(time.DateTime))
	case out.ID == "":
	case out.Kind == catalog.KindHeartbeat:
		p.print.done("%s  %s  unchanged: no page differs from %s; that was signed, in %s", out.Database, out.ID, out.Parent, took)
	case out.Kind == catalog.KindDelta:
		how := "every page compared"
		if out.Proven {
			how = "the WAL says which"
		}
		p.print.done("%s  %s  delta: %d of %d pages sealed as %s in %s (%s; writers kept out %s, by %s)", out.Database, out.ID,
			out.Pages, out.Content.Pages, size(out.Sealed), took, how, out.Held.Round(100*time.Microsecond), out.Method)
	default:
		p.print.done("%s  %s  full: %s of pages sealed as %s in %s (%s; writers kept out %s, by %s)", out.Database, out.ID,
			size(out.Content.Size), size(out.Sealed), took, out.WhyFull, out.Held.Round(100*time.Microsecond), out.Method)
	}
}
