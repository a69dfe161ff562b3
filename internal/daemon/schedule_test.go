package daemon

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func schedule(t testing.TB, text, in string) Schedule {
	t.Helper()
	s, err := ParseSchedule(text, zone(t, in))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestScheduleErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "0 fields, and there must be five",
		"0 3 * *":               "4 fields",
		"0 0 3 * * *":           "6 fields",
		"60 3 * * *":            `the minute "60" is not right, it takes 0-59`,
		"0 24 * * *":            `the hour "24"`,
		"0 3 32 * *":            `the day of the month "32"`,
		"0 3 * mai *":           `the month "mai"`,
		"0 3 * * 7":             `the day of the week "7" is not right, it takes 0-6 (0 is Sunday)`,
		"0 3 31 2 *":            "never comes",
		"0 3 30 feb *":          "never comes",
		"@daily":                "every: 1d",
		"TZ=UTC 0 3 * * *":      "the zone is a setting of its own",
		"CRON_TZ=UTC 0 3 * * *": "the zone is a setting of its own",
		"every: 15":             `"15" is not a length of time; examples: 15m`,
		"every: 30s":            "between 1m and 366d",
		"every: 400d":           "between 1m and 366d",
		"every: -1h":            "between",
		"every:":                `"" is not`,
	} {
		if s, err := ParseSchedule(text, nil); err == nil || !strings.Contains(err.Error(), want) || !s.IsZero() {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestScheduleText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"every: 15m": "every 15m", "every 90m": "every 1h30m", "every  1d": "every 1d", "every: 2w": "every 14d", " 0  3 * * * ": "0 3 * * *"} {
		s, err := ParseSchedule(text, nil)
		if err != nil || s.String() != want {
			t.Errorf("%q: %q %v, want %q", text, s, err, want)
		}
	}
	if s := schedule(t, "0 3 * * *", "Europe/Berlin"); s.String() != "0 3 * * * Europe/Berlin" {
		t.Error(s)
	}
	if (Schedule{}).Next(time.Now()) != (time.Time{}) || (Schedule{}).Prev(time.Now()) != (time.Time{}) {
		t.Error("no schedule is due")
	}
}

// TestDaylightSaving has the nights of both changes, each as the list of all
// times of a day, forwards and backwards.
func TestDaylightSaving(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, in, from, to, want string }{
		// Berlin, 29 March 2026: 02:00+01:00 is 03:00+02:00.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "29T01:00 30T00:30"},
		{"30 1 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "29T00:30 29T23:30"},
		{"0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "29T01:00 30T01:00"},
		{"0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", "29T01:00"},
		{"30 2 29 3 *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "29T01:00"},
		{"30 2 30 3 *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "30T00:30"},
		{"30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T02:59:00Z", "29T00:30 29T01:30 29T02:30"},
		// Berlin, 25 October 2026: 03:00+02:00 is 02:00+01:00.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", "25T00:30 26T01:30"},
		{"0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", "25T02:00 26T02:00"},
		{"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:59:00Z", "25T00:30 25T01:30 25T02:30"},
		{"*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", "25T00:00 25T00:30"},
		// New York, 8 March 2026: 02:00-05:00 is 03:00-04:00; 1 November: 02:00-04:00 is 01:00-05:00.
		{"15 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z", "08T07:00 09T06:15"},
		{"15 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z", "01T05:15 02T06:15"},
		{"15 */2 * * *", "America/New_York", "2026-11-01T03:00:00Z", "2026-11-01T09:00:00Z", "01T04:15 01T07:15"},
		// Amman had midnight twice, Beirut has none on one day; Samoa had no 30 December 2011.
		{"30 0 28 10 *", "Asia/Amman", "2021-10-26T12:00:00Z", "2021-10-30T12:00:00Z", "27T21:30"},
		{"30 0 29 10 *", "Asia/Amman", "2021-10-26T12:00:00Z", "2021-10-30T12:00:00Z", "28T21:30"},
		{"15 0 * * *", "Asia/Beirut", "2022-03-26T00:00:00Z", "2022-03-28T12:00:00Z", "26T22:00 27T21:15"},
		{"0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z", "29T22:00 30T10:00 30T22:00 31T22:00"},
		// Past the tables of zones, where Go ends every year after 365 days, also 2040.
		{"0 12 * * *", "Europe/Berlin", "2040-12-30T12:00:00Z", "2041-01-02T12:00:00Z", "31T11:00 01T11:00 02T11:00"},
		{"0 12 2 2 *", "Europe/Berlin", "2040-12-31T12:00:00Z", "2041-02-03T12:00:00Z", "02T11:00"},
		{"0 12 * * *", "UTC", "2026-02-28T12:00:00Z", "2026-03-02T00:00:00Z", "01T12:00"},
	} {
		s := schedule(t, c.line, c.in)
		var forth, back []string
		from, to := at(t, c.from), at(t, c.to)
		for when := s.Next(from); !when.After(to); when = s.Next(when) {
			forth = append(forth, when.Format("02T15:04"))
		}
		for when := s.Prev(to); when.After(from); when = s.Prev(when.Add(-time.Nanosecond)) {
			back = append([]string{when.Format("02T15:04")}, back...)
		}
		if got := strings.Join(forth, " "); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.line, c.in, got, c.want)
		}
		if got := strings.Join(back, " "); got != c.want {
			t.Errorf("%s %s, backwards: %s, want %s", c.line, c.in, got, c.want)
		}
	}
}

// randomLine is a cron line that may come rarely, but comes.
func randomLine(r *rand.Rand) string {
	field := func(low, high int) string {
		switch r.IntN(5) {
		case 0:
			return fmt.Sprintf("*/%d", 1+r.IntN(high-low))
		case 1:
			from := low + r.IntN(high-low)
			return fmt.Sprintf("%d-%d", from, from+r.IntN(high-from+1))
		case 2:
			return fmt.Sprintf("%d,%d", low+r.IntN(high-low+1), low+r.IntN(high-low+1))
		case 3:
			return fmt.Sprint(low + r.IntN(high-low+1))
		}
		return "*"
	}
	line := []string{field(0, 59), field(0, 23), "*", "*", "*"}
	switch r.IntN(6) {
	case 0:
		line[2] = field(1, 28)
	case 1:
		line[4] = field(0, 6)
	case 2:
		line[2], line[4] = field(1, 28), field(0, 6)
	case 3:
		line[3] = field(1, 12)
	}
	return strings.Join(line, " ")
}

// TestScheduleAgainstEveryMinute compares what skips with what looks at every
// single minute, near changes of the zone.
func TestScheduleAgainstEveryMinute(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Amman", "Asia/Beirut", "America/Havana", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Kathmandu", "Pacific/Apia"}
	for range 60 {
		in := zones[r.IntN(len(zones))]
		z := zone(t, in)
		s := schedule(t, randomLine(r), in)
		start := time.Date(2000+r.IntN(60), time.Month(1+r.IntN(12)), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), 0, time.UTC)
		if _, change := start.In(z).ZoneBounds(); !change.IsZero() && r.IntN(4) > 0 {
			start = change.Add(-time.Duration(r.IntN(3*24*60)) * time.Minute)
		}
		var want, forth []time.Time
		end := start.Add(4 * 24 * time.Hour)
		for m := start.Truncate(time.Minute).Add(time.Minute); !m.After(end); m = m.Add(time.Minute) {
			if s.matches(m.In(z)) {
				want = append(want, m)
			}
		}
		for m := s.Next(start); !m.After(end) && !m.IsZero(); m = s.Next(m) {
			forth = append(forth, m)
		}
		same := len(want) == len(forth)
		for i := 0; same && i < len(want); i++ {
			same = want[i].Equal(forth[i]) && s.Prev(want[i]).Equal(want[i]) && (i == 0 || s.Prev(want[i].Add(-1)).Equal(want[i-1]))
		}
		if !same {
			t.Fatalf("%s from %s: %d times, want %d", s, start, len(forth), len(want))
		}
	}
}

func TestShifted(t *testing.T) {
	t.Parallel()
	s := schedule(t, "0 3 * * *", "UTC").Shifted(7 * time.Minute)
	for _, c := range []struct{ now, prev, next string }{
		{"2026-11-23T03:00:00Z", "2026-11-22T03:07:00Z", "2026-11-23T03:07:00Z"},
		{"2026-11-23T03:07:00Z", "2026-11-23T03:07:00Z", "2026-11-24T03:07:00Z"},
	} {
		if prev, next := s.Prev(at(t, c.now)), s.Next(at(t, c.now)); !prev.Equal(at(t, c.prev)) || !next.Equal(at(t, c.next)) {
			t.Errorf("%s: %s %s", c.now, prev, next)
		}
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line, last, now string
		slot            string // "" if not due
		missed          int
	}{
		{"0 3 * * *", "2026-11-22T03:00:00Z", "2026-11-23T02:59:59Z", "", 0},
		{"0 3 * * *", "2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z", "2026-11-23T03:00:00Z", 0},
		{"0 3 * * *", "2026-11-20T03:00:00Z", "2026-11-23T09:00:00Z", "2026-11-23T03:00:00Z", 2},
		{"0 3 * * *", "2026-11-24T03:00:00Z", "2026-11-23T09:00:00Z", "", 0},
		{"* * * * *", "2016-11-20T03:00:00Z", "2026-11-23T09:00:30Z", "2026-11-23T09:00:00Z", 1000},
		{"every 15m", "2026-11-23T03:00:20Z", "2026-11-23T03:15:19Z", "", 0},
		{"every 15m", "2026-11-23T03:00:20Z", "2026-11-23T03:15:20Z", "2026-11-23T03:15:20Z", 0},
		{"every 15m", "2026-11-23T03:00:20Z", "2026-11-23T04:01:00Z", "2026-11-23T04:00:20Z", 3},
		{"every 15m", "1226-11-23T03:00:20Z", "2026-11-23T04:01:00Z", "?", 1000},
	} {
		s := schedule(t, c.line, "UTC")
		slot, due := s.Due(at(t, c.last), at(t, c.now))
		missed := 0
		if due {
			missed = s.Between(at(t, c.last), slot)
		}
		if due != (c.slot != "") || missed != c.missed || due && c.slot != "?" && !slot.Equal(at(t, c.slot)) {
			t.Errorf("%s after %s at %s: %s %d %t", c.line, c.last, c.now, slot, missed, due)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	const limit = 5 * time.Minute
	var buckets [10]int
	for i := range 1000 {
		d := Spread(fmt.Sprintf("host-%d", i), "backup app", limit)
		if d < 0 || d >= limit || d != Spread(fmt.Sprintf("host-%d", i), "backup app", limit) {
			t.Fatal(d)
		}
		buckets[d*10/limit]++
	}
	for i, n := range buckets {
		if n < 60 || n > 140 {
			t.Errorf("part %d of the time has %d of 1000 hosts", i, n)
		}
	}
	if Spread("a", "b", limit) == Spread("a", "c", limit) || Spread("a", "b", 0) != 0 {
		t.Error("spread")
	}
}
