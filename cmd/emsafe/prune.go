package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage"
)

func (p *program) pruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove backups that the configuration's `keep` does not want", ArgsUsage: "[NAME…]",
		Description: "Shows what stays and why, and what goes; then writes a signed record of it and removes the manifests. Payloads follow with a later prune. " +
			"Nothing goes that a backup which stays is built on, nor the newest. It refuses where what it sees cannot be trusted: an old view of the target, a broken chain, a clock that is off, a database that has shrunk to less than half.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would be done, and do nothing"},
			&cli.BoolFlag{Name: "force", Usage: "although the newest backup is far smaller than the ones before"},
		},
		Action: func(c *cli.Context) error {
			s, err := p.ownSite(c)
			if err != nil {
				return err
			}
			names, err := s.databases(c.Context, c.Args().Slice())
			if err != nil {
				return err
			}
			var failed []error
			docs := []prunedDoc{}
			for _, name := range names {
				if s.cfg.Databases[name].Keep.IsZero() {
					p.print.note("%s  keeps everything: there is no `keep` for it", name)
					if c.NArg() > 0 {
						failed = append(failed, fault.New(fault.Config, "%s has no `keep`: nothing is ever removed", name).
							WithRemedy("Add a policy, as in: keep: {daily: 7, weekly: 5, monthly: 12}"))
					}
					continue
				}
				for _, t := range s.targetsOf(name) {
					doc, err := p.pruneOne(c, s, name, t)
					docs = append(docs, doc)
					if err != nil {
						failed = append(failed, fmt.Errorf("%s in %s: %w", name, t.Name, err))
					}
				}
			}
			p.print.emit(map[string]any{"pruned": docs})
			return worst(failed)
		},
	}
}

// prunedDoc is one target's result in JSON.
type prunedDoc struct {
	*backup.Pruned
	DryRun bool          `json:"dry_run"`
	Plan   []decisionDoc `json:"plan"`
	Error  *failure      `json:"error,omitempty"`
}

type decisionDoc struct {
	Sequence uint64    `json:"sequence"`
	ID       string    `json:"id"`
	At       time.Time `json:"snapshot_at"`
	Keep     bool      `json:"keep"`
	Reasons  []string  `json:"reasons"`
}

func (p *program) pruneOne(c *cli.Context, s *site, name string, t storage.Target) (prunedDoc, error) {
	doc := prunedDoc{Pruned: &backup.Pruned{Database: name, Target: t.Name}, DryRun: c.Bool("dry-run"), Plan: []decisionDoc{}}
	out, err := s.prune(c.Context, name, t, p.now, func(job *backup.Pruning) {
		job.DryRun, job.Force = c.Bool("dry-run"), c.Bool("force")
	})
	if out == nil {
		return doc, err
	}
	doc.Pruned = out
	for _, d := range out.Decisions {
		doc.Plan = append(doc.Plan, decisionDoc{d.Sequence, d.ID, d.At, d.Kept(), d.Reasons})
	}
	p.print.table(pruneTable(out))
	verb := "removed"
	if doc.DryRun {
		verb = "would be removed"
	}
	switch {
	case err != nil:
		f := describe(err)
		doc.Error = &f
	case out.Record > 0 || doc.DryRun:
		p.print.done("%s in %s: %d of %d %s; %s of payloads follow with a prune after %s", name, t.Name, out.Removed, len(out.Decisions), verb, size(out.Frees), pruneGrace)
	default:
		p.print.done("%s in %s: nothing to remove", name, t.Name)
	}
	if out.Locked > 0 {
		p.print.done("%s in %s: %d more are locked and stay; the last lock ends %s UTC", name, t.Name, out.Locked, out.LockedUntil.Format(time.DateTime))
	}
	if out.Payloads > 0 {
		p.print.done("%s in %s: %d payloads of earlier prunes and interrupted uploads deleted, %s", name, t.Name, out.Payloads, size(out.Bytes))
	}
	return doc, err
}

// prune removes what the policy does not want of one database in one target.
func (s *site) prune(ctx context.Context, name string, t storage.Target, now func() time.Time, change func(*backup.Pruning)) (*backup.Pruned, error) {
	job, err := s.pruning(name, t)
	if err != nil {
		return nil, err
	}
	job.Now, job.Drilled = now, s.drilledIn(ctx, name, t)
	if job.Pinned, err = s.pinnedIn(ctx, name, t); err != nil {
		return nil, fmt.Errorf("which backups recovery points need cannot be told, so none is removed: %w", err)
	}
	if change(&job); !job.DryRun {
		unlock, err := durable.Lock(backup.PruneLockFile(s.cfg.State, name), "prune of "+name)
		if err != nil {
			return nil, err
		}
		defer unlock() //nolint:errcheck // the process is done with it
	}
	out, err := backup.Prune(ctx, job)
	if !job.DryRun && (err != nil || out.Removed > 0) {
		what := ""
		if out != nil && out.Removed > 0 {
			what = fmt.Sprintf("record %d: %s removed", out.Record, several(out.Removed, "backup", "backups"))
		}
		s.record(journal.Entry{Action: "prune", Database: name, Target: t.Name, What: what}, err)
	}
	return out, err
}

// pruneTable shows the plan. Of the many deltas that stay or go alike, next to
// each other, the first and the last are shown.
func pruneTable(out *backup.Pruned) [][]string {
	rows := [][]string{{"#", "ID", "TAKEN (UTC)", "", "WHY"}}
	list := out.Decisions
	for i := 0; i < len(list); i++ {
		d := list[i]
		what, why := "keep", strings.Join(d.Reasons, ", ")
		if !d.Kept() {
			what, why = "remove", ""
		}
		rows = append(rows, []string{fmt.Sprint(d.Sequence), d.ID, d.At.Format(time.DateTime), what, why})
		end := i
		for end+1 < len(list) && len(list[end+1].Reasons) == len(d.Reasons) && (!d.Kept() || list[end+1].Reasons[0] == d.Reasons[0]) {
			end++
		}
		if end-i > 3 {
			rows = append(rows, []string{"…", fmt.Sprintf("%d more", end-i-1), "", what, ""})
			i = end - 1
		}
	}
	return rows
}
