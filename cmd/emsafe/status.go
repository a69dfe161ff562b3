package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
	"emsafe/internal/report"
	"emsafe/storage/catalog"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "say how old what every target holds is, and what waits", ArgsUsage: "[NAME…]",
		Description: "A running daemon is asked, over its socket; otherwise the state folder tells. The targets are not: `list` and `verify` ask them. " +
			"With --check it ends with exit code 22 when a target holds less than the database's `objective` wants, also if the daemon silently stopped, or when a drill is overdue; and with 20 when the last drill failed.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "exit with 22 if anything is stale"},
			&cli.StringFlag{Name: "html", Usage: "write what the daemon's page shows to `FILE`; the targets are asked for drills and what they hold"},
			&cli.StringFlag{Name: "socket", Usage: "ask the daemon at this `PATH`, without a configuration"},
		},
		Action: func(c *cli.Context) error {
			o, err := p.lookFor(c)
			if err != nil {
				return err
			}
			if file := c.String("html"); file != "" {
				if c.Bool("check") || c.NArg() > 0 {
					return usage("--html writes one page of everything, and goes without --check and names")
				}
				s, err := p.site(c)
				if err != nil {
					return err
				}
				return p.writePage(c.Context, s, o, file)
			}
			names := c.Args().Slice()
			o.Databases, err = chosen(o.Databases, names)
			if err != nil {
				return err
			}
			var stale []error
			rows := [][]string{{"DATABASE", "TARGET", "NEWEST", "AS OF (UTC)", "AGE", "OBJECTIVE", "STATE"}}
			for _, doc := range o.Databases {
				rows = append(rows, doc.rows(p.now())...)
				for _, t := range doc.Targets {
					switch {
					case t.Stale && t.Newest == nil:
						stale = append(stale, fault.New(fault.Stale, "%s has never been backed up to %s", doc.Database, t.Target))
					case t.Stale:
						stale = append(stale, fault.New(fault.Stale, "%s in %s is %s old, and the objective is %s", doc.Database, t.Target, t.age(), doc.rpo()))
					}
				}
			}
			for _, doc := range o.Databases {
				if err := doc.Drill.Err(doc.Database); err != nil {
					stale = append(stale, err)
				}
			}
			p.print.emit(o)
			p.print.table(rows)
			if len(names) == 0 {
				stale = append(stale, p.showFilesets(o)...)
			}
			for _, doc := range o.Databases {
				for _, line := range doc.Drill.lines(o.At) {
					p.print.line("%s  %s", doc.Database, line)
				}
			}
			for _, doc := range o.Databases {
				if w := doc.Spool; w.Backups > 0 {
					p.print.line("%s  %s, %s, in the spool, the oldest for %s", doc.Database, several(w.Backups, "backup waits", "backups wait"), size(w.Bytes), age(p.now().Sub(w.Oldest)))
				}
			}
			if o.LeftOver != "" {
				p.print.warn("%s", o.LeftOver)
			}
			for _, f := range o.Findings {
				p.print.line("%s", f.line())
			}
			p.showJobs(o, names)
			if c.Bool("check") {
				return worst(stale)
			}
			return nil
		},
	}
}

// lookFor looks by the configuration, or, for who may not read that, by the
// daemon's socket alone.
func (p *program) lookFor(c *cli.Context) (overview, error) {
	socket := c.String("socket")
	if socket == "" {
		s, err := p.site(c)
		switch {
		case err == nil && s.cfg == nil:
			return overview{}, noConfiguration()
		case err == nil:
			return p.look(c.Context, s)
		case !errors.Is(err, fault.Permission) || !exists(runtimeSocket):
			return overview{}, err
		}
		socket = runtimeSocket
	}
	var o overview
	err := daemon.Client{Socket: socket}.Ask(c.Context, "/overview", &o)
	if errors.Is(err, daemon.ErrNoDaemon) {
		err = fault.New(fault.NotFound, "no daemon answers at %s", socket).WithRemedy("`systemctl status emsafe` tells whether it runs.")
	}
	return o, err
}

// chosen are the databases that were asked for.
func chosen(docs []statusDoc, names []string) ([]statusDoc, error) {
	if len(names) == 0 {
		return docs, nil
	}
	var out []statusDoc
	var known []string
	for _, d := range docs {
		known = append(known, d.Database)
		if slices.Contains(names, d.Database) {
			out = append(out, d)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, noDatabase(name, known)
		}
	}
	return out, nil
}

// showJobs shows what the daemon did last and does next.
func (p *program) showJobs(o overview, names []string) {
	rows := [][]string{{"JOB", "LAST RUN (UTC)", "RESULT", "NEXT (UTC)"}}
	scheduled := false
	for _, j := range o.Scheduler.Jobs {
		if len(names) > 0 && !slices.Contains(names, j.Key) || j.Schedule == "" {
			continue
		}
		scheduled = true
		last, result, next := "never", "", ""
		if r := j.Last; r != nil {
			last, result = r.Started.Format(time.DateTime), string(r.Verdict)
			if r.Error != "" {
				result += ": " + short(r.Error)
			}
		}
		switch {
		case j.Waits != "":
			next = j.Waits
		case !j.Next.IsZero():
			next = j.Next.Format(time.DateTime)
		case strings.HasPrefix(j.Name, "protect "):
			last, next = "", "all the time"
		}
		rows = append(rows, []string{j.Name, last, result, next})
	}
	if len(rows) > 1 {
		p.print.line("")
		p.print.table(rows)
	}
	switch {
	case o.Scheduler.Clock != "":
		p.print.line("the CLOCK is in doubt: backups go on, and nothing else is started on schedule: %s", o.Scheduler.Clock)
	case scheduled && !o.Running:
		p.print.line("no daemon is running")
	}
	if o.Scheduler.Refused != "" {
		p.print.line("the new CONFIGURATION was not taken: %s", short(o.Scheduler.Refused))
	}
}

// short is the first line of an error, for a table.
func short(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if r := []rune(text); len(r) > 70 {
		text = string(r[:70]) + "…"
	}
	return text
}

// statusDoc is one database in JSON.
type statusDoc struct {
	Database string         `json:"database"`
	RPO      float64        `json:"rpo_seconds,omitempty"`
	Spool    backup.Waiting `json:"spool"`
	Targets  []targetStatus `json:"targets"`
	Drill    drilling       `json:"drill"`
}

type targetStatus struct {
	Target string `json:"target"`
	*catalog.Newest
	AsOf  *time.Time `json:"as_of,omitempty"` // up to then it has everything
	Age   float64    `json:"age_seconds,omitempty"`
	Stale bool       `json:"stale"`
}

func (d statusDoc) rpo() string {
	return age(time.Duration(d.RPO * float64(time.Second)))
}

func (t targetStatus) age() string {
	if t.AsOf == nil {
		return "-"
	}
	return age(time.Duration(t.Age * float64(time.Second)))
}

func (p *program) statusOf(s *site, name string) (statusDoc, error) {
	d := s.cfg.Databases[name]
	doc := statusDoc{Database: name, RPO: d.RPO.Seconds(), Spool: backup.Spooled(s.cfg.State, name), Targets: []targetStatus{}}
	m, err := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, name))
	if err != nil {
		return doc, err
	}
	for _, t := range s.targetsOf(name) {
		st := targetStatus{Target: t.Name, Stale: d.RPO > 0}
		if n, ok := m.Newest[t.Name]; ok {
			asOf := m.AsOf(t.Name)
			old := p.now().Sub(asOf)
			st.Newest, st.AsOf, st.Age, st.Stale = &n, &asOf, old.Seconds(), report.Misses(old, d.RPO)
		}
		doc.Targets = append(doc.Targets, st)
	}
	doc.Drill = s.drilling(name, time.Time{})
	return doc, nil
}

func (d statusDoc) rows(now time.Time) [][]string {
	var rows [][]string
	for _, t := range d.Targets {
		newest, asOf, objective, state := "none", "", "none", "ok"
		if t.Newest != nil {
			newest, asOf = fmt.Sprintf("#%d %s", t.Sequence, t.Kind), t.AsOf.Format(time.DateTime)
		}
		if d.RPO > 0 {
			objective = d.rpo()
		}
		switch {
		case t.Stale:
			state = "STALE"
		case t.Newest == nil:
			state = "never"
		case t.LockedUntil.After(now):
			state += ", locked until " + t.LockedUntil.Format(time.DateOnly)
		}
		rows = append(rows, []string{d.Database, t.Target, newest, asOf, t.age(), objective, state})
	}
	return rows
}
