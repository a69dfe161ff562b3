package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/point"
	"emsafe/storage/restic"
)

// pointIn is a recovery point and where it was found.
type pointIn struct {
	point.Point
	target storage.Target
	bucket storage.Bucket
}

// findPoint looks for a recovery point in the targets; of the newest the newest.
func (s *site) findPoint(ctx context.Context, targets []storage.Target, fileset, id string) (pointIn, error) {
	var found pointIn
	var failed []error
	for _, t := range targets {
		b, err := t.Open(ctx)
		var r point.Point
		if err == nil {
			var problems []error
			r, problems, err = point.Find(ctx, b, s.signers, fileset, id)
			for _, problem := range problems {
				s.p.print.warn("target %s: %v", t.Name, problem)
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
		} else if found.bucket == nil || r.TakenAt.After(found.TakenAt) {
			found = pointIn{r, t, b}
		}
	}
	if found.bucket == nil {
		return found, worst(failed)
	}
	for _, err := range failed {
		if !errors.Is(err, fault.NotFound) {
			s.p.print.warn("%v", err)
		}
	}
	return found, nil
}

func (p *program) filesRestore(c *cli.Context) error {
	name, to := c.Args().First(), c.String("to")
	switch {
	case c.NArg() != 1:
		return usage("files restore needs one NAME; the destination is given with --to")
	case to == "":
		return fault.New(fault.Usage, "where to? --to FOLDER was not given").WithRemedy("For example: emsafe files restore %s --to /tmp/%s", name, name)
	case c.String("point") != "" && c.String("snapshot") != "":
		return usage("--point and --snapshot exclude each other")
	}
	s, err := p.site(c)
	if err != nil {
		return err
	}
	if _, err := s.filesets([]string{name}); err != nil {
		return err
	}
	snapshot, b := c.String("snapshot"), storage.Bucket(nil)
	if snapshot == "" {
		found, err := s.findPoint(c.Context, s.filesTargets(name), name, c.String("point"))
		if err != nil {
			return err
		}
		p.describePoint(found)
		snapshot, b = found.Files.Snapshot, found.bucket
	} else if b, err = s.filesTargets(name)[0].Open(c.Context); err != nil {
		return err
	}
	r, err := s.repository(c, b, name)
	if err != nil {
		return err
	}
	began := time.Now()
	var files, bytes int64
	defer s.remember(destination{Path: to, Folder: true})()
	err = restore.Folder(to, func(stage string) error {
		if err := r.Restore(c.Context, snapshot, stage, c.StringSlice("only")); err != nil {
			return err
		}
		if files, bytes, err = restore.Count(stage); err == nil && files == 0 && len(c.StringSlice("only")) > 0 {
			return fault.New(fault.NotFound, "the snapshot has nothing at %s", strings.Join(c.StringSlice("only"), ", ")).WithRemedy("Paths are whole, as in /srv/app/uploads/a.jpg.")
		}
		return err
	})
	s.record(journal.Entry{Action: "restore", What: fmt.Sprintf("files of %s, snapshot %.8s, to %s", name, snapshot, to)}, err)
	if err != nil {
		return permission(err)
	}
	p.print.emit(map[string]any{"fileset": name, "snapshot": snapshot, "path": to, "files": files, "bytes": bytes, "seconds": time.Since(began).Seconds()})
	p.print.line("restored %s, %s, below %s in %s", several(int(files), "file", "files"), size(bytes), to, time.Since(began).Round(time.Millisecond))
	return nil
}

func (p *program) describePoint(r pointIn) {
	p.print.note("point    %s (fileset %s, target %s)", r.ID, r.Fileset, r.target.Name)
	p.print.note("taken    %s UTC, %s ago, on %s", r.TakenAt.Format(time.DateTime), age(p.now().Sub(r.TakenAt)), r.Host)
	for _, d := range r.Databases {
		p.print.note("database %s as of %s UTC: %s (number %d)", d.Name, d.SnapshotAt.Format(time.DateTime), d.Backup, d.Sequence)
	}
	p.print.note("files    %d, %s, as of %s UTC: snapshot %.8s", r.Files.Count, size(r.Files.Bytes), r.Files.TakenAt.Format(time.DateTime), r.Files.Snapshot)
	if r.Files.Unread > 0 {
		p.print.warn("%d files could not be read when the point was made, and are not in it", r.Files.Unread)
	}
}

// restorePoint brings both halves of a recovery point back into a new folder.
func (p *program) restorePoint(c *cli.Context) error {
	for _, flag := range []string{"id", "at", "in-place", "undo", "min-sequence", "head"} {
		if c.IsSet(flag) {
			return usage("--point brings back what belongs together, into a new folder; it takes no --%s", flag)
		}
	}
	s, err := p.site(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	if name != "" {
		if _, err := s.filesets([]string{name}); err != nil {
			return err
		}
	}
	found, err := s.findPoint(c.Context, s.targets, name, c.String("point"))
	if err != nil {
		return err
	}
	p.describePoint(found)
	plans, err := p.planPoint(c, s, found)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		p.print.emit(map[string]any{"dry_run": true, "point": found.Point, "target": found.target.Name})
		p.print.line("dry run: nothing was fetched or written")
		return nil
	}
	to := c.String("to")
	if to == "" {
		return fault.New(fault.Usage, "where to? --to FOLDER was not given").WithRemedy("For example: emsafe restore --point %s --to /tmp/restored", found.ID)
	}
	r, err := s.repository(c, found.bucket, found.Fileset)
	if err != nil {
		return err
	}
	began := time.Now()
	defer s.remember(destination{Path: to, Folder: true})()
	out, err := p.bringBack(c, r, found, plans, to)
	s.record(journal.Entry{Action: "restore", Target: found.target.Name, What: fmt.Sprintf("point %s to %s", found.ID, to)}, err)
	if err != nil {
		return permission(err)
	}
	p.print.emit(map[string]any{"point": found.ID, "fileset": found.Fileset, "target": found.target.Name, "path": to,
		"databases": out.databases, "files": out.files, "bytes": out.bytes, "seconds": time.Since(began).Seconds()})
	p.print.line("restored recovery point %s to %s in %s", found.ID, to, time.Since(began).Round(time.Millisecond))
	for _, d := range out.databases {
		p.print.line("  %s  every page matches the signed digest %s", filepath.Join(to, d.File), d.Digest)
	}
	p.print.line("  %s  %s, %s, each below its whole path", filepath.Join(to, "files"), several(int(out.files), "file", "files"), size(out.bytes))
	return nil
}

// halfPlan is the restore of one database of a point.
type halfPlan struct {
	point.Database
	request restore.Request
}

// planPoint verifies what leads to the backups of a point, before anything is
// written.
func (p *program) planPoint(c *cli.Context, s *site, found pointIn) ([]halfPlan, error) {
	var plans []halfPlan
	for _, d := range found.Databases {
		req := restore.Request{
			Database: d.Name, Wanted: catalog.Wanted{ID: d.Backup}, Targets: []storage.Target{found.target}, Signers: s.signers, Check: c.String("check"),
			AllowBroken: c.Bool("allow-broken-chain"), Remembered: s.remembered(d.Name), Now: p.now, Progress: p.print.progress("restoring " + d.Name),
		}
		plan, err := restore.Choose(c.Context, req)
		if err != nil {
			return nil, fmt.Errorf("database %s of the point: %w", d.Name, err)
		}
		if plan.Entry.Digest != d.Manifest {
			return nil, fault.New(fault.Forged, "number %d of %s is signed, but is not the one that the point names", plan.Entry.Sequence, d.Name)
		}
		for _, w := range plan.Warnings {
			p.print.warn("%s: %s", d.Name, w)
		}
		plans = append(plans, halfPlan{d, req})
	}
	if len(plans) == 0 || c.Bool("dry-run") {
		return plans, nil
	}
	if c.String("identity") == "" {
		return nil, fault.New(fault.Usage, "restoring needs the identity that opens the backups").WithRemedy("Give --identity FILE, or --identity - and paste it.")
	}
	ids, err := s.identity(c.String("identity"))
	for i := range plans {
		plans[i].request.Identities = ids
	}
	return plans, err
}

type broughtBack struct {
	databases    []restoredDatabase
	files, bytes int64
}

type restoredDatabase struct {
	Name   string `json:"name"`
	Backup string `json:"backup"`
	File   string `json:"file"` // below the folder
	Digest string `json:"digest"`
}

func (p *program) bringBack(c *cli.Context, r *restic.Repository, found pointIn, plans []halfPlan, to string) (out broughtBack, err error) {
	out.databases = []restoredDatabase{}
	err = restore.Folder(to, func(stage string) error {
		folder := filepath.Join(stage, "databases")
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		for _, half := range plans {
			file := half.Name + ".db"
			half.request.Destination = filepath.Join(folder, file)
			plan, err := restore.Choose(c.Context, half.request)
			if err != nil {
				return err
			}
			got, err := plan.Run(c.Context)
			if err != nil {
				return fmt.Errorf("database %s: %w", half.Name, err)
			}
			for _, w := range got.Warnings {
				p.print.warn("%s: %s", half.Name, w)
			}
			out.databases = append(out.databases, restoredDatabase{half.Name, half.Backup, filepath.Join("databases", file), fmt.Sprint(got.Entry.Content.Digest)})
		}
		files := filepath.Join(stage, "files")
		if err := os.Mkdir(files, 0o700); err != nil {
			return err
		}
		p.print.note("files …")
		if err := r.Restore(c.Context, found.Files.Snapshot, files, nil); err != nil {
			return err
		}
		out.files, out.bytes, err = restore.Count(files)
		return err
	})
	p.print.clearProgress()
	return out, err
}

func (p *program) filesPassword(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("files password needs one NAME")
	}
	s, err := p.site(c)
	if err != nil {
		return err
	}
	name, file := c.Args().First(), c.String("identity")
	if c.Bool("save") && s.cfg == nil {
		return noConfiguration()
	}
	if file == "" {
		return fault.New(fault.Usage, "the identity that opens the sealed copy is needed").WithRemedy("Give --identity FILE, or --identity - and paste it.")
	}
	ids, err := s.identity(file)
	if err != nil {
		return err
	}
	var failed []error
	for _, t := range s.filesTargets(name) {
		b, err := t.Open(c.Context)
		if err == nil {
			var password string
			if password, err = p.passwordFrom(c, s, b, ids, name); err == nil {
				p.print.emit(map[string]string{"fileset": name, "target": t.Name, "password": password})
				if password != "" {
					p.print.line("%s", password)
				}
				return nil
			}
		}
		failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
	}
	return worst(failed)
}
