package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill/tabletop"
	"emsafe/internal/journal"
)

func (p *program) exerciseReport(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	store := s.exercises()
	if c.Bool("list") {
		list, problems := store.List()
		for _, err := range problems {
			p.print.warn("%v", err)
		}
		rows := [][]string{{"ID", "STARTED (UTC)", "SCENARIO", "OUTCOME"}}
		for _, r := range list {
			rows = append(rows, []string{r.ID, r.Started.Format(time.DateTime), r.Scenario, r.Outcome()})
		}
		p.print.emit(map[string]any{"exercises": list})
		p.print.table(rows)
		return nil
	}
	r, err := store.Find(c.Args().First(), nil)
	if err != nil {
		return err
	}
	if file := c.String("out"); file != "" {
		return p.writeDocument(r, store.Path(r.ID, "exercise.signed"), file)
	}
	p.print.emit(r)
	p.print.line("%s", strings.TrimRight(r.Markdown(), "\n"))
	return nil
}

// openFinding is a finding of an exercise that is to be mended.
type openFinding struct {
	tabletop.Finding
	Exercise string `json:"exercise"`
	Overdue  bool   `json:"overdue"`
}

// findings are those of all exercises of this host, the most urgent first.
func (s *site) findings(all bool, now time.Time) (list []openFinding) {
	reports, _ := s.exercises().List()
	for _, r := range reports {
		for _, f := range r.Findings {
			if all || f.Open() {
				list = append(list, openFinding{f, r.Scenario, f.Overdue(now)})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b openFinding) int { return a.Due.Compare(b.Due) })
	return list
}

func (f openFinding) line() string {
	state := "until " + f.Due.Format(time.DateOnly)
	switch {
	case !f.Open():
		state = "closed " + f.Closed.Format(time.DateOnly) + " by " + f.By + ": " + f.How
	case f.Overdue:
		state = "OVERDUE since " + f.Due.Format(time.DateOnly)
	}
	return fmt.Sprintf("finding %s (%s): %s; %s, %s", f.ID, f.Exercise, f.What, f.Owner, state)
}

func (p *program) exerciseFindings(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	list := s.findings(c.Bool("all"), p.now())
	for _, f := range list {
		p.print.line("%s", f.line())
	}
	if len(list) == 0 {
		p.print.done("no finding is open")
	}
	p.print.emit(map[string]any{"findings": list})
	return nil
}

func (p *program) exerciseClose(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	if c.NArg() != 1 {
		return usage("exercise close needs one FINDING; `emsafe exercise findings` shows them")
	}
	if c.String("how") == "" {
		return usage("exercise close needs --how: what was done")
	}
	who, _ := journal.Who(p.env)
	f, err := s.exercises().Close(c.Args().First(), who, c.String("how"), p.now().UTC().Truncate(time.Second))
	if err != nil {
		return err
	}
	s.record(journal.Entry{Action: "exercise", What: "closed: " + f.What + ": " + f.How, Run: f.ID}, nil)
	p.print.emit(f)
	p.print.done("closed: %s", f.What)
	return nil
}
