package tabletop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/docs"
	"emsafe/internal/fault"
)

const small = `---
id: small
title: A small one
time: 10 minutes
objectives:
  - Act: They act
roles:
  - lead: leads
  - operator: does
---
It is {{host}}.

## one: The first
- at: 0m
- via: mail

Something happens to {{database}}.

### Discuss
- What now?

### Expect
- They look (objective Act, runbook prove-backup-now)
- They talk (to each other)

### Choose
- Left -> left
- Right -> right

## left: Left
- at: 5m
- branch: yes
- next: last

Left.

## right: Right
- at: 5m
- branch: yes
- drill: yes

Right.

## last: The last
- at: 10m

Over.

## Scoring
As you like.
`

func parse(t *testing.T, text string) *Scenario {
	t.Helper()
	s, problems := Parse("small.md", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

func TestParse(t *testing.T) {
	t.Parallel()
	s := parse(t, small)
	one := s.Injects[0]
	if len(s.Injects) != 4 || s.Scoring != "As you like." || s.Intro != "It is {{host}}." || len(s.Roles) != 2 || one.Via != "mail" || len(one.Choices) != 2 ||
		one.Expect[0] != (Action{"They look", "prove-backup-now", "Act"}) || one.Expect[1] != (Action{Text: "They talk (to each other)"}) || !s.Injects[2].Drill || s.Injects[1].At != 5*time.Minute {
		t.Errorf("%+v", s)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{small, "", "1: a scenario begins with a header"},
		{"---\nIt is", "It is", "the header does not end"},
		{"id: small", "id: Small", `2: the id "Small"`},
		{"title: A small one\n", "", "the header has no title"},
		{"time: 10", "colour: red\ntime: 10", `4: the header knows no "colour"`},
		{"  - Act: They act\n", "", "has objectives and roles"},
		{"  - Act: They act", "  - They act", "6: an item is written as"},
		{"## one: The first", "## The first", "13: an inject is headed"},
		{"- at: 0m", "- at: soon", "14: at is a time"},
		{"- branch: yes", "- branch: no", "branch is yes, or is left out"},
		{"-> left", "-> nowhere", "one leads to nowhere"},
		{"next: last", "next: lost", "left leads to lost"},
		{"objective Act,", "objective Fly,", "there is no objective Fly"},
		{"### Discuss", "### Talk", `the parts Discuss, Expect and Choose, not "Talk"`},
		{"- Left -> left\n", "", "no choice leads to left"},
		{"- Left -> left", "- Left", "a choice is written as"},
		{"## last: The last", "## one: Again", "the id one is taken"},
		{"Over.\n", "", "the inject last says nothing"},
		{"- What now?", "What now?", "every line begins with -"},
	} {
		_, problems := Parse("f", []byte(strings.Replace(small, c.old, c.new, 1)))
		if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Error(), c.want) }) {
			t.Errorf("%q: %v, want %s", c.new, problems, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, problems := Parse("f", text)
		if len(problems) > 0 {
			return
		}
		// Whatever is chosen, an exercise comes to its end or stays in a circle that
		// the facilitator can leave: following it never panics.
		at := &s.Injects[0]
		for range 100 {
			if at == nil {
				return
			}
			if len(at.Choices) > 0 {
				at = s.inject(at.Choices[0].To)
			} else {
				at = s.after(at)
			}
		}
	})
}

// TestBuiltIn: every scenario that comes with emsafe is in order, and points to
// runbooks that there are.
func TestBuiltIn(t *testing.T) {
	t.Parallel()
	files, err := docs.Scenarios.ReadDir("tabletop")
	if err != nil || len(files) != 8 {
		t.Fatal(len(files), err)
	}
	for _, f := range files {
		text, _ := docs.Scenarios.ReadFile("tabletop/" + f.Name())
		s, problems := Parse(f.Name(), text)
		if len(problems) > 0 || s.ID+".md" != f.Name() || s.Scoring == "" {
			t.Errorf("%s: %s %v", f.Name(), s.ID, problems)
		}
		for _, i := range s.Injects {
			for _, a := range i.Expect {
				if _, err := docs.Runbooks.ReadFile("runbooks/" + a.Runbook + ".md"); a.Runbook != "" && err != nil {
					t.Errorf("%s: %s: there is no runbook %s", s.ID, i.ID, a.Runbook)
				}
			}
			if strings.Contains(i.Text, "(runbook") || strings.Contains(i.Text, "- at:") {
				t.Errorf("%s: %s is misread: %s", s.ID, i.ID, i.Text)
			}
		}
		for _, o := range s.Objectives {
			if !slices.ContainsFunc(s.Injects, func(i Inject) bool {
				return slices.ContainsFunc(i.Expect, func(a Action) bool { return a.Objective == o.Name })
			}) {
				t.Errorf("%s: nothing is expected for the objective %s", s.ID, o.Name)
			}
		}
	}
}

// table is a session whose answers are written down.
func table(t *testing.T, answers string) (*Session, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	r := &Report{Format: Format, ID: "x1", Scenario: "small", Title: "A small one", Facilitator: "fay", Started: now, Stage: Playing, Fast: true}
	return &Session{
		Scenario: parse(t, small), Report: r, Store: Store{t.TempDir()}, Values: map[string]string{"host": "web1", "database": "app"}, In: strings.NewReader(answers), Out: &out,
		Now:   func() time.Time { return now },
		Drill: func(context.Context) (string, error) { return "PASS in 3 s", nil },
	}, &out
}

const whole = "Ann\nBob\nAnn: we look\nn it took long\n\ny\np\n2\nBob: right then\n\ny\n\ny\nnobody knew\nWrite it down\n\nAnn\nnever\n2020-01-01\n2027-01-31\n\n"

func TestPlay(t *testing.T) {
	t.Parallel()
	s, out := table(t, strings.Replace(whole, "y\nnobody knew\n", "n\nnobody knew\n", 1))
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err, out)
	}
	r := s.Report
	if r.Stage != Finished || r.Players["operator"] != "Bob" || len(r.Injects) != 3 || r.Injects[1].ID != "right" || r.Injects[1].Drill != "PASS in 3 s" || len(r.Decisions) != 3 || !r.Decisions[1].Note ||
		r.Scores[0].Done != "yes" || r.Scores[1].Done != "partly" || r.Objectives[0].Met != "no" || r.Objectives[0].Why != "nobody knew" || len(r.Findings) != 1 || r.Findings[0].Owner != "Ann" {
		t.Fatalf("%+v\n%s", r, out)
	}
	text := r.Markdown()
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nobody knew", "Write it down", "we look", "PASS in 3 s", "2027-01-31"} {
		if !strings.Contains(text, want) || !strings.Contains(page.String(), want) {
			t.Errorf("%q is in none of the reports:\n%s", want, text)
		}
	}
	if strings.Contains(out.String(), "{{") {
		t.Error("a name was not filled in:", out)
	}
	// A finding is open until it is closed, which the report itself does not see.
	if _, err := s.Store.Close(r.Findings[0].ID, "bob", "written", s.Now()); err != nil {
		t.Fatal(err)
	}
	again, err := s.Store.Find("", nil)
	if err != nil || again.Findings[0].Open() || again.Findings[0].How != "written" {
		t.Error(again, err)
	}
	if _, err := s.Store.Close(r.Findings[0].ID, "bob", "again", s.Now()); !errors.Is(err, fault.Usage) {
		t.Error(err)
	}
	if _, err := s.Store.Close("x9", "bob", "", s.Now()); !errors.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// TestResume cuts an exercise off after every line, and goes on with the rest: the
// outcome is the same.
func TestResume(t *testing.T) {
	t.Parallel()
	lines := strings.SplitAfter(whole, "\n")
	for cut := range lines {
		s, out := table(t, strings.Join(lines[:cut], ""))
		err := s.Run(t.Context())
		if err == nil {
			continue // the rest was empty
		}
		if !errors.Is(err, fault.Interrupted) {
			t.Fatal(cut, err, out)
		}
		kept, err := s.Store.Find("x", nil)
		if err != nil {
			t.Fatal(cut, err)
		}
		// What was answered in a part that is not done yet is asked again: the
		// answers from there on are given again.
		for from := cut; from >= 0; from-- {
			next, out := table(t, strings.Join(lines[from:], ""))
			copied := *kept
			next.Report = &copied
			if err := next.Run(t.Context()); err == nil && len(copied.Injects) == 3 && len(copied.Findings) >= 1 && copied.Stage == Finished {
				break
			} else if from == 0 {
				t.Errorf("cut after %d lines: %v %+v\n%s", cut, err, copied, out)
			}
		}
	}
}

// TestClock: injects come in their time, the clock can stand, and Enter brings
// the next one now.
func TestClock(t *testing.T) {
	t.Parallel()
	s, out := table(t, "")
	s.Report.Fast = false
	now := s.Now()
	s.Now = func() time.Time { return now }
	waits := []time.Duration{}
	s.After = func(d time.Duration) <-chan time.Time {
		waits = append(waits, d)
		now = now.Add(d)
		c := make(chan time.Time, 1)
		c <- now
		return c
	}
	reader := make(chan string)
	s.In = lineReader(reader)
	go func() {
		defer close(reader)
		for _, line := range []string{"", "", "", "y", "y", "1", "", "", "y", "", ""} {
			reader <- line + "\n"
		}
	}()
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err, out)
	}
	if fmt.Sprint(waits) != "[5m0s 5m0s]" || s.Report.Injects[1].Clock != 5*time.Minute || s.Report.Injects[2].Clock != 10*time.Minute {
		t.Errorf("%v %+v", waits, s.Report.Injects)
	}

	held, _ := table(t, "")
	held.began = now
	held.Now = func() time.Time { return now }
	held.hold(true)
	now = now.Add(time.Hour)
	if held.Clock() != 0 {
		t.Error("the clock that stands goes")
	}
	held.hold(false)
	now = now.Add(time.Minute)
	if held.Clock() != time.Minute {
		t.Error(held.Clock())
	}
}

// lineReader is an input that has what is sent, and then waits.
type lineReader chan string

func (c lineReader) Read(p []byte) (int, error) {
	text, ok := <-c
	if !ok {
		return 0, errors.New("over")
	}
	return copy(p, text), nil
}

// TestRoom: the page shows the inject and what was decided, and nothing of what
// is expected.
func TestRoom(t *testing.T) {
	t.Parallel()
	s, _ := table(t, "\n\nAnn: we <b>look</b>\n")
	var page bytes.Buffer
	if err := s.WriteRoom(&page); err != nil || !strings.Contains(page.String(), "not begun") {
		t.Error(err)
	}
	s.Run(t.Context()) //nolint:errcheck // it is cut off
	page.Reset()
	if err := s.WriteRoom(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	if !strings.Contains(text, "Something happens to app") || !strings.Contains(text, "&lt;b&gt;look") || strings.Contains(text, "They look") || strings.Contains(text, "<script") {
		t.Error(text)
	}
}

func TestManuals(t *testing.T) {
	t.Parallel()
	inv := Inventory{Host: "web1", At: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), Databases: []Database{{Name: "app", Path: "/srv/app.db", RPO: "1h", Backups: []string{"one: #4, 3m old"}, Drill: "passed yesterday"}}, Keys: []string{"age1x, never proven"}}
	s := parse(t, small)
	values := map[string]string{"host": "web1", "database": "app"}
	manual, guide := s.Manual(inv, values), s.Guide(inv, values)
	for _, want := range []string{"It is web1.", "passed yesterday", "at most 1h lost", "never proven", "**operator**"} {
		if !strings.Contains(manual, want) {
			t.Errorf("%q is not in the manual:\n%s", want, manual)
		}
	}
	if strings.Contains(manual, "The first") || !strings.Contains(guide, "Something happens to app") || !strings.Contains(guide, "runbook prove-backup-now") {
		t.Errorf("%s\n%s", manual, guide)
	}
}
