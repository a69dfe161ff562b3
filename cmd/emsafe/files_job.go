package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"emsafe/backup"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
	"emsafe/restore"
)

const (
	patience = 2 * time.Minute // with another job that has the database
	askAgain = time.Second
)

// patient does something once more while another run holds the lock: a database
// is backed up by its own schedule and with its files.
func patient(ctx context.Context, do func() error) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		err := do()
		if !errors.Is(err, fault.Locked) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-limit.C:
			return err
		case <-time.After(askAgain):
		}
	}
}

// filesJob makes recovery points on schedule.
func (p *program) filesJob(s *site, name string, tell tell) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		job, err := s.points(name, func(ctx context.Context, database string) (map[string]error, error) {
			return s.quietHalf(ctx, database, tell)
		})
		if err != nil {
			return daemon.Result{}, err
		}
		out, err := backup.Point(ctx, job)
		tell("configuration", "a target has no copy of the configuration", s.keepConfiguration(ctx))
		r := daemon.Result{}
		for _, t := range out.Targets {
			o := daemon.Outcome{Target: t.Target, Bytes: t.Summary.Added}
			if t.Err != nil {
				o.Error = t.Err.Error()
			}
			if t.Point != nil {
				o.Point = out.At
				r.Text = fmt.Sprintf("point %s, %s, %s", out.ID, several(int(t.Summary.Files), "file", "files"), size(t.Summary.Bytes))
			}
			r.Targets = append(r.Targets, o)
		}
		return r, err
	}
}

// quietHalf backs up one database for a recovery point. One that is protected
// continuously has its newest backup already.
func (s *site) quietHalf(ctx context.Context, database string, tell tell) (map[string]error, error) {
	if s.cfg.Databases[database].Continuous {
		return nil, nil
	}
	if restore.Pending(s.path(database)) {
		return nil, fault.New(fault.InUse, "a restore of %s was cut off half-way", s.path(database))
	}
	job, err := s.job(database, false)
	if err != nil {
		return nil, err
	}
	job.Now = s.p.now
	tell("canary of "+database, "the canary of "+database+" is not stamped", s.stamp(ctx, database))
	var out backup.Outcome
	err = patient(ctx, func() (err error) { out, err = backup.Database(ctx, job); return err })
	return missing(out), err
}

func (p *program) forgetJob(s *site, name string) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, _ daemon.Run) (daemon.Result, error) {
		var r daemon.Result
		var failed []error
		snapshots, points := 0, 0
		for _, t := range s.filesTargets(name) {
			o := daemon.Outcome{Target: t.Name}
			doc, err := s.forget(ctx, name, t, false)
			snapshots, points = snapshots+len(doc.Snapshots), points+len(doc.Points)
			if err != nil {
				o.Error = err.Error()
				failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
			}
			r.Targets = append(r.Targets, o)
		}
		r.Text = fmt.Sprintf("%d snapshots and %d recovery points removed", snapshots, points)
		return r, worst(failed)
	}
}

// wakeAll runs `after` where an earlier run was cut off with the application
// quiesced.
func (d *service) wakeAll(ctx context.Context, s *site) {
	for name := range s.cfg.Filesets {
		job, err := s.points(name, nil)
		woken := false
		if err == nil {
			woken, err = backup.Wake(ctx, job)
		}
		if errors.Is(err, fault.Locked) {
			continue // a run is at it, and wakes it
		}
		if woken {
			d.log.Warn("an earlier run was cut off while the application was quiesced: `after` was run", "fileset", name)
		}
		if err != nil {
			d.log.Error("the application may still be quiesced", "fileset", name, "error", err)
		}
		d.tell("hook of "+name, "the application of "+name+" may still be quiesced", err)
	}
}
