// Package tabletop rehearses people. A scenario is a Markdown document with
// objectives, roles and timed injects that may branch; a [Session] runs it with
// a clock and a facilitator at a line of text, keeps what was decided, by whom
// and when, and ends in an after-action [Report] with findings that have an owner
// and a day. The situation and the facilitator's guide are made from the real
// [Inventory]: people decide about their own databases, not about examples.
package tabletop

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Scenario is one exercise, as it is written.
type Scenario struct {
	ID         string
	Title      string
	Time       string // it takes, in words
	Objectives []Named
	Roles      []Named
	Intro      string // the situation, for those who take part
	Injects    []Inject
	Scoring    string // how the facilitator scores
	File       string
}

// Named is an objective or a role: a short name, and what it means.
type Named struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Inject is something that happens.
type Inject struct {
	ID      string
	Title   string
	At      time.Duration // after the start
	Via     string        // how, and to whom
	Branch  bool          // only by a choice
	Next    string        // id of what follows; "": the next that is no branch; end: nothing
	Drill   bool          // the facilitator may hold a real drill here
	Text    string
	Discuss []string
	Expect  []Action
	Choices []Choice
	Line    int
}

// Action is what the team should do.
type Action struct {
	Text      string
	Runbook   string
	Objective string
}

// Choice leads somewhere.
type Choice struct {
	Text string
	To   string
}

// Problem is something that is wrong in a scenario.
type Problem struct {
	File string
	Line int
	What string
}

func (p Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What) }

var (
	idForm     = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	headForm   = regexp.MustCompile(`^## ([a-z0-9-]+): (.+)$`)
	bulletForm = regexp.MustCompile(`^- (at|via|next|branch|drill): *(.+)$`)
	nameForm   = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9 -]*): (.+)$`)
	linkForm   = regexp.MustCompile(` \(([^()]*)\)$`)
	choiceForm = regexp.MustCompile(`^(.+) -> ([a-z0-9-]+)$`)
)

// End is where a branch may lead: the exercise is over.
const End = "end"

// Parse reads a scenario. With problems it is as far as it could be read.
func Parse(file string, text []byte) (*Scenario, []Problem) {
	p := &parser{s: &Scenario{File: file}, lines: strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")}
	if len(text) > 1<<20 {
		p.bad(1, "a scenario of %d bytes is none", len(text))
		return p.s, p.problems
	}
	p.header()
	p.body()
	p.check()
	return p.s, p.problems
}

type parser struct {
	s        *Scenario
	lines    []string
	at       int
	problems []Problem
}

func (p *parser) bad(line int, format string, args ...any) {
	p.problems = append(p.problems, Problem{p.s.File, line, fmt.Sprintf(format, args...)})
}

func (p *parser) header() {
	if p.lines[0] != "---" {
		p.bad(1, "a scenario begins with a header between two lines of ---")
		return
	}
	list := ""
	for p.at = 1; p.at < len(p.lines); p.at++ {
		line, number := p.lines[p.at], p.at+1
		switch {
		case line == "---":
			p.at++
			return
		case strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "  - "):
			m := nameForm.FindStringSubmatch(strings.TrimSpace(line[4:]))
			switch {
			case m == nil:
				p.bad(number, "an item is written as - NAME: what it means")
			case list == "objectives":
				p.s.Objectives = append(p.s.Objectives, Named{m[1], m[2]})
			case list == "roles":
				p.s.Roles = append(p.s.Roles, Named{m[1], m[2]})
			default:
				p.bad(number, "this item is in no list")
			}
		default:
			key, value, ok := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			list = key
			switch {
			case !ok:
				p.bad(number, "%q is not key: value", line)
			case key == "id":
				if p.s.ID = value; !idForm.MatchString(value) {
					p.bad(number, "the id %q is not lower-case words joined by -", value)
				}
			case key == "title":
				p.s.Title = value
			case key == "time":
				p.s.Time = value
			case key != "objectives" && key != "roles":
				p.bad(number, "the header knows no %q; it has id, title, time, objectives and roles", key)
			}
		}
	}
	p.bad(1, "the header does not end: a line of --- is missing")
}

// body reads the situation, the injects, and the scoring.
func (p *parser) body() {
	var text []string
	var inject *Inject
	part, scoring := "", false
	end := func() {
		prose := strings.TrimSpace(strings.Join(text, "\n"))
		text = nil
		switch {
		case scoring:
			p.s.Scoring = prose
		case inject == nil:
			p.s.Intro = prose
		default:
			inject.Text = prose
			p.s.Injects = append(p.s.Injects, *inject)
		}
	}
	for ; p.at < len(p.lines); p.at++ {
		line, number := p.lines[p.at], p.at+1
		if strings.HasPrefix(line, "## ") {
			end()
			part, inject, scoring = "", nil, line == "## Scoring"
			if m := headForm.FindStringSubmatch(line); m != nil {
				inject = &Inject{ID: m[1], Title: m[2], Line: number}
			} else if !scoring {
				p.bad(number, "an inject is headed ## id: Title")
				inject = &Inject{Line: number}
			}
			continue
		}
		switch {
		case inject == nil:
			text = append(text, line)
		case strings.HasPrefix(line, "### "):
			if part = strings.TrimSpace(line[4:]); !slices.Contains([]string{"Discuss", "Expect", "Choose"}, part) {
				p.bad(number, "an inject has the parts Discuss, Expect and Choose, not %q", part)
			}
		case part == "":
			if m := bulletForm.FindStringSubmatch(line); m != nil && strings.TrimSpace(strings.Join(text, "")) == "" {
				p.attribute(inject, m[1], strings.TrimSpace(m[2]), number)
				continue
			}
			text = append(text, line)
		case strings.HasPrefix(line, "- "):
			p.item(inject, part, strings.TrimSpace(line[2:]), number)
		case strings.TrimSpace(line) != "":
			p.bad(number, "under %s every line begins with -", part)
		}
	}
	end()
}

func (p *parser) attribute(i *Inject, key, value string, line int) {
	switch key {
	case "at":
		d, err := time.ParseDuration(value)
		if i.At = d; err != nil || d < 0 {
			p.bad(line, "at is a time after the start as 10m, not %q", value)
		}
	case "via":
		i.Via = value
	case "next":
		i.Next = value
	case "branch", "drill":
		if value != "yes" {
			p.bad(line, "%s is yes, or is left out", key)
		}
		if key == "branch" {
			i.Branch = true
		} else {
			i.Drill = true
		}
	}
}

func (p *parser) item(i *Inject, part, value string, line int) {
	switch part {
	case "Discuss":
		i.Discuss = append(i.Discuss, value)
	case "Expect":
		a := Action{Text: value}
		if m := linkForm.FindStringSubmatch(value); m != nil {
			known := true
			for pair := range strings.SplitSeq(m[1], ",") {
				switch name, to, ok := strings.Cut(strings.TrimSpace(pair), " "); {
				case ok && name == "runbook":
					a.Runbook = to
				case ok && name == "objective":
					a.Objective = to
				default:
					known = false
				}
			}
			if known {
				a.Text = strings.TrimSuffix(value, m[0])
			} else {
				a.Runbook, a.Objective = "", ""
			}
		}
		i.Expect = append(i.Expect, a)
	case "Choose":
		m := choiceForm.FindStringSubmatch(value)
		if m == nil {
			p.bad(line, "a choice is written as - what they do -> id")
			return
		}
		i.Choices = append(i.Choices, Choice{m[1], m[2]})
	}
}

// check looks at how the parts hang together.
func (p *parser) check() {
	s := p.s
	for name, value := range map[string]string{"id": s.ID, "title": s.Title, "time": s.Time} {
		if value == "" {
			p.bad(1, "the header has no %s", name)
		}
	}
	if len(s.Objectives) == 0 || len(s.Roles) == 0 {
		p.bad(1, "a scenario has objectives and roles")
	}
	if len(s.Injects) == 0 {
		p.bad(1, "there is no inject")
		return
	}
	known := map[string]bool{End: true}
	for _, i := range s.Injects {
		if known[i.ID] {
			p.bad(i.Line, "the id %s is taken", i.ID)
		}
		known[i.ID] = true
	}
	reached := map[string]bool{}
	for _, i := range s.Injects {
		for _, c := range i.Choices {
			if reached[c.To] = true; !known[c.To] {
				p.bad(i.Line, "%s leads to %s, which is not there", i.ID, c.To)
			}
		}
		if reached[i.Next] = true; i.Next != "" && !known[i.Next] {
			p.bad(i.Line, "%s leads to %s, which is not there", i.ID, i.Next)
		}
		for _, a := range i.Expect {
			if a.Objective != "" && !slices.ContainsFunc(s.Objectives, func(o Named) bool { return o.Name == a.Objective }) {
				p.bad(i.Line, "there is no objective %s", a.Objective)
			}
		}
		if i.Text == "" {
			p.bad(i.Line, "the inject %s says nothing", i.ID)
		}
	}
	for _, i := range s.Injects {
		if i.Branch && !reached[i.ID] {
			p.bad(i.Line, "no choice leads to %s", i.ID)
		}
	}
	if s.Injects[0].Branch {
		p.bad(s.Injects[0].Line, "the first inject cannot be a branch")
	}
}

// inject is the one of an id.
func (s *Scenario) inject(id string) *Inject {
	for n := range s.Injects {
		if s.Injects[n].ID == id {
			return &s.Injects[n]
		}
	}
	return nil
}

// after is what follows an inject without a choice; nil is the end.
func (s *Scenario) after(i *Inject) *Inject {
	if i.Next != "" {
		return s.inject(i.Next)
	}
	at := slices.IndexFunc(s.Injects, func(x Inject) bool { return x.ID == i.ID })
	for n := at + 1; n < len(s.Injects); n++ {
		if !s.Injects[n].Branch {
			return &s.Injects[n]
		}
	}
	return nil
}
