package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Plots are drawn in percent of the room that they get, so that they fit every
// width while letters and strokes keep their size.

func percent(share float64) string { return fmt.Sprintf("%.3f%%", share*100) }

// Gauge sets what was achieved beside its objective.
type Gauge struct {
	Title               string
	Achieved, Objective float64
	State               State
}

// scale has room for both, and for a little more.
func (g Gauge) scale() float64 { return max(g.Achieved, g.Objective) * 1.02 }

// Bar is the width of what was achieved; a sliver is always seen.
func (g Gauge) Bar() string {
	if g.scale() <= 0 {
		return percent(0)
	}
	return percent(max(g.Achieved/g.scale(), 0.004))
}

// Mark is where the objective is; "" without one.
func (g Gauge) Mark() string {
	if g.Objective <= 0 {
		return ""
	}
	return percent(g.Objective / g.scale())
}

// Waterfall is phases one after another, each beginning where it began after
// the first of them.
type Waterfall struct{ Phases []Phase }

// Phase is one bar of it.
type Phase struct {
	Name           string
	Start, Seconds float64
	Bytes          int64
	Badge          Badge
	Note           string
	whole          float64
}

// Rows are the phases, with what the whole is.
func (w Waterfall) Rows() []Phase {
	first, last := math.Inf(1), 0.0
	for _, p := range w.Phases {
		first, last = min(first, p.Start), max(last, p.Start+p.Seconds)
	}
	rows := make([]Phase, len(w.Phases))
	for i, p := range w.Phases {
		p.Start, p.whole = p.Start-first, last-first
		rows[i] = p
	}
	return rows
}

// X is where the bar begins.
func (p Phase) X() string {
	if p.whole <= 0 {
		return percent(0)
	}
	return percent(min(p.Start/p.whole, 0.995))
}

// Width is how long it is.
func (p Phase) Width() string {
	if p.whole <= 0 {
		return percent(0)
	}
	return percent(max(p.Seconds/p.whole, 0.005))
}

// Rate is bytes a second; "" if that says nothing.
func (p Phase) Rate() string {
	if p.Bytes <= 0 || p.Seconds < 0.001 {
		return ""
	}
	return Size(int64(float64(p.Bytes)/p.Seconds)) + "/s"
}

// Point is one value of a [Line].
type Point struct {
	At    time.Time
	Value float64
	State State
	Note  string
	x, y  float64
}

// X and Y are where it lies.
func (p Point) X() string { return percent(p.x) }

// Y counts from the top.
func (p Point) Y() string { return percent(p.y) }

// Line is values over time, with the objective that they are held against.
type Line struct {
	Title     string
	From, To  time.Time // zero: of the points
	Points    []Point
	Objective float64 // 0: none
	Floating  bool    // the scale need not begin at zero
	Bytes     bool    // the values are bytes, and round by powers of two
}

const (
	plotTop, plotBottom = 0.10, 0.86  // of the height; below are the dates
	plotLeft, plotRight = 0.16, 0.985 // of the width; the values are told left of it
)

// beyond is how many times higher than every value an objective may lie and
// still be drawn to scale: more, and the values were one flat line.
const beyond = 12

func (l Line) words(v float64) string {
	if l.Bytes {
		return Size(int64(v))
	}
	return Span(v)
}

func (l Line) most() float64 {
	most := 0.0
	for _, p := range l.Points {
		most = max(most, p.Value)
	}
	return most
}

// Beyond reports whether the objective lies above what is drawn.
func (l Line) Beyond() bool { return l.Objective > l.most()*beyond && len(l.Points) > 0 }

func (l Line) limits() (low, high float64) {
	high = l.most()
	if !l.Beyond() {
		high = max(high, l.Objective)
	}
	if l.Floating && len(l.Points) > 0 {
		low = l.Points[0].Value
		for _, p := range l.Points {
			low = min(low, p.Value)
		}
		if l.Objective > 0 && !l.Beyond() {
			low = min(low, l.Objective)
		}
		low = max(0, low-(high-low)*0.3)
		if high-low < high*0.05 {
			low *= 0.9
		}
	}
	if high <= low {
		return low, low + 1
	}
	return low, high + (high-low)*0.08
}

func (l Line) span() (from, to time.Time) {
	from, to = l.From, l.To
	if len(l.Points) > 0 && (from.IsZero() || to.IsZero()) {
		from, to = l.Points[0].At, l.Points[len(l.Points)-1].At
	}
	if !to.After(from) {
		from, to = from.Add(-12*time.Hour), from.Add(12*time.Hour)
	}
	return from, to
}

func (l Line) y(v float64) float64 {
	low, high := l.limits()
	return plotBottom - (v-low)/(high-low)*(plotBottom-plotTop)
}

func (l Line) x(t time.Time) float64 {
	from, to := l.span()
	share := float64(t.Sub(from)) / float64(to.Sub(from))
	return plotLeft + min(max(share, 0), 1)*(plotRight-plotLeft)
}

// many is how many points are too many for a dot on each.
const many = 45

// Dots are the points that get one: all, or where they are many those that
// are not as they should be.
func (l Line) Dots() []Point {
	dots := l.placed()
	if len(dots) <= many {
		return dots
	}
	return slices.DeleteFunc(dots, func(p Point) bool { return p.State <= OK })
}

// placed are the points in their places.
func (l Line) placed() []Point {
	dots := make([]Point, len(l.Points))
	for i, p := range l.Points {
		p.x, p.y = l.x(p.At), l.y(p.Value)
		if p.Note == "" {
			p.Note = fmt.Sprintf("%s: %s", Date(p.At), l.words(p.Value))
			if p.State > OK {
				p.Note += ", " + p.State.String()
			}
		}
		dots[i] = p
	}
	return dots
}

// Segment joins two points.
type Segment struct{ A, B Point }

// Segments are the line.
func (l Line) Segments() []Segment {
	dots := l.placed()
	var all []Segment
	for i := 1; i < len(dots); i++ {
		all = append(all, Segment{dots[i-1], dots[i]})
	}
	return all
}

// Mark is a label on an axis.
type Mark struct{ At, Words, Anchor string }

// Target is where the objective is drawn, and what it is.
func (l Line) Target() Mark {
	words := "objective " + l.words(l.Objective)
	if l.Beyond() {
		return Mark{percent(0.03), words + ", far above", ""}
	}
	return Mark{percent(l.y(l.Objective)), words, ""}
}

// Grid is where the values are told.
func (l Line) Grid() []Mark {
	low, high := l.limits()
	var marks []Mark
	list := steps(low, high)
	if l.Bytes {
		list = doubles(low, high)
	}
	for _, v := range list {
		if l.Objective > 0 && !l.Beyond() && math.Abs(l.y(v)-l.y(l.Objective)) < 0.11 {
			continue
		}
		words := l.words(v)
		if v == 0 {
			words = "0"
		}
		marks = append(marks, Mark{percent(l.y(v)), words, ""})
	}
	return marks
}

// steps are two to four round values between low and high, low among them if
// it is zero.
func steps(low, high float64) []float64 {
	var list []float64
	for _, unit := range []float64{1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400} {
		if n := (high - low) / unit; high-low >= 2 && n >= 1.5 && n < 4.5 {
			for v := math.Ceil(low/unit) * unit; v < high; v += unit {
				list = append(list, v)
			}
			return list
		}
	}
	unit := math.Pow(10, math.Floor(math.Log10((high-low)/2)))
	for (high-low)/unit >= 4.5 {
		unit *= 2
	}
	for v := math.Ceil(low/unit) * unit; v < high; v += unit {
		list = append(list, v)
	}
	return list
}

// doubles are round values between low and high by powers of two.
func doubles(low, high float64) []float64 {
	unit := math.Exp2(math.Floor(math.Log2(max((high-low)/4.5, 1))) + 1)
	var list []float64
	for v := math.Ceil(low/unit) * unit; v < high; v += unit {
		list = append(list, v)
	}
	return list
}

// Dates are the first day, the last, and one between.
func (l Line) Dates() []Mark {
	from, to := l.span()
	if to.Sub(from) < 48*time.Hour {
		return []Mark{{percent((plotLeft + plotRight) / 2), Date(from.Add(to.Sub(from) / 2)), "middle"}}
	}
	middle := from.Add(to.Sub(from) / 2)
	return []Mark{
		{percent(plotLeft), from.Format("2 Jan 2006"), "start"}, {percent((plotLeft + plotRight) / 2), middle.Format("2 Jan"), "middle"},
		{percent(1), to.Format("2 Jan 2006"), "end"},
	}
}

// Summary is the plot in a sentence.
func (l Line) Summary() string {
	if len(l.Points) == 0 {
		return l.Title + ": nothing was measured"
	}
	last, worst := l.Points[len(l.Points)-1], l.most()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d values, the last %s, the highest %s", l.Title, len(l.Points), l.words(last.Value), l.words(worst))
	if l.Objective > 0 {
		fmt.Fprintf(&b, ", objective %s", l.words(l.Objective))
	}
	return b.String()
}

// Spark is values as one small line.
type Spark struct {
	Title  string
	Values []float64
}

// Path is its line in a box of 100 by 24.
func (s Spark) Path() string {
	if len(s.Values) == 0 {
		return ""
	}
	low, high := s.Values[0], s.Values[0]
	for _, v := range s.Values {
		low, high = min(low, v), max(high, v)
	}
	var b strings.Builder
	for i, v := range s.Values {
		y, x := 12.0, 100.0
		if high > low {
			y = 21 - (v-low)/(high-low)*18
		}
		if len(s.Values) > 1 {
			x = float64(i) / float64(len(s.Values)-1) * 100
		}
		fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
	}
	if len(s.Values) == 1 {
		return "M0 12L100 12"
	}
	return b.String()
}
