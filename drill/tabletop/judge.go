package tabletop

import (
	"context"
	"fmt"
	"time"
)

// judge goes through the objectives and collects findings.
func (s *Session) judge(ctx context.Context) error {
	if s.Report.Stage != Judging {
		return nil
	}
	if s.Scenario.Scoring != "" {
		s.say("\nHow to score:\n%s", s.fill(s.Scenario.Scoring))
	}
	s.say("\nWere the objectives met?")
	for n := len(s.Report.Objectives); n < len(s.Scenario.Objectives); n++ {
		o := s.Scenario.Objectives[n]
		o.Text = s.fill(o.Text)
		done, all := s.Report.tally(o.Name)
		j := Judged{Named: o}
		var err error
		if j.Met, err = s.grade(ctx, fmt.Sprintf("%s: %s (%d of %d actions done)", o.Name, o.Text, done, all)); err != nil {
			return err
		}
		if j.Met != "yes" {
			if j.Why, err = s.line(ctx, "  Why? "); err != nil {
				return err
			}
		}
		s.change(func(r *Report) { r.Objectives = append(r.Objectives, j) })
		if err := s.save(); err != nil {
			return err
		}
	}
	s.say("\nFindings: what is to be mended, by whom, until when. An empty line ends.")
	for {
		more, err := s.finding(ctx)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	s.change(func(r *Report) { r.Stage, r.Ended = Finished, s.Now().UTC().Truncate(time.Second) })
	return s.save()
}

// tally counts the actions of an objective: done, and all that were scored.
func (r *Report) tally(objective string) (done, all int) {
	for _, x := range r.Scores {
		if x.Objective == objective {
			if all++; x.Done == "yes" {
				done++
			}
		}
	}
	return done, all
}

// finding takes one down. Without an owner and a day it is a wish.
func (s *Session) finding(ctx context.Context) (more bool, err error) {
	what, err := s.line(ctx, "finding> ")
	if err != nil || what == "" {
		return false, err
	}
	f := Finding{What: what}
	for f.Owner == "" {
		if f.Owner, err = s.line(ctx, "  owner: "); err != nil {
			return false, err
		}
	}
	for f.Due.IsZero() {
		day, err := s.line(ctx, "  until, as 2027-01-31: ")
		if err != nil {
			return false, err
		}
		due, perr := time.Parse(time.DateOnly, day)
		switch {
		case perr != nil:
			s.say("  that is no day")
		case due.Before(s.Now().AddDate(0, 0, -1)):
			s.say("  that is past")
		default:
			f.Due = due
		}
	}
	s.change(func(r *Report) {
		f.ID = fmt.Sprintf("%s-%d", r.ID, len(r.Findings)+1)
		r.Findings = append(r.Findings, f)
	})
	return true, s.save()
}
