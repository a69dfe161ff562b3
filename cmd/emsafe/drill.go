package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage/seal"
)

func (p *program) drillCommand() *cli.Command {
	return group("drill", "prove backups by restoring them", append([]*cli.Command{
		{
			Name: "run", Usage: "restore backups in isolation, check them, and sign a report", ArgsUsage: "[NAME…]",
			Description: "By the same code as `restore`, into a folder of its own that is removed afterwards. Without a NAME all databases; each target gets its turn. " +
				"Exit code 20: a backup is not what it must be. 21: it is, but an objective was missed. A fault of the drill's own surroundings has that fault's code, and says nothing about the backup.",
			Flags: append(sourceFlags(), identityFlag("what opens the backup; default: the configuration's drill_key"),
				&cli.StringFlag{Name: "select", Usage: "backups to restore, `WHICH`: latest, oldest, random, an id, or a time, several with commas; default: the configuration's"},
				&cli.BoolFlag{Name: "full", Usage: "the latest, the oldest and a random one, from every target"},
				&cli.BoolFlag{Name: "accept", Usage: "tables that are gone or have shrunk since the last drill are meant: hold later drills against what is there now"},
				&cli.Uint64Flag{Name: "min-sequence", Usage: "fail if the newest backup of a target is below `NUMBER`"},
				&cli.BoolFlag{Name: "config-from-target", Usage: "on another machine: with the newest copy of the host's configuration in the target, and no access to the host"},
				hostFlag(),
				&cli.BoolFlag{Name: "allow-commands", Usage: "with --config-from-target, run the programs that its checks name, as this user; without it they are not run, and reported as not tested"},
				&cli.StringFlag{Name: "signing-key", Usage: "who signs the report, with --config-from-target: an Ed25519 `FILE` that is pinned for emsafe-report"},
				&cli.StringFlag{Name: "state", Usage: "`FOLDER` that keeps reports between drills, with --config-from-target"}),
			Action: p.drillRun,
		},
		{
			Name: "list", Usage: "list the drills that were held, newest last", ArgsUsage: "[NAME…]",
			Description: "From this host's memory. The signed reports, also those of other hosts, are in the targets: `emsafe drill report`.",
			Flags:       []cli.Flag{&cli.IntFlag{Name: "last", Usage: "only the newest `N` of each database; 0 for all"}},
			Action:      p.drillList,
		},
		{
			Name: "show", Usage: "show what a drill restored and found", ArgsUsage: "[ID]",
			Description: "Without an ID the newest. The report that this host keeps is verified before it is shown.",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "database", Usage: "only drills of the database `NAME`"}},
			Action:      p.drillShow,
		},
	}, p.drillReports()...)...)
}

func (p *program) drillRun(c *cli.Context) error {
	s, err := p.site(c)
	if err != nil {
		return err
	}
	if s.cfg == nil && !c.Bool("config-from-target") {
		return fault.New(fault.Config, "there is no configuration here").
			WithRemedy("Bring the host's configuration here and give it with --config, or take the copy in the target: --config-from-target.")
	}
	ids, how, err := p.drillIdentity(c, s)
	if err != nil {
		return err
	}
	whose := ""
	if c.Bool("config-from-target") {
		if s, whose, err = p.adopt(c, s, ids); err != nil {
			return err
		}
	}
	names, err := s.databases(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	plan, err := p.drillBase(c, s, names)
	if err != nil {
		return err
	}
	plan.Identities, plan.Identity, plan.Configuration = ids, how, whose
	yield()
	reports := []*drill.Report{}
	var failed []error
	for _, name := range names {
		one := s.drillPlan(name, plan)
		report, err := drill.Run(c.Context, one)
		p.print.clearProgress()
		s.recordDrill(name, report, err)
		s.provenBy(name, report, one)
		if report != nil {
			reports = append(reports, report)
			p.showDrill(*report)
		}
		if err != nil {
			failed = append(failed, err)
		}
		if c.Context.Err() != nil {
			break
		}
	}
	p.print.emit(map[string]any{"drills": reports})
	return worstDrill(failed)
}

// drillBase reads the flags into what the plans of these databases have in
// common.
func (p *program) drillBase(c *cli.Context, s *site, names []string) (drill.Plan, error) {
	who, _ := journal.Who(p.env)
	plan := drill.Plan{
		Operator: who, Full: c.Bool("full"), Accept: c.Bool("accept"), MinSequence: c.Uint64("min-sequence"), Progress: p.print.progress("restoring"),
		Private: func(text string) { p.print.note("  %s", text) }, Warn: func(err error) { p.print.warn("%v", err) },
	}
	var err error
	for _, name := range names {
		if plan.Key, err = s.signingKey(s.cfg.SigningKey, seal.NamespaceReport, name); err != nil {
			return plan, err
		}
	}
	plan.Select, err = selections(c.String("select"), p.now())
	return plan, err
}

// drillIdentity is what opens the backups of a drill, and where it comes from.
func (p *program) drillIdentity(c *cli.Context, s *site) (ids seal.Identities, how string, err error) {
	file := c.String("identity")
	switch {
	case file == "-":
		how = "given on standard input"
	case file != "":
		how = "given as a file"
	case s.cfg != nil && s.cfg.DrillKey != "":
		file, how = s.cfg.DrillKey, "drill key of this host"
	default:
		return ids, "", fault.New(fault.Usage, "a drill needs the identity that opens the backups").
			WithRemedy("Give --identity FILE, or --identity - and paste it; drills that nobody attends need a drill_key in the configuration.")
	}
	ids, err = p.identities(file)
	return ids, how, err
}

// selections reads --select.
func selections(text string, now time.Time) ([]drill.Selection, error) {
	var list []drill.Selection
	for word := range strings.SplitSeq(text, ",") {
		switch word = strings.TrimSpace(word); word {
		case "":
		case drill.Latest, drill.Oldest, drill.Random:
			list = append(list, drill.Selection{Kind: word})
		default:
			if at, err := parseTime(word, now); err == nil {
				list = append(list, drill.Selection{Kind: drill.AtTime, At: at})
			} else {
				list = append(list, drill.Selection{Kind: drill.ByID, ID: word})
			}
		}
	}
	return list, nil
}

// drillPlan is a database's plan, on top of what all have in common.
func (s *site) drillPlan(name string, plan drill.Plan) drill.Plan {
	d := s.cfg.Databases[name]
	plan.Withheld = s.withheld[name]
	plan.Database, plan.Host, plan.State, plan.Scratch = name, s.cfg.Host, s.cfg.State, s.cfg.DrillScratch
	for _, key := range []string{"emsafe", "sqlite", "go"} {
		plan.Versions = append(plan.Versions, key+" "+strings.TrimPrefix(versions()[key], key))
	}
	plan.Targets, plan.Signers, plan.Remembered, plan.Now = s.targetsOf(name), s.signers, s.remembered(name), s.p.now
	plan.KeyProof = drill.LastProof(s.cfg.State, name, s.drillRecipients()...)
	plan.Source, plan.RPO, plan.RTO, plan.Limit = d.Path, d.RPO, d.RTO, d.Drill.Limit
	if !exists(d.Path) {
		plan.Source = "" // a drill on another machine
	}
	plan.Rows, plan.Newest, plan.Canary = int(d.Drill.Rows), d.Drill.Newest, d.Drill.Canary
	if len(plan.Select) == 0 {
		plan.Select, _ = selections(strings.Join(d.Drill.Select, ","), s.p.now()) //nolint:errcheck // it has none
	}
	for check, k := range d.Drill.Checks {
		a := drill.Assertion{Name: check, SQL: k.SQL, Expect: k.Expect, Min: k.Min, Max: k.Max, NewerThan: k.NewerThan, Command: k.Command, Service: k.Service, Timeout: k.Timeout}
		for question, q := range k.Ask {
			a.Ask = append(a.Ask, drill.Ask{Name: question, URL: q.URL, Status: int(q.Status), Header: q.Header, Content: q.Content})
		}
		slices.SortFunc(a.Ask, func(x, y drill.Ask) int { return compare(x.Name, y.Name) })
		plan.Checks = append(plan.Checks, a)
	}
	slices.SortFunc(plan.Checks, func(x, y drill.Assertion) int { return compare(x.Name, y.Name) })
	if set := d.Drill.Files; set.Fileset != "" {
		plan.Files = s.pairing(set, plan.Identities)
	}
	if os.Getuid() == 0 {
		user := s.cfg.DrillUser
		if user == "" {
			user = "nobody"
		}
		plan.As, _ = drill.LookUp(user) //nolint:errcheck // without one the checks say so
	}
	return plan
}

// provenBy keeps that the key opened what a drill restored.
func (s *site) provenBy(name string, r *drill.Report, plan drill.Plan) {
	if r == nil {
		return
	}
	for _, x := range r.Restores {
		for _, recipient := range plan.Identities.Names() {
			if x.Verdict == drill.Pass && slices.Contains(x.Recipients, recipient) && !slices.Contains(s.drillRecipients(), recipient) {
				s.keepProof(name, proven{At: r.Started, Recipient: recipient, Backup: x.Backup})
				return
			}
		}
	}
}

// recordDrill writes a drill into the journal.
func (s *site) recordDrill(name string, r *drill.Report, err error) {
	e := journal.Entry{Action: "drill", Database: name}
	if r != nil {
		e.What, e.Run = fmt.Sprintf("drill %s (number %d): %s", r.ID, r.Number, r.Verdict), r.ID
		if len(r.Restores) > 0 {
			e.Target = r.Restores[0].Target
		}
	}
	s.record(e, err)
}

// worstDrill decides the exit code: a backup that failed before everything
// else, and a missed objective last.
func worstDrill(errs []error) error {
	rank := func(err error) int {
		switch {
		case errors.Is(err, fault.DrillFailed):
			return 0
		case errors.Is(err, fault.ObjectiveMissed):
			return 2
		}
		return 1
	}
	if len(errs) == 0 {
		return nil
	}
	first := slices.MinFunc(errs, func(a, b error) int { return rank(a) - rank(b) })
	return lead(first, errs)
}
