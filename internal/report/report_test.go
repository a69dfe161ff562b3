package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{
		0: "0 s", 0.0123: "12.3 ms", 0.9994: "999 ms", 0.9999: "1 s", 1: "1 s", 1.239: "1.24 s", 9.999: "10 s", 12.34: "12.3 s", 59.96: "1 min", 60: "1 min", 61.4: "1 min 1 s",
		3599.6: "1 h", 3600: "1 h", 5400: "1 h 30 min", 47 * 3600: "47 h", 48 * 3600: "2 d", 49 * 3600: "2 d 1 h", -5: "−5 s", math.Inf(1): "unknown",
	} {
		if got := Span(seconds); got != want {
			t.Errorf("%v s: %q, want %q", seconds, got, want)
		}
	}
	for s, want := range map[string]string{"run `a<b` & go": "run <code>a&lt;b</code> &amp; go", "one ` alone <": "one ` alone &lt;", "``": "<code></code>", "`<b>": "`&lt;b&gt;"} {
		if got := string(Prose(s)); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	if Took(0) != "< 1 ms" || Took(0.002) != "2 ms" {
		t.Error(Took(0), Took(0.002))
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 5 << 30: "5 GiB", 3 << 50: "3072 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int]string{7: "7", 1234: "1 234", 1234567: "1 234 567"} {
		if got := Count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestStatesAreNamedForEver(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range States() {
		text, err := json.Marshal(s)
		var back State
		if err != nil || json.Unmarshal(text, &back) != nil || back != s {
			t.Errorf("%s becomes %s becomes %s", s, text, back)
		}
		if seen[s.Glyph()] {
			t.Errorf("two states look like %s", s.Glyph())
		}
		seen[s.Glyph()] = true
	}
	var later State
	if err := json.Unmarshal([]byte(`"superb"`), &later); err != nil || later != Unclear {
		t.Error(later, err)
	}
	if Worst(OK, Overdue, Missed) != Overdue || Worst() != Idle || State(99).Class() != "s-unclear" {
		t.Error("the order of states")
	}
}

var everything = Must("everything", `{{define "content"}}{{range .States}}{{template "icon" .}}{{end}}{{template "gauge" .Gauge}}{{template "waterfall" .Waterfall}}
{{template "line" .Line}}{{template "strip" .Strip}}{{template "calendar" .Months}}{{template "spark" .Spark}}{{template "legend" .States}}{{end}}`)

func TestAPageIsWhatItsPolicySays(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 27, 0, 0, 0, 0, time.UTC)
	bad := `<b onclick=x>`
	days := []Day{{Date: at, State: OK, Note: bad}, {Date: at.AddDate(0, 0, 1), State: Failed}, {Date: at.AddDate(0, 0, 2), State: Overdue}}
	var b bytes.Buffer
	err := Write(&b, everything, Page{Title: bad, Footer: bad, Data: map[string]any{
		"States": States(), "Gauge": Gauge{Title: bad, Achieved: 3, Objective: 1}, "Waterfall": Waterfall{[]Phase{{Name: bad, Seconds: 1, Bytes: 1 << 20}}},
		"Line": Line{Title: bad, Points: []Point{{At: at, Value: 2, Note: bad, State: Missed}}, Objective: 1}, "Strip": Strip{bad, days}, "Months": Months(days), "Spark": Spark{bad, []float64{1, 2}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	html := b.String()
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(html)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	if !strings.Contains(Policy(), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Error("the policy is not of this stylesheet")
	}
	for _, never := range []string{"<b ", "<script", " style=", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(strings.ReplaceAll(html, "http://www.w3.org/2000/svg", ""), never) {
			t.Errorf("the page contains %q", never)
		}
	}
	if n := strings.Count(html, `role="img"`); n < 5 || n != len(regexp.MustCompile(`role="img"[^>]*><title>[^<]+</title>`).FindAllString(html, -1)) {
		t.Error("a plot has no title")
	}
}

func TestPlotsStayInTheirRoom(t *testing.T) {
	t.Parallel()
	inside := func(what, p string, low, high float64) {
		t.Helper()
		v, err := strconv.ParseFloat(strings.TrimSuffix(p, "%"), 64)
		if err != nil || v < low || v > high || math.IsNaN(v) {
			t.Errorf("%s lies at %s", what, p)
		}
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, values := range [][]float64{{}, {0}, {5}, {0, 0, 0}, {1e-6, 2e-6}, {3, 300, 1e9}, {1 << 30, 1<<30 + 1}} {
		for _, objective := range []float64{0, 1, 1e7} {
			for _, l := range []Line{{Objective: objective}, {Objective: objective, Floating: true, Bytes: true}} {
				for i, v := range values {
					l.Points = append(l.Points, Point{At: at.AddDate(0, 0, i), Value: v, State: OK})
				}
				for _, d := range l.Dots() {
					inside("a dot", d.X(), 0, 100)
					inside("a dot", d.Y(), 0, 100*plotBottom+.01)
				}
				if objective > 0 {
					inside(fmt.Sprint("the objective ", objective, values), l.Target().At, 0, 100)
				}
				marks := l.Grid()
				if len(marks) > 6 {
					t.Errorf("%v has %d marks", values, len(marks))
				}
				for _, m := range marks {
					inside("a mark", m.At, 0, 100*plotBottom+.01)
				}
			}
		}
	}
	if p := (Waterfall{[]Phase{{Start: 9}, {Start: 10, Seconds: 3}}}).Rows(); p[0].X() != "0.000%" || p[1].X() != "25.000%" || p[1].Width() != "75.000%" {
		t.Errorf("phases that begin late: %+v", p)
	}
	for _, p := range (Waterfall{[]Phase{{}, {Start: 1, Seconds: 3}, {Start: 4}}}).Rows() {
		inside("a phase", p.X(), 0, 100)
		inside("a phase", p.Width(), .4, 100)
	}
	for _, g := range []Gauge{{}, {Achieved: 5}, {Objective: 5}, {Achieved: 1e9, Objective: 1}} {
		inside("a gauge", g.Bar(), 0, 100)
	}
	if (Line{Objective: 300, Points: []Point{{At: at, Value: 4}}}).Beyond() != true || (Line{Objective: 30, Points: []Point{{At: at, Value: 4}}}).Beyond() {
		t.Error("when an objective is beyond the plot")
	}
}

func TestMonths(t *testing.T) {
	t.Parallel()
	var days []Day
	for at := time.Date(2026, 2, 20, 0, 0, 0, 0, time.UTC); at.Before(time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC)); at = at.AddDate(0, 0, 1) {
		days = append(days, Day{Date: at})
	}
	months := Months(days)
	if len(months) != 3 || months[0].Name != "February 2026" || len(months[0].Weeks) != 5 || len(months[1].Weeks) != 6 {
		t.Fatalf("%+v", months)
	}
	n := 0
	for _, m := range months {
		for _, w := range m.Weeks {
			for i, d := range w {
				if d == nil {
					continue
				}
				n++
				if (int(d.Date.Weekday())+6)%7 != i {
					t.Errorf("%s in column %d", d.Words(), i)
				}
			}
		}
	}
	if n != len(days) {
		t.Errorf("%d of %d days", n, len(days))
	}
}

// TestContrast: words can be read, in every state, in the light and the dark
// (WCAG 2: 4.5 to 1).
func TestContrast(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile(`(?s):root\{(.*?)\}`).FindAllStringSubmatch(style, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d palettes", len(blocks))
	}
	for i, name := range []string{"light", "dark", "print"} {
		colors := map[string]float64{}
		for _, c := range regexp.MustCompile(`--([a-z-]+):(#[0-9a-f]{3,6})\b`).FindAllStringSubmatch(blocks[i][1], -1) {
			colors[c[1]] = luminance(t, c[2])
		}
		check := func(text, ground string) {
			t.Helper()
			a, b := colors[text], colors[ground]
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); ratio < 4.5 || colors[ground] == 0 {
				t.Errorf("%s: %s on %s is %.2f to 1", name, text, ground, ratio)
			}
		}
		for _, text := range []string{"text", "quiet", "link", "ok", "missed", "overdue", "failed", "unclear"} {
			check(text, "bg")
		}
		for _, state := range []string{"ok", "missed", "overdue", "failed", "unclear"} {
			check(state, state+"-bg")
			check("text", state+"-bg")
			check("quiet", state+"-bg")
			check("link", state+"-bg")
		}
		check("text", "soft")
	}
}

func luminance(t *testing.T, color string) float64 {
	t.Helper()
	hex := color[1:]
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	sum := 0.0
	for i, weight := range []float64{.2126, .7152, .0722} {
		v, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= .03928 {
			c /= 12.92
		} else {
			c = math.Pow((c+.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
