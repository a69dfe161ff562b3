package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/drill/runbook"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage/catalog"
	"emsafe/storage/point"
)

func (p *program) incidentCommand() *cli.Command {
	return group("incident", "keep the timeline of an incident: runbooks, restores and notes attach to it",
		&cli.Command{
			Name: "start", Usage: "declare an incident", ArgsUsage: "TITLE",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "severity", Value: "high", Usage: "`HOW` bad: low, medium, high or critical"}},
			Action: p.incidentStart,
		},
		&cli.Command{Name: "note", Usage: "write something down, with the time and who", ArgsUsage: "TEXT", Action: p.incidentNote},
		&cli.Command{
			Name: "stop", Usage: "close the incident, and write the beginning of the report about it",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the report, a Markdown `FILE`; default: in the state folder"}},
			Action: p.incidentStop,
		},
		&cli.Command{Name: "list", Usage: "list the incidents of this host", Action: p.incidentList},
		&cli.Command{Name: "show", Usage: "show the timeline of an incident, also while it goes on", ArgsUsage: "[ID]", Action: p.incidentShow})
}

// incidentSite is a site with a state folder, which all of these need.
func (p *program) incidentSite(c *cli.Context) (*site, string, error) {
	s, err := p.ownSite(c)
	who, _ := journal.Who(p.env)
	return s, who, err
}

func (p *program) incidentStart(c *cli.Context) error {
	s, who, err := p.incidentSite(c)
	if err != nil {
		return err
	}
	title := strings.Join(c.Args().Slice(), " ")
	severity := c.String("severity")
	switch {
	case strings.TrimSpace(title) == "":
		return usage("incident start needs a TITLE: a few words on what is wrong")
	case !slices.Contains([]string{"low", "medium", "high", "critical"}, severity):
		return usage("--severity is low, medium, high or critical, not %q", severity)
	}
	if open, err := s.incidents().Open(); err != nil || open != nil {
		if open == nil {
			return err
		}
		return fault.New(fault.InUse, "the incident %s (%s) is not closed", open.ID, open.Title).WithSafe("Nothing was changed.").
			WithRemedy("Add to it with `emsafe incident note`, or close it with `emsafe incident stop`.")
	}
	i := &runbook.Incident{Format: 1, ID: point.NewID(p.now()), Title: runbook.Scrub(title), Severity: severity, Host: s.cfg.Host, Started: p.now().UTC().Truncate(time.Second), By: who, Notes: []runbook.Note{}}
	if err := s.incidents().Save(i); err != nil {
		return permission(err)
	}
	s.record(journal.Entry{Action: "incident", What: "declared: " + i.Title, Run: i.ID}, nil)
	p.print.emit(i)
	p.print.done("incident %s: %s", i.ID, i.Title)
	p.print.note("what runs from now on attaches to it: `emsafe runbook list` says what to do when; `emsafe incident note TEXT`; `emsafe incident stop`")
	return nil
}

func (p *program) incidentNote(c *cli.Context) error {
	s, who, err := p.incidentSite(c)
	if err != nil {
		return err
	}
	text := strings.Join(c.Args().Slice(), " ")
	if strings.TrimSpace(text) == "" {
		return usage("incident note needs a TEXT")
	}
	i, err := s.openIncident()
	if err != nil {
		return err
	}
	i.Notes = append(i.Notes, runbook.Note{At: p.now().UTC().Truncate(time.Second), By: who, Text: runbook.Scrub(text)})
	if err := s.incidents().Save(i); err != nil {
		return permission(err)
	}
	p.print.emit(i)
	p.print.done("noted")
	return nil
}

func (s *site) openIncident() (*runbook.Incident, error) {
	i, err := s.incidents().Open()
	if err == nil && i == nil {
		err = fault.New(fault.NotFound, "no incident is open").WithRemedy("emsafe incident start TITLE")
	}
	return i, err
}

func (p *program) incidentStop(c *cli.Context) error {
	s, who, err := p.incidentSite(c)
	if err != nil {
		return err
	}
	i, err := s.openIncident()
	if err != nil {
		return err
	}
	i.Ended, i.EndedBy = p.now().UTC().Truncate(time.Second), who
	file := c.String("out")
	if file == "" {
		file = filepath.Join(s.incidents().Folder, i.ID+".md")
	}
	text := i.Skeleton(s.timeline(i), s.standing())
	if exists(file) {
		return fault.New(fault.TargetExists, "%s exists already", file).WithRemedy("Choose another --out.")
	}
	if err := durable.WriteFile(file, []byte(text), 0o600); err != nil {
		return permission(err)
	}
	if err := s.incidents().Save(i); err != nil {
		return permission(err)
	}
	s.record(journal.Entry{Action: "incident", What: "closed: " + i.Title, Run: i.ID}, nil)
	if err := s.keepIncident(context.WithoutCancel(c.Context), i); err != nil {
		p.print.warn("%v", err)
	}
	p.print.emit(map[string]any{"incident": i, "report": file})
	p.print.done("incident %s closed after %s", i.ID, i.Ended.Sub(i.Started))
	p.print.done("the report is begun: %s", file)
	return nil
}

// keepIncident signs the timeline and puts it into the targets.
func (s *site) keepIncident(ctx context.Context, i *runbook.Incident) error {
	key, err := readSigningKey(s.cfg.SigningKey)
	if err != nil {
		return err
	}
	doc := struct {
		*runbook.Incident
		Timeline []runbook.Moment `json:"timeline"`
	}{i, s.timeline(i)}
	base := filepath.Join(s.incidents().Folder, i.ID)
	return s.keepSigned(ctx, key, doc, base+".signed", base+".kept", "reports/incidents/"+place(i.Host)+"/"+i.ID)
}

// timeline is what happened on this host during an incident.
func (s *site) timeline(i *runbook.Incident) []runbook.Moment {
	records, _ := s.runs().List()
	entries, _, err := journal.Read(s.cfg.State)
	if err != nil {
		s.p.print.warn("the journal: %v", err)
	}
	var others []runbook.Moment
	for _, e := range entries {
		if e.Action == "runbook" || e.Action == "incident" {
			continue // they tell of themselves
		}
		what := strings.Join(slices.DeleteFunc([]string{e.Action, e.Database, e.Target, e.What}, func(w string) bool { return w == "" }), " ")
		if e.Result != "ok" {
			what += ": " + e.Result
		}
		others = append(others, runbook.Moment{At: e.At, Who: e.Who, What: runbook.Scrub(what)})
	}
	return i.Timeline(records, others)
}

// standing says how old what every target holds is.
func (s *site) standing() (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
		memory, err := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, name))
		if err != nil {
			continue
		}
		for _, t := range s.targetsOf(name) {
			if n := memory.Newest[t.Name]; n.ID != "" {
				lines = append(lines, fmt.Sprintf("%s in %s: %s (number %d), as of %s UTC", name, t.Name, n.ID, n.Sequence, memory.AsOf(t.Name).UTC().Format(time.DateTime)))
			} else {
				lines = append(lines, fmt.Sprintf("%s in %s: nothing", name, t.Name))
			}
		}
	}
	return lines
}

func (p *program) incidentList(c *cli.Context) error {
	s, _, err := p.incidentSite(c)
	if err != nil {
		return err
	}
	list, err := s.incidents().List()
	rows := [][]string{{"ID", "DECLARED (UTC)", "SEVERITY", "TOOK", "TITLE"}}
	for _, i := range list {
		took := "open"
		if !i.Ended.IsZero() {
			took = i.Ended.Sub(i.Started).String()
		}
		rows = append(rows, []string{i.ID, i.Started.Format(time.DateTime), i.Severity, took, i.Title})
	}
	p.print.emit(map[string]any{"incidents": list})
	p.print.table(rows)
	return err
}

func (p *program) incidentShow(c *cli.Context) error {
	s, _, err := p.incidentSite(c)
	if err != nil {
		return err
	}
	i, err := s.incidents().Find(c.Args().First())
	if err != nil {
		return err
	}
	timeline := s.timeline(i)
	p.print.emit(map[string]any{"incident": i, "timeline": timeline})
	p.print.line("incident %s (%s): %s", i.ID, i.Severity, i.Title)
	rows := [][]string{{"WHEN (UTC)", "WHO", "WHAT"}}
	for _, m := range timeline {
		rows = append(rows, []string{m.At.UTC().Format(time.DateTime), m.Who, m.What})
	}
	p.print.table(rows)
	return nil
}

// selftest proves that every runbook can still be walked: its commands are
// there, and what must be true before answers.
func (p *program) selftest(ctx context.Context, s *site) (text string, err error) {
	list, err := s.books()
	if err != nil {
		return "", err
	}
	app := p.app()
	var wrong []error
	asked, unknown := map[string]bool{}, 0
	values := s.values(s.cfg.State)
	s.derive(values)
	session := &runbook.Session{Env: p.childEnv(s), Work: s.cfg.State, Secrets: s.secrets()}
	for _, b := range list {
		for _, problem := range p.lint(s, b, app) {
			wrong = append(wrong, problem)
		}
		for _, before := range b.Before {
			command := runbook.Fill(before.Command, values, true)
			switch {
			case command == "" || asked[command]:
				continue
			case len(runbook.Variables(command)) > 0:
				unknown++ // it depends on an answer
				continue
			}
			asked[command] = true
			if err := session.Answers(ctx, command); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: before: %s: %w", b.ID, before.Text, err))
			}
		}
	}
	text = fmt.Sprintf("%d runbooks, %d prechecks asked, %d depend on an answer", len(list), len(asked), unknown)
	if len(wrong) > 0 {
		var b bytes.Buffer
		for _, err := range wrong[:min(len(wrong), 10)] {
			fmt.Fprintf(&b, "\n%v", err)
		}
		return text, fault.New(fault.Findings, "%d things are wrong with the runbooks:%s", len(wrong), b.String()).WithRemedy("`emsafe runbook lint` shows all; mend them while there is time.")
	}
	return text, errors.Join(ctx.Err())
}
