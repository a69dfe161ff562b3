package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/finding"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// examined is one database on one page.
type examined struct {
	Database string            `json:"database"`
	Path     string            `json:"path"`
	Journal  string            `json:"journal_mode"`
	Writer   string            `json:"last_writer"`
	WAL      int64             `json:"wal_bytes"`
	Holders  []sqlite.Process  `json:"open_in"`
	Facts    *sqlite.Facts     `json:"facts"`
	Status   statusDoc         `json:"status"`
	Grade    string            `json:"grade"`
	Findings []finding.Finding `json:"findings"`
}

// examine tells all that there is to know about one database. It looks at a
// snapshot, so that the application is kept waiting no longer than by a backup.
func (p *program) examine(ctx context.Context, s *site, name string) error {
	path := s.path(name)
	image, err := sqlite.Inspect(path)
	if err != nil {
		return err
	}
	e := examined{Database: name, Path: path, Journal: image.JournalMode, Writer: image.WriterVersion}
	if info, err := os.Stat(path + "-wal"); err == nil {
		e.WAL = info.Size()
	}
	e.Holders, _, _ = sqlite.Holders(path) //nolint:errcheck // what cannot be seen is not shown
	if e.Facts, err = p.facts(ctx, s, name); err != nil {
		return err
	}
	if e.Status, err = p.statusOf(s, name); err != nil {
		return err
	}
	_, found, err := s.lookAt(ctx, []string{name}, p.now())
	if err != nil {
		return err
	}
	e.Findings, e.Grade = found, finding.Grade(found)
	p.print.emit(e)
	p.print.table(e.rows(p.now()))
	p.print.line("")
	p.showFindings(found)
	for _, what := range e.Facts.Unchecked {
		p.print.warn("not checked, because it needs what only the application has: %s", what)
	}
	if e.Facts.Damaged {
		return fault.New(fault.Damaged, "%s is damaged. SQLite's quick_check reports: %s", path, e.Facts.Integrity).
			WithSafe("Backups from before the damage are whole: `emsafe drill run %s --select oldest` proves one.", name).
			WithRemedy("Do not write to it any more. Follow `emsafe runbook show restore-corruption`, or restore a backup beside it: emsafe restore %s --to /tmp/%s.db", name, name)
	}
	return nil
}

// facts are those of a snapshot.
func (p *program) facts(ctx context.Context, s *site, name string) (facts *sqlite.Facts, err error) {
	err = p.withCopy(ctx, s, name, s.cfg.State, func(copied string) error {
		facts, err = sqlite.Look(ctx, copied)
		return err
	})
	return facts, err
}

// withCopy has something done with a snapshot, in a folder of its own in dir,
// which is removed again.
func (p *program) withCopy(ctx context.Context, s *site, name, dir string, do func(copied string) error) (err error) {
	folder, err := durable.NewFolder(dir, lookPrefix)
	if err != nil {
		return permission(err)
	}
	own := folder.Path
	defer func() { err = errors.Join(err, folder.Remove()) }()
	scratch, err := seal.NewScratch(own)
	if err != nil {
		return err
	}
	defer scratch.Close()
	f, err := os.OpenFile(filepath.Join(own, "copy.db"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	d := s.cfg.Databases[name]
	options := sqlite.Options{MaxHold: d.MaxHold, AllowBlock: d.AllowBlock, MaxSnapshot: d.MaxSnapshot, MaxWALGrowth: d.MaxWALGrowth, Ahead: scratch}
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err = sqlite.Snapshot(ctx, d.Path, options, func(sqlite.Image) (io.Writer, error) {
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		_, err := f.Seek(0, io.SeekStart)
		w.Reset(f)
		return w, err
	}); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return do(f.Name())
}

func (e examined) rows(now time.Time) [][]string {
	f := e.Facts
	rows := [][]string{
		{"database", e.Database + "  " + e.Path},
		{"size", fmt.Sprintf("%s in %d pages of %d bytes; %s free, %s unused within pages (%.0f %%)", size(f.Pages*f.PageSize), f.Pages, f.PageSize, size(f.Free*f.PageSize), size(f.Unused), 100*float64(f.Unused+f.Free*f.PageSize)/float64(max(f.Pages*f.PageSize, 1)))},
		{"journal", fmt.Sprintf("%s; log of %s; auto_vacuum %s", e.Journal, size(e.WAL), f.Vacuum)},
		{"written by", "SQLite " + e.Writer + "; encoding " + f.Encoding},
		{"integrity", f.Integrity},
	}
	if f.Orphans > 0 {
		rows = append(rows, []string{"orphans", fmt.Sprintf("%d rows whose foreign key leads nowhere", f.Orphans)})
	}
	var open []string
	for _, h := range e.Holders {
		open = append(open, fmt.Sprintf("%s (process %d, user %s)", h.Name, h.PID, h.User))
	}
	if len(open) == 0 {
		open = []string{"nobody that can be seen"}
	}
	rows = append(rows, []string{"open in", strings.Join(open, ", ")})
	for i, t := range f.Tables {
		what := ""
		if i == 0 {
			what = "largest"
		}
		rows = append(rows, []string{what, fmt.Sprintf("%s  %s", t.Name, size(t.Bytes))})
	}
	for _, t := range e.Status.rows(now) {
		rows = append(rows, []string{"backup in " + t[1], strings.TrimSpace(t[2] + "  " + t[4] + " old, " + t[6])})
	}
	return rows
}
