package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill/tabletop"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
)

func (p *program) exerciseReport(c *cli.Context) error {
	s, err := p.site(c)
	if err == nil && s.cfg == nil {
		err = noConfiguration()
	}
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
	file := c.String("out")
	if file == "" {
		p.print.emit(r)
		p.print.line("%s", strings.TrimRight(r.Markdown(), "\n"))
		return nil
	}
	var out bytes.Buffer
	switch filepath.Ext(file) {
	case ".md":
		out.WriteString(r.Markdown())
	case ".html":
		err = r.WriteHTML(&out)
	case ".json":
		e := json.NewEncoder(&out)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	case ".signed":
		var object []byte
		if object, err = os.ReadFile(store.Path(r.ID, "exercise.signed")); errors.Is(err, os.ErrNotExist) {
			err = fault.New(fault.NotFound, "the exercise %s is not over, and not signed yet", r.ID)
		}
		out.Write(object)
	default:
		err = usage("--out is a file that ends in .md, .html, .json or .signed, not %q", file)
	}
	if err == nil {
		err = permission(durable.WriteFile(file, out.Bytes(), 0o600))
	}
	if err == nil {
		p.print.done("%s", file)
	}
	return err
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
	s, err := p.site(c)
	if err == nil && s.cfg == nil {
		err = noConfiguration()
	}
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
	s, err := p.site(c)
	if err == nil && s.cfg == nil {
		err = noConfiguration()
	}
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
