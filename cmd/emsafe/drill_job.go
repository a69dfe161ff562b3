package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"emsafe/drill"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// weeklyDrill is when a database is drilled that does not say.
const weeklyDrill = "40 5 * * 1"

// fullDrillEvery is how often a drill takes every target, and the oldest
// backups too.
const fullDrillEvery = 91 * 24 * time.Hour

// drillWhen is a database's, or weekly; "" without a key that could open
// anything while nobody is there.
func (s *site) drillWhen(name string) string {
	if s.cfg.DrillKey == "" {
		return ""
	}
	if own := s.cfg.Databases[name].DrillSchedule; own != "" {
		return own
	}
	return weeklyDrill
}

// drillEvery is how far apart the schedule wants drills; 0 if it wants none.
func (s *site) drillEvery(name string) time.Duration {
	when, err := daemon.ParseSchedule(s.drillWhen(name), s.zone())
	if s.drillWhen(name) == "" || err != nil {
		return 0
	}
	next := when.Next(s.p.now())
	return when.Next(next).Sub(next)
}

// drillJob holds a drill on schedule. One that failed is not tried again
// before its next slot, because its backup will not get better; one that was
// inconclusive is.
func (p *program) drillJob(s *site, name string) func(context.Context, daemon.Run) (daemon.Result, error) {
	return func(ctx context.Context, run daemon.Run) (daemon.Result, error) {
		memory, _ := drill.Remember(s.cfg.State, name) //nolint:errcheck // what cannot be read is not known
		if last := memory.Last(); run.Cause == daemon.Retried && last != nil && last.Verdict != drill.Inconclusive && !last.At.Before(run.Slot) {
			return daemon.Result{Text: last.Finding}, verdictOf(*last)
		}
		plan := drill.Plan{Operator: "schedule", Slot: run.Slot, Full: p.now().Sub(memory.FullAt) > fullDrillEvery, Identity: "drill key of this host"}
		if run.Cause == daemon.Manual {
			plan.Operator, plan.Slot = "daemon, by hand", time.Time{}
		}
		var err error
		if plan.Key, err = s.signingKey(s.cfg.SigningKey, seal.NamespaceReport, name); err == nil {
			plan.Identities, err = p.identities(s.cfg.DrillKey)
		}
		if err != nil {
			return daemon.Result{}, err
		}
		var warned []error
		plan.Warn = func(err error) { warned = append(warned, err) }
		report, err := drill.Run(ctx, s.drillPlan(name, plan))
		s.recordDrill(name, report, err)
		return drillResult(report, warned), err
	}
}

// verdictOf is the error of a drill that was held before.
func verdictOf(h drill.Held) error {
	switch h.Verdict {
	case drill.Fail:
		return fault.New(fault.DrillFailed, "%s", h.Finding)
	case drill.Missed:
		return fault.New(fault.ObjectiveMissed, "%s", h.Finding)
	}
	return nil
}

func drillResult(r *drill.Report, warned []error) daemon.Result {
	var out daemon.Result
	if r == nil {
		return out
	}
	out.Text = r.Finding
	for _, x := range r.Restores {
		o := daemon.Outcome{Target: x.Target, Bytes: x.Fetched}
		if x.Verdict != drill.Pass {
			o.Error = fmt.Sprintf("%s (%s)", x.Verdict, x.Reason)
		}
		out.Targets = append(out.Targets, o)
	}
	if err := errors.Join(warned...); err != nil {
		out.Text += " " + err.Error()
	}
	return out
}

// stamp writes the canary of a database that wants one. A backup goes on
// without: the drill then measures from the stamp before.
func (s *site) stamp(ctx context.Context, name string) error {
	d := s.cfg.Databases[name]
	if !d.Drill.Canary {
		return nil
	}
	if err := sqlite.Stamp(ctx, d.Path, s.p.now()); err != nil {
		return fmt.Errorf("the canary of %s was not stamped: %w", name, err)
	}
	return nil
}

// drilledIn are the backups that a drill has passed, by id, as this host and a
// target know.
func (s *site) drilledIn(ctx context.Context, name string, t storage.Target) map[string]time.Time {
	if s.cfg == nil {
		return nil
	}
	bucket, err := t.Open(ctx)
	if err != nil {
		bucket = nil
	}
	return drill.Drilled(ctx, s.cfg.State, name, bucket, s.signers)
}
