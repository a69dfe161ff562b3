package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/storage/catalog"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "say how old what every target holds is, and what waits", ArgsUsage: "[NAME…]",
		Description: "From what this host remembers, without a request: `list` and `verify` ask the targets. " +
			"With --check it ends with exit code 22 when a target holds less than the database's `objective` wants.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit with 22 if anything is stale"}},
		Action: func(c *cli.Context) error {
			s, err := p.site(c)
			if err != nil {
				return err
			}
			if s.cfg == nil {
				return noConfiguration()
			}
			names, err := s.databases(c.Context, c.Args().Slice())
			if err != nil {
				return err
			}
			docs := []statusDoc{}
			rows := [][]string{{"DATABASE", "TARGET", "NEWEST", "AS OF (UTC)", "AGE", "OBJECTIVE", "STATE"}}
			var stale []error
			for _, name := range names {
				doc, err := p.statusOf(s, name)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				docs = append(docs, doc)
				rows = append(rows, doc.rows()...)
				for _, t := range doc.Targets {
					if t.Stale {
						stale = append(stale, fault.New(fault.Stale, "%s in %s is %s old, and the objective is %s", name, t.Target, t.age(), doc.rpo()))
					}
				}
			}
			p.print.emit(map[string]any{"status": docs})
			p.print.table(rows)
			for _, doc := range docs {
				if w := doc.Spool; w.Backups > 0 {
					p.print.line("%s  %d backups of %s wait in the spool, the oldest for %s", doc.Database, w.Backups, size(w.Bytes), age(p.now().Sub(w.Oldest)))
				}
			}
			if c.Bool("check") {
				return worst(stale)
			}
			return nil
		},
	}
}

// statusDoc is one database in JSON.
type statusDoc struct {
	Database string         `json:"database"`
	RPO      float64        `json:"rpo_seconds,omitempty"`
	Spool    backup.Waiting `json:"spool"`
	Targets  []targetStatus `json:"targets"`
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
		return "infinitely"
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
			st.Newest, st.AsOf, st.Age, st.Stale = &n, &asOf, old.Seconds(), d.RPO > 0 && old > d.RPO
		}
		doc.Targets = append(doc.Targets, st)
	}
	return doc, nil
}

func (d statusDoc) rows() [][]string {
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
		}
		rows = append(rows, []string{d.Database, t.Target, newest, asOf, t.age(), objective, state})
	}
	return rows
}
