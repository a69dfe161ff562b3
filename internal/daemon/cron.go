package daemon

import "time"

// star is set in a field of a parsed cron line that was written with `*`.
const star = 1 << 63

// walk finds the next minute of a cron line after t (step 1), or the last one
// not after it (step -1), in whole minutes. It goes by real minutes and looks
// at the clock on the wall of each, and skips days and hours that cannot hold
// one, but never past a change of the zone's offset.
func (s Schedule) walk(t time.Time, step int) time.Time {
	if s.spec == nil || t.IsZero() {
		return time.Time{}
	}
	t = t.In(s.zone).Truncate(time.Minute)
	if step > 0 {
		t = t.Add(time.Minute)
	}
	for end := t.Add(time.Duration(step) * horizon); (step > 0) == t.Before(end); {
		if s.matches(t) {
			return t
		}
		if step > 0 {
			t = s.skip(t)
		} else {
			t = s.skipBack(t)
		}
	}
	return time.Time{}
}

func (s Schedule) skip(t time.Time) time.Time {
	next := t.Add(time.Minute)
	last := time.Date(t.Year(), t.Month()+1, 0, 20, 0, 0, 0, s.zone)
	switch day := s.day(t); {
	case s.spec.Month&(1<<t.Month()) == 0 && t.Before(last):
		next = last
	case !day && t.Hour() < 20: // not to midnight, which some zones have twice
		next = time.Date(t.Year(), t.Month(), t.Day(), 20, 0, 0, 0, s.zone)
	case !day, s.spec.Hour&(1<<t.Hour()) == 0:
		next = t.Add(time.Duration(60-t.Minute()) * time.Minute)
	}
	// In a leap year past the tables of zones, package time gives a change before t.
	if _, change := t.ZoneBounds(); change.After(t) && change.Before(next) {
		return change.Add(time.Minute - time.Second).Truncate(time.Minute) // tables of zones end at an odd second of 2038
	}
	return next
}

func (s Schedule) skipBack(t time.Time) time.Time {
	next := t.Add(-time.Minute)
	change, _ := t.ZoneBounds()
	if !change.Before(next) {
		return next // hours and days before a change begin elsewhere
	}
	first := time.Date(t.Year(), t.Month(), 1, 4, 0, 0, 0, s.zone)
	switch day := s.day(t); {
	case s.spec.Month&(1<<t.Month()) == 0 && first.Before(next):
		next = first
	case !day && t.Hour() > 4:
		next = time.Date(t.Year(), t.Month(), t.Day(), 4, 0, 0, 0, s.zone)
	case !day, s.spec.Hour&(1<<t.Hour()) == 0:
		next = t.Add(-time.Duration(t.Minute()+1) * time.Minute)
	}
	if next.Before(change) {
		return change.Truncate(time.Minute)
	}
	return next
}

// day is cron's rule for days: if both fields name days, either is enough.
func (s Schedule) day(t time.Time) bool {
	month := s.spec.Dom&(1<<t.Day()) != 0
	week := s.spec.Dow&(1<<int(t.Weekday())) != 0
	if s.spec.Month&(1<<t.Month()) == 0 {
		return false
	}
	if s.spec.Dom&star != 0 || s.spec.Dow&star != 0 {
		return month && week
	}
	return month || week
}

// wall holds the line against what a clock on the wall shows.
func (s Schedule) wall(t time.Time) bool {
	return s.spec.Minute&(1<<t.Minute()) != 0 && s.spec.Hour&(1<<t.Hour()) != 0 && s.day(t)
}

// matches holds the line against a real minute.
func (s Schedule) matches(t time.Time) bool {
	if s.spec.Hour&star != 0 {
		return s.wall(t)
	}
	change, _ := t.ZoneBounds()
	if change.IsZero() {
		return s.wall(t)
	}
	name, before := change.Add(-time.Second).In(s.zone).Zone()
	_, now := t.Zone()
	back := time.Duration(before-now) * time.Second
	if t.Sub(change) < back {
		return false // the wall showed this before the clocks were set back
	}
	if s.wall(t) {
		return true
	}
	if back < 0 && t.Equal(change) { // all that the wall did not show
		old := time.FixedZone(name, before)
		for skipped := t.In(old); skipped.Before(t.Add(-back)); skipped = skipped.Add(time.Minute) {
			if s.wall(skipped) {
				return true
			}
		}
	}
	return false
}
