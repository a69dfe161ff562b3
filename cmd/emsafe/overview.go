package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"emsafe/backup"
	"emsafe/internal/daemon"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// overview is how everything is, as the daemon tells it, or as it can be told
// from the state folder.
type overview struct {
	At        time.Time                    `json:"at"`
	State     string                       `json:"state_folder"`
	Running   bool                         `json:"daemon"` // it runs, and this is from it
	Databases []statusDoc                  `json:"status"`
	Scheduler daemon.Status                `json:"scheduler"`
	Sent      map[string]daemon.SendCounts `json:"notifications,omitempty"`
	Filesets  []filesetStatus              `json:"filesets,omitempty"`
	Findings  []openFinding                `json:"findings,omitempty"`  // of exercises, that are open
	LeftOver  string                       `json:"left_over,omitempty"` // plain data of interrupted commands that could not be removed
}

// overview puts together what is known of databases and jobs.
func (p *program) overview(s *site, status daemon.Status) (overview, error) {
	o := overview{At: p.now().UTC(), State: s.cfg.State, Databases: []statusDoc{}, Scheduler: status, Findings: s.findings(false, p.now()), Filesets: s.filesetStatus(p.now())}
	if err := leftOver(s.sweep()); err != nil {
		o.LeftOver = err.Error()
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
		doc, err := p.statusOf(s, name)
		if err != nil {
			return o, err
		}
		o.Databases = append(o.Databases, doc)
	}
	return o, nil
}

// look asks the daemon how things are; where none runs it looks itself.
func (p *program) look(ctx context.Context, s *site) (overview, error) {
	for _, socket := range s.sockets() {
		var o overview
		err := daemon.Client{Socket: socket}.Ask(ctx, "/overview", &o)
		switch {
		case err == nil && o.State == s.cfg.State:
			return o, nil
		case err == nil, errors.Is(err, daemon.ErrNoDaemon):
		default:
			p.print.warn("%v", err)
		}
	}
	records, err := daemon.ReadState(s.cfg.State)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.print.warn("the daemon's state: %v", err)
	}
	return p.overview(s, s.judged(daemon.StatusOf(records, p.now()), p.now()))
}

// runtimeSocket is where the daemon's socket is under systemd.
const runtimeSocket = "/run/emsafe/" + daemon.SocketFile

// socket is where the daemon listens.
func (s *site) socket() string {
	if s.cfg.Daemon.Socket != "" {
		return s.cfg.Daemon.Socket
	}
	if dirs, ok := s.p.env("RUNTIME_DIRECTORY"); ok && dirs != "" {
		first, _, _ := strings.Cut(dirs, ":")
		return filepath.Join(first, daemon.SocketFile)
	}
	return filepath.Join(s.cfg.State, daemon.SocketFile)
}

// sockets are where a daemon may listen.
func (s *site) sockets() []string {
	if s.cfg.Daemon.Socket != "" {
		return []string{s.cfg.Daemon.Socket}
	}
	return []string{filepath.Join(s.cfg.State, daemon.SocketFile), runtimeSocket}
}

func protectName(database string) string { return "protect " + database }

func filesName(fileset string) string { return "files " + fileset }

// judged adds to what the scheduler knows what only the state folder tells: how
// old what every target holds is, and continuous protection.
func (s *site) judged(status daemon.Status, since time.Time) daemon.Status {
	for name, d := range s.cfg.Databases {
		memory, err := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, name))
		if err != nil {
			continue
		}
		job, schedule := "backup "+name, d.Schedule
		if d.Continuous {
			job, schedule = protectName(name), "every "+d.Interval.String()
		}
		judge(&status, job, daemon.Record{Kind: daemon.Backup, Key: name, Schedule: schedule, Objective: d.RPO, Since: since}, s.targetsOf(name), func(target string) (time.Time, int64) {
			return memory.AsOf(target), memory.Newest[target].Bytes
		})
	}
	for name, f := range s.cfg.Filesets {
		last := backup.LastPoints(s.cfg.State, name)
		judge(&status, filesName(name), daemon.Record{Kind: daemon.Files, Key: name, Schedule: f.Schedule, Objective: f.RPO, Since: since}, s.filesTargets(name), func(target string) (time.Time, int64) {
			return last[target].At, last[target].Bytes
		})
	}
	slices.SortFunc(status.Jobs, func(a, b daemon.JobStatus) int { return strings.Compare(a.Name, b.Name) })
	return status
}

// judge completes a job, or, where something was asked for that no job does, adds
// one. held is up to when a target has everything, and how much that is.
func judge(status *daemon.Status, name string, wanted daemon.Record, targets []storage.Target, held func(target string) (time.Time, int64)) {
	record := wanted
	job := slices.IndexFunc(status.Jobs, func(j daemon.JobStatus) bool { return j.Name == name })
	if job >= 0 {
		record = status.Jobs[job].Record
	}
	record.Objective = wanted.Objective
	outcomes := map[string]daemon.Outcome{}
	for _, t := range targets {
		o := record.Targets[t.Name]
		point, bytes := held(t.Name)
		if o.Point = point; o.Bytes == 0 {
			o.Bytes = bytes
		}
		outcomes[t.Name] = o
	}
	record.Targets = outcomes
	switch {
	case job >= 0:
		status.Jobs[job].Record = record
	case record.Objective > 0 || record.Schedule != "":
		status.Jobs = append(status.Jobs, daemon.JobStatus{Name: name, Record: record})
	}
}

// metrics are what Prometheus is told.
func (s *site) metrics(o overview) daemon.Metrics {
	m := daemon.Metrics{Version: version(), Status: o.Scheduler, Sent: o.Sent, Spool: map[string]int64{}, WAL: map[string]int64{}}
	for name, d := range s.cfg.Databases {
		m.Spool[name] = backup.Spooled(s.cfg.State, name).Bytes
		m.WAL[name] = 0
		if info, err := os.Stat(d.Path + "-wal"); err == nil {
			m.WAL[name] = info.Size()
		}
	}
	return m
}
