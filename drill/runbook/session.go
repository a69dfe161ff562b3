package runbook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
)

// Session is one run of a runbook, with an operator at a line of text: a
// terminal, a serial console, or answers that were written down before.
type Session struct {
	Book     *Runbook
	Record   *Record
	Store    Store
	Operator string
	Values   map[string]string // of variables, as far as they are known
	Choices  map[string][]string
	First    map[string]string       // a variable, and the one that it follows from
	Derive   func(map[string]string) // fills in what follows from what is known; may be nil
	Env      []string                // NAME=value for commands, besides this process's
	Work     string                  // folder that commands run in
	Secrets  []string                // that must not be shown
	Yes      bool                    // consent to what is safe
	DryRun   bool
	In       io.Reader
	Out      io.Writer
	Now      func() time.Time

	in *bufio.Reader
}

// errStopped is the operator's wish.
var errStopped = errors.New("stopped")

// Run walks the steps that are not done yet. It returns the record also with an
// error: what was done is kept after every step. The error is
// fault.Interrupted if the operator stopped.
func (s *Session) Run(ctx context.Context) error {
	s.in = bufio.NewReader(s.In)
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Values == nil {
		s.Values = map[string]string{}
	}
	if s.Derive != nil {
		s.Derive(s.Values)
	}
	s.head()
	err := s.walk(ctx)
	r := s.Record
	done, skipped, failed := r.Counts()
	switch {
	case s.DryRun:
		return err
	case errors.Is(err, errStopped), err != nil && ctx.Err() != nil:
		r.Outcome = Stopped
		err = fault.New(fault.Interrupted, "stopped after %d of %d steps", done+skipped, len(s.Book.Steps)).
			WithSafe("What was done stays done, and is in the record.").WithRemedy("emsafe runbook resume %s", r.ID)
	case err == nil && skipped+failed > 0:
		r.Outcome = Partly
	case err == nil:
		r.Outcome = Completed
	}
	r.Ended = s.Now().UTC().Truncate(time.Second)
	return errors.Join(err, s.Store.Save(r))
}

func (s *Session) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

func (s *Session) head() {
	b := s.Book
	s.say("%s: %s", b.ID, b.Title)
	s.say("  when      %s", b.When)
	s.say("  severity  %s; takes %s; roles: %s", b.Severity, b.Time, strings.Join(b.Roles, ", "))
	if !s.DryRun {
		s.say("  run       %s by %s; everything is written down; q stops, and `emsafe runbook resume` goes on", s.Record.ID, s.Operator)
	}
	if b.Intro != "" {
		s.say("\n%s", b.Intro)
	}
}

func (s *Session) walk(ctx context.Context) error {
	if err := s.before(ctx); err != nil {
		return err
	}
	for i := range s.Book.Steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i < len(s.Record.Steps) {
			switch s.Record.Steps[i].State {
			case OK, Skipped:
				continue
			case Begun:
				s.say("\nStep %d, %s, was cut off: look first whether it took effect.", i+1, s.Book.Steps[i].Title)
			}
		}
		if err := s.step(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// before goes through what must be true.
func (s *Session) before(ctx context.Context) error {
	if len(s.Book.Before) == 0 || len(s.Record.Before) > 0 {
		return nil
	}
	s.say("\nBefore the first step:")
	var checked []Checked
	for _, p := range s.Book.Before {
		if err := s.ask(p.Command); err != nil {
			return err
		}
		command := Fill(p.Command, s.Values, true)
		c := Checked{Text: p.Text, OK: true}
		switch {
		case s.DryRun:
			s.say("  - %s%s", p.Text, inBraces(command))
			continue
		case command == "":
			s.say("  - %s", p.Text)
			a, err := s.prompt("    [y] it is so, [n] it is not, [q]uit")
			if err != nil {
				return err
			}
			c.OK = a == "y" || a == "yes"
		default:
			got := s.shell(ctx, command, 2*time.Minute, func(string) {})
			c.OK, c.Output = got.code == 0 && got.err == nil, strings.TrimSpace(got.output)
			verdict := "ok"
			if !c.OK {
				verdict = fmt.Sprintf("NO (exit %d)\n%s", got.code, indent(c.Output, "      "))
			}
			s.say("  - %s: %s", p.Text, verdict)
		}
		checked = append(checked, c)
	}
	if s.DryRun {
		return nil
	}
	if slices.ContainsFunc(checked, func(c Checked) bool { return !c.OK }) {
		a, err := s.prompt("  Not everything is as it should be. [g]o on all the same, [q]uit")
		if err != nil {
			return err
		}
		if a != "g" {
			return errStopped
		}
	}
	s.Record.Before = checked
	return s.Store.Save(s.Record)
}

func inBraces(command string) string {
	if command == "" {
		return ""
	}
	return " (" + strings.TrimSpace(command) + ")"
}

// ask settles the variables of texts that have no value yet.
func (s *Session) ask(texts ...string) error {
	for _, name := range Variables(strings.Join(texts, "\n")) {
		if first := s.First[name]; first != "" && s.Values[name] == "" {
			if err := s.ask("{{" + first + "}}"); err != nil {
				return err
			}
		}
		if value, known := s.Values[name]; known {
			if !s.DryRun && !s.fits(name, value) {
				return fault.New(fault.Usage, "%s is %q, and this runbook puts it between quotes", name, value).
					WithSafe("Nothing was run with it.").WithRemedy("Only letters, digits and -_./:=@%%+, can stand there. Mend the runbook: {{%s}} outside of quotes is quoted by itself.", name)
			}
			s.Record.Variables[name] = Scrub(s.Values[name], s.Secrets...)
			continue
		}
		q := Question{Name: name, Text: name}
		for _, own := range s.Book.Ask {
			if own.Name == name {
				q = own
			}
		}
		if s.DryRun {
			s.Values[name] = "{{" + name + "}}"
			continue
		}
		value, err := s.answer(q)
		if err != nil {
			return err
		}
		s.Values[name] = value
		s.Record.Variables[name] = Scrub(value, s.Secrets...)
		if s.Derive != nil {
			s.Derive(s.Values)
		}
	}
	return nil
}

// fits reports whether a value can stand wherever the runbook's commands have it:
// what a shell would take for more than a word must not stand inside quotes.
func (s *Session) fits(name, value string) bool {
	return Quote(value) == value || !slices.ContainsFunc(s.Book.Commands(), func(c Located) bool { return slices.Contains(Quoted(c.Command), name) })
}

func (s *Session) answer(q Question) (string, error) {
	text := "  " + q.Text
	choices := s.Choices[q.Name]
	if len(choices) > 0 {
		text += " (" + strings.Join(choices, ", ") + ")"
	}
	if q.Default != "" {
		text += " [" + q.Default + "]"
	}
	for {
		value, err := s.line(text + ": ")
		if err != nil {
			return "", err
		}
		if value == "" {
			value = q.Default
		}
		switch {
		case value == "":
			s.say("  An answer is needed.")
		case len(choices) > 0 && !slices.Contains(choices, value):
			s.say("  It is one of %s.", strings.Join(choices, ", "))
		case !s.fits(q.Name, value):
			s.say("  Only letters, digits and -_./:=@%%+, can stand where it is used.")
		default:
			return value, nil
		}
	}
}

// line reads one line. The end of input is a stop: nobody is there to consent.
func (s *Session) line(prompt string) (string, error) {
	fmt.Fprint(s.Out, prompt)
	text, err := s.in.ReadString('\n')
	if err != nil && text == "" {
		s.say("")
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return "", errStopped
		}
		return "", err
	}
	if f, ok := s.In.(*os.File); !ok || !isTerminal(f) {
		s.say("%s", strings.TrimRight(text, "\n")) // so that what was answered can be read
	}
	return strings.TrimSpace(text), nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && filepath.Base(f.Name()) != "null"
}

// prompt reads an answer; q stops, and n TEXT is a note, after which is asked
// again.
func (s *Session) prompt(text string) (string, error) {
	for {
		a, err := s.line(text + ": ")
		if err != nil {
			return "", err
		}
		note, isNote := strings.CutPrefix(a, "n ")
		switch {
		case isNote:
			s.note(strings.TrimSpace(note))
		case a == "q" || a == "quit":
			return "", errStopped
		case a != "":
			return strings.ToLower(a), nil
		}
	}
}

func (s *Session) note(text string) {
	s.Record.Notes = append(s.Record.Notes, Note{At: s.Now().UTC().Truncate(time.Second), By: s.Operator, Step: len(s.Record.Steps), Text: Scrub(text, s.Secrets...)})
	s.say("  noted")
	if err := s.Store.Save(s.Record); err != nil {
		s.say("  the record cannot be written: %v", err)
	}
}

func indent(text, by string) string {
	if text == "" {
		return ""
	}
	return by + strings.ReplaceAll(text, "\n", "\n"+by)
}
