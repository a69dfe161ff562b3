package runbook

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Problem is something that is wrong in a runbook.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"`
	What string `json:"what"`
}

func (p Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What) }

var (
	idForm   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	bullet   = regexp.MustCompile(`^- ([a-z]+): *(.*)$`)
)

var severities = []string{"low", "medium", "high", "critical"}

const limit = 1 << 20 // bytes of a runbook

// Parse reads a runbook. With problems it is as far as it could be read.
func Parse(file string, text []byte) (*Runbook, []Problem) {
	p := &parser{book: &Runbook{File: file}}
	if len(text) > limit {
		p.bad(1, "a runbook of %d bytes is none", len(text))
		return p.book, p.problems
	}
	p.lines = strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	p.header()
	p.body()
	if len(p.book.Steps) == 0 && p.book.Extends == "" {
		p.bad(1, "there is no step: each is a section that begins with ##")
	}
	return p.book, p.problems
}

type parser struct {
	book     *Runbook
	lines    []string
	at       int // of the next line
	problems []Problem
}

func (p *parser) bad(line int, format string, args ...any) {
	p.problems = append(p.problems, Problem{p.book.File, line, fmt.Sprintf(format, args...)})
}

// header reads what stands between two lines of ---.
func (p *parser) header() {
	if p.lines[0] != "---" {
		p.bad(1, "a runbook begins with a header between two lines of ---")
		return
	}
	seen := map[string]bool{}
	list := ""
	for p.at = 1; p.at < len(p.lines); p.at++ {
		line := p.lines[p.at]
		number := p.at + 1
		switch {
		case line == "---":
			p.at++
			for _, key := range []string{"id", "title", "when", "severity", "time"} {
				if !seen[key] {
					p.bad(1, "the header has no %s", key)
				}
			}
			return
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(strings.TrimLeft(line, " "), "- ") && list != "":
			p.item(list, strings.TrimSpace(strings.TrimLeft(line, " ")[2:]), number)
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				p.bad(number, "%q is not key: value", line)
				continue
			}
			if value = strings.TrimSpace(value); seen[key] {
				p.bad(number, "%s stands there twice", key)
			}
			seen[key], list = true, ""
			if value == "" {
				list = key
			}
			p.key(key, value, number)
		}
	}
	p.bad(1, "the header does not end: a line of --- is missing")
}

func (p *parser) key(key, value string, line int) {
	b := p.book
	switch key {
	case "id":
		if b.ID = value; !idForm.MatchString(value) {
			p.bad(line, "the id %q is not lower-case words joined by -", value)
		}
	case "title":
		b.Title = value
	case "when":
		b.When = value
	case "severity":
		if b.Severity = value; !slices.Contains(severities, value) {
			p.bad(line, "the severity is one of %s, not %q", strings.Join(severities, ", "), value)
		}
	case "time":
		b.Time = value
	case "extends":
		b.Extends = value
	case "roles":
		for role := range strings.SplitSeq(value, ",") {
			if role = strings.TrimSpace(role); role != "" {
				b.Roles = append(b.Roles, role)
			}
		}
	case "before", "ask":
		if value != "" {
			p.bad(line, "%s is a list: write each item on a line of its own that begins with -", key)
		}
	default:
		p.bad(line, "the header knows no %q; it has id, title, when, severity, time, roles, extends, before and ask", key)
	}
}

// item is a line of a list in the header.
func (p *parser) item(list, value string, line int) {
	switch list {
	case "roles":
		p.book.Roles = append(p.book.Roles, value)
	case "before":
		text, command := value, ""
		if head, code, ok := strings.Cut(value, ": `"); ok && strings.HasSuffix(code, "`") {
			text, command = head, strings.TrimSuffix(code, "`")
		}
		p.book.Before = append(p.book.Before, Precheck{text, command, line})
	case "ask":
		name, text, ok := strings.Cut(value, ":")
		if !ok || !nameForm.MatchString(name) {
			p.bad(line, "a question is written as - name: what to ask [default]")
			return
		}
		q := Question{Name: name, Text: strings.TrimSpace(text), Line: line}
		if at := strings.LastIndex(q.Text, " ["); at >= 0 && strings.HasSuffix(q.Text, "]") {
			q.Text, q.Default = q.Text[:at], q.Text[at+2:len(q.Text)-1]
		}
		p.book.Ask = append(p.book.Ask, q)
	default:
		p.bad(line, "%s is no list", list)
	}
}

// body reads the introduction and the steps.
func (p *parser) body() {
	var text []string
	var step *Step
	end := func() {
		prose := strings.TrimSpace(strings.Join(text, "\n"))
		if text = nil; step == nil {
			p.book.Intro = prose
			return
		}
		step.Text = prose
		p.book.Steps = append(p.book.Steps, *step)
	}
	for ; p.at < len(p.lines); p.at++ {
		line := p.lines[p.at]
		switch {
		case strings.HasPrefix(line, "## "):
			end()
			step = &Step{Title: strings.TrimSpace(line[3:]), Line: p.at + 1}
		case strings.HasPrefix(line, "```"):
			block, info, began := p.block()
			switch {
			case info != "sh":
				text = append(text, "```"+info+"\n"+block+"```")
			case step == nil:
				p.bad(began, "a block of commands belongs into a step")
			case step.Command != "":
				p.bad(began, "a step has one block of commands: make two of it")
			default:
				step.Command = block
				p.attributes(step)
			}
		default:
			text = append(text, line)
		}
	}
	end()
}

// block reads a fenced block, and leaves p at its last line.
func (p *parser) block() (text, info string, began int) {
	began, info = p.at+1, strings.TrimSpace(strings.TrimLeft(p.lines[p.at], "`"))
	for p.at++; p.at < len(p.lines); p.at++ {
		if strings.HasPrefix(p.lines[p.at], "```") {
			return text, info, began
		}
		text += p.lines[p.at] + "\n"
	}
	p.bad(began, "the block does not end")
	return text, info, began
}

// attributes reads the list right below a block: what is expected, and the like.
func (p *parser) attributes(s *Step) {
	next := p.at + 1
	for next < len(p.lines) && strings.TrimSpace(p.lines[next]) == "" {
		next++
	}
	for ; next < len(p.lines); next++ {
		m := bullet.FindStringSubmatch(p.lines[next])
		if m == nil {
			return
		}
		p.at = next
		p.attribute(s, m[1], strings.TrimSpace(m[2]), next+1)
	}
}

func (p *parser) attribute(s *Step, key, value string, line int) {
	code := func() string {
		if len(value) < 2 || value[0] != '`' || value[len(value)-1] != '`' {
			p.bad(line, "%s is a command, written as - %s: `command`", key, key)
			return ""
		}
		return value[1 : len(value)-1]
	}
	switch key {
	case "expect":
		e, ok := expectation(value)
		if !ok {
			p.bad(line, "expect is `exit N`, `exit any`, `output TEXT` or `not TEXT`, not %q", value)
		}
		s.Expect = append(s.Expect, e)
	case "check":
		s.Check = code()
	case "undo":
		s.Undo = code()
	case "confirm":
		s.Confirm = value
	case "safe":
		if s.Safe = value == "yes"; value != "yes" && value != "no" {
			p.bad(line, "safe is yes or no, not %q", value)
		}
	case "needs", "may":
		into := &s.Needs
		if key == "may" {
			into = &s.May
		}
		for need := range strings.SplitSeq(value, ",") {
			*into = append(*into, strings.TrimSpace(need))
		}
	case "timeout":
		d, err := time.ParseDuration(value)
		if s.Timeout = d; err != nil || d <= 0 {
			p.bad(line, "timeout is a time as 5m, not %q", value)
		}
	default:
		p.bad(line, "a step knows no %q; it has expect, check, undo, confirm, needs, may, safe and timeout", key)
	}
}

var exitForm = regexp.MustCompile(`^exit (any|[0-9]{1,3}(,[0-9]{1,3})*)$`)

func expectation(value string) (Expectation, bool) {
	kind, text, _ := strings.Cut(value, " ")
	text = strings.TrimSpace(text)
	switch kind {
	case "exit":
		return Expectation{kind, text}, exitForm.MatchString(value)
	case "output", "not":
		return Expectation{kind, strings.Trim(text, `"`)}, text != ""
	}
	return Expectation{}, false
}
