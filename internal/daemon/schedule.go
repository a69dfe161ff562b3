package daemon

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones work on hosts and in containers that have none

	"github.com/robfig/cron/v3"
)

// Schedule says when a job is due: at the minutes of a five-field cron line in
// a zone, or some time after its last run. The zero value is never due.
//
// Daylight saving: a time of day that spring skips comes at the moment of the
// change, once; one that autumn doubles comes the first time only. A schedule
// whose hour is `*` or `*/N` follows the real hours, in both cases.
type Schedule struct {
	text   string
	spec   *cron.SpecSchedule
	zone   *time.Location
	every  time.Duration
	offset time.Duration
}

// Bounds of `every`. What shall run more often is continuous protection, which
// is not a schedule.
const (
	LeastEvery = time.Minute
	MostEvery  = 366 * 24 * time.Hour
)

// horizon is past the longest wait of a cron line that comes at all: 29
// February, from 2096 to 2104.
const horizon = 9 * 366 * 24 * time.Hour

// ParseSchedule reads `30 2 * * *` or `every: 15m` (also `every 15m`). The zone
// of a cron line is UTC where zone is nil.
func ParseSchedule(text string, zone *time.Location) (Schedule, error) {
	if zone == nil {
		zone = time.UTC
	}
	text = strings.Join(strings.Fields(text), " ")
	if rest, ok := strings.CutPrefix(text, "every"); ok {
		d, err := parseSpan(strings.TrimSpace(strings.TrimPrefix(rest, ":")))
		if err != nil {
			return Schedule{}, fmt.Errorf("schedule %q: %w", text, err)
		}
		return Every(d)
	}
	spec, err := parseCron(text)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %q: %w", text, err)
	}
	s := Schedule{text: text, spec: spec, zone: zone}
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, fmt.Errorf("schedule %q never comes: no month that it names has such a day", text)
	}
	return s, nil
}

// Every is due so long after the last run began.
func Every(d time.Duration) (Schedule, error) {
	if d < LeastEvery || d > MostEvery {
		return Schedule{}, fmt.Errorf("every %s: between %s and %s is possible", span(d), span(LeastEvery), span(MostEvery))
	}
	return Schedule{text: "every " + span(d), every: d}, nil
}

// parseSpan reads a length of time with days and weeks.
func parseSpan(text string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(text, unit), 10, 16); err == nil && strings.HasSuffix(text, unit) {
			return time.Duration(n) * length, nil //nolint:gosec // 16 bits
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a length of time; examples: 15m, 6h, 1d", text)
	}
	return d, nil
}

// span writes a length of time as parseSpan reads it.
func span(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

var cronFields = []struct{ name, values string }{
	{"minute", "0-59"}, {"hour", "0-23"}, {"day of the month", "1-31"}, {"month", "1-12 or jan-dec"}, {"day of the week", "0-6 (0 is Sunday) or sun-sat"},
}

// parseCron reads the five fields as gocron does, and finds out which of them
// an error is about.
func parseCron(text string) (*cron.SpecSchedule, error) {
	fields := strings.Fields(text)
	switch {
	case strings.Contains(text, "TZ="):
		return nil, errors.New("the zone is a setting of its own, not part of the schedule")
	case strings.HasPrefix(text, "@"):
		return nil, errors.New("words such as @daily are not read; `every: 1d`, or five fields: minute hour day month weekday")
	case len(fields) != len(cronFields):
		return nil, fmt.Errorf("%d fields, and there must be five: minute hour day month weekday; or `every: 15m`", len(fields))
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	schedule, err := parser.Parse(text)
	if err == nil {
		return schedule.(*cron.SpecSchedule), nil
	}
	for i, field := range fields {
		alone := []string{"*", "*", "*", "*", "*"}
		alone[i] = field
		if _, err := parser.Parse(strings.Join(alone, " ")); err != nil {
			return nil, fmt.Errorf("the %s %q is not right, it takes %s, lists with commas, ranges and steps as in */15", cronFields[i].name, field, cronFields[i].values)
		}
	}
	return nil, err
}

// Shifted is the schedule, all of it later by a fixed offset. A schedule by
// `every` keeps its own time; of that only the first run is later.
func (s Schedule) Shifted(offset time.Duration) Schedule {
	s.offset = offset
	return s
}

// Spread is the offset of a job on a host: always the same, below limit, and
// different enough that a thousand hosts do not come at once.
func Spread(host, job string, limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(host + "\x00" + job)) //nolint:errcheck // a hash takes everything
	x := h.Sum64()
	x ^= x >> 33 // FNV alone is poor in its low bits for names that differ at the end
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return time.Duration(x % uint64(limit)).Truncate(time.Second) //nolint:gosec // below limit
}

func (s Schedule) String() string {
	if s.spec != nil && s.zone != time.UTC {
		return s.text + " " + s.zone.String()
	}
	return s.text
}

// IsZero reports a schedule that is never due.
func (s Schedule) IsZero() bool { return s.spec == nil && s.every == 0 }

// Next is the first time after the given one, which is the last run's where
// the schedule is by `every`. It is zero if there is none.
func (s Schedule) Next(after time.Time) time.Time {
	if s.every > 0 {
		return after.Add(s.every).UTC()
	}
	return s.shift(s.walk(after.Add(-s.offset), 1))
}

// Prev is the last time not after the given one.
func (s Schedule) Prev(before time.Time) time.Time {
	if s.every > 0 {
		return before.Add(-s.every).UTC()
	}
	return s.shift(s.walk(before.Add(-s.offset), -1))
}

func (s Schedule) shift(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(s.offset).UTC()
}

// Due tells whether a job is due whose last slot is given, and for which slot:
// the newest.
func (s Schedule) Due(last, now time.Time) (slot time.Time, due bool) {
	switch {
	case s.IsZero() || !last.Before(now):
		return slot, false
	case s.every > 0:
		if last.Add(s.every).After(now) {
			return slot, false
		}
		return last.Add(now.Sub(last) / s.every * s.every).UTC(), true
	}
	if slot = s.Prev(now); slot.After(last) {
		return slot, true
	}
	return time.Time{}, false
}

// most is where counting ends.
const most = 1000

// Between counts the slots after last and before slot, up to 1000: those that
// nobody ran.
func (s Schedule) Between(last, slot time.Time) (n int) {
	if s.every > 0 {
		return int(max(0, min(slot.Sub(last)/s.every-1, most)))
	}
	for t := s.Next(last); !t.IsZero() && t.Before(slot) && n < most; t = s.Next(t) {
		n++
	}
	return n
}
