package drill

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/report"
	"emsafe/internal/report/browsertest"
)

var (
	q4       = Period{2026, 4}
	yearOver = time.Date(2027, 1, 4, 9, 0, 0, 0, time.UTC)
)

// weekly are the slots of the samples' schedule.
func weekly(offset time.Duration) []time.Time {
	var slots []time.Time
	for week := range 13 {
		slots = append(slots, sampleStart.Add(time.Duration(week)*7*24*time.Hour+8*time.Hour+offset))
	}
	return slots
}

func sampleScope() Scope {
	return Scope{
		Host: "vm-fra-1",
		Databases: []Covered{
			{Name: "app", Schedule: "0 8 * * 4", Targets: []string{"main", "offsite"}, Planned: weekly(0)},
			{Name: "billing", Schedule: "30 8 * * 4", Targets: []string{"main"}, Planned: weekly(30 * time.Minute)},
		},
		Exercises: []Event{{At: sampleStart.AddDate(0, 1, 3), What: "The host is gone", Outcome: "service back after 41 min", By: "Mina, Jonas"}},
		Restores:  []Event{{At: sampleStart.AddDate(0, 2, 9), What: "app as of 10:41, after a wrong DELETE", Outcome: "in place, nothing else lost", By: "Mina"}, {At: sampleStart.AddDate(0, -2, 0), What: "before the quarter"}},
	}
}

func TestQuarterCounts(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	all := append(s.quarter(), s.report("app", yearOver.Add(-time.Hour), nil))
	rand.New(rand.NewPCG(7, 7)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	q := Quarter(q4, sampleScope(), all, yearOver)
	app, billing := q.Databases[0], q.Databases[1]
	type counts struct{ planned, held, passed, missed, failed, inconclusive int }
	sum := func(d InQuarter) (c counts) {
		for _, m := range d.Months {
			c.planned += *m.Planned
			c.held, c.passed, c.missed, c.failed, c.inconclusive = c.held+m.Held, c.passed+m.Passed, c.missed+m.Missed, c.failed+m.Failed, c.inconclusive+m.Inconclusive
		}
		return c
	}
	if got, want := sum(app), (counts{13, 14, 13, 1, 1, 0}); got != want {
		t.Errorf("app: %+v, want %+v", got, want)
	}
	if got, want := sum(billing), (counts{13, 12, 12, 0, 0, 1}); got != want {
		t.Errorf("billing: %+v, want %+v", got, want)
	}
	if len(app.NotHeld) != 0 || len(billing.NotHeld) != 1 || !billing.NotHeld[0].Slot.Equal(weekly(30 * time.Minute)[2]) {
		t.Errorf("not held: %v and %v", app.NotHeld, billing.NotHeld)
	}
	if len(q.Misses) != 1 || q.Misses[0].Objective != "RTO" || q.Misses[0].Achieved != 412.6 {
		t.Errorf("missed: %+v", q.Misses)
	}
	if len(q.Failures) != 2 || q.Failures[0].Verdict != Inconclusive || q.Failures[1].Closed.Sub(q.Failures[1].At).Truncate(time.Hour) != 3*time.Hour {
		t.Errorf("failures: %+v", q.Failures)
	}
	if len(q.Reports) != 27 || len(q.Restores) != 1 || len(q.KeyProofs) != 1 || q.Worst != Missed || q.State() != report.Overdue {
		t.Errorf("%d reports, %d restores, %d proofs, worst %s, %s", len(q.Reports), len(q.Restores), len(q.KeyProofs), q.Worst, q.State())
	}
	if app.Chain != "reports 1 to 14 are chained without a gap" {
		t.Errorf("chain: %s", app.Chain)
	}
	if want := "26 drills of 2 databases held and 25 passed. 1 objective missed. 2 drills failed or inconclusive, all closed by a later drill that passed. 1 planned drill not held."; q.Finding != want {
		t.Errorf("finding:\n%s\nwant\n%s", q.Finding, want)
	}
}

func TestQuarterInTheMiddle(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	now := sampleStart.AddDate(0, 0, 16)
	all := []Signed{s.report("app", weekly(0)[0], nil), s.inconclusive("app", weekly(0)[1]), s.failed("other", weekly(0)[1])}
	q := Quarter(q4, Scope{Databases: []Covered{{Name: "app", Planned: weekly(0)}, {Name: "new"}}}, all, now)
	if len(q.Databases) != 3 || q.Databases[0].ToCome != 10 || q.Over {
		t.Fatalf("%+v", q.Databases)
	}
	if n := q.Databases[0].NotHeld; len(n) != 2 || !strings.Contains(n[0].Why, "no room") || !strings.Contains(n[1].Why, "no report") {
		t.Errorf("not held: %+v", n)
	}
	if q.Databases[1].Months[0].Planned != nil || q.Worst != Fail || !strings.HasSuffix(q.Finding, "The quarter is not over; 10 drills to come.") {
		t.Errorf("%s %s %v", q.Worst, q.Finding, q.Databases[1].Months[0].Planned)
	}
	if none := Quarter(q4, Scope{}, nil, now); none.Worst != "" || none.Finding != "No drill was held. The quarter is not over." {
		t.Errorf("%+v", none)
	}
}

func TestQuarterSeesABrokenChain(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	var all []Signed
	for i := range 4 {
		all = append(all, s.report("app", sampleStart.AddDate(0, 0, i), nil))
	}
	if c := chainWords(slices.Delete(slices.Clone(all), 1, 2)); c != "broken: between reports 1 and 3 others are missing" {
		t.Error(c)
	}
	all[1].Object = append(bytes.Clone(all[1].Object), '\n')
	if c := chainWords(all); c != "broken: report 3 does not name the digest of report 2" {
		t.Error(c)
	}
}

// hostile is what somebody may have written into a database or a bucket.
const hostile = `"><script>alert(1)</script>|=cmd()|'</style><img src=x onerror=alert(2)>` + "\n# x"

func TestNothingFromOutsideBecomesMarkup(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	bad := s.failed("app", sampleStart.Add(time.Hour))
	bad.Report.Finding, bad.Report.Operator, bad.Report.Host, bad.Signer = "="+hostile, hostile, hostile, hostile
	bad.Report.NotTested, bad.Report.Actions = []string{hostile}, []Action{{What: hostile, Owner: hostile}}
	x := &bad.Report.Restores[0]
	x.Target, x.Location, x.Identity, x.Reason, x.Why, x.Phases[2].Error, x.Phases[2].Name = hostile, hostile, hostile, hostile, hostile, hostile, hostile
	bad.Report.Restores[1].Checks[0].Got, bad.Report.Restores[1].Checks[0].Name = hostile, hostile
	q := Quarter(q4, Scope{Host: hostile, Controls: []string{hostile}, Exercises: []Event{{At: sampleStart, What: hostile}}}, []Signed{bad}, yearOver)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"html": func(b *bytes.Buffer) error { return bad.WriteHTML(b) }, "md": func(b *bytes.Buffer) error { return bad.WriteMarkdown(b) },
		"quarter html": func(b *bytes.Buffer) error { return q.WriteHTML(b) }, "quarter md": func(b *bytes.Buffer) error { return q.WriteMarkdown(b) },
		"quarter csv": func(b *bytes.Buffer) error { return q.WriteCSV(b) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		if strings.HasSuffix(name, "csv") {
			rows, err := csv.NewReader(&b).ReadAll()
			if err != nil || len(rows) != 2 || !strings.HasPrefix(rows[1][18], "'=") {
				t.Errorf("csv: %v %v", rows, err)
			}
			continue
		}
		if strings.Contains(text, "<script") || strings.Contains(text, "<img") || strings.HasSuffix(name, "md") && strings.Contains(text, "\n# x") || strings.Count(text, "</style>") > 1 {
			t.Errorf("%s has markup from outside", name)
		}
		if strings.HasSuffix(name, "md") && strings.Contains(text, "|=cmd()") && !strings.Contains(text, `\|=cmd()`) {
			t.Errorf("%s: a table can be broken", name)
		}
	}
}

func TestQuarterNeverSaysTheWord(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	all := s.quarter()
	for name, q := range map[string]Quarterly{"full": Quarter(q4, sampleScope(), all, yearOver), "empty": Quarter(q4, Scope{}, nil, yearOver)} {
		for _, format := range Formats {
			var b bytes.Buffer
			if err := q.Write(&b, format); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(strings.ToLower(b.String()), "complian") {
				t.Errorf("%s %s says the word", name, format)
			}
			for _, id := range []string{"A1.2", "A.8.13", "CP-4"} {
				if strings.Contains(b.String(), id) {
					t.Errorf("%s %s names %s, which nobody configured", name, format, id)
				}
			}
			if format == "json" && !json.Valid(b.Bytes()) {
				t.Errorf("%s is no JSON", name)
			}
		}
	}
	scope := sampleScope()
	scope.Controls = []string{"SOC 2 A1.2"}
	var b bytes.Buffer
	if err := Quarter(q4, scope, all, yearOver).WriteHTML(&b); err != nil || !strings.Contains(b.String(), "SOC 2 A1.2") {
		t.Error("a configured control is not named", err)
	}
}

func TestPeriod(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"2026Q4", "2026q4", "2026-Q4"} {
		if p, err := ParsePeriod(text); err != nil || p != q4 {
			t.Error(text, p, err)
		}
	}
	for _, text := range []string{"", "2026", "2026Q5", "26Q1", "2026Q4x"} {
		if _, err := ParsePeriod(text); err == nil {
			t.Error(text, "is taken for a quarter")
		}
	}
	if !q4.Holds(q4.From()) || q4.Holds(q4.To()) || PeriodOf(q4.To()) != (Period{2027, 1}) || PeriodOf(q4.To().Add(-1)) != q4 {
		t.Error(q4.From(), q4.To())
	}
}

func TestQuarterInABrowser(t *testing.T) {
	t.Parallel()
	b := browsertest.Open(t)
	var html bytes.Buffer
	if err := Quarter(q4, sampleScope(), newSampler(t).quarter(), yearOver).WriteHTML(&html); err != nil {
		t.Fatal(err)
	}
	url := b.File("quarter.html", html.Bytes())
	keep(t, "quarter.html", html.Bytes())
	for name, l := range map[string]browsertest.Look{"desktop": browsertest.Desktop, "phone": browsertest.Phone, "dark": {Width: 1100, Height: 800, Dark: true}} {
		b.Go(url, l)
		b.Quiet(url)
		b.Fits()
		shoot(t, b, "quarter-"+name+".png")
	}
	pdf := b.PDF()
	keep(t, "quarter.pdf", pdf)
	whole(t, browsertest.PagesOf(t, pdf), map[string]string{
		"Scope": "counts as neither", "Objectives missed, and why": "0.6 MiB/s", "Failures, to their closing": "A failure is closed by", "Not tested": "no service check",
		"Custody of the recovery key": "20261010T080000Z", "Exercises and restores in earnest": "wrong DELETE",
	})
}

// whole insists that a section's heading and its end are printed on one page.
func whole(t *testing.T, pages []string, sections map[string]string) {
	t.Helper()
	for heading, end := range sections {
		found := 0
		for i, p := range pages {
			if strings.Contains(p, heading) {
				found++
				if !strings.Contains(p, end) {
					t.Errorf("%q begins on page %d of %d and ends elsewhere", heading, i+1, len(pages))
				}
			}
		}
		if found != 1 {
			t.Errorf("%q is printed %d times", heading, found)
		}
	}
}
