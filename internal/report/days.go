package report

import (
	"fmt"
	"strings"
	"time"
)

// Day is the worst of a day.
type Day struct {
	Date  time.Time
	State State
	Note  string // what happened; "" says nothing more than the state
	Href  string
	x, w  float64
}

// X is where the day begins in a [Strip].
func (d Day) X() string { return percent(d.x) }

// Width is how wide it is.
func (d Day) Width() string { return percent(d.w) }

// Middle is its middle.
func (d Day) Middle() string { return percent(d.x + d.w/2) }

// Words are the day in a sentence.
func (d Day) Words() string {
	s := d.Date.Format("Mon 2 Jan 2006") + ": " + d.State.String()
	if d.Note != "" {
		s += ", " + d.Note
	}
	return s
}

// Number is the day of the month.
func (d Day) Number() int { return d.Date.Day() }

// Strip is a row of days, each in the shape and colour of its worst.
type Strip struct {
	Title string
	Days  []Day
}

// Cells are the days in their places.
func (s Strip) Cells() []Day {
	cells := make([]Day, len(s.Days))
	for i, d := range s.Days {
		n := float64(len(s.Days))
		d.x, d.w = (float64(i)+0.1)/n, 0.8/n
		cells[i] = d
	}
	return cells
}

// Summary counts the days.
func (s Strip) Summary() string {
	counts := map[State]int{}
	for _, d := range s.Days {
		counts[d.State]++
	}
	var parts []string
	for _, st := range States() {
		if counts[st] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[st], st))
		}
	}
	return fmt.Sprintf("%s, %d days: %s", s.Title, len(s.Days), strings.Join(parts, ", "))
}

// First and Last are the ends.
func (s Strip) First() string { return s.end(0) }

// Last is the newest day.
func (s Strip) Last() string { return s.end(len(s.Days) - 1) }

func (s Strip) end(i int) string {
	if len(s.Days) == 0 {
		return ""
	}
	return s.Days[i].Date.Format("2 Jan 2006")
}

// Month is a page of the calendar.
type Month struct {
	Name  string
	Weeks [][]*Day // seven each, from Monday; nil is a day of another month
}

// Weekdays are the heads of its columns.
func (Month) Weekdays() []string { return []string{"Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"} }

// Months puts days on the pages of a calendar, the oldest first. Days that are
// not given, in a month of which some are, stay empty.
func Months(days []Day) []Month {
	var months []Month
	var at time.Time
	for _, d := range days {
		first := time.Date(d.Date.Year(), d.Date.Month(), 1, 0, 0, 0, 0, time.UTC)
		if len(months) == 0 || !first.Equal(at) {
			at = first
			lead := (int(first.Weekday()) + 6) % 7
			length := first.AddDate(0, 1, -1).Day()
			weeks := make([][]*Day, (lead+length+6)/7)
			for i := range weeks {
				weeks[i] = make([]*Day, 7)
			}
			months = append(months, Month{first.Format("January 2006"), weeks})
		}
		cell := (int(at.Weekday())+6)%7 + d.Date.Day() - 1
		months[len(months)-1].Weeks[cell/7][cell%7] = &d
	}
	return months
}
