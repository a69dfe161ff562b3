package tabletop

import (
	"context"
	"fmt"
	"strings"
)

// drill holds a real one, if the facilitator wants.
func (s *Session) drill(ctx context.Context) error {
	a, err := s.line(ctx, "Hold a real drill now, in the sandbox? [y/N] ")
	if err != nil || a != "y" && a != "yes" {
		return err
	}
	said, err := s.Drill(ctx)
	if err != nil {
		said = strings.TrimPrefix(said+"; "+err.Error(), "; ")
	}
	s.say("  %s", said)
	s.change(func(r *Report) { r.Injects[len(r.Injects)-1].Drill = said })
	return s.save()
}

// grade asks for yes, partly or no.
func (s *Session) grade(ctx context.Context, question string) (string, error) {
	for {
		a, err := s.line(ctx, question+" [y]es, [p]artly, [n]o: ")
		if err != nil {
			return "", err
		}
		for _, word := range []string{"yes", "partly", "no"} {
			if a != "" && strings.HasPrefix(word, strings.ToLower(a)) {
				return word, nil
			}
		}
	}
}

func (s *Session) score(ctx context.Context, i *Inject) (scores []Score, err error) {
	for _, a := range i.Expect {
		text := s.fill(a.Text)
		if a.Runbook != "" {
			text += " (runbook " + a.Runbook + ")"
		}
		done, err := s.grade(ctx, "Did they: "+text)
		if err != nil {
			return nil, err
		}
		scores = append(scores, Score{i.ID, s.fill(a.Text), a.Runbook, a.Objective, done})
	}
	return scores, nil
}

func (s *Session) choose(ctx context.Context, i *Inject) (string, error) {
	if len(i.Choices) == 0 {
		return "", nil
	}
	s.say("What did they decide?")
	for n, c := range i.Choices {
		s.say("  %d  %s", n+1, s.fill(c.Text))
	}
	for {
		a, err := s.line(ctx, "number: ")
		if err != nil {
			return "", err
		}
		for n, c := range i.Choices {
			if a == fmt.Sprint(n+1) {
				return c.Text, nil
			}
		}
	}
}
