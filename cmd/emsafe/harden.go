package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
	"emsafe/internal/fault"
	"emsafe/internal/finding"
	"emsafe/internal/journal"
	"emsafe/storage/harden"
	"emsafe/storage/sqlite"
)

func (p *program) hardenCommand() *cli.Command {
	failOn := &cli.StringFlag{Name: "fail-on", Usage: "fail from this `SEVERITY` on: info, low, medium, high or critical; default: the configuration's"}
	return group("harden", "find, and mend, what is wrong around the databases: modes, logs, processes, disks, the backups themselves",
		&cli.Command{
			Name: "check", Usage: "look, and change nothing", ArgsUsage: "[NAME…]",
			Description: "Ends with exit code 23 if something is open from --fail-on on. What is to be lived with has a waiver in the configuration, with a reason and a day.",
			Flags:       []cli.Flag{failOn, &cli.StringFlag{Name: "format", Usage: "`FORMAT`: text, json, junit or sarif", Value: "text"}},
			Action:      p.hardenCheck,
		},
		&cli.Command{
			Name: "apply", Usage: "mend what emsafe can: modes and access lists of files", ArgsUsage: "[NAME…]",
			Description: "Files are held by descriptors that open nothing, so the application goes on and keeps its locks. What is changed is written down; `emsafe harden undo` takes it back.",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "show what would be changed"}},
			Action:      p.hardenApply,
		},
		&cli.Command{Name: "undo", Usage: "take back what apply changed", Action: p.hardenUndo},
		&cli.Command{
			Name: "wal", Usage: "switch a database to WAL mode, as a deliberate act", ArgsUsage: "NAME",
			Description: "It stays in the file, and the application need not know. Needs a moment in which nobody reads or writes; not done on a network file system. Back again: sqlite3 FILE 'PRAGMA journal_mode=delete', with the application stopped.",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}, &cli.DurationFlag{Name: "wait", Usage: "wait at most so `LONG` for the moment", Value: 5 * time.Second}},
			Action:      p.hardenWAL,
		},
		&cli.Command{
			Name: "connection", Usage: "show the lines that set up an application's connections well", ArgsUsage: "[NAME]",
			Description: "For the driver that the processes which have the database open use, as far as that can be seen, or for --driver. Settings of connections are the application's: emsafe cannot make them.",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "driver", Usage: "`DRIVER`: all, " + driverNames()}},
			Action:      p.hardenConnection,
		},
		&cli.Command{
			Name: "unit", Usage: "print a drop-in that puts the application's service into a sandbox", ArgsUsage: "[NAME]",
			Description: "For the `unit` of the database in the configuration. `systemd-analyze security` scores the service below 2.0 with it. Nothing is installed.",
			Action:      p.hardenUnit,
		},
		&cli.Command{
			Name: "checkpoint", Usage: "copy the write-ahead log into the database, as a deliberate act", ArgsUsage: "NAME",
			Description: "passive waits for nobody and keeps nobody waiting. truncate waits up to --wait for readers and writers, keeps new writers out meanwhile, and empties the log: applications have been taken down by that, so mind their busy timeout.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "mode", Usage: "`MODE`: passive or truncate", Value: "passive"},
				&cli.DurationFlag{Name: "wait", Usage: "truncate: wait at most so `LONG`", Value: time.Second},
			},
			Action: p.hardenCheckpoint,
		})
}

// hardenRecord is what apply changed.
const hardenRecord = "harden.jsonl"

// looked is what a look at one database gave.
type looked struct {
	name  string
	plan  *harden.Plan
	seen  harden.Seen
	found []finding.Finding // of this database alone
}

// lookAt looks at databases and at what belongs to all of them.
func (s *site) lookAt(ctx context.Context, names []string, now time.Time) ([]looked, []finding.Finding, error) {
	var all []looked
	var found []finding.Finding
	var known []string
	for _, d := range s.cfg.Databases {
		known = append(known, d.Path)
	}
	for i, name := range names {
		d := s.cfg.Databases[name]
		subject := harden.Subject{Name: name, Database: d.Path, Known: known, Group: d.Group}
		if i == 0 {
			subject.Own = s.ownFiles()
		}
		plan, err := harden.Look(subject, now)
		if err != nil {
			found = append(found, finding.Finding{ID: "EMS-DB-000", Severity: finding.High, Title: "the database cannot be looked at", Subject: d.Path, Found: err.Error(),
				Why: "What cannot be read cannot be backed up.", Remedy: "Correct the path in the configuration, or the access to it."})
			continue
		}
		l := looked{name: name, plan: plan, seen: seenNow(ctx, d.Path, now), found: append(plan.Findings, s.backupFindings(name, now)...)}
		if d.Unit != "" {
			l.found = append(l.found, harden.Unit(ctx, d.Unit, runForSecret)...)
		}
		if before, err := harden.Last(s.cfg.State, name); err == nil {
			if f, ok := harden.Starved(d.Path, before, l.seen, name); ok {
				l.found = append(l.found, f)
			}
		}
		for i := range l.found {
			l.found[i].Database = name
		}
		all = append(all, l)
		found = append(found, l.found...)
	}
	found = append(found, s.hostFindings()...)
	return all, finding.Waive(dedupe(found), s.waivers(), now), nil
}

// seenNow is how large the log is, and how far the checkpoints have come.
func seenNow(ctx context.Context, path string, now time.Time) harden.Seen {
	seen := harden.Seen{At: now}
	if info, err := os.Stat(path + "-wal"); err == nil {
		seen.WAL = info.Size()
	}
	if holders, _, err := sqlite.Holders(path); err != nil || len(holders) == 0 || seen.WAL == 0 {
		return seen
	}
	if frames, copied, err := sqlite.Backlog(ctx, path); err == nil {
		seen.Frames, seen.Behind = frames, frames-copied
	}
	return seen
}

// dedupe leaves out what several databases share: a folder, a disk, a process.
func dedupe(list []finding.Finding) []finding.Finding {
	seen := map[[2]string]bool{}
	return slices.DeleteFunc(list, func(f finding.Finding) bool {
		key := [2]string{f.ID, f.Subject}
		was := seen[key]
		seen[key] = true
		return was
	})
}

func (s *site) ownFiles() []harden.Own {
	own := []harden.Own{{Path: s.cfg.File}, {Path: s.cfg.AllowedSigners}, {Path: s.cfg.SigningKey, Secret: true}, {Path: s.cfg.State}, {Path: filepath.Join(s.cfg.State, "spool")}}
	if s.cfg.PruneKey != "" {
		own = append(own, harden.Own{Path: s.cfg.PruneKey, Secret: true})
	}
	if s.cfg.DrillKey != "" {
		own = append(own, harden.Own{Path: s.cfg.DrillKey, Secret: true})
	}
	return own
}

func (s *site) waivers() []finding.Waiver {
	return waiverList(s.cfg.Waivers)
}

func waiverList(waivers map[string]config.Waiver) (list []finding.Waiver) {
	for _, name := range slices.Sorted(maps.Keys(waivers)) {
		w := waivers[name]
		until, _ := time.Parse(time.DateOnly, w.Until) // the configuration was checked
		list = append(list, finding.Waiver{Name: name, ID: w.Finding, Subject: w.Subject, Reason: w.Reason, Owner: w.Owner, Until: until})
	}
	return list
}

func (p *program) hardenCheck(c *cli.Context) error {
	s, names, err := p.hardenNames(c)
	if err != nil {
		return err
	}
	from, err := s.failFrom(c.String("fail-on"))
	if err != nil {
		return err
	}
	all, found, err := s.lookAt(c.Context, names, p.now())
	if err != nil {
		return err
	}
	format := c.String("format")
	if p.print.json {
		format = "json"
	}
	switch format {
	case "text":
		p.showFindings(found)
		p.showGrades(all, s.waivers())
	case "json":
		p.print.object(p.stdout, map[string]any{"grade": finding.Grade(found), "findings": found})
	case "junit":
		err = finding.JUnit(p.stdout, "emsafe harden", found, from)
	case "sarif":
		err = finding.SARIF(p.stdout, "emsafe", version(), found)
	default:
		err = usage("--format is text, json, junit or sarif, not %q", format)
	}
	if err != nil {
		return err
	}
	return failing(found, from)
}

// showGrades is a table of the databases, where there are several.
func (p *program) showGrades(all []looked, waivers []finding.Waiver) {
	if len(all) < 2 {
		return
	}
	rows := [][]string{{"DATABASE", "GRADE", "CRITICAL", "HIGH", "MEDIUM", "LOW", "WAIVED"}}
	for _, l := range all {
		own := finding.Waive(l.found, waivers, l.seen.At)
		counts := make([]int, finding.Critical+1)
		waived := 0
		for _, f := range own {
			if f.Open() {
				counts[f.Severity]++
			} else {
				waived++
			}
		}
		row := []string{l.name, finding.Grade(own)}
		for severity := finding.Critical; severity >= finding.Low; severity-- {
			row = append(row, fmt.Sprint(counts[severity]))
		}
		rows = append(rows, append(row, fmt.Sprint(waived)))
	}
	p.print.line("")
	p.print.table(rows)
}

// failing is an error if something is open from a severity on.
func failing(found []finding.Finding, from finding.Severity) error {
	n, first := 0, ""
	for _, f := range found {
		if f.Open() && f.Severity >= from {
			if n++; n == 1 {
				first = f.ID + ", " + f.Title + ": " + f.Subject
			}
		}
	}
	if n == 0 {
		return nil
	}
	return fault.New(fault.Findings, "%d findings are open from %s on; the first: %s", n, from, first)
}

func (s *site) failFrom(flag string) (finding.Severity, error) {
	var from finding.Severity
	if flag == "" {
		flag = s.cfg.Harden.FailOn
	}
	if err := from.UnmarshalText([]byte(flag)); err != nil {
		return 0, usage("--fail-on: %w", err)
	}
	return from, nil
}

func (p *program) hardenNames(c *cli.Context) (*site, []string, error) {
	s, err := p.ownSite(c)
	if err != nil {
		return nil, nil, err
	}
	names := c.Args().Slice()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(s.cfg.Databases))
	}
	for _, name := range names {
		if _, ok := s.cfg.Databases[name]; !ok {
			return nil, nil, noDatabase(name, slices.Sorted(maps.Keys(s.cfg.Databases)))
		}
	}
	return s, names, nil
}

func (p *program) showFindings(found []finding.Finding) {
	waived := 0
	for _, f := range found {
		if !f.Open() {
			waived++
			continue
		}
		mends := ""
		if f.Fix {
			mends = "  (emsafe harden apply does it)"
		}
		p.print.line("%-8s %s  %s: %s%s", f.Severity, f.ID, f.Title, f.Subject, mends)
		p.print.line("         found:  %s", f.Found)
		p.print.line("         why:    %s", f.Why)
		p.print.line("         remedy: %s", f.Remedy)
	}
	p.print.line("grade %s: %d open, %d waived", finding.Grade(found), len(found)-waived, waived)
}

func (p *program) hardenApply(c *cli.Context) error {
	s, names, err := p.hardenNames(c)
	if err != nil {
		return err
	}
	all, _, err := s.lookAt(c.Context, names, p.now())
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		n := 0
		for _, l := range all {
			for _, change := range l.plan.Changes {
				p.print.line("would change %s", change)
				n++
			}
		}
		p.print.emit(map[string]any{"dry_run": true, "changes": n})
		p.print.done("%d changes; nothing was done", n)
		return nil
	}
	done, err := s.applyHarden(all)
	for _, change := range done {
		p.print.line("%s", change)
	}
	p.print.emit(map[string]any{"changed": done})
	if err == nil {
		p.print.done("%d changes", len(done))
	}
	return err
}

// applyHarden makes the changes of all plans.
func (s *site) applyHarden(all []looked) ([]harden.Change, error) {
	var done []harden.Change
	var failed []error
	for _, l := range all {
		made, err := l.plan.Apply(filepath.Join(s.cfg.State, hardenRecord), s.p.now())
		done = append(done, made...)
		if err != nil {
			failed = append(failed, err)
		}
		if len(made) > 0 || err != nil {
			s.record(journal.Entry{Action: "harden", Database: l.name, What: fmt.Sprintf("%d modes changed", len(made))}, err)
		}
	}
	return done, worst(failed)
}

func (p *program) hardenUndo(c *cli.Context) error {
	s, _, err := p.hardenNames(c)
	if err != nil {
		return err
	}
	done, err := harden.Undo(filepath.Join(s.cfg.State, hardenRecord), p.now())
	for _, change := range done {
		p.print.line("%s", change)
	}
	p.print.emit(map[string]any{"changed": done})
	if len(done) > 0 || err != nil {
		s.record(journal.Entry{Action: "harden undo", What: fmt.Sprintf("%d modes put back", len(done))}, err)
	} else {
		p.print.done("there is nothing to take back")
	}
	return err
}

// hardenOne is the database that a command is for.
func (p *program) hardenOne(c *cli.Context) (*site, string, error) {
	s, names, err := p.hardenNames(c)
	if err != nil {
		return nil, "", err
	}
	if len(names) != 1 {
		return nil, "", usage("which database? There are %s", strings.Join(names, ", "))
	}
	return s, names[0], nil
}

func (p *program) hardenUnit(c *cli.Context) error {
	s, name, err := p.hardenOne(c)
	if err != nil {
		return err
	}
	d := s.cfg.Databases[name]
	if d.Unit == "" {
		return fault.New(fault.Config, "the configuration does not say which service uses %s", name).WithRemedy("unit: app.service")
	}
	owner := ""
	if image, err := sqlite.Inspect(d.Path); err == nil {
		owner = image.Owner
	}
	text, err := harden.DropIn(d.Unit, d.Path, owner)
	if err != nil {
		return fault.New(fault.NotFound, "%w", err)
	}
	p.print.emit(map[string]string{"drop_in": text})
	if !p.print.json {
		fmt.Fprint(p.stdout, text)
	}
	return nil
}

func (p *program) hardenCheckpoint(c *cli.Context) error {
	s, name, err := p.hardenOne(c)
	if err != nil {
		return err
	}
	mode := c.String("mode")
	if mode != "passive" && mode != "truncate" {
		return usage("--mode is passive or truncate, not %q", mode)
	}
	if wait := c.Duration("wait"); wait < 0 || wait > time.Minute {
		return usage("--wait is at most a minute, not %s: writers wait as long", wait)
	}
	out, err := sqlite.Checkpoint(c.Context, s.path(name), mode == "truncate", c.Duration("wait"))
	s.record(journal.Entry{Action: "checkpoint", Database: name, What: mode}, err)
	if err != nil {
		return err
	}
	p.print.emit(map[string]any{"mode": mode, "busy": out.Busy, "frames": out.Frames, "copied": out.Copied})
	if out.Busy {
		p.print.line("%s  %d of %d frames copied; readers or writers are in the way of the others", name, max(out.Copied, 0), max(out.Frames, 0))
		return nil
	}
	p.print.line("%s  all that was in the log is in the database", name)
	return nil
}
