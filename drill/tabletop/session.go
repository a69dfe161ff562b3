package tabletop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"emsafe/internal/fault"
)

// Session is one exercise, with a facilitator at a line of text.
type Session struct {
	Scenario *Scenario
	Report   *Report
	Store    Store
	Values   map[string]string // what {{names}} in the scenario stand for
	In       io.Reader
	Out      io.Writer
	Echo     bool // who reads Out does not see In: answers are repeated
	Now      func() time.Time
	// After is a clock's channel for a wait; nil is time.After.
	After func(time.Duration) <-chan time.Time
	// Drill holds a real drill and tells in a line what came of it; nil: none can
	// be held here.
	Drill func(ctx context.Context) (string, error)

	lines chan string
	mu    sync.Mutex // over Report and what follows: the page looks at it
	began time.Time  // of the clock's present run
	held  bool       // the clock stands
}

// errStopped is the facilitator's wish, or the end of the input.
var errStopped = errors.New("stopped")

// Run plays what is left of the exercise. It is kept after everything that
// happens; the error is fault.Interrupted if it is to be resumed.
func (s *Session) Run(ctx context.Context) error {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.After == nil {
		s.After = time.After
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.lines = make(chan string)
	go s.read(ctx)
	s.mu.Lock()
	s.began = s.Now()
	s.mu.Unlock()
	err := s.play(ctx)
	if err == nil {
		err = s.judge(ctx)
	}
	s.change(func(r *Report) { r.Elapsed = s.clock(); s.began = s.Now() })
	if errors.Is(err, errStopped) || err != nil && ctx.Err() != nil {
		err = fault.New(fault.Interrupted, "the exercise is not over").WithSafe("What was played and decided is kept.").WithRemedy("emsafe exercise resume %s", s.Report.ID)
	}
	return errors.Join(err, s.save())
}

// read hands on lines until there are no more.
func (s *Session) read(ctx context.Context) {
	defer close(s.lines)
	in := bufio.NewScanner(s.In)
	for in.Scan() {
		select {
		case s.lines <- strings.TrimSpace(in.Text()):
		case <-ctx.Done():
			return
		}
	}
}

// change changes the report, under the lock that the page takes.
func (s *Session) change(do func(*Report)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s.Report)
}

func (s *Session) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Save(s.Report)
}

// clock is the exercise's own time; the caller holds the lock or is alone.
func (s *Session) clock() time.Duration {
	if s.held {
		return s.Report.Elapsed
	}
	return s.Report.Elapsed + s.Now().Sub(s.began)
}

// Clock is the exercise's own time.
func (s *Session) Clock() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock()
}

// hold stops the clock, or lets it go on.
func (s *Session) hold(held bool) {
	s.change(func(r *Report) {
		r.Elapsed = s.clock()
		s.began, s.held = s.Now(), held
	})
}

func (s *Session) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

func (s *Session) fill(text string) string {
	for name, value := range s.Values {
		text = strings.ReplaceAll(text, "{{"+name+"}}", value)
	}
	return text
}

// line waits for one line. The end of the input is a stop.
func (s *Session) line(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(s.Out, prompt)
	select {
	case text, ok := <-s.lines:
		if !ok {
			s.say("")
			return "", errStopped
		}
		if s.Echo {
			s.say("%s", text)
		}
		return text, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// play brings the injects that are left.
func (s *Session) play(ctx context.Context) error {
	inject := s.next()
	if s.Report.Stage != Playing {
		return nil
	}
	if len(s.Report.Injects) == 0 {
		if err := s.welcome(ctx); err != nil {
			return err
		}
	}
	for inject != nil {
		if err := s.bring(ctx, inject); err != nil {
			return err
		}
		inject = s.next()
	}
	s.change(func(r *Report) { r.Stage = Judging })
	return s.save()
}

// next is the inject that is to be brought: one that was begun, or what follows
// the last.
func (s *Session) next() *Inject {
	n := len(s.Report.Injects)
	if n == 0 {
		return &s.Scenario.Injects[0]
	}
	last := s.Report.Injects[n-1]
	at := s.Scenario.inject(last.ID)
	switch {
	case at == nil:
		return nil
	case !last.Done:
		return at
	case last.Choice != "":
		for _, c := range at.Choices {
			if c.Text == last.Choice {
				return s.Scenario.inject(c.To)
			}
		}
	}
	return s.Scenario.after(at)
}

func (s *Session) welcome(ctx context.Context) error {
	s.say("%s: %s (%s)\n\n%s", s.Scenario.ID, s.Scenario.Title, s.Scenario.Time, s.fill(s.Scenario.Intro))
	s.say("\nWho plays what? A name for each role; Enter leaves it empty.")
	players := map[string]string{}
	for _, role := range s.Scenario.Roles {
		name, err := s.line(ctx, fmt.Sprintf("  %s (%s): ", role.Name, s.fill(role.Text)))
		if err != nil {
			return err
		}
		if name != "" {
			players[role.Name] = name
		}
	}
	s.change(func(r *Report) { r.Players = players })
	s.say("\nWrite NAME: DECISION as it falls; n TEXT for a note; p stops and starts the clock; q ends for now. Enter goes on.")
	return s.save()
}

// bring waits for an inject's time, shows it, collects what is decided, and
// scores.
func (s *Session) bring(ctx context.Context, i *Inject) error {
	again := len(s.Report.Injects) > 0 && s.Report.Injects[len(s.Report.Injects)-1].ID == i.ID && !s.Report.Injects[len(s.Report.Injects)-1].Done
	if !again {
		if err := s.await(ctx, i); err != nil {
			return err
		}
		s.change(func(r *Report) {
			r.Injects = append(r.Injects, Shown{ID: i.ID, Title: s.fill(i.Title), Planned: i.At, Clock: s.clock(), At: s.Now().UTC().Truncate(time.Second)})
		})
		if err := s.save(); err != nil {
			return err
		}
	}
	s.show(i)
	if err := s.discuss(ctx, i); err != nil {
		return err
	}
	if i.Drill && s.Drill != nil {
		if err := s.drill(ctx); err != nil {
			return err
		}
	}
	scores, err := s.score(ctx, i)
	if err != nil {
		return err
	}
	choice, err := s.choose(ctx, i)
	if err != nil {
		return err
	}
	s.change(func(r *Report) {
		r.Scores = append(r.Scores, scores...)
		last := &r.Injects[len(r.Injects)-1]
		last.Choice, last.Done = choice, true
	})
	return s.save()
}

// await lets time pass until an inject is due. Enter brings it now.
func (s *Session) await(ctx context.Context, i *Inject) error {
	for !s.Report.Fast {
		left := i.At - s.Clock()
		if left <= 0 {
			return nil
		}
		s.say("\nThe next inject comes in %s. Enter brings it now.", left.Round(time.Second))
		var due <-chan time.Time
		if !s.standing() {
			due = s.After(left)
		}
		select {
		case <-due:
			continue
		default:
		}
		select {
		case <-due:
		case text, ok := <-s.lines:
			if !ok {
				return errStopped
			}
			if text == "" {
				return nil
			}
			if err := s.heard(text, ""); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *Session) standing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

func (s *Session) show(i *Inject) {
	s.say("\n== %s  %s ==", offset(s.Clock()), s.fill(i.Title))
	if i.Via != "" {
		s.say("by %s", s.fill(i.Via))
	}
	s.say("\n%s", s.fill(i.Text))
	if len(i.Discuss) > 0 {
		s.say("\nTo discuss:")
	}
	for _, q := range i.Discuss {
		s.say("  - %s", s.fill(q))
	}
}

func offset(d time.Duration) string {
	d = d.Round(time.Second)
	return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// discuss takes decisions down until the facilitator goes on.
func (s *Session) discuss(ctx context.Context, i *Inject) error {
	for {
		text, err := s.line(ctx, "decision> ")
		if err != nil || text == "" {
			return err
		}
		if err := s.heard(text, i.ID); err != nil {
			return err
		}
	}
}

// heard takes down one line.
func (s *Session) heard(text, inject string) error {
	note, isNote := strings.CutPrefix(text, "n ")
	who, what, ok := strings.Cut(text, ":")
	d := Decision{At: s.Now().UTC().Truncate(time.Second), Clock: s.Clock(), By: s.Report.Facilitator, Inject: inject, Text: strings.TrimSpace(note), Note: true}
	switch {
	case text == "q":
		return errStopped
	case text == "p":
		s.hold(!s.standing())
		if s.standing() {
			s.say("  the clock stands at %s; p lets it go on", offset(s.Clock()))
		} else {
			s.say("  the clock goes on")
		}
		return s.save()
	case isNote:
	case ok && strings.TrimSpace(what) != "" && strings.TrimSpace(who) != "":
		d.By, d.Text, d.Note = strings.TrimSpace(who), strings.TrimSpace(what), false
	default:
		s.say("  write NAME: DECISION, n TEXT for a note, p, q, or Enter to go on")
		return nil
	}
	s.change(func(r *Report) { r.Decisions = append(r.Decisions, d) })
	return s.save()
}
