package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill"
	"emsafe/internal/fault"
)

// showDrill tells people what came out.
func (p *program) showDrill(r drill.Report) {
	color := map[drill.Verdict]string{drill.Pass: "32", drill.Missed: "33", drill.Inconclusive: "33"}[r.Verdict]
	if color == "" {
		color = "31"
	}
	p.print.line("%s  %s  %s", r.Database, p.print.paint(color, strings.ToUpper(r.Verdict.Short())), r.Finding)
	for _, x := range r.Restores {
		if x.Backup != "" {
			p.print.line("  %-9s %s (number %d of %d, %s) from %s: %s restored, %s fetched, opened with the identity %s", x.Why, x.Backup, x.Sequence, x.Head, x.Kind, x.Target, size(x.Size), size(x.Fetched), x.Identity)
		}
		passed := 0
		for _, c := range x.Checks {
			if c.Verdict == drill.Pass {
				passed++
				continue
			}
			p.print.line("    %s %s: expected %s, got %s", p.print.paint(color, strings.ToUpper(c.Verdict.Short())), c.Name, c.Expected, c.Got)
		}
		for _, f := range x.Phases {
			if f.Verdict != drill.Pass && f.Error != "" && !isCheck(x, f) {
				p.print.line("    %s %s: %s", p.print.paint(color, strings.ToUpper(f.Verdict.Short())), f.Name, f.Error)
			}
		}
		if len(x.Checks) > 0 {
			p.print.line("    %d of %d checks passed", passed, len(x.Checks))
		}
	}
	p.print.line("  RPO %s; %s", r.RPO.Value(), r.RPO.Margin())
	p.print.line("  RTO %s; %s", r.RTO.Value(), r.RTO.Margin())
	for _, what := range r.NotTested {
		p.print.line("  not tested: %s", what)
	}
	for _, a := range r.Actions {
		p.print.line("  to do: %s", a.What)
	}
	where := ""
	if r.Configuration != "" {
		where = " --target URL --allowed-signers FILE"
	}
	p.print.line("  report %d, %s: emsafe drill report%s --out %s.html %s", r.Number, r.ID, where, r.ID, r.ID)
}

// isCheck reports whether a phase only says again what a check of it said.
func isCheck(x drill.Restored, f drill.Phase) bool {
	return slices.ContainsFunc(x.Checks, func(c drill.Check) bool { return c.Verdict == f.Verdict && strings.Contains(f.Error, c.Name) })
}

func (p *program) drillList(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	names, err := s.databases(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	rows := [][]string{{"DATABASE", "#", "HELD (UTC)", "VERDICT", "TARGET", "BACKUP", "RPO", "RTO", "ID"}}
	docs := map[string][]drill.Held{}
	for _, name := range names {
		m, err := drill.Remember(s.cfg.State, name)
		if err != nil {
			return err
		}
		held := m.Held
		if n := c.Int("last"); n > 0 {
			held = held[max(0, len(held)-n):]
		}
		docs[name] = append([]drill.Held{}, held...)
		for _, h := range held {
			verdict := h.Verdict.Short()
			if len(h.Reasons) > 0 {
				verdict += ": " + strings.Join(h.Reasons, ", ")
			}
			rows = append(rows, []string{name, fmt.Sprint(h.Number), h.At.UTC().Format(time.DateTime), verdict, h.Target, h.Backup, h.RPO.Value(), h.RTO.Value(), h.ID})
		}
	}
	p.print.emit(map[string]any{"drills": docs})
	if len(rows) == 1 {
		p.print.line("no drill was held yet; `emsafe drill run` holds one")
		return nil
	}
	p.print.table(rows)
	return nil
}

func (p *program) drillShow(c *cli.Context) error {
	if c.NArg() > 1 {
		return usage("drill show takes one ID")
	}
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	var reports []drill.Signed
	var bad []error
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
		if only := c.String("database"); only != "" && only != name {
			continue
		}
		found, wrong := drill.Local(s.cfg.State, s.signers, name, s.cfg.Host)
		reports, bad = append(reports, found...), append(bad, wrong...)
	}
	slices.SortStableFunc(reports, func(a, b drill.Signed) int { return a.Report.Started.Compare(b.Report.Started) })
	one, err := chosenReport(reports, c.Args().First())
	if err != nil {
		return errors.Join(err, worst(bad))
	}
	p.print.emit(one.Report)
	p.showDrill(one.Report)
	p.print.line("  signed by %s; SHA-256 %s", one.Signer, one.Digest())
	return worst(bad)
}

// drilling is where a database's drills stand on this host.
type drilling struct {
	Last     *drill.Held     `json:"last,omitempty"`
	Every    time.Duration   `json:"every_ns,omitempty"`   // how far apart drills should be; 0: none are scheduled
	Overdue  time.Duration   `json:"overdue_ns,omitempty"` // by how much the last conclusive one is too old
	KeyProof *drill.KeyProof `json:"key_proof,omitempty"`
	KeyDue   bool            `json:"key_due"` // the recovery key is to be proven again
}

// Err says what is wrong about it; nil if nothing is.
func (d drilling) Err(name string) error {
	switch {
	case d.Overdue > 0 && d.Last == nil:
		return fault.New(fault.Stale, "no backup of %s was ever drilled", name).WithRemedy("`emsafe drill run %s`", name)
	case d.Overdue > 0:
		return fault.New(fault.Stale, "the drill of %s is overdue by %s", name, age(d.Overdue)).WithRemedy("`emsafe drill run %s`", name)
	case d.Last != nil && d.Last.Verdict == drill.Fail:
		return fault.New(fault.DrillFailed, "the last drill of %s failed: %s", name, d.Last.Finding)
	}
	return nil
}

// lines are what `status` says of it.
func (d drilling) lines(now time.Time) []string {
	var list []string
	switch {
	case d.Last == nil && d.Overdue > 0:
		list = append(list, "was NEVER drilled")
	case d.Last != nil:
		line := fmt.Sprintf("last drill %s ago: %s", age(now.Sub(d.Last.At)), d.Last.Verdict.Short())
		if len(d.Last.Reasons) > 0 {
			line += " (" + strings.Join(d.Last.Reasons, ", ") + ")"
		}
		if d.Overdue > 0 {
			line += "; the next is OVERDUE by " + age(d.Overdue)
		}
		list = append(list, line)
	}
	switch {
	case d.KeyProof != nil && d.KeyDue:
		list = append(list, "the recovery key is to be PROVEN again: the last time was "+age(now.Sub(d.KeyProof.At))+" ago (emsafe key verify)")
	case d.KeyDue && d.Every > 0:
		list = append(list, "the recovery key was NEVER proven (emsafe key verify)")
	}
	return list
}

// drilling looks at state alone. since is from when on drills are wanted of a
// database that had none.
func (s *site) drilling(name string, since time.Time) drilling {
	m, err := drill.Remember(s.cfg.State, name)
	if err != nil {
		s.p.print.warn("what is known of drills of %s cannot be read: %v", name, err)
	}
	d := drilling{Every: s.drillEvery(name), KeyProof: drill.LastProof(s.cfg.State, name, s.drillRecipients()...)}
	now := s.p.now()
	d.Overdue, d.Last = m.Overdue(now, d.Every+d.Every/7, since) // a day's grace for a week
	d.KeyDue = d.KeyProof.Due(now, s.cfg.ProveKeyEvery)
	return d
}
