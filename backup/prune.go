package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// Pruning is what it takes to remove old backups of one database from one
// target.
type Pruning struct {
	Database   string
	Target     storage.Target
	Signers    seal.Signers
	Key        *seal.SigningKey // with the role emsafe-prune
	Host       string
	Keep       catalog.Keep
	Zone       *time.Location
	Remembered map[string]catalog.Head // by repository id
	Drilled    map[string]time.Time    // by id, when a drill last passed it
	Pinned     map[string]string       // by id, what else needs it
	Grace      time.Duration           // between the removal of a manifest and of its payload
	Force      bool                    // although sizes have collapsed
	DryRun     bool
	Now        func() time.Time
}

// Pruned is the plan, and what became of it.
type Pruned struct {
	Database  string             `json:"database"`
	Target    string             `json:"target"`
	Decisions []catalog.Decision `json:"-"`
	Removed   int                `json:"removed"`  // manifests
	Record    uint64             `json:"record"`   // number of the signed record; 0: nothing was to be removed
	Payloads  int                `json:"payloads"` // of earlier prunes and interrupted uploads
	Bytes     int64              `json:"bytes"`    // of them
	Frees     int64              `json:"frees"`    // bytes of payloads that go when the grace has passed

	// Locked are backups, and objects of earlier prunes, that only a lock keeps;
	// the last of these locks ends at LockedUntil.
	Locked      int       `json:"locked"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

const (
	// orphanAge is how old a payload must be that no manifest names: it may be
	// of a backup that is being committed.
	orphanAge = 7 * 24 * time.Hour

	// mostSkew is how far this clock and the storage's may be apart.
	mostSkew = 5 * time.Minute
)

// Prune removes what the policy does not keep. A signed record of what goes is
// written first; the payloads go with the next prune after the grace. It
// refuses where what it sees cannot be trusted.
func Prune(ctx context.Context, p Pruning) (*Pruned, error) {
	out := &Pruned{Database: p.Database, Target: p.Target.Name}
	bucket, err := p.Target.Open(ctx)
	if err != nil {
		return out, err
	}
	c, err := catalog.Open(ctx, storage.Past(bucket), p.Signers)
	if err != nil {
		return out, err
	}
	w := &pruner{Pruning: p, chain: c.Chain(p.Database), out: out}
	if err := w.read(ctx); err != nil {
		return out, err
	}
	if err := w.trust(ctx); err != nil {
		return out, err
	}
	w.decide()
	if p.DryRun {
		return out, nil
	}
	return out, errors.Join(w.finish(ctx), w.sweep(ctx), w.remove(ctx))
}

// pruner prunes one chain.
type pruner struct {
	Pruning
	chain   *catalog.Chain
	out     *Pruned
	entries []*catalog.Entry
	records []*catalog.Prune
	half    []uint64 // that a record names already: an earlier run was cut off
	gone    []*catalog.Entry
}

func (w *pruner) read(ctx context.Context) error {
	sequences, err := w.chain.Sequences(ctx, 0)
	if err != nil {
		return err
	}
	results, err := w.chain.Walk(ctx, sequences)
	if err != nil {
		return err
	}
	if w.records, err = w.chain.Prunes(ctx); err != nil {
		return err
	}
	if problems := w.chain.Links(ctx, results, 1); len(problems) > 0 {
		return fault.New(fault.BrokenChain, "the chain of %s in %s does not hold, so nothing is removed from it: %w", w.Database, w.chain.Bucket, problems[0])
	}
	for _, r := range results {
		if slices.ContainsFunc(w.records, func(p *catalog.Prune) bool { return p.Covers(r.Sequence) }) {
			w.half = append(w.half, r.Sequence)
		} else {
			w.entries = append(w.entries, r.Entry)
		}
	}
	if len(w.entries) == 0 {
		return fault.New(fault.NotFound, "%s holds no backup of %s", w.chain.Bucket, w.Database)
	}
	return nil
}

// trust refuses where somebody, or something, may be lying.
func (w *pruner) trust(ctx context.Context) error {
	head := w.entries[len(w.entries)-1]
	known := w.Remembered[w.chain.Repository]
	for _, r := range w.records {
		if r.Head.Sequence > known.Sequence {
			known = r.Head
		}
	}
	if head.Sequence < known.Sequence {
		return fault.New(fault.RolledBack, "the newest backup is number %d, and number %d is known to exist: nothing is removed from what may be an old view", head.Sequence, known.Sequence)
	}
	if err := w.chain.Continues(ctx, known, head.Sequence); err != nil {
		return err
	}
	if err := w.collapsed(); err != nil {
		return err
	}
	if w.DryRun {
		return nil
	}
	return w.clock(ctx)
}

// collapsed refuses when the newest backup is far smaller than those before:
// the database may have been emptied, and the old ones are what is wanted.
func (w *pruner) collapsed() error {
	const of, share = 10, 2
	var sizes []int64
	for _, e := range w.entries[max(0, len(w.entries)-1-of):] {
		sizes = append(sizes, e.Content.Size)
	}
	newest := sizes[len(sizes)-1]
	slices.Sort(sizes)
	if usual := sizes[len(sizes)/2]; newest < usual/share && !w.Force {
		return fault.New(fault.Damaged, "the newest backup of %s is of %d bytes and the ones before of %d: nothing is removed while that is not understood", w.Database, newest, usual).
			WithRemedy("Look at the database. If it is right, `emsafe prune --force`.")
	}
	return nil
}

// clock compares this host's clock with the storage's.
func (w *pruner) clock(ctx context.Context) error {
	key := "probes/" + random(8)
	info, err := w.chain.Bucket.Create(ctx, key, bytes.NewReader([]byte("clock\n")), 6)
	if err != nil {
		return fmt.Errorf("write an object to learn the storage's time: %w", err)
	}
	for listed, err := range w.chain.Bucket.List(ctx, key, "") {
		if err == nil && listed.Key == key {
			info = listed
		}
		break
	}
	if err := w.chain.Bucket.Delete(ctx, key); err != nil && !errors.Is(err, storage.ErrLocked) {
		return fmt.Errorf("these credentials may not delete: %w", err)
	}
	if skew := w.Now().Sub(info.Modified).Abs(); skew > mostSkew {
		return fault.New(fault.ClockSkew, "this host's clock and the target's are %s apart: nothing is removed by a clock that may be wrong", skew.Round(time.Second))
	}
	return nil
}

func (w *pruner) decide() {
	var points []catalog.Point
	for _, e := range w.entries {
		point := catalog.Point{ID: e.ID, Sequence: e.Sequence, At: e.SnapshotAt, Ancestors: e.Ancestors, Full: e.Kind == catalog.KindFull, Drilled: !w.Drilled[e.ID].IsZero(), Pinned: w.Pinned[e.ID]}
		if !e.LockedUntil.IsZero() {
			point.Locked = e.LockedUntil.Add(storage.LockSlack)
		}
		points = append(points, point)
	}
	zone := w.Zone
	if zone == nil {
		zone = time.UTC
	}
	w.out.Decisions = catalog.Retain(points, w.Keep, w.Now(), zone)
	goes := map[uint64]bool{}
	for _, d := range w.out.Decisions {
		if !d.Kept() {
			goes[d.Sequence] = true
		}
		if d.Held {
			w.locked(d.Locked)
		}
	}
	for _, e := range w.entries {
		if goes[e.Sequence] {
			w.gone = append(w.gone, e)
			if e.Payload != nil {
				w.out.Frees += e.Payload.Size
			}
		}
	}
	w.out.Removed = len(w.gone)
}

// locked counts something that only a lock keeps.
func (w *pruner) locked(until time.Time) {
	w.out.Locked++
	if until.After(w.out.LockedUntil) {
		w.out.LockedUntil = until.UTC()
	}
}

// held counts what could not be deleted for its lock, which is no error: a later
// prune deletes it. The bucket may have a longer term of its own.
func (w *pruner) held(err error) bool {
	if !errors.Is(err, storage.ErrLocked) {
		return false
	}
	until := time.Time{}
	var l *storage.LockedError
	if errors.As(err, &l) {
		until = l.Until
	}
	w.locked(until)
	return true
}

// finish does the rest of an earlier run that was cut off, or met locks.
func (w *pruner) finish(ctx context.Context) error {
	for _, n := range slices.Backward(w.half) {
		if err := w.chain.DeleteManifest(ctx, n); err != nil && !w.held(err) {
			return err
		}
	}
	return nil
}

// sweep removes payloads that no manifest names: of backups that were pruned a
// grace ago, and of uploads that came to nothing.
func (w *pruner) sweep(ctx context.Context) error {
	now := w.Now()
	if n := len(w.records); n > 0 && now.Sub(w.records[n-1].PrunedAt) < w.Grace {
		return nil
	}
	// Where versions are not deleted, what was deleted is still listed.
	forGood := !storage.LockedUntil(w.chain.Bucket, now).IsZero()
	named := map[string]bool{}
	for _, e := range w.entries {
		if e.Payload != nil {
			named[e.Payload.Key] = true
		}
	}
	for info, err := range w.chain.Bucket.List(ctx, "databases/"+w.Database+"/payloads/", "") {
		if err != nil {
			return err
		}
		if named[info.Key] || now.Sub(info.Modified) < orphanAge || info.Hidden && !forGood {
			continue
		}
		if err := w.chain.Bucket.Delete(ctx, info.Key); w.held(err) {
			continue
		} else if err != nil {
			return err
		}
		w.out.Payloads++
		w.out.Bytes += info.Size
	}
	return nil
}

// remove writes the record, and then does what it says.
func (w *pruner) remove(ctx context.Context) error {
	if len(w.gone) == 0 {
		return nil
	}
	record, err := w.chain.AddPrune(ctx, w.Key, w.records, catalog.Prune{
		Host: w.Host, PrunedAt: w.Now().UTC().Truncate(time.Millisecond),
		Head: w.entries[len(w.entries)-1].Head(), Removed: catalog.Runs(w.gone),
	})
	if err != nil {
		return err
	}
	w.out.Record = record.Number
	// The newest first: whatever is still there when this is cut off restores.
	for _, e := range slices.Backward(w.gone) {
		if err := w.chain.DeleteManifest(ctx, e.Sequence); err != nil && !w.held(err) {
			return fmt.Errorf("manifest %d (the next prune removes it): %w", e.Sequence, err)
		}
	}
	return nil
}

// PruneLockFile is what prunes of one database exclude each other by. Backups
// go on meanwhile: a prune removes nothing that they build on.
func PruneLockFile(state, database string) string {
	return filepath.Join(state, database+".prune.lock")
}
