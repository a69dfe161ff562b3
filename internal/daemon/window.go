package daemon

import (
	"fmt"
	"strings"
	"time"
)

// Window is a part of every day. The zero value is all of it.
type Window struct {
	from, to time.Duration // since midnight on the clock on the wall; to may be before from
	zone     *time.Location
}

// ParseWindow reads `01:00-05:30`, in zone or UTC. It may cross midnight.
func ParseWindow(text string, zone *time.Location) (Window, error) {
	if zone == nil {
		zone = time.UTC
	}
	first, last, ok := strings.Cut(text, "-")
	from, err := time.Parse("15:04", strings.TrimSpace(first))
	to, err2 := time.Parse("15:04", strings.TrimSpace(last))
	if !ok || err != nil || err2 != nil || from.Equal(to) {
		return Window{}, fmt.Errorf("window %q: two times of day that differ, as in 01:00-05:30", text)
	}
	midnight := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	return Window{from: from.Sub(midnight), to: to.Sub(midnight), zone: zone}, nil
}

// Contains reports whether t is inside.
func (w Window) Contains(t time.Time) bool {
	if w.zone == nil {
		return true
	}
	t = t.In(w.zone)
	wall := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	if w.from < w.to {
		return w.from <= wall && wall < w.to
	}
	return wall >= w.from || wall < w.to
}

// Opens is the first time not before t that is inside, to the minute.
func (w Window) Opens(t time.Time) time.Time {
	for ; !w.Contains(t); t = t.Truncate(time.Minute).Add(time.Minute) {
	}
	return t.UTC()
}

func (w Window) String() string {
	if w.zone == nil {
		return ""
	}
	clock := func(d time.Duration) string { return time.Time{}.Add(d).Format("15:04") }
	return clock(w.from) + "-" + clock(w.to)
}
