package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// listed is one backup as `list --json` and `show --json` give it.
type listed struct {
	Target   string            `json:"target"`
	Manifest *catalog.Manifest `json:"manifest,omitempty"`
	Digest   string            `json:"manifest_digest,omitempty"`
	Sequence uint64            `json:"sequence"`
	Drilled  *time.Time        `json:"drilled_at,omitempty"` // when a drill last passed it
	Error    *failure          `json:"error,omitempty"`
}

func (p *program) listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the backups of databases and the recovery points of filesets, newest last", ArgsUsage: "[NAME…]",
		Description: "Every manifest is verified; a gap or a broken link is shown as an error and ends with exit code 13.",
		Flags:       append(sourceFlags(), &cli.IntFlag{Name: "last", Usage: "only the newest `N`; 0 for all"}),
		Action: func(c *cli.Context) error {
			s, err := p.site(c)
			if err != nil {
				return err
			}
			databases, filesets := s.kinds(c.Args().Slice())
			var names []string
			if len(databases) > 0 || len(filesets) == 0 {
				if names, err = s.databases(c.Context, databases); err != nil {
					return err
				}
			}
			if c.NArg() == 0 && s.cfg == nil {
				if filesets, err = s.storedFilesets(c.Context, nil); err != nil {
					return err
				}
			}
			all := []listed{}
			var failed []error
			for _, name := range names {
				for _, t := range s.targetsOf(name) {
					got, err := p.listOne(c.Context, s, t, name, c.Int("last"))
					all = append(all, got...)
					if err != nil {
						failed = append(failed, fmt.Errorf("target %s, database %s: %w", t.Name, name, err))
					}
				}
			}
			points, loose, err := p.listPoints(c.Context, s, filesets, c.Int("last"))
			if err != nil {
				failed = append(failed, err)
			}
			p.print.emit(map[string]any{"backups": all, "points": points, "snapshots_without_point": loose})
			return worst(failed)
		},
	}
}

// worst reports each of several errors and returns the one that decides the
// exit code: damage before everything else, then the first.
func worst(errs []error) error {
	for _, k := range []*fault.Kind{fault.Forged, fault.RolledBack, fault.BrokenChain, fault.Damaged} {
		for _, err := range errs {
			if errors.Is(err, k) {
				return lead(err, errs)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return lead(errs[0], errs)
}

func lead(first error, errs []error) error {
	if len(errs) == 1 {
		return first
	}
	const most = 5 // they were all shown where they were found
	out := []error{first}
	for _, e := range errs {
		if e != first && len(out) < most { //nolint:errorlint // identity is meant
			out = append(out, e)
		}
	}
	if more := len(errs) - len(out); more > 0 {
		out = append(out, fmt.Errorf("and %d more", more))
	}
	return errors.Join(out...)
}

func (p *program) listOne(ctx context.Context, s *site, t storage.Target, database string, last int) ([]listed, error) {
	chain, err := s.chain(ctx, t, database)
	if err != nil {
		return nil, err
	}
	sequences, err := chain.Sequences(ctx, 0)
	if err != nil {
		return nil, err
	}
	first := uint64(1)
	if last > 0 && len(sequences) > last {
		sequences = sequences[len(sequences)-last:]
		first = 0
	}
	results, err := chain.Walk(ctx, sequences)
	if err != nil {
		return nil, err
	}
	drilled := s.drilledIn(ctx, database, t)
	rows := [][]string{{"#", "ID", "AGE", "TAKEN (UTC)", "KIND", "DATABASE", "STORED", "HOST", "DRILLED"}}
	var out []listed
	for _, r := range results {
		item := listed{Target: t.Name, Sequence: r.Sequence}
		if r.Err != nil {
			f := describe(r.Err)
			item.Error = &f
			rows = append(rows, []string{fmt.Sprint(r.Sequence), "ERROR: " + f.ID})
		} else {
			e := r.Entry
			item.Manifest, item.Digest = &e.Manifest, e.Digest.String()
			rows = append(rows, []string{fmt.Sprint(e.Sequence), e.ID, age(p.now().Sub(e.SnapshotAt)), e.SnapshotAt.Format(time.DateTime),
				e.Kind, size(e.Content.Size), stored(e), e.Host, day(drilled[e.ID])})
			if at := drilled[e.ID]; !at.IsZero() {
				item.Drilled = &at
			}
		}
		out = append(out, item)
	}
	p.print.line("%s in %s", database, chain.Bucket)
	for _, err := range chain.Tampered() {
		p.print.warn("%v", err)
	}
	if err := storage.Blind(chain.Bucket); err != nil {
		p.print.warn("%v", err)
	}
	if len(results) == 0 {
		p.print.line("  no backups yet")
		return out, s.vanished(ctx, chain, 0)
	}
	p.print.table(rows)
	var problems []error
	for _, err := range chain.Links(ctx, results, first) {
		p.print.line("ERROR: %v", err)
		problems = append(problems, err)
	}
	if err := s.vanished(ctx, chain, results[len(results)-1].Sequence); err != nil {
		p.print.line("ERROR: %v", err)
		problems = append(problems, err)
	}
	return out, worst(problems)
}

// day is a date, or nothing.
func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

func (p *program) showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show one backup: what it is, what it needs, how it is chained", ArgsUsage: "ID",
		Description: "ID is a backup's id, the beginning of one, or #NUMBER together with --database.",
		Flags:       append(sourceFlags(), &cli.StringFlag{Name: "database", Usage: "`NAME` of the database; needed only where several match"}),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage("show needs one ID; `emsafe list` shows them")
			}
			s, err := p.site(c)
			if err != nil {
				return err
			}
			found, err := s.find(c.Context, c.String("database"), catalog.Wanted{ID: c.Args().First()})
			if err != nil {
				return err
			}
			e := found.entry
			p.print.emit(shown{listed{Target: found.target, Manifest: &e.Manifest, Digest: e.Digest.String(), Sequence: e.Sequence}, found.fetches(), found.lockedUntil()})
			p.show(found)
			problems := found.chain.Links(c.Context, found.since, 0)
			if found.broken != nil {
				problems = append(problems, found.broken)
			}
			for _, err := range problems {
				p.print.line("ERROR: %v", err)
			}
			return worst(problems)
		},
	}
}

func (p *program) show(f *located) {
	e := f.entry
	parent := "none: it restores alone"
	if e.Parent != nil {
		parent = fmt.Sprintf("%s (number %d)", e.Parent.ID, e.Parent.Sequence)
	}
	previous := e.Previous.String()
	if e.Previous.IsZero() {
		previous = "none: the first of its chain"
	}
	kind := e.Kind
	if e.Delta != nil {
		kind = fmt.Sprintf("delta of %d pages", e.Delta.Pages)
	}
	rows := [][]string{
		{"backup", e.ID},
		{"database", e.Database},
		{"target", f.target + " (" + f.bucket + ")"},
		{"taken", fmt.Sprintf("%s UTC, %s", e.SnapshotAt.Format(time.DateTime), ago(p.now().Sub(e.SnapshotAt)))},
		{"committed", e.CommittedAt.Format(time.DateTime) + " UTC"},
		{"host", e.Host},
		{"kind", kind},
		{"parent", parent},
		{"sequence", fmt.Sprint(e.Sequence)},
		{"manifest", e.Digest.String()},
		{"previous", previous},
		{"lineage", e.Lineage},
		{"content", fmt.Sprintf("%s, %d pages of %d bytes, journal mode %s", size(e.Content.Size), e.Content.Pages, e.Content.PageSize, e.Source.JournalMode)},
		{"digest", e.Content.Digest.String()},
		{"stored", stored(e)},
		{"owner", fmt.Sprintf("%s:%s (%d:%d), mode %s", e.Source.Owner, e.Source.Group, e.Source.UID, e.Source.GID, e.Source.Mode)},
		{"opens with", strings.Join(e.Recipients, "\n\t")},
	}
	if until := f.lockedUntil(); !until.IsZero() {
		rows = append(rows, []string{"locked until", until.Format(time.DateTime) + " UTC: nobody can delete it before, nor what it is built on"})
	}
	p.print.table(append(rows, f.way()...))
}

// stored says what lies in the target of a backup alone.
func stored(e *catalog.Entry) string {
	if e.Payload == nil {
		return "nothing"
	}
	return size(e.Payload.Size)
}

// shown is what `show --json` gives.
type shown struct {
	listed
	Fetches     []fetched `json:"restore_fetches"`
	LockedUntil time.Time `json:"locked_until,omitzero"` // with all that it is built on
}

// fetched is one payload on the way to a backup.
type fetched struct {
	Sequence uint64 `json:"sequence"`
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Bytes    int64  `json:"bytes"`
}

func (f *located) fetches() []fetched {
	list := []fetched{}
	for _, e := range f.path {
		list = append(list, fetched{e.Sequence, e.ID, e.Kind, e.Payload.Size})
	}
	return list
}

// lockedUntil is until when nobody can take the backup, or a step on the way to
// it; zero if one of them is not locked.
func (f *located) lockedUntil() time.Time {
	if f.broken != nil {
		return time.Time{}
	}
	return catalog.LockedUntil(append(slices.Clone(f.path), f.entry))
}

// way says what a restore would fetch.
func (f *located) way() [][]string {
	if f.broken != nil {
		return [][]string{{"a restore fetches", "cannot be told: " + f.broken.Error()}}
	}
	var sum int64
	var names []string
	for _, e := range f.path {
		sum += e.Payload.Size
		names = append(names, fmt.Sprintf("#%d %s, %s", e.Sequence, e.Kind, stored(e)))
	}
	if n := len(names); n > 6 {
		names = append(append(names[:3:3], fmt.Sprintf("… %d more deltas", n-5)), names[n-2:]...)
	}
	rows := [][]string{{"a restore fetches", fmt.Sprintf("%s in %d payloads", size(sum), len(f.path))}}
	for _, name := range names {
		rows = append(rows, []string{"", name})
	}
	return rows
}
