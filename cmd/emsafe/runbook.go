package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill/runbook"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

func (p *program) runbookCommand() *cli.Command {
	setFlag := &cli.StringSliceFlag{Name: "set", Usage: "a variable as `NAME=VALUE`, that is then not asked for; may be repeated"}
	yesFlag := &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before steps that change nothing"}
	return group("runbook", "procedures for bad days: read them, run them step by step, keep a signed record",
		&cli.Command{
			Name: "list", Usage: "list the runbooks, and when to use each",
			Action: p.runbookList,
		},
		&cli.Command{
			Name: "show", Usage: "print a runbook, to read or to put on paper", ArgsUsage: "ID",
			Action: p.runbookShow,
		},
		&cli.Command{
			Name: "run", Usage: "walk through a runbook: each step is shown, asked for, run, and written down", ArgsUsage: "ID",
			Description: "In plain lines: it works on a serial console, and pastes into a ticket. Nothing runs without consent. It can be stopped with q and taken up again with `emsafe runbook resume`. " +
				"What a command prints is scrubbed of secrets, shown, and kept; the record is signed and put beside the reports of drills, here and in every target. Without a terminal the answers are read from standard input, and its end stops the run.",
			Flags:  []cli.Flag{setFlag, yesFlag, &cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would run, and run nothing"}},
			Action: p.runbookRun,
		},
		&cli.Command{
			Name: "resume", Usage: "go on with a run that was stopped or cut off", ArgsUsage: "[RUN]",
			Flags:  []cli.Flag{setFlag, yesFlag},
			Action: p.runbookResume,
		},
		&cli.Command{
			Name: "log", Usage: "list what was run, or show the record of one run", ArgsUsage: "[RUN]",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write the record to `FILE`: .md, .html, .json, or .signed for the signed original"}},
			Action: p.runbookLog,
		},
		&cli.Command{
			Name: "lint", Usage: "find what would fail: unknown variables, commands that are not there, steps without an expectation", ArgsUsage: "[ID or FILE…]",
			Description: "Without arguments all runbooks. Ends with exit code 23 if there is anything. The daemon does the same every week, and asks what must be true before.",
			Action:      p.runbookLint,
		},
		&cli.Command{
			Name: "new", Usage: "write the beginning of a runbook of your own into the configured folder", ArgsUsage: "ID",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "extends", Usage: "the `ID` of a runbook whose steps come first"}},
			Action: p.runbookNew,
		})
}

// listedBook is a runbook in `runbook list --json`.
type listedBook struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	When     string   `json:"when"`
	Severity string   `json:"severity"`
	Time     string   `json:"time"`
	Roles    []string `json:"roles"`
	Steps    int      `json:"steps"`
	Own      bool     `json:"own"`
}

func (p *program) runbookList(c *cli.Context) error {
	s, err := p.here(c)
	if err != nil {
		return err
	}
	list, err := s.books()
	if err != nil {
		return err
	}
	docs := []listedBook{}
	rows := [][]string{{"ID", "WHEN", "TIME", "STEPS", ""}}
	for _, b := range list {
		docs = append(docs, listedBook{b.ID, b.Title, b.When, b.Severity, b.Time, b.Roles, len(b.Steps), b.Own})
		own := ""
		if b.Own {
			own = "yours"
		}
		rows = append(rows, []string{b.ID, b.When, b.Time, fmt.Sprint(len(b.Steps)), own})
	}
	p.print.emit(map[string]any{"runbooks": docs})
	p.print.table(rows)
	return nil
}

// here is the site of a command that works on this host, with a configuration or
// without one.
func (p *program) here(c *cli.Context) (*site, error) {
	s, err := p.site(c)
	if err != nil && errors.Is(err, fault.Config) && !exists(p.configFile(c)) && c.String("config") == "" {
		return &site{p: p}, nil
	}
	return s, err
}

func (p *program) runbookShow(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("runbook show needs one ID; `emsafe runbook list` shows them")
	}
	s, err := p.here(c)
	if err != nil {
		return err
	}
	b, err := s.book(c.Args().First())
	if err != nil {
		return err
	}
	p.print.emit(map[string]any{"id": b.ID, "own": b.Own, "file": b.File, "digest": b.digest(), "text": string(b.text)})
	p.print.line("%s", strings.TrimRight(string(b.text), "\n"))
	return nil
}

func (p *program) runbookLint(c *cli.Context) error {
	s, err := p.here(c)
	if err != nil {
		return err
	}
	var list []book
	if c.NArg() == 0 {
		if list, err = s.books(); err != nil {
			return err
		}
	}
	for _, name := range c.Args().Slice() {
		if strings.HasSuffix(name, ".md") {
			text, err := os.ReadFile(name)
			if err != nil {
				return fault.New(fault.NotFound, "%w", err)
			}
			r, problems := runbook.Parse(name, text)
			list = append(list, book{r, text, problems})
			continue
		}
		b, err := s.book(name)
		if err != nil {
			return err
		}
		list = append(list, b)
	}
	found := []runbook.Problem{}
	for _, b := range list {
		found = append(found, p.lint(s, b, c.App)...)
	}
	for _, f := range found {
		p.print.line("%v", f)
	}
	p.print.emit(map[string]any{"runbooks": len(list), "problems": found})
	if len(found) > 0 {
		return fault.New(fault.Findings, "%s in %s", several(len(found), "problem", "problems"), several(len(list), "runbook", "runbooks")).WithRemedy("Mend the lines shown.")
	}
	p.print.done("%d runbooks: nothing is wrong", len(list))
	return nil
}

const newBook = `---
id: %s
title: What this brings about
when: The situation in which somebody reaches for it.
severity: medium
time: 10 minutes
roles: operator
%sbefore:
  - Something that must be true: ` + "`emsafe config check`" + `
ask:
  - colleague: Whom did you tell?
---
Two sentences on what happens here.

## A step that runs

Why it is done, and what to look at.

` + "```sh\nemsafe status\n```" + `
- expect: exit 0
- safe: yes

## A step that you do

Tell {{colleague}}.
`

func (p *program) runbookNew(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	folder, id := s.cfg.Runbooks.Folder, c.Args().First()
	if folder == "" {
		return fault.New(fault.Config, "the configuration names no folder for runbooks of your own").WithRemedy("Add: runbooks: {folder: /etc/emsafe/runbooks}")
	}
	extends := ""
	if base := c.String("extends"); base != "" {
		if _, err := s.book(base); err != nil {
			return err
		}
		extends = "extends: " + base + "\n"
	}
	text := fmt.Sprintf(newBook, id, extends)
	file := filepath.Join(folder, id+".md")
	if _, problems := runbook.Parse(file, []byte(text)); len(problems) > 0 {
		return usage("runbook new needs an ID: %s", problems[0].What)
	}
	if exists(file) {
		return fault.New(fault.TargetExists, "%s exists already", file).WithRemedy("Edit it, or choose another id.")
	}
	if err := durable.CreateFile(file, []byte(text), 0o600); err != nil {
		return permission(err)
	}
	p.print.done("%s", file)
	p.print.emit(map[string]string{"file": file})
	return nil
}

func (p *program) runbookLog(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	store := s.runs()
	if c.NArg() == 0 && c.String("out") == "" {
		records, problems := store.List()
		for _, err := range problems {
			p.print.warn("%v", err)
		}
		rows := [][]string{{"RUN", "RUNBOOK", "BY", "STARTED (UTC)", "STEPS", "OUTCOME"}}
		for _, r := range records {
			done, skipped, failed := r.Counts()
			rows = append(rows, []string{r.ID, r.Runbook, r.Operator, r.Started.Format(time.DateTime), fmt.Sprintf("%d done, %d left out, %d failed", done, skipped, failed), string(r.Outcome)})
		}
		p.print.emit(map[string]any{"runs": records})
		p.print.table(rows)
		return nil
	}
	r, err := store.Find(c.Args().First(), nil)
	if err != nil {
		return err
	}
	if file := c.String("out"); file != "" {
		return p.writeDocument(r, store.Path(r.ID, "record.signed"), file)
	}
	p.print.emit(r)
	p.print.line("%s", strings.TrimRight(r.Markdown(), "\n"))
	return nil
}
