package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/drill"
	"emsafe/internal/daemon"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// drillReports are the commands that read what drills left.
func (p *program) drillReports() []*cli.Command {
	out := &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write to `FILE` instead of standard output"}
	return []*cli.Command{
		{
			Name: "report", Usage: "show the report of a drill, or of a quarter", ArgsUsage: "[ID]",
			Description: "Without an ID the newest drill's. The reports are read from the targets, and each is verified before a word of it is believed. " +
				"HTML is one file that needs nothing else and prints to A4.",
			Flags: append(sourceFlags(), out,
				&cli.StringFlag{Name: "quarter", Usage: "all drills of a quarter, `YYYYQn`, as in 2026Q4"},
				&cli.StringFlag{Name: "format", Usage: "`FORMAT`: html, md, json, or csv for a quarter; default: what the file's name says, else md"},
				&cli.StringFlag{Name: "database", Usage: "only drills of the database `NAME`"}),
			Action: p.drillReport,
		},
		{
			Name: "evidence", Usage: "put a quarter's reports, manifests, configuration and public keys into one archive", ArgsUsage: " ",
			Description: "A tar.gz whose README verifies everything in it with tar, sha256sum and ssh-keygen, for somebody who has no emsafe. It holds no secret and no data.",
			Flags: append(sourceFlags(), out,
				&cli.StringFlag{Name: "quarter", Required: true, Usage: "of the quarter `YYYYQn`, as in 2026Q4"}),
			Action: p.drillEvidence,
		},
	}
}

func (p *program) drillReport(c *cli.Context) error {
	format, err := p.formatOf(c)
	if err != nil {
		return err
	}
	s, err := p.site(c)
	if err != nil {
		return err
	}
	reports, problems, err := s.reports(c.Context, &drill.Library{})
	if err != nil {
		return err
	}
	if name := c.String("database"); name != "" {
		reports = slices.DeleteFunc(reports, func(r drill.Signed) bool { return r.Report.Database != name })
	}
	var b bytes.Buffer
	if quarter := c.String("quarter"); quarter != "" {
		if c.NArg() > 0 {
			return usage("either one drill or a quarter")
		}
		q, err := p.quarter(s, quarter, reports)
		if err != nil {
			return err
		}
		err = q.Write(&b, format)
		if err != nil {
			return err
		}
	} else {
		one, err := chosenReport(reports, c.Args().First())
		if err != nil {
			return errors.Join(err, worst(problems))
		}
		if err := one.Write(&b, format); err != nil {
			return err
		}
	}
	return errors.Join(p.write(c.String("out"), b.Bytes()), worst(p.untrusted(problems)))
}

// untrusted are the problems that say that something is not what it should be;
// a target that does not answer is only told, where others do.
func (p *program) untrusted(problems []error) []error {
	return slices.DeleteFunc(problems, func(err error) bool {
		bad := errors.Is(err, fault.Forged) || errors.Is(err, fault.Damaged) || errors.Is(err, fault.Unsupported)
		if !bad {
			p.print.warn("%v", err)
		}
		return !bad
	})
}

// formatOf is what the flags ask for.
func (p *program) formatOf(c *cli.Context) (string, error) {
	format := c.String("format")
	switch {
	case format != "":
	case p.print.json:
		format = "json"
	default:
		format = strings.TrimPrefix(filepath.Ext(c.String("out")), ".")
		if !slices.Contains(drill.Formats, format) {
			format = "md"
		}
	}
	if !slices.Contains(drill.Formats, format) || format == "csv" && c.String("quarter") == "" {
		return "", fault.New(fault.Usage, "a report has no format %q", format).WithRemedy("There are html, md and json, and csv for a quarter.")
	}
	return format, nil
}

// write writes a document to a file, whole or not at all, or to standard output.
func (p *program) write(file string, data []byte) error {
	if file == "" || file == "-" {
		_, err := p.stdout.Write(data)
		return err
	}
	if err := durable.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	p.print.done("wrote %s (%s)", file, size(int64(len(data))))
	p.print.emit(map[string]any{"file": file, "bytes": len(data)})
	return nil
}

// reports are those of this host and of all targets, each once, oldest first.
// A target that is down is a problem as long as another answers.
func (s *site) reports(ctx context.Context, library *drill.Library) (reports []drill.Signed, problems []error, err error) {
	seen := map[seal.Digest]bool{}
	add := func(where string, found []drill.Signed, bad []error) {
		for _, b := range bad {
			problems = append(problems, fmt.Errorf("%s: %w", where, b))
		}
		for _, r := range found {
			if !seen[r.Digest()] {
				seen[r.Digest()] = true
				reports = append(reports, r)
			}
		}
	}
	answered := false
	if s.cfg != nil {
		found, bad, err := library.Local(s.cfg.State, s.signers)
		if err != nil {
			return nil, nil, err
		}
		add("the state folder", found, bad)
		answered = len(found) > 0
	}
	for _, t := range s.targets {
		b, err := t.Open(ctx)
		var found []drill.Signed
		var bad []error
		if err == nil {
			found, bad, err = library.Read(ctx, b, s.signers)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("target %s: %w", t.Name, err))
			continue
		}
		answered = true
		add("target "+t.Name, found, bad)
	}
	if !answered {
		return nil, nil, worst(problems)
	}
	slices.SortStableFunc(reports, func(a, b drill.Signed) int { return a.Report.Started.Compare(b.Report.Started) })
	return reports, problems, nil
}

// chosenReport is the one whose id begins with id, or the newest.
func chosenReport(reports []drill.Signed, id string) (drill.Signed, error) {
	var found []drill.Signed
	for _, r := range reports {
		if id != "" && strings.HasPrefix(r.Report.ID, id) {
			found = append(found, r)
		}
	}
	switch {
	case len(reports) == 0:
		return drill.Signed{}, fault.New(fault.NotFound, "there is no report of a drill yet").WithRemedy("`emsafe drill run` holds one.")
	case id == "":
		return reports[len(reports)-1], nil
	case len(found) == 0:
		return drill.Signed{}, fault.New(fault.NotFound, "there is no drill %q", id).WithRemedy("The newest is %s.", reports[len(reports)-1].Report.ID)
	case len(found) > 1:
		return drill.Signed{}, fault.New(fault.Usage, "%d drills begin with %q", len(found), id).WithRemedy("The newest of them is %s.", found[len(found)-1].Report.ID)
	}
	return found[0], nil
}

// quarter makes the report of a quarter of what the configuration protects.
func (p *program) quarter(s *site, quarter string, reports []drill.Signed) (drill.Quarterly, error) {
	period, err := drill.ParsePeriod(quarter)
	if err != nil {
		return drill.Quarterly{}, err
	}
	var scope drill.Scope
	if s.cfg != nil {
		scope.Host, scope.Controls = s.cfg.Host, s.cfg.Controls
		records, err := daemon.ReadState(s.cfg.State)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			p.print.warn("how many drills were planned is left out: %v", err)
		}
		for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
			when := s.drillSchedule(name)
			d := drill.Covered{Name: name, Schedule: when.String()}
			if r := records[drillName(name)]; r != nil {
				d.Planned = plannedDrills(when, r.Since, period)
			}
			for _, t := range s.targetsOf(name) {
				d.Targets = append(d.Targets, t.Name)
			}
			scope.Databases = append(scope.Databases, d)
		}
		scope.Exercises = s.exercisesHeld()
		if scope.Restores, err = restoresOf(s.cfg.State); err != nil {
			p.print.warn("restores in earnest are left out: %v", err)
		}
	}
	return drill.Quarter(period, scope, reports, p.now()), nil
}

// restoresOf are the restores in earnest that the journal tells of.
func restoresOf(state string) ([]drill.Event, error) {
	entries, _, err := journal.Read(state)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var list []drill.Event
	for _, e := range entries {
		if e.Action != "restore" && e.Action != "undo" {
			continue
		}
		what := e.Action + " of " + e.Database + ": " + e.What
		list = append(list, drill.Event{At: e.At, What: what, Outcome: e.Result, By: e.Who})
	}
	return list, err
}

func (p *program) drillEvidence(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	reports, problems, err := s.reports(c.Context, &drill.Library{})
	if err != nil {
		return err
	}
	q, err := p.quarter(s, c.String("quarter"), reports)
	if err != nil {
		return err
	}
	e := drill.Evidence{Quarter: q, Reports: reports, Config: s.cfg.Show()}
	if e.Signers, err = os.ReadFile(s.cfg.AllowedSigners); err != nil {
		return err
	}
	if len(q.Reports) == 0 {
		return errors.Join(fault.New(fault.NotFound, "no drill was held in %s", q.Period), worst(problems))
	}
	var bad []error
	e.Manifests, e.Gone, bad = s.manifestsOf(c.Context, q, reports)
	problems = append(problems, bad...)
	var b bytes.Buffer
	if err := drill.WriteEvidence(&b, e); err != nil {
		return err
	}
	file := c.String("out")
	if file == "" {
		file = e.Folder() + ".tar.gz"
	}
	if e.Gone > 0 {
		p.print.note("%d manifests that the reports name are not in the targets any more", e.Gone)
	}
	return errors.Join(p.write(file, b.Bytes()), worst(problems))
}

// manifestsOf are the manifests that a quarter's reports name, as far as they
// are still there.
func (s *site) manifestsOf(ctx context.Context, q drill.Quarterly, reports []drill.Signed) (found []drill.SignedObject, gone int, problems []error) {
	seen := map[seal.Digest]bool{}
	chains := map[string]*catalog.Chain{}
	for _, r := range reports {
		if r.Report.Started.Before(q.From) || !r.Report.Started.Before(q.To) {
			continue
		}
		for _, x := range r.Report.Restores {
			if x.Manifest.IsZero() || seen[x.Manifest] {
				continue
			}
			seen[x.Manifest] = true
			object, err := s.manifest(ctx, chains, r.Report.Database, x)
			switch {
			case err != nil:
				problems = append(problems, err)
			case object == nil:
				gone++
			default:
				found = append(found, drill.SignedObject{Target: x.Target, Database: r.Report.Database, Sequence: x.Sequence, Object: object})
			}
		}
	}
	return found, gone, problems
}

// manifest is the object that a report names; nil if it is not there any more.
func (s *site) manifest(ctx context.Context, chains map[string]*catalog.Chain, database string, x drill.Restored) ([]byte, error) {
	at := slices.IndexFunc(s.targets, func(t storage.Target) bool { return t.Name == x.Target })
	if at < 0 {
		return nil, nil
	}
	key := x.Target + "/" + database
	if chains[key] == nil {
		chain, err := s.chain(ctx, s.targets[at], database)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", x.Target, err)
		}
		chains[key] = chain
	}
	e, err := chains[key].Read(ctx, x.Sequence)
	switch {
	case errors.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("target %s: %w", x.Target, err)
	case e.Digest != x.Manifest:
		return nil, fault.New(fault.Forged, "target %s: manifest %d of %s is not the one that drill restored: its digest is %s", x.Target, x.Sequence, database, e.Digest)
	}
	return e.Object, nil
}
