package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage/restic"
)

func (p *program) filesCommand() *cli.Command {
	snapshotFlags := []cli.Flag{
		&cli.StringFlag{Name: "point", Usage: "the recovery point's `ID`, the beginning of one, or latest"},
		&cli.StringFlag{Name: "snapshot", Usage: "the snapshot's `ID` instead, the beginning of one, or latest"},
	}
	return group("files", "keep trees of files through restic, and with their databases as recovery points",
		&cli.Command{
			Name: "backup", Usage: "make recovery points now: the databases of each fileset, then its files", ArgsUsage: "[NAME…]",
			Description: "Without a NAME all filesets of the configuration. `emsafe backup` does the same, and all other databases. " +
				"Exit code 3 means that some files could not be read, or that some targets have the point and some do not; 18 that there is no restic: databases are backed up all the same.",
			Action: func(c *cli.Context) error { return p.filesBackup(c) },
		},
		&cli.Command{
			Name: "list", Usage: "list the recovery points of filesets, newest last, and snapshots that belong to none", ArgsUsage: "[NAME…]",
			Description: "Every point is verified, and both of its halves are looked for: one whose half is missing is shown as that.",
			Flags:       append(sourceFlags(), &cli.IntFlag{Name: "last", Value: 20, Usage: "only the newest `N`; 0 for all"}),
			Action:      p.filesList,
		},
		&cli.Command{
			Name: "restore", Usage: "bring files back into a new folder", ArgsUsage: "NAME",
			Description: "Each file comes back under its whole path, below the folder. The databases of a point come with it by `emsafe restore --point`.",
			Flags: append(append(sourceFlags(), snapshotFlags...), identityFlag("what opens the repository's password, where this host has it not"),
				&cli.StringFlag{Name: "to", Usage: "new `FOLDER`"},
				&cli.StringSliceFlag{Name: "only", Usage: "only this `PATH`, a file or a folder with all that is in it; may be given several times"}),
			Action: p.filesRestore,
		},
		&cli.Command{
			Name: "check", Usage: "look whether repositories are whole, and restore some files to compare them", ArgsUsage: "[NAME…]",
			Description: "restic's own check, of every target, with a part of the data read: a flipped bit is only found by reading. " +
				"Then random files of the newest snapshot are restored and compared: by digest with the live file where that has not changed since, by size otherwise.",
			Flags: append(sourceFlags(), identityFlag("what opens the repository's password, where this host has it not"),
				&cli.StringFlag{Name: "read-data-subset", Value: "2%", Usage: "how much to read, `HOW`: a percentage, a size as 100M, a part as 1/10, or 0 for none"},
				&cli.IntFlag{Name: "sample", Value: 20, Usage: "restore so many files, `N`; 0 for none"}),
			Action: p.filesCheck,
		},
		&cli.Command{
			Name: "forget", Usage: "remove snapshots that the fileset's `keep` does not want, with their recovery points", ArgsUsage: "[NAME…]",
			Description: "Shows what goes, removes the points first, then the snapshots and the data that nothing else needs. Points whose half is gone are removed as well. The newest snapshot stays whatever the rules say.",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "show what would be done, and do nothing"}},
			Action:      p.filesForget,
		},
		&cli.Command{
			Name: "password", Usage: "print the password of a fileset's restic repository, from its sealed copy in a target", ArgsUsage: "NAME",
			Description: "With it, plain restic opens the repository: docs/files.md. --save makes it this host's, for a host that was built anew.",
			Flags: append(sourceFlags(), identityFlag("what opens the copy"),
				&cli.BoolFlag{Name: "save", Usage: "keep it in the state folder instead of printing it"}),
			Action: p.filesPassword,
		})
}

func (p *program) filesBackup(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	names, err := s.filesets(c.Args().Slice())
	if err != nil {
		return err
	}
	yield()
	var failed []error
	for _, name := range names {
		if err := p.pointOne(c, s, name); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
		if c.Context.Err() != nil {
			break
		}
	}
	if err := s.keepConfiguration(c.Context); err != nil {
		p.print.warn("%v", err)
	}
	return worst(failed)
}

// pointOne makes a recovery point of one fileset.
func (p *program) pointOne(c *cli.Context, s *site, name string) error {
	job, err := s.points(name, func(ctx context.Context, database string) (map[string]error, error) {
		return p.halfOf(c, s, database)
	})
	if err != nil {
		return err
	}
	if progress := p.print.progress(name); progress != nil {
		job.Progress = func(_ string, g restic.Progress) { progress(g.Bytes, g.TotalBytes) }
	}
	began := time.Now()
	out, err := backup.Point(c.Context, job)
	p.print.clearProgress()
	p.reportPoint(out, err, time.Since(began))
	s.record(journal.Entry{Action: "point", What: strings.TrimSpace(name + " " + out.ID)}, err)
	return err
}

// halfOf backs up one database for a recovery point. One that the daemon
// protects continuously has its newest backup already.
func (p *program) halfOf(c *cli.Context, s *site, database string) (map[string]error, error) {
	if err := s.stamp(c.Context, database); err != nil {
		p.print.warn("%v", err)
	}
	job, err := p.jobOf(c, s, database)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	out, err := backup.Database(c.Context, job)
	p.print.clearProgress()
	if s.cfg.Databases[database].Continuous && errors.Is(err, fault.Locked) {
		p.print.done("%s  is protected continuously: its newest backup counts", database)
		return nil, nil
	}
	p.reportBackup(out, err, time.Since(began))
	return missing(out), err
}

// missing are the targets that do not have a backup.
func missing(out backup.Outcome) map[string]error {
	failed := map[string]error{}
	for _, t := range out.Targets {
		if t.Err != nil {
			failed[t.Target] = t.Err
		}
	}
	return failed
}

// pointMade is a recovery point's result in JSON.
type pointMade struct {
	backup.PointOutcome
	Targets []filesKept `json:"targets"`
	Error   *failure    `json:"error,omitempty"`
}

type filesKept struct {
	backup.FilesTarget
	Error *failure `json:"error,omitempty"`
}

func (p *program) reportPoint(out backup.PointOutcome, err error, took time.Duration) {
	doc := pointMade{PointOutcome: out, Targets: []filesKept{}}
	if err != nil {
		f := describe(err)
		doc.Error = &f
	}
	if out.Woken {
		p.print.warn("an earlier run for %s was cut off while the application was quiesced: `after` was run first", out.Fileset)
	}
	for _, t := range out.Targets {
		kept := filesKept{FilesTarget: t}
		if sum := t.Summary; sum.Snapshot != "" {
			p.print.done("%s  %s, %s: %d new, %d changed; snapshot %.8s in %s, %s stored, in %s", out.Fileset, several(int(sum.Files), "file", "files"), size(sum.Bytes), sum.New, sum.Changed,
				sum.Snapshot, t.Target, size(sum.Added), took.Round(10*time.Millisecond))
			for _, item := range sum.Unread {
				p.print.line("  NOT READ: %s", item)
			}
			if more := sum.Missed - len(sum.Unread); more > 0 {
				p.print.line("  NOT READ: %d more", more)
			}
		}
		if t.Point != nil {
			p.print.done("  recovery point %s in %s%s", t.Point.ID, t.Target, named(t.Point.Databases))
		}
		if t.Err != nil {
			f := describe(t.Err)
			kept.Error = &f
			p.print.line("  %s  FAILED: %v", t.Target, t.Err)
		}
		doc.Targets = append(doc.Targets, kept)
	}
	p.print.emit(doc)
}
