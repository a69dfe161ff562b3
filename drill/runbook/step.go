package runbook

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// step shows one step and does what the operator wants of it.
func (s *Session) step(ctx context.Context, i int) error {
	step := s.Book.Steps[i]
	missing := Missing(step.Needs)
	if len(missing) == 0 {
		if err := s.ask(step.Title, step.Text, step.Command, step.Check, step.Undo, step.Confirm); err != nil {
			return err
		}
	}
	step.Title = Fill(step.Title, s.Values, false)
	s.say("\nStep %d of %d: %s", i+1, len(s.Book.Steps), step.Title)
	if step.Text != "" {
		s.say("%s", Fill(step.Text, s.Values, false))
	}
	command := Fill(step.Command, s.Values, true)
	if command != "" {
		s.say("%s", indent(strings.TrimRight(command, "\n"), "    $ "))
	}
	if s.DryRun {
		s.wouldDo(step, missing)
		return nil
	}
	done := s.begin(i, step, command)
	switch {
	case len(missing) > 0:
		return s.settle(done, Skipped, "this machine has no "+strings.Join(missing, ", "))
	case command == "":
		return s.byHand(done)
	}
	return s.byCommand(ctx, step, command, done)
}

func (s *Session) wouldDo(step Step, missing []string) {
	var say []string
	for _, e := range step.Expect {
		say = append(say, "expects "+e.String())
	}
	if step.Check != "" {
		say = append(say, "then checks "+Fill(step.Check, s.Values, true))
	}
	if step.Confirm != "" {
		say = append(say, "asks for yes: "+Fill(step.Confirm, s.Values, false))
	}
	if step.Undo != "" {
		say = append(say, "can be undone: "+Fill(step.Undo, s.Values, true))
	}
	if len(missing) > 0 {
		say = append(say, "would be left out: this machine has no "+strings.Join(missing, ", "))
	}
	if step.Command == "" {
		say = append(say, "is done by the operator")
	}
	for _, line := range say {
		s.say("    %s", line)
	}
}

// begin is the place of a step in the record.
func (s *Session) begin(i int, step Step, command string) *Done {
	for len(s.Record.Steps) <= i {
		s.Record.Steps = append(s.Record.Steps, Done{})
	}
	d := &s.Record.Steps[i]
	*d = Done{Title: step.Title, Command: Scrub(strings.TrimSpace(command), s.Secrets...), Started: s.now(), Operator: s.Operator, State: Shown, Attempts: d.Attempts}
	return d
}

func (s *Session) now() time.Time { return s.Now().UTC().Truncate(time.Second) }

func (s *Session) settle(d *Done, state State, reason string) error {
	d.State, d.Reason, d.Ended = state, Scrub(reason, s.Secrets...), s.now()
	if state == Skipped {
		s.say("  left out: %s", d.Reason)
	}
	return s.Store.Save(s.Record)
}

// byHand is a step that the operator does.
func (s *Session) byHand(d *Done) error {
	for {
		a, err := s.prompt("  [d]one, [s]kip, n TEXT for a note, [q]uit")
		if err != nil {
			return err
		}
		switch a {
		case "d", "done":
			return s.settle(d, OK, "")
		case "s", "skip":
			return s.skip(d)
		}
	}
}

func (s *Session) skip(d *Done) error {
	for {
		why, err := s.line("  Why is it left out? ")
		if err != nil {
			return err
		}
		if why != "" {
			return s.settle(d, Skipped, why)
		}
	}
}

// byCommand is a step with a command.
func (s *Session) byCommand(ctx context.Context, step Step, command string, d *Done) error {
	consent := s.Yes && step.Safe
	for {
		if !consent {
			if step.Confirm != "" {
				s.say("  MIND: %s", Fill(step.Confirm, s.Values, false))
			}
			a, err := s.prompt("  [r]un, [s]kip, n TEXT for a note, [q]uit")
			if err != nil {
				return err
			}
			switch a {
			case "s", "skip":
				return s.skip(d)
			case "r", "run":
				if step.Confirm == "" {
					break
				}
				if word, err := s.line("  Write yes to run it: "); err != nil || word != "yes" {
					if err != nil {
						return err
					}
					s.say("  not run")
					continue
				}
			default:
				continue
			}
		}
		wrong, err := s.execute(ctx, step, command, d)
		if err != nil || wrong == "" {
			return err
		}
		again, err := s.failed(ctx, step, d, wrong)
		if err != nil || !again {
			return err
		}
		consent = false
	}
}

// execute runs a step's command and its check. What is wrong is not an error of
// the session.
func (s *Session) execute(ctx context.Context, step Step, command string, d *Done) (wrong string, err error) {
	d.State, d.Reason, d.Started = Begun, "", s.now()
	d.Attempts++
	if err := s.Store.Save(s.Record); err != nil {
		return "", err // nothing runs that could not be written down
	}
	show := func(line string) { s.say("    | %s", line) }
	got := s.shell(ctx, command, step.Timeout, show)
	d.Output, d.Code = got.output, &got.code
	switch wrong = step.met(got, s.Values); {
	case got.err != nil:
		wrong = got.err.Error()
	case wrong == "" && step.Check != "":
		check := s.shell(ctx, Fill(step.Check, s.Values, true), step.Timeout, show)
		if d.Output += check.output; check.code != 0 || check.err != nil {
			wrong = fmt.Sprintf("the check ended with code %d", check.code)
		}
	}
	d.Output = tail(d.Output, Limit)
	if wrong != "" {
		return wrong, s.settle(d, Failed, wrong)
	}
	s.say("  ok, exit code %d, in %s", got.code, got.took.Round(10*time.Millisecond))
	return "", s.settle(d, OK, "")
}

func tail(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[len(text)-n:]
}

// failed asks what is to become of a step that is not as expected.
func (s *Session) failed(ctx context.Context, step Step, d *Done, wrong string) (again bool, err error) {
	s.say("  NOT AS EXPECTED: %s", wrong)
	text := "  [a]gain, [g]o on with a reason, n TEXT for a note, [q]uit"
	if step.Undo != "" && !d.Undone {
		text = "  [a]gain, [u]ndo, [g]o on with a reason, n TEXT for a note, [q]uit"
	}
	for {
		a, err := s.prompt(text)
		if err != nil {
			return false, err
		}
		switch {
		case a == "a" || a == "again":
			return true, nil
		case a == "g" || a == "go":
			why, err := s.line("  Why is that right? ")
			if err != nil {
				return false, err
			}
			return false, s.settle(d, Failed, strings.TrimSuffix(wrong+"; gone on: "+why, "; gone on: "))
		case (a == "u" || a == "undo") && step.Undo != "":
			undo := Fill(step.Undo, s.Values, true)
			s.say("    $ %s", undo)
			got := s.shell(ctx, undo, step.Timeout, func(line string) { s.say("    | %s", line) })
			d.Output = tail(d.Output+got.output, Limit)
			if d.Undone = got.code == 0 && got.err == nil; d.Undone {
				s.say("  undone")
			} else {
				s.say("  COULD NOT BE UNDONE: exit code %d", got.code)
			}
			if err := s.Store.Save(s.Record); err != nil {
				return false, err
			}
		}
	}
}
