package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// resolve says which backup of a target a selection means. why is not empty if
// there is none such; what is wrong with the target, the restore will tell.
func (r *runner) resolve(ctx context.Context, t storage.Target, s Selection) (w catalog.Wanted, why string) {
	switch s.Kind {
	case AtTime:
		return catalog.Wanted{At: s.At}, ""
	case ByID:
		return catalog.Wanted{ID: s.ID}, ""
	case Latest:
		return catalog.Wanted{}, ""
	case OfPoint:
		return r.newestPoint(ctx, t)
	}
	sequences, err := r.sequences(ctx, t)
	switch {
	case err != nil:
		return catalog.Wanted{}, ""
	case len(sequences) < 2:
		return catalog.Wanted{}, fmt.Sprintf("an older backup in target %s: it holds no other than the latest", t.Name)
	case s.Kind == Oldest:
		return catalog.Wanted{ID: fmt.Sprintf("#%d", sequences[0])}, ""
	}
	older := sequences[:len(sequences)-1]
	return catalog.Wanted{ID: fmt.Sprintf("#%d", older[rand.IntN(len(older))])}, "" //nolint:gosec // any will do
}

func (r *runner) sequences(ctx context.Context, t storage.Target) ([]uint64, error) {
	b, err := t.Open(ctx)
	if err != nil {
		return nil, err
	}
	c, err := catalog.Open(ctx, storage.Past(b), r.Signers)
	if err != nil {
		return nil, err
	}
	return c.Chain(r.Database).Sequences(ctx, 0)
}

// attempt is one restore of a drill, under way.
type attempt struct {
	*runner
	x     *Restored
	first bool
	path  string // of the restored database, once it is there
	dir   string // its folder
}

// restore brings one backup back in scratch and asks everything of it. Only the
// first is held against objectives, the last drill and the assertions: history
// may be smaller and older than today.
func (r *runner) restore(ctx context.Context, t storage.Target, why string, w catalog.Wanted, first bool) Restored {
	x := Restored{Why: why, Target: t.Name, Verdict: Pass, Identity: r.Identity, Phases: []Phase{}, Checks: []Check{}, Recipients: []string{}, Path: []string{}}
	a := &attempt{runner: r, x: &x, first: first}
	if err := a.run(ctx, t, w); err != nil {
		v, reason := judge(ctx, err)
		if limit := context.Cause(ctx); errors.Is(limit, errLimit) {
			err = fmt.Errorf("%w (%s)", errLimit, r.Limit)
		}
		a.because(v, reason, err)
	}
	return x
}

// because makes the verdict worse; the first reason of the worst verdict stays.
func (a *attempt) because(v Verdict, reason string, err error) {
	if worst := worse(a.x.Verdict, v); worst != a.x.Verdict {
		a.x.Verdict, a.x.Reason = worst, reason
	}
	a.causes = append(a.causes, err)
}

func (a *attempt) run(ctx context.Context, t storage.Target, w catalog.Wanted) error {
	source := look(a.Source)
	if b, err := t.Open(ctx); err == nil {
		a.x.Location = b.String()
	}
	plan, err := restore.Choose(ctx, restore.Request{
		Database: a.Database, Wanted: w, Targets: []storage.Target{t}, Signers: a.Signers, Identities: a.Identities,
		Check: "none", Remembered: a.Remembered, MinSequence: a.MinSequence, Now: a.Now, Progress: a.Progress, Trace: a.phase,
	})
	if err != nil {
		return err
	}
	a.describe(plan)
	s, err := newScratch(a.Scratch, plan.Entry.Content.Size)
	if err != nil {
		return err
	}
	defer func() {
		began := a.Now()
		err := s.Remove()
		a.phase(restore.Phase{Name: "teardown", Began: began, Ended: a.Now(), Err: err})
		a.untouched(source)
		if err != nil {
			a.because(Inconclusive, ReasonSurroundings, fmt.Errorf("what was restored could not be removed: %w", err))
		}
	}()
	if a.dir, err = s.folder("restored"); err != nil {
		return err
	}
	a.path = filepath.Join(a.dir, a.Database+".db")
	if err := plan.Into(a.path); err != nil {
		return err
	}
	if _, err := plan.Run(ctx); err != nil {
		return err
	}
	a.x.Digest = plan.Entry.Content.Digest.String()
	err = a.examine(ctx, t, plan.Entry)
	if a.first && err == nil {
		a.checked = a.Now()
	}
	return err
}

// describe says what is being restored.
func (a *attempt) describe(plan *restore.Plan) {
	e, x := plan.Entry, a.x
	x.Backup, x.Sequence, x.Kind, x.Manifest, x.Head = e.ID, e.Sequence, e.Kind, e.Digest, plan.Newest.Sequence
	x.SnapshotAt, x.CommittedAt, x.Size, x.Recipients = e.SnapshotAt, e.CommittedAt, e.Content.Size, e.Recipients
	for _, step := range plan.Path {
		x.Path = append(x.Path, step.ID)
		x.Fetched += step.Payload.Size
	}
	if a.first {
		a.measured = x.Why == Latest
		a.rpoFrom, a.rpoHow = e.SnapshotAt, "snapshot-time"
	}
}

// phase notes one phase as the restore tells it.
func (a *attempt) phase(f restore.Phase) {
	p := Phase{Name: f.Name, Start: seconds(f.Began.Sub(a.report.Started)), Seconds: seconds(f.Ended.Sub(f.Began)), Bytes: f.Bytes, Verdict: Pass}
	if f.Err != nil {
		p.Verdict, p.Error = Fail, told(f.Err)
		if f.Name == "teardown" {
			p.Verdict = Inconclusive
		}
	}
	a.x.Phases = append(a.x.Phases, p)
}

// seconds are to the millisecond, so that a report reads well.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}

// told is an error as the report may say it: what a fault tells, without the
// words of SQLite, which may quote the schema.
func told(err error) string {
	const most = 300
	text := err.Error()
	if errors.Is(err, fault.Corrupt) {
		text = "SQLite reports damage"
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

// sight is what the live database looked like from outside: nothing of it is
// opened.
type sight struct {
	path  string
	info  os.FileInfo
	taken bool
}

func look(path string) sight {
	s := sight{path: path}
	if path != "" {
		info, err := os.Stat(path)
		s.info, s.taken = info, err == nil
	}
	return s
}

// untouched shows that the drill left the live database alone: the restore does
// not know where it is, and it is the same file as before.
func (a *attempt) untouched(before sight) {
	if !before.taken {
		return
	}
	began := a.Now()
	p := restore.Phase{Name: "source was not touched", Began: began, Ended: a.Now()}
	now, err := os.Stat(before.path)
	if err != nil || !os.SameFile(before.info, now) {
		p.Err = errors.New("the live database was replaced by somebody while the drill ran")
	}
	a.phase(p)
	if last := &a.x.Phases[len(a.x.Phases)-1]; p.Err != nil {
		last.Verdict = Inconclusive // the drill's own verdict is about the backup
	}
}
