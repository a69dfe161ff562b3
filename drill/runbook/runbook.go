// Package runbook is procedures that run. A runbook is a Markdown document that
// reads well as it is: a header, and a section for each step, which may carry one
// block of commands with what is expected of it. [Parse] reads one, [Lint] finds
// what would fail on the worst day, [Run] walks the steps with an operator, runs
// what they agree to, and keeps a [Record] that survives a kill and is taken up
// again where it ended.
//
// Nothing runs without consent. What a command prints is scrubbed of secrets
// before it is shown or kept.
package runbook

import (
	"slices"
	"strings"
	"time"
)

// Runbook is one procedure.
type Runbook struct {
	ID       string
	Title    string
	When     string // to use it
	Severity string // low, medium, high or critical
	Time     string // it takes, in words
	Roles    []string
	Before   []Precheck // what must be true
	Ask      []Question
	Extends  string // id of the runbook whose steps come first
	Intro    string // Markdown
	Steps    []Step

	File string // where it was read from, for messages
	Own  bool   // the operator's, not built in
}

// Precheck is something that must be true before the first step.
type Precheck struct {
	Text    string
	Command string // that shows it, and changes nothing; "": the operator looks
	Line    int
}

// Question is a variable that the configuration does not give.
type Question struct {
	Name    string
	Text    string
	Default string
	Line    int
}

// Step is one section.
type Step struct {
	Title   string
	Text    string // Markdown, what the operator reads
	Command string // shell; "": the operator does it
	Expect  []Expectation
	Check   string   // shell that must succeed afterwards
	Undo    string   // shell that takes it back
	Confirm string   // what is at stake: then a whole word is asked for
	Needs   []string // programs, or root, systemd: without them the step is left out
	May     []string // programs that it uses where they are
	Safe    bool     // changes nothing: --yes is consent enough
	Timeout time.Duration
	Line    int
}

// Expectation is what must hold of a command.
type Expectation struct {
	Kind string // exit, output or not
	Text string // the code (any is one), or what the output must hold
}

func (e Expectation) String() string {
	switch e.Kind {
	case "exit":
		return "exit " + e.Text
	case "not":
		return "output without " + e.Text
	}
	return "output with " + e.Text
}

// Commands are all commands of a runbook, with the line that each is in.
func (r *Runbook) Commands() (list []Located) {
	for _, p := range r.Before {
		if p.Command != "" {
			list = append(list, Located{p.Command, p.Line, nil})
		}
	}
	for _, s := range r.Steps {
		for _, c := range []string{s.Command, s.Check, s.Undo} {
			if c != "" {
				list = append(list, Located{c, s.Line, append(slices.Clone(s.Needs), s.May...)})
			}
		}
	}
	return list
}

// Located is a command and where it stands.
type Located struct {
	Command string
	Line    int
	Needs   []string // programs that need not be there
}

// Variables are the names in {{braces}} in a text, each once.
func Variables(text string) (names []string) {
	seen := map[string]bool{}
	for {
		_, rest, ok := strings.Cut(text, "{{")
		if !ok {
			return names
		}
		name, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return names
		}
		if name = strings.TrimSpace(name); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
		text = after
	}
}

// Fill puts values into a text. For a shell they are quoted.
func Fill(text string, values map[string]string, shell bool) string {
	var pairs []string
	for _, name := range Variables(text) {
		value, ok := values[name]
		if !ok {
			continue
		}
		if shell {
			value = Quote(value)
		}
		pairs = append(pairs, "{{"+name+"}}", value, "{{ "+name+" }}", value)
	}
	return strings.NewReplacer(pairs...).Replace(text) // in one pass: a value may look like a variable
}

// Quoted are the variables of a script that stand inside quotes, where quotes of
// their own would end those.
func Quoted(script string) (names []string) {
	var in []byte // what is open: a quote, or the parenthesis of a substitution
	for i := 0; i < len(script); i++ {
		open := byte(0)
		if len(in) > 0 {
			open = in[len(in)-1]
		}
		quoted := open == '"' || open == '\''
		switch c := script[i]; {
		case quoted && strings.HasPrefix(script[i:], "{{"):
			if found := Variables(script[i:]); len(found) > 0 && !slices.Contains(names, found[0]) {
				names = append(names, found[0])
			}
		case open == '\'':
			if c == '\'' {
				in = in[:len(in)-1]
			}
		case c == '\\':
			i++
		case c == '$' && strings.HasPrefix(script[i:], "$("):
			in = append(in, '(')
			i++
		case open == '"':
			if c == '"' {
				in = in[:len(in)-1]
			}
		case c == '"' || c == '\'':
			in = append(in, c)
		case c == '(':
			in = append(in, c)
		case c == ')' && open == '(':
			in = in[:len(in)-1]
		case c == '#' && (i == 0 || strings.IndexByte(" \t\n;", script[i-1]) >= 0):
			end := strings.IndexByte(script[i:], '\n')
			if end < 0 {
				return names
			}
			i += end
		}
	}
	return names
}

// Quote makes one word of a shell of a value.
func Quote(value string) string {
	plain := value != "" && !strings.ContainsFunc(value, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,", r)
	})
	if plain {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
