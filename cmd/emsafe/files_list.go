package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/point"
)

// listedPoint is one recovery point as `files list --json` gives it.
type listedPoint struct {
	Target  string       `json:"target"`
	Fileset string       `json:"fileset"`
	Point   *point.Point `json:"point,omitempty"`
	Lacks   []string     `json:"lacks,omitempty"`  // halves that are gone
	Hidden  bool         `json:"hidden,omitempty"` // somebody deleted it, and both halves are there
	Error   *failure     `json:"error,omitempty"`
}

// looseSnapshots are those of a repository that no point names.
type looseSnapshots struct {
	Target    string   `json:"target"`
	Fileset   string   `json:"fileset"`
	Snapshots []string `json:"snapshots"`
}

func (p *program) filesList(c *cli.Context) error {
	s, err := p.site(c)
	if err != nil {
		return err
	}
	names, err := s.storedFilesets(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	points, loose, err := p.listPoints(c.Context, s, names, c.Int("last"))
	p.print.emit(map[string]any{"points": points, "snapshots_without_point": loose})
	return err
}

// kinds parts names into those of databases and of filesets; no name is all of
// both.
func (s *site) kinds(given []string) (databases, filesets []string) {
	if s.cfg == nil {
		return given, nil
	}
	if len(given) == 0 {
		return slices.Sorted(maps.Keys(s.cfg.Databases)), slices.Sorted(maps.Keys(s.cfg.Filesets))
	}
	for _, name := range given {
		if _, ok := s.cfg.Filesets[name]; ok {
			filesets = append(filesets, name)
		} else {
			databases = append(databases, name)
		}
	}
	return databases, filesets
}

// storedFilesets are the names given, or those of the configuration, or those
// that the targets have points of.
func (s *site) storedFilesets(ctx context.Context, given []string) ([]string, error) {
	if s.cfg != nil || len(given) > 0 {
		return s.filesets(given)
	}
	var all []string
	for _, t := range s.targets {
		b, err := t.Open(ctx)
		if err != nil {
			return nil, err
		}
		names, err := point.Filesets(ctx, b)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// listPoints shows the points of filesets in all their targets.
func (p *program) listPoints(ctx context.Context, s *site, names []string, last int) (docs []listedPoint, loose []looseSnapshots, err error) {
	docs, loose = []listedPoint{}, []looseSnapshots{}
	var failed []error
	for _, name := range names {
		for _, t := range s.filesTargets(name) {
			got, without, err := p.listPointsOf(ctx, s, t, name, last)
			docs = append(docs, got...)
			if len(without) > 0 {
				loose = append(loose, looseSnapshots{t.Name, name, without})
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("target %s, fileset %s: %w", t.Name, name, err))
			}
		}
	}
	return docs, loose, worst(failed)
}

func (p *program) listPointsOf(ctx context.Context, s *site, t storage.Target, name string, last int) (docs []listedPoint, loose []string, err error) {
	b, err := t.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	points, problems, err := point.List(ctx, b, s.signers, name, last)
	if err != nil {
		return nil, nil, err
	}
	snapshots, err := point.Snapshots(ctx, b, name, "")
	if err != nil {
		return nil, nil, err
	}
	p.print.line("recovery points of %s in %s", name, b)
	rows := [][]string{{"ID", "AGE", "TAKEN (UTC)", "FILES", "SIZE", "SNAPSHOT", "DATABASES", "HOST", ""}}
	loose = slices.Clone(snapshots)
	for _, r := range points {
		lacks, err := s.lacks(ctx, b, r, snapshots)
		if err != nil {
			return docs, nil, err
		}
		if r.Hidden && len(lacks) > 0 {
			continue // it was removed
		}
		docs = append(docs, listedPoint{Target: t.Name, Fileset: name, Point: &r, Lacks: lacks, Hidden: r.Hidden})
		loose = slices.DeleteFunc(loose, func(id string) bool { return id == r.Files.Snapshot })
		rows = append(rows, []string{
			r.ID, age(p.now().Sub(r.TakenAt)), r.TakenAt.Format(time.DateTime), fmt.Sprint(r.Files.Count), size(r.Files.Bytes),
			fmt.Sprintf("%.8s", r.Files.Snapshot), strings.TrimPrefix(named(r.Databases), " with "), r.Host, remark(r, lacks),
		})
	}
	for _, err := range problems {
		f := describe(err)
		docs = append(docs, listedPoint{Target: t.Name, Fileset: name, Error: &f})
	}
	if len(rows) > 1 {
		p.print.table(rows)
	} else {
		p.print.line("  none yet")
	}
	for _, err := range problems {
		p.print.line("ERROR: %v", err)
	}
	if last > 0 && len(points) == last {
		loose = nil // older points were not looked at, and may name them
	}
	if len(loose) > 0 {
		p.print.line("  %d snapshots belong to no recovery point, as of a run that was cut off: %s", len(loose), shortened(loose))
	}
	return docs, loose, worst(problems)
}

func shortened(ids []string) string {
	var short []string
	for _, id := range ids[:min(5, len(ids))] {
		short = append(short, fmt.Sprintf("%.8s", id))
	}
	if len(ids) > len(short) {
		short = append(short, "…")
	}
	return strings.Join(short, ", ")
}

// lacks are the halves of a point that are gone.
func (s *site) lacks(ctx context.Context, b storage.Bucket, r point.Point, snapshots []string) (gone []string, err error) {
	if !slices.Contains(snapshots, r.Files.Snapshot) {
		gone = append(gone, fmt.Sprintf("the snapshot %.8s", r.Files.Snapshot))
	}
	if len(r.Databases) == 0 {
		return gone, nil
	}
	c, err := catalog.Open(ctx, storage.Past(b), s.signers)
	if err != nil {
		return gone, err
	}
	for _, d := range r.Databases {
		there, err := c.Chain(d.Name).Has(ctx, d.Sequence)
		if err != nil {
			return gone, err
		}
		if !there {
			gone = append(gone, fmt.Sprintf("number %d of %s", d.Sequence, d.Name))
		}
	}
	return gone, nil
}

func remark(r point.Point, lacks []string) string {
	switch {
	case len(lacks) > 0:
		return "INCOMPLETE: " + strings.Join(lacks, " and ") + " is gone"
	case r.Hidden:
		return "HIDDEN: somebody deleted it, and it is whole"
	case r.Files.Unread > 0:
		return fmt.Sprintf("%d files could not be read", r.Files.Unread)
	}
	return ""
}

// named lists databases with the numbers of their backups.
func named(databases []point.Database) string {
	var list []string
	for _, d := range databases {
		list = append(list, fmt.Sprintf("%s #%d", d.Name, d.Sequence))
	}
	if len(list) == 0 {
		return ""
	}
	return " with " + strings.Join(list, ", ")
}

// pinnedIn are the backups of a database that recovery points in a target name:
// they go with the point, when files are forgotten.
func (s *site) pinnedIn(ctx context.Context, database string, t storage.Target) (map[string]string, error) {
	b, err := t.Open(ctx)
	if err != nil {
		return nil, err
	}
	filesets, err := point.Filesets(ctx, b)
	if err != nil {
		return nil, err
	}
	pinned := map[string]string{}
	for _, fileset := range filesets {
		points, problems, err := point.List(ctx, b, s.signers, fileset, 0)
		if err != nil {
			return nil, err
		}
		for _, problem := range problems {
			s.p.print.warn("%v", problem)
		}
		snapshots, err := point.Snapshots(ctx, b, fileset, "")
		if err != nil {
			return nil, err
		}
		for _, r := range points {
			for _, d := range r.Databases {
				if d.Name == database && slices.Contains(snapshots, r.Files.Snapshot) {
					pinned[d.Backup] = "recovery point " + r.ID
				}
			}
		}
	}
	return pinned, nil
}
