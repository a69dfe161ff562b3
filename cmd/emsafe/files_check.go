package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/point"
	"emsafe/storage/restic"
	"emsafe/storage/seal"
)

// passwordFrom opens the copy in a target. With --save it becomes the host's,
// and is not returned.
func (p *program) passwordFrom(c *cli.Context, s *site, b storage.Bucket, ids seal.Identities, name string) (string, error) {
	found, err := s.sealedPassword(c.Context, b, ids, name)
	password := strings.TrimRight(string(found.Text), "\n")
	if err != nil || !c.Bool("save") {
		return password, err
	}
	file := backup.PasswordFile(s.cfg.State, name)
	if has, err := backup.ReadPassword(file); err == nil && has != password {
		return "", fault.New(fault.TargetExists, "%s holds another password", file).WithRemedy("Move it away first, if you are sure.")
	}
	if err := backup.SavePassword(s.cfg.State, name, password); err != nil {
		return "", permission(err)
	}
	p.print.done("%s  the password that %s sealed at %s UTC is this host's now", name, found.Host, found.TakenAt.Format(time.DateTime))
	return "", nil
}

// checkedFiles is what was found of one fileset in one target.
type checkedFiles struct {
	Fileset string           `json:"fileset"`
	Target  string           `json:"target"`
	Read    string           `json:"read_data_subset"`
	Sample  *restore.Sampled `json:"sample,omitempty"`
	Error   *failure         `json:"error,omitempty"`
}

// subsetForm is how restic takes a part of the data.
var subsetForm = regexp.MustCompile(`^(0|[0-9]+(\.[0-9]+)?%|[0-9]+/[0-9]+|[0-9]+[KMGT]?)$`)

func (p *program) filesCheck(c *cli.Context) error {
	if subset := c.String("read-data-subset"); !subsetForm.MatchString(subset) {
		return usage("--read-data-subset is a percentage as 5%%, a size as 100M, a part as 1/10, or 0, not %q", subset)
	}
	s, err := p.site(c)
	if err != nil {
		return err
	}
	names, err := s.storedFilesets(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	yield()
	docs := []checkedFiles{}
	var failed []error
	for _, name := range names {
		for _, t := range s.filesTargets(name) {
			doc := checkedFiles{Fileset: name, Target: t.Name, Read: c.String("read-data-subset")}
			if doc.Read == "0" {
				doc.Read = ""
			}
			err := p.checkFiles(c, s, t, &doc)
			if err != nil {
				f := describe(err)
				doc.Error = &f
				p.print.line("%s in %s  FAILED: %v", name, t.Name, err)
				failed = append(failed, fmt.Errorf("%s in %s: %w", name, t.Name, err))
			}
			docs = append(docs, doc)
		}
	}
	p.print.emit(map[string]any{"checked": docs})
	return worst(failed)
}

func (p *program) checkFiles(c *cli.Context, s *site, t storage.Target, doc *checkedFiles) error {
	b, err := t.Open(c.Context)
	if err != nil {
		return err
	}
	r, err := s.repository(c, b, doc.Fileset)
	if err != nil {
		return err
	}
	if err := r.Check(c.Context, doc.Read); err != nil {
		return err
	}
	how := "without reading data"
	if doc.Read != "" {
		how = doc.Read + " of the data read"
	}
	p.print.done("%s in %s  the repository is whole, %s", doc.Fileset, t.Name, how)
	if c.Int("sample") <= 0 {
		return nil
	}
	newest, err := r.Snapshots(c.Context, "emsafe")
	if err != nil || len(newest) == 0 {
		return err
	}
	got, err := sampleOf(c.Context, r, newest[len(newest)-1].ID, c.Int("sample"), nil)
	if err != nil {
		return err
	}
	if doc.Sample = &got; len(got.Wrong) > 0 {
		return fault.New(fault.Damaged, "%d of %d files came back wrong: %s", len(got.Wrong), got.Restored+len(got.Wrong), strings.Join(got.Wrong[:min(3, len(got.Wrong))], "; "))
	}
	p.print.done("%s in %s  %d of %d files restored and compared, %s; %d by digest with the live file", doc.Fileset, t.Name, got.Restored, got.Files, size(got.Bytes), got.Compared)
	return nil
}

// sampleMost keeps restic's command line within its bounds.
const sampleMost = 1000

// sampleOf samples a snapshot in a folder of its own, which goes with it.
func sampleOf(ctx context.Context, r *restic.Repository, snapshot string, n int, wanted []string) (out restore.Sampled, err error) {
	scratch, err := durable.NewFolder(os.TempDir(), filesPrefix)
	if err != nil {
		return out, err
	}
	out, err = restore.Sample(ctx, r, snapshot, min(n, sampleMost), scratch.Path, wanted)
	return out, errors.Join(err, scratch.Remove())
}

// forgotten is one target's result in JSON.
type forgotten struct {
	Fileset   string   `json:"fileset"`
	Target    string   `json:"target"`
	DryRun    bool     `json:"dry_run"`
	Kept      int      `json:"kept"`
	Snapshots []string `json:"snapshots"` // removed
	Points    []string `json:"points"`    // removed
	Error     *failure `json:"error,omitempty"`
}

func (p *program) filesForget(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	names, err := s.filesets(c.Args().Slice())
	if err != nil {
		return err
	}
	docs := []forgotten{}
	var failed []error
	for _, name := range names {
		if s.cfg.Filesets[name].Keep.IsZero() {
			p.print.note("%s  keeps everything: there is no `keep` for it", name)
			if c.NArg() > 0 {
				failed = append(failed, fault.New(fault.Config, "%s has no `keep`: nothing is ever removed", name).
					WithRemedy("Add a policy, as in: keep: {daily: 7, weekly: 5, monthly: 12}"))
			}
			continue
		}
		for _, t := range s.filesTargets(name) {
			doc, err := s.forget(c.Context, name, t, c.Bool("dry-run"))
			verb := "removed"
			if doc.DryRun {
				verb = "would be removed"
			}
			if err != nil {
				f := describe(err)
				doc.Error = &f
				failed = append(failed, fmt.Errorf("%s in %s: %w", name, t.Name, err))
			} else {
				p.print.done("%s in %s: %d snapshots and %d recovery points %s, %d snapshots stay", name, t.Name, len(doc.Snapshots), len(doc.Points), verb, doc.Kept)
			}
			docs = append(docs, doc)
		}
	}
	p.print.emit(map[string]any{"forgotten": docs})
	return worst(failed)
}

// forget removes what the policy does not want of one fileset in one target:
// points first, so that none is listed whose half is gone.
func (s *site) forget(ctx context.Context, name string, t storage.Target, dry bool) (doc forgotten, err error) {
	doc = forgotten{Fileset: name, Target: t.Name, DryRun: dry, Snapshots: []string{}, Points: []string{}}
	if _, err := restic.Find(ctx, ""); err != nil {
		return doc, err
	}
	b, err := t.Open(ctx)
	if err != nil {
		return doc, err
	}
	r, err := s.reach(ctx, b, name)
	if err != nil {
		return doc, err
	}
	if r.Password, err = backup.ReadPassword(backup.PasswordFile(s.cfg.State, name)); err != nil {
		return doc, err
	}
	k := s.cfg.Filesets[name].Keep
	keep, remove, err := r.Plan(ctx, "emsafe", restic.Keep{
		Last: int(k.Last), Hourly: int(k.Hourly), Daily: int(k.Daily), Weekly: int(k.Weekly), Monthly: int(k.Monthly), Yearly: int(k.Yearly), Within: k.Within,
	})
	if err != nil {
		return doc, err
	}
	doc.Kept = len(keep)
	going, stays := map[string]bool{}, []string{}
	for _, snapshot := range remove {
		going[snapshot.ID] = true
		doc.Snapshots = append(doc.Snapshots, snapshot.ID)
	}
	for _, snapshot := range keep {
		stays = append(stays, snapshot.ID)
	}
	points, problems, err := point.List(ctx, b, s.signers, name, 0)
	if err = errors.Join(append([]error{err}, problems...)...); err != nil {
		return doc, err
	}
	for _, r := range points {
		if r.Hidden {
			continue // it was removed, or somebody hid it, who is not to be helped
		}
		lacks, err := s.lacks(ctx, b, r, stays)
		if err != nil {
			return doc, err
		}
		if !going[r.Files.Snapshot] && len(lacks) == 0 {
			continue
		}
		doc.Points = append(doc.Points, r.ID)
		if !dry {
			if err := point.Delete(ctx, b, r); err != nil {
				return doc, err
			}
		}
	}
	if dry {
		return doc, nil
	}
	if err = r.Forget(ctx, doc.Snapshots...); len(doc.Snapshots)+len(doc.Points) > 0 || err != nil {
		s.record(journal.Entry{Action: "forget", Target: t.Name, What: fmt.Sprintf("%s: %d snapshots, %d recovery points", name, len(doc.Snapshots), len(doc.Points))}, err)
	}
	return doc, err
}
