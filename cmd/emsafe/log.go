package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/internal/journal"
)

func (p *program) logCommand() *cli.Command {
	return &cli.Command{
		Name: "log", Usage: "show who did what here: restores, prunes, key actions, changes of the configuration", ArgsUsage: "[NAME…]",
		Description: "From the journal in the state folder, which is only appended to. Each line holds the digest of the one before: what was changed or taken out shows, and ends with exit code 13.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only from `TIME` on: 2026-11-23T10:00:00Z, 2h, 3d"},
			&cli.IntFlag{Name: "last", Usage: "only the newest `N`; 0 for all", Value: 100},
		},
		Action: func(c *cli.Context) error {
			s, err := p.ownSite(c)
			if err != nil {
				return err
			}
			var since time.Time
			if text := c.String("since"); text != "" {
				if since, err = parseTime(text, p.now()); err != nil {
					return err
				}
			}
			entries, problems, err := journal.Read(s.cfg.State)
			if errors.Is(err, fs.ErrPermission) {
				return fault.New(fault.Permission, "no access to the state folder: %w", err)
			}
			if err != nil {
				return err
			}
			entries = slices.DeleteFunc(entries, func(e journal.Entry) bool {
				return e.At.Before(since) || c.NArg() > 0 && !slices.Contains(c.Args().Slice(), e.Database)
			})
			if n := c.Int("last"); n > 0 && len(entries) > n {
				entries = entries[len(entries)-n:]
			}
			p.showLog(entries)
			for i, problem := range problems {
				problems[i] = fault.New(fault.Damaged, "the journal in %s: %w", s.cfg.State, problem).
					WithSafe("Backups do not depend on it.").WithRemedy("Find out who changed the file; the signed records in the targets tell what happened to the backups.")
			}
			return worst(problems)
		},
	}
}

func (p *program) showLog(entries []journal.Entry) {
	rows := [][]string{{"AT (UTC)", "ACTION", "WHAT", "WHO", "RESULT"}}
	for _, e := range entries {
		who, what := e.Who, []string{}
		if e.From != "" {
			who += " from " + e.From
		}
		for _, part := range []string{e.Database, e.Target, e.What} {
			if part != "" {
				what = append(what, part)
			}
		}
		rows = append(rows, []string{e.At.Format(time.DateTime), e.Action, strings.Join(what, " "), who, strings.ReplaceAll(e.Result, "\n", " ")})
	}
	if entries == nil {
		entries = []journal.Entry{}
	}
	p.print.emit(map[string]any{"entries": entries})
	if len(entries) == 0 {
		p.print.line("nothing yet")
		return
	}
	p.print.table(rows)
}

// record writes into the journal what was done and how it ended. Where there is
// no state folder there is none: a restore on another machine leaves nothing.
func (s *site) record(e journal.Entry, err error) {
	if s.cfg == nil || !exists(s.cfg.State) {
		return
	}
	e.At = s.p.now()
	if err != nil {
		e.Result = err.Error()
	}
	if err := journal.Append(s.cfg.State, e); err != nil {
		s.p.print.warn("%s was not written down: %v", e.Action, err)
	}
}

// recordConfiguration writes down that another configuration is in force.
func (s *site) recordConfiguration(digest string) {
	entries, _, err := journal.Read(s.cfg.State)
	what := fmt.Sprintf("%s sha256:%s", s.cfg.File, digest)
	for _, e := range slices.Backward(entries) {
		if e.Action == "configuration" {
			if e.What == what {
				return
			}
			break
		}
	}
	if err == nil {
		s.record(journal.Entry{Action: "configuration", What: what}, nil)
	}
}
