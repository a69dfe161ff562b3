package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"emsafe/drill"
	"emsafe/internal/config"
	"emsafe/internal/daemon"
	"emsafe/internal/daemon/page"
	"emsafe/internal/report"
	"emsafe/storage"
)

// stripDays is how many days the page looks back.
const stripDays = 90

// pageOf is the overview as the page shows it. reports are of all drills,
// oldest first; stored may be nil.
func (s *site) pageOf(o overview, history *page.History, reports []drill.Signed, stored []page.Stored) page.Overview {
	v := page.Overview{At: o.At, Host: s.cfg.Host, Version: version(), Daemon: "no daemon runs", Notes: s.daemonNotes(o), Databases: []page.Database{}, Filesets: s.pageFilesets(o), Drills: []page.Drill{}, Stored: stored}
	if o.Running {
		v.Daemon = "the daemon runs"
	}
	for _, doc := range o.Databases {
		d := s.pageDatabase(o, doc)
		d.Days = history.Days(doc.Database, o.At, stripDays, d.Schedule != "")
		d.Sizes = history.Sizes(doc.Database, o.At, stripDays)
		of := slices.DeleteFunc(slices.Clone(reports), func(r drill.Signed) bool { return r.Report.Database != doc.Database })
		for _, r := range of {
			d.drilled(r.Report)
		}
		if !d.KeyProof.IsZero() && s.cfg.ProveKeyEvery > 0 {
			d.KeyDue = d.KeyProof.Add(s.cfg.ProveKeyEvery)
		}
		when := s.drillSchedule(doc.Database)
		d.DrillSchedule = when.String()
		if i := slices.IndexFunc(o.Scheduler.Jobs, func(j daemon.JobStatus) bool { return j.Name == drillName(doc.Database) }); i >= 0 {
			d.DrillDue = drillDue(when, o.Scheduler.Jobs[i].Since, of)
		}
		v.Databases = append(v.Databases, d.Database)
	}
	for _, r := range slices.Backward(reports) {
		v.Drills = append(v.Drills, pageDrill(r.Report))
	}
	return v
}

// daemonNotes are what is wrong with the daemon itself.
func (s *site) daemonNotes(o overview) []page.Note {
	var notes []page.Note
	if o.Scheduler.Clock != "" {
		notes = append(notes, page.Note{State: report.Overdue, Words: "The clock is in doubt. Backups go on, and nothing else is started on schedule: " + o.Scheduler.Clock})
	}
	if o.Scheduler.Refused != "" {
		notes = append(notes, page.Note{State: report.Failed, Words: "The new configuration was not taken: " + short(o.Scheduler.Refused)})
	}
	if o.LeftOver != "" {
		notes = append(notes, page.Note{State: report.Failed, Words: short(capital(o.LeftOver))})
	}
	scheduled := false
	for name := range s.cfg.Databases {
		scheduled = scheduled || s.scheduleWords(name) != ""
	}
	if scheduled && !o.Running {
		notes = append(notes, page.Note{State: report.Overdue, Words: "No daemon runs: nothing happens on schedule."})
	}
	return notes
}

// scheduleWords are when a database is backed up by the daemon; "" is never.
func (s *site) scheduleWords(name string) string {
	c := s.cfg.Databases[name]
	if c.Continuous {
		return "continuously, every " + report.Span(c.Interval.Seconds())
	}
	return c.Schedule
}

// pageEntry is a database in the making.
type pageEntry struct{ page.Database }

func (s *site) pageDatabase(o overview, doc statusDoc) pageEntry {
	c := s.cfg.Databases[doc.Database]
	d := pageEntry{page.Database{
		Name: doc.Database, Path: c.Path, RPO: doc.RPO, RTO: c.RTO.Seconds(), Schedule: s.scheduleWords(doc.Database), Restore: s.restoreCommands(doc.Database),
		Spool: page.Spool{Backups: doc.Spool.Backups, Bytes: doc.Spool.Bytes, Oldest: doc.Spool.Oldest},
	}}
	var failed map[string]string
	failed, d.Notes, d.Next = failures(o, doc.Database, daemon.Backup)
	for _, t := range doc.Targets {
		x := page.Target{Name: t.Target, Location: s.cfg.Targets[t.Target].URL, Error: failed[t.Target]}
		if t.Newest != nil {
			x.Backup, x.Sequence, x.Kind, x.AsOf, x.Bytes, x.LockUntil = t.ID, t.Sequence, t.Kind, *t.AsOf, t.Bytes, t.LockedUntil
		}
		d.Targets = append(d.Targets, x)
	}
	return d
}

// drilled adds what a report says; the newest comes last.
func (d *pageEntry) drilled(r drill.Report) {
	if d.RTO == 0 {
		d.RTO = r.RTO.Objective
	}
	if r.KeyProof != nil && r.KeyProof.At.After(d.KeyProof) {
		d.KeyProof = r.KeyProof.At
	}
	date := r.Started.UTC().Truncate(24 * time.Hour)
	i := slices.IndexFunc(d.Days, func(day report.Day) bool { return day.Date.Equal(date) })
	if i < 0 {
		return
	}
	day := &d.Days[i]
	day.State = report.Worst(day.State, r.Verdict.State())
	day.Note = strings.TrimPrefix(day.Note+fmt.Sprintf("; drill %d: %s", r.Number, r.Verdict.Short()), "; ")
}

func pageDrill(r drill.Report) page.Drill {
	d := page.Drill{
		ID: r.ID, Number: r.Number, Database: r.Database, At: r.Started, State: r.Verdict.State(), Verdict: r.Verdict.Short(),
		Finding: r.Finding, Report: true,
	}
	if r.RPO.Known {
		d.RPO = &r.RPO.Achieved
	}
	if r.RTO.Known {
		d.RTO = &r.RTO.Achieved
	}
	return d
}

// restoreCommands are to be copied on the worst day.
func (s *site) restoreCommands(name string) []page.Command {
	list := []page.Command{
		{What: "On this host, beside the live database:", Line: fmt.Sprintf("emsafe restore %s --to /tmp/%s.db --identity recovery.key", name, name)},
		{What: "On this host, in its place; the old one is kept:", Line: fmt.Sprintf("emsafe restore %s --in-place --identity recovery.key", name)},
	}
	for _, t := range s.targetsOf(name) {
		c := s.cfg.Targets[t.Name]
		line := fmt.Sprintf("emsafe restore %s --target %s --allowed-signers ./allowed_signers --identity ./recovery.key --to %s.db", name, c.URL, name)
		for _, f := range [][2]string{{"--provider", c.Provider}, {"--endpoint", c.Endpoint}, {"--region", c.Region}, {"--ca-file", c.CAFile}} {
			if f[1] != "" {
				line += " " + f[0] + " " + f[1]
			}
		}
		list = append(list, page.Command{What: "On an empty machine, from " + t.Name + ":", Line: line})
	}
	return list
}

// storedIn counts what lies in a target, by listing it.
func storedIn(ctx context.Context, t storage.Target, c config.Target, now time.Time) (page.Stored, error) {
	s := page.Stored{Target: t.Name, Location: c.URL, Tier: c.StorageClass, At: now}
	if _, folder := c.Folder(); folder {
		s.Tier = "folder"
	} else if s.Tier == "" {
		s.Tier = "standard"
	}
	b, err := t.Open(ctx)
	if err != nil {
		return s, err
	}
	for info, err := range b.List(ctx, "", "") {
		if err != nil {
			return s, err
		}
		s.Objects++
		s.Bytes += info.Size
		if until := storage.LockedUntil(b, info.Modified); until.After(s.LockUntil) {
			s.LockUntil = until
		}
	}
	return s, nil
}

// writePage writes what the daemon's page shows into one file, also without
// the daemon. The targets are asked for the drills' reports and for what lies
// in them; one that does not answer is told on the page.
func (p *program) writePage(ctx context.Context, s *site, o overview, file string) error {
	history, err := page.LoadHistory(s.cfg.State)
	if err != nil {
		return err
	}
	reports, problems, err := s.reports(ctx, &drill.Library{})
	if err != nil {
		problems = append(problems, err)
	}
	var stored []page.Stored
	for _, t := range s.targets {
		if counted, err := storedIn(ctx, t, s.cfg.Targets[t.Name], o.At); err == nil {
			stored = append(stored, counted)
		}
	}
	v := s.pageOf(o, history, reports, stored)
	for _, problem := range problems {
		v.Notes = append(v.Notes, page.Note{State: report.Failed, Words: short(problem.Error())})
	}
	var b bytes.Buffer
	if err := page.WriteOverview(&b, v); err != nil {
		return err
	}
	return p.write(file, b.Bytes())
}
