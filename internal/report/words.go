package report

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// Span is a number of seconds for people: two units at most.
func Span(seconds float64) string {
	if math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		return "unknown"
	}
	if seconds < 0 {
		return "−" + Span(-seconds)
	}
	whole := int64(seconds + 0.5)
	switch {
	case seconds == 0:
		return "0 s"
	case seconds < 0.9995:
		return fmt.Sprintf("%.3g ms", seconds*1000)
	case seconds < 9.995:
		return trim(fmt.Sprintf("%.2f", seconds)) + " s"
	case seconds < 59.95:
		return trim(fmt.Sprintf("%.1f", seconds)) + " s"
	case whole < 3600:
		return two(whole/60, "min", whole%60, "s")
	case whole < 48*3600:
		return two(whole/3600, "h", whole%3600/60, "min")
	default:
		return two(whole/86400, "d", whole%86400/3600, "h")
	}
}

// Took is a span that was measured to the millisecond.
func Took(seconds float64) string {
	if seconds >= 0 && seconds < 0.0005 {
		return "< 1 ms"
	}
	return Span(seconds)
}

// Prose is a sentence in which `words` are code.
func Prose(s string) template.HTML {
	parts := strings.Split(s, "`")
	if len(parts)%2 == 0 {
		parts = []string{s} // one mark is left over
	}
	var b strings.Builder
	for i, part := range parts {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String()) //nolint:gosec // every part is escaped
}

// trim leaves out decimals that say nothing.
func trim(s string) string {
	whole, decimals, _ := strings.Cut(s, ".")
	if strings.Trim(decimals, "0") == "" {
		return whole
	}
	return s
}

// two leaves out the smaller unit where there is none of it.
func two(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// Size is a number of bytes for people, in binary units.
func Size(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	return trim(fmt.Sprintf("%.1f", f)) + " " + units[i]
}

// Count is a number with its digits grouped.
func Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + " " + s[i:] // narrow no-break space
	}
	return s
}

// Moment is a time in UTC, to the second; "" if there is none.
func Moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// Minute is a time in UTC, to the minute, where UTC is told elsewhere.
func Minute(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// Date is the day of a time, in its own zone.
func Date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}

// Short is the beginning of an id or a digest.
func Short(v any) string {
	s := fmt.Sprint(v)
	if len(s) <= 16 {
		return s
	}
	return strings.TrimRight(s[:12], "-") + "…"
}
