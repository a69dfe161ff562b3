package main

import (
	"strings"
	"time"

	"emsafe/drill"
	"emsafe/internal/daemon"
)

// drillName is the daemon's name for the drills of a database.
func drillName(database string) string { return "drill " + database }

// drillSchedule is when the daemon drills a database; zero: never.
func (s *site) drillSchedule(name string) daemon.Schedule {
	text := s.drillWhen(name)
	if text == "" {
		return daemon.Schedule{}
	}
	when, err := daemon.ParseSchedule(text, s.zone())
	if err != nil {
		return daemon.Schedule{} // `config check` tells
	}
	return when.Shifted(daemon.Spread(s.cfg.Host, drillName(name), spread))
}

// plannedDrills are the slots of a quarter since the daemon knows of the
// schedule; nil where they cannot be known: without a daemon that ran, and
// under `every`, which counts from the last run.
func plannedDrills(when daemon.Schedule, since time.Time, p drill.Period) []time.Time {
	if when.IsZero() || since.IsZero() || strings.HasPrefix(when.String(), "every") {
		return nil
	}
	from := p.From().Add(-time.Second)
	if since.After(from) {
		from = since
	}
	slots := []time.Time{}
	for at := when.Next(from); !at.IsZero() && at.Before(p.To()); at = when.Next(at) {
		slots = append(slots, at)
	}
	return slots
}

// drillDue is when the next drill that comes to a verdict was or is due; zero:
// that cannot be known.
func drillDue(when daemon.Schedule, since time.Time, reports []drill.Signed) time.Time {
	last := since
	for _, r := range reports {
		if v := r.Report.Verdict; v != drill.Inconclusive && r.Report.Started.After(last) {
			last = r.Report.Started
		}
	}
	if when.IsZero() || last.IsZero() {
		return time.Time{}
	}
	return when.Next(last)
}
