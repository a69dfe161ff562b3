package main

import (
	"testing"
	"time"

	"emsafe/drill"
	"emsafe/internal/daemon"
)

func TestPlannedDrills(t *testing.T) {
	t.Parallel()
	parse := func(text string) daemon.Schedule {
		t.Helper()
		when, err := daemon.ParseSchedule(text, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	p := drill.Period{Year: 2026, Quarter: 4}
	weekly := parse(weeklyDrill)
	day := func(month time.Month, d int) time.Time { return time.Date(2026, month, d, 5, 40, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		when  daemon.Schedule
		since time.Time
		n     int
		first time.Time
	}{
		"all of it":               {weekly, day(time.January, 1), 13, day(time.October, 5)},
		"from its middle":         {weekly, day(time.December, 1), 4, day(time.December, 7)},
		"after it":                {weekly, p.To(), 0, time.Time{}},
		"spread":                  {weekly.Shifted(3 * time.Minute), day(time.January, 1), 13, day(time.October, 5).Add(3 * time.Minute)},
		"on its first instant":    {parse("0 0 1 * *"), day(time.January, 1), 3, p.From()},
		"no schedule":             {daemon.Schedule{}, day(time.January, 1), 0, time.Time{}},
		"no daemon ever knew":     {weekly, time.Time{}, 0, time.Time{}},
		"counted from a last run": {parse("every 7d"), day(time.January, 1), 0, time.Time{}},
	} {
		slots := plannedDrills(c.when, c.since, p)
		if len(slots) != c.n || c.n > 0 && !slots[0].Equal(c.first) {
			t.Errorf("%s: %v", name, slots)
		}
	}
	at := func(d int, v drill.Verdict) drill.Signed {
		return drill.Signed{Report: drill.Report{Started: day(time.October, d), Verdict: v}}
	}
	held := []drill.Signed{at(5, drill.Pass), at(12, drill.Fail), at(19, drill.Inconclusive)}
	if due := drillDue(weekly, day(time.January, 1), held); !due.Equal(day(time.October, 19)) {
		t.Errorf("due %s: a drill that was inconclusive is still due", due)
	}
	if due := drillDue(weekly, day(time.October, 6), nil); !due.Equal(day(time.October, 12)) {
		t.Errorf("the first is due %s", due)
	}
	if due := drillDue(weekly, time.Time{}, nil); !due.IsZero() {
		t.Errorf("due %s, by nothing", due)
	}
}
