package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/daemon"
	"emsafe/internal/finding"
	"emsafe/storage/harden"
)

// backupFindings are what is wrong with the backups of one database, by what
// this host knows.
func (s *site) backupFindings(name string, now time.Time) []finding.Finding {
	var list []finding.Finding
	d := s.cfg.Databases[name]
	doc, err := s.p.statusOf(s, name)
	if err != nil {
		return []finding.Finding{{ID: "EMS-BACKUP-000", Severity: finding.Medium, Title: "it is not known how old the backups are", Subject: name, Found: err.Error(),
			Why: "This host's memory cannot be read.", Remedy: "`emsafe verify " + name + "` asks the targets."}}
	}
	for _, t := range doc.Targets {
		switch {
		case t.Newest == nil:
			list = append(list, finding.Finding{ID: "EMS-BACKUP-001", Severity: finding.High, Title: "there is no backup", Subject: name + " in " + t.Target, Found: "none was committed from here",
				Why: "What is lost is lost.", Remedy: "emsafe backup " + name})
		case t.Stale:
			list = append(list, finding.Finding{ID: "EMS-BACKUP-002", Severity: finding.High, Title: "the newest backup is older than the objective", Subject: name + " in " + t.Target,
				Found: t.age() + " old, objective " + doc.rpo(), Why: "That much would be lost now.", Remedy: "`emsafe status` tells what went wrong; emsafe backup " + name})
		}
	}
	if d.RPO == 0 {
		list = append(list, finding.Finding{ID: "EMS-BACKUP-003", Severity: finding.Low, Title: "nothing is promised", Subject: name, Found: "no objective: {rpo: …}",
			Why: "Without an objective nobody can say that a backup is too old.", Remedy: "Decide how much may be lost, and write it down: objective: {rpo: 1h}"})
	}
	if d.Schedule == "" && !d.Continuous {
		list = append(list, finding.Finding{ID: "EMS-BACKUP-004", Severity: finding.Medium, Title: "nothing backs it up by itself", Subject: name, Found: "neither a schedule nor continuous: true",
			Why: "Backups that somebody has to remember are forgotten. (If cron calls emsafe, give this a waiver.)", Remedy: "schedule: every 15m, and `emsafe service install`"})
	}
	list = append(list, drillFindings(name, doc.Drill)...)
	return append(list, s.placeFindings(name)...)
}

// drillFindings are about the proof that backups restore, and that somebody
// holds the key.
func drillFindings(name string, d drilling) []finding.Finding {
	var list []finding.Finding
	switch err := d.Err(name); {
	case err != nil:
		list = append(list, finding.Finding{ID: "EMS-DRILL-002", Severity: finding.High, Title: "the last drill failed, or the next is overdue", Subject: name, Found: err.Error(),
			Why: "A backup that cannot be restored is none.", Remedy: "emsafe drill show; emsafe drill run " + name})
	case d.Last == nil:
		list = append(list, finding.Finding{ID: "EMS-DRILL-001", Severity: finding.Medium, Title: "no backup was ever restored to prove it", Subject: name, Found: "no drill is known here",
			Why: "A backup that has not been restored is a hope.", Remedy: "emsafe drill run " + name + " --identity KEY; and a drill_key for drills on schedule."})
	}
	if d.KeyDue {
		found := "never, as far as is known here"
		if d.KeyProof != nil {
			found = "the last time on " + d.KeyProof.At.Format(time.DateOnly)
		}
		list = append(list, finding.Finding{ID: "EMS-KEY-002", Severity: finding.Medium, Title: "it was not proven lately that somebody holds the recovery key", Subject: name, Found: found,
			Why: "Without it nobody opens the backups.", Remedy: "emsafe key verify " + name + " --identity KEY"})
	}
	return list
}

// placeFindings are about where the backups of a database go.
func (s *site) placeFindings(name string) []finding.Finding {
	var list []finding.Finding
	d := s.cfg.Databases[name]
	remote, same, locked := false, "", false
	for _, t := range s.targetsOf(name) {
		cfg := s.cfg.Targets[t.Name]
		if folder, ok := cfg.Folder(); ok {
			if sameDisk(folder, d.Path) {
				same = t.Name
			}
			continue
		}
		remote, locked = true, locked || cfg.LockFor > 0
	}
	switch {
	case !remote && same != "":
		list = append(list, finding.Finding{ID: "EMS-BACKUP-005", Severity: finding.High, Title: "the backups lie on the database's own disk", Subject: name, Found: "target " + same,
			Why: "What takes the disk takes both.", Remedy: "Add a target elsewhere: targets: {offsite: {url: s3://bucket/prefix, …}}"})
	case !remote:
		list = append(list, finding.Finding{ID: "EMS-BACKUP-006", Severity: finding.Medium, Title: "all backups are on this host", Subject: name, Found: "every target is a folder",
			Why: "Fire, theft and whoever takes the host take both. (If the folder is another machine's disk, give this a waiver.)", Remedy: "Add a target elsewhere: targets: {offsite: {url: s3://bucket/prefix, …}}"})
	case !locked:
		list = append(list, finding.Finding{ID: "EMS-BACKUP-007", Severity: finding.Low, Title: "no target is locked", Subject: name, Found: "no lock: {for: …}",
			Why: "Whoever gets credentials that may delete can delete all backups.", Remedy: "Object Lock for the bucket and `lock: {for: 30d}`; and credentials that may only put and list (`emsafe target policy`)."})
	}
	return list
}

// sameDisk reports whether two paths lie in one file system.
func sameDisk(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}

// hostFindings are about what all backups share.
func (s *site) hostFindings() []finding.Finding {
	var list []finding.Finding
	if to, err := s.recipients(); err == nil && len(to.Names()) < 2 {
		list = append(list, finding.Finding{ID: "EMS-KEY-001", Severity: finding.Medium, Title: "one key opens the backups, and there is no spare", Subject: s.cfg.File, Found: fmt.Sprintf("%d recipient", len(to.Names())),
			Why: "If it is lost, so are all backups.", Remedy: "`emsafe key new` on another machine, and its recipient beside the first one."})
	}
	pings := !s.cfg.Daemon.Ping.IsZero()
	for _, d := range s.cfg.Databases {
		pings = pings || !d.Ping.IsZero()
	}
	if len(s.cfg.Notify) == 0 && !pings {
		list = append(list, finding.Finding{ID: "EMS-BACKUP-008", Severity: finding.Low, Title: "nobody is told when backups fail", Subject: s.cfg.File, Found: "neither notify nor ping",
			Why: "Most lost backups failed for months before.", Remedy: "notify: {ops: {…}}, or let your monitoring call `emsafe status --check`."})
	}
	return list
}

// hardenJob looks, and mends if the configuration says so.
func (p *program) hardenJob(s *site, name string, tell tell) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		var r daemon.Result
		all, found, err := s.lookAt(ctx, []string{name}, p.now())
		if err != nil {
			return r, err
		}
		if s.cfg.Harden.Enforce {
			done, err := s.applyHarden(all)
			if r.Text = fmt.Sprintf("%d modes mended", len(done)); err != nil {
				return r, err
			}
			if _, found, err = s.lookAt(ctx, []string{name}, p.now()); err != nil {
				return r, err
			}
		}
		from, err := s.failFrom("")
		if err != nil {
			return r, err
		}
		if len(all) > 0 {
			tell("drift of "+name, "what surrounds "+name+" has changed", s.drift(&all[0], found))
		}
		if r.Text != "" {
			r.Text += ", "
		}
		r.Text += "grade " + finding.Grade(found)
		return r, failing(found, from)
	}
}

// drift is an error that says what is open since the last look, and keeps what is
// open now. What was only mended is good news, and in the findings.
func (s *site) drift(l *looked, found []finding.Finding) error {
	before, err := harden.Last(s.cfg.State, l.name)
	if err != nil {
		return err
	}
	fresh, gone := before.Drift(found)
	l.seen.Open = harden.Open(found)
	if err := l.seen.Keep(s.cfg.State, l.name); err != nil {
		return err
	}
	var said []string
	for _, f := range fresh {
		if f.Severity > finding.Info {
			said = append(said, fmt.Sprintf("%s %s, %s: %s (%s)", f.Severity, f.ID, f.Title, f.Subject, f.Found))
		}
	}
	if len(said) == 0 {
		return nil
	}
	return fmt.Errorf("since %s %d findings are new and %d are gone; new: %s", before.At.UTC().Format(time.DateTime), len(said), len(gone), strings.Join(said, "; "))
}
