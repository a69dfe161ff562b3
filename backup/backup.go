// Package backup takes the copy: it snapshots a live database, seals it, or
// the pages that changed, into the local spool, ships it to every target, and
// commits a signed, chained manifest in each. [Database] is the call.
//
// A backup exists in a target when its manifest does, and not before. What
// could not be shipped waits in the spool and goes first next time.
package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// Job is one database to back up, and all that it takes.
type Job struct {
	Database   string
	Path       string
	Snapshot   sqlite.Options // Ahead is filled in
	Recipients seal.Recipients
	Level      string
	Key        *seal.SigningKey
	Signers    seal.Signers
	Host       string
	Machine    string // opaque id of this machine, "" if unknown
	Versions   map[string]string
	State      string // folder; made 0700 if missing
	SpoolLimit int64  // bytes that may wait there, of all databases; 0: no limit but the disk's
	Targets    []storage.Target
	TakeOver   bool // go on from what the targets hold, whoever made it
	Policy     Policy
	Full       bool // a full backup, whatever the policy says
	Heartbeat  bool // when nothing changed, sign that; otherwise leave no trace
	Now        func() time.Time
	Progress   func(done, total int64) // plaintext bytes sealed; may be nil
	Sealed     func()                  // called when the backup is durable in the spool, and only targets are waited for; may be nil
}

// Outcome says what became of the backup.
type Outcome struct {
	Database string        `json:"database"`
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`             // full, delta, heartbeat, or unchanged: nothing was committed
	Parent   string        `json:"parent,omitempty"` // id of the backup that a delta or a heartbeat builds on
	Pages    int64         `json:"delta_pages,omitempty"`
	Proven   bool          `json:"proven"`             // the WAL proved which pages could have changed
	WhyFull  string        `json:"why_full,omitempty"` // instead of a delta
	Content  seal.Content  `json:"content"`
	Sealed   int64         `json:"sealed_bytes"`
	At       time.Time     `json:"snapshot_at"`
	Held     time.Duration `json:"writers_held_ns"`
	Method   string        `json:"method"`

	// Unestablished is what could not be known of who else uses the database.
	Unestablished []string `json:"unestablished,omitempty"`

	Dropped Dropped         `json:"dropped"` // from a full spool; a target lacks these points
	Targets []TargetOutcome `json:"targets"`
}

// TargetOutcome is what became of it in one target.
type TargetOutcome struct {
	Target   string      `json:"target"`
	Sequence uint64      `json:"sequence,omitempty"`
	Manifest seal.Digest `json:"manifest"`
	Caught   int         `json:"caught_up,omitempty"` // earlier backups shipped from the spool
	Err      error       `json:"-"`
	Alarm    error       `json:"-"` // committed, but what was found there is wrong
}

// Unchanged is the kind of an outcome that committed nothing because nothing
// changed.
const Unchanged = "unchanged"

// Database takes one backup. The outcome is valid as far as it goes also when
// the error is not nil.
func Database(ctx context.Context, job Job) (Outcome, error) {
	out := Outcome{Database: job.Database}
	k, err := open(job)
	if err != nil {
		return out, err
	}
	defer k.close()
	waiting, err := k.spool.waiting()
	if err != nil {
		return out, err
	}
	waiting, dropped, err := k.bound(waiting)
	if err == nil {
		out, err = k.take(ctx, waiting)
	}
	out.Dropped = dropped
	return out, err
}

// take takes a full backup or a delta, as the policy wants, and ships it.
func (k *keeper) take(ctx context.Context, waiting []*spooled) (Outcome, error) {
	p := k.plan(waiting)
	if p.full {
		return k.full(ctx, p.why, waiting)
	}
	out, err := k.delta(ctx, p, waiting)
	var no *notDelta
	switch {
	case errors.As(err, &no):
		return k.full(ctx, no.why, waiting)
	case err == nil || !errors.Is(err, errNoParent):
		return out, err
	}
	// A target lost what the delta builds on. It gets a full one at once, and
	// the others have one more.
	if waiting, err = k.spool.waiting(); err != nil {
		return out, err
	}
	again, err := k.full(ctx, "a target does not hold what a delta would build on", waiting)
	for i, t := range again.Targets {
		if t.Alarm == nil {
			again.Targets[i].Alarm = out.alarmOf(t.Target)
		}
	}
	return again, errors.Join(err, out.alarms())
}

func (o Outcome) alarmOf(target string) error {
	for _, t := range o.Targets {
		if t.Target == target {
			return t.Alarm
		}
	}
	return nil
}

func (o Outcome) alarms() error {
	var alarms []error
	for _, t := range o.Targets {
		if t.Alarm != nil {
			alarms = append(alarms, fmt.Errorf("target %s: %w", t.Target, t.Alarm))
		}
	}
	return errors.Join(alarms...)
}

// keeper is one database in the care of this process: locked, with what is
// remembered of it.
type keeper struct {
	job    Job
	spool  *spool
	memory *memory
	index  *index // nil if there is none to use
	why    string // there is no index
	spill  string // the next backup should be a full one, so that the spool gets smaller
	tail   *sqlite.Tail
	unlock func() error
}

func open(job Job) (*keeper, error) {
	if job.Now == nil {
		job.Now = time.Now
	}
	k := &keeper{job: job}
	var err error
	if k.spool, err = openSpool(job.State, job.Database); err != nil {
		return nil, err
	}
	if k.unlock, err = durable.Lock(LockFile(job.State, job.Database), "database "+job.Database); err != nil {
		return nil, spoolError(err, k.spool.dir)
	}
	if k.memory, err = remember(job); err != nil {
		k.close()
		return nil, spoolError(err, k.spool.dir)
	}
	if job.TakeOver {
		for _, t := range job.Targets {
			k.memory.forget(t.Name)
		}
	}
	os.Remove(IndexFile(job.State, job.Database) + ".new") // of a run that was killed
	k.index, err = openIndex(IndexFile(job.State, job.Database))
	switch {
	case err != nil && len(k.memory.kept.Heads) == 0:
		k.why = "it is the first"
	case err != nil:
		k.why = err.Error()
	case k.index.Lineage != k.memory.lineage():
		k.dropIndex("the page index is of another lineage")
	}
	return k, nil
}

func (k *keeper) close() {
	if k.index != nil {
		k.index.close()
	}
	k.unlock() //nolint:errcheck // the process is done with it
}

// dropIndex forgets the index: the next backup is a full one, and why.
func (k *keeper) dropIndex(why string) {
	if k.index != nil {
		k.index.close()
	}
	k.index, k.why = nil, why
	DropIndex(k.job.State, k.job.Database) //nolint:errcheck // it is not trusted either
}

// plan says what the next backup should be: the policy's answer, if every
// target holds what that would build on, or gets it first.
func (k *keeper) plan(waiting []*spooled) plan {
	switch {
	case k.index == nil:
		return plan{full: true, why: k.why}
	case k.job.Full:
		return plan{full: true, why: "it was asked for"}
	case k.spill != "":
		return plan{full: true, why: k.spill, beside: true}
	case k.index.Opens != k.job.opens():
		// A new key must open the whole way, and a revoked one nothing new.
		return plan{full: true, why: "the recipients were changed"}
	}
	p := k.index.Ladder.next(k.job.Now(), k.job.Policy)
	if why := k.lacks(p.parent.ID, waiting); !p.full && why != "" {
		return plan{full: true, why: why}
	}
	return p
}

// lacks says which target does not hold a backup, and does not get it from the
// spool first, or not for as long as a delta on it would have to be there.
func (k *keeper) lacks(id string, waiting []*spooled) string {
	for _, t := range k.job.Targets {
		p, ok := k.memory.parent(t.Name, id)
		switch {
		case !ok && !k.waits(waiting, id, t.Name):
			return "target " + t.Name + " does not hold what a delta would build on"
		case ok && t.Lock > 0 && p.LockedUntil.Before(k.job.Now().Add(t.Lock)):
			return "what a delta would build on is not locked for long enough in target " + t.Name
		}
	}
	return ""
}

// waits reports whether a backup waits in the spool for a target.
func (k *keeper) waits(waiting []*spooled, id, target string) bool {
	for _, item := range waiting {
		if item.ID == id {
			return !k.memory.isDone(item, target)
		}
	}
	return false
}

// full takes a full backup, which is shipped while it is being sealed.
func (k *keeper) full(ctx context.Context, why string, waiting []*spooled) (Outcome, error) {
	out := Outcome{Database: k.job.Database, Kind: catalog.KindFull, WhyFull: why}
	streams := newFeed()
	defer streams.close()
	shipping := startShipping(ctx, k.job, k.memory, load{waiting: waiting, feed: streams})
	item, err := k.sealFull(ctx, streams, &out)
	if err != nil {
		streams.fail(err)
		shipping.wait()
		return out, err
	}
	k.sealed()
	out.Targets = shipping.wait()
	return out, k.settle(ctx, item, waiting, out)
}

// sealed tells that the heavy work is done.
func (k *keeper) sealed() {
	if k.job.Sealed != nil {
		k.job.Sealed()
	}
}

// settle removes from the spool what every target has, and says what is left.
func (k *keeper) settle(ctx context.Context, item *spooled, waiting []*spooled, out Outcome) error {
	job, sp := k.job, k.spool
	var failed []error
	for _, t := range out.Targets {
		if t.Err != nil {
			failed = append(failed, fmt.Errorf("target %s: %w", t.Target, t.Err))
		}
	}
	for _, s := range append(waiting, item) {
		if s.Kind == catalog.KindHeartbeat {
			continue // never in the spool
		}
		if _, err := k.memory.settle(sp, s, job.targetNames()); err != nil {
			failed = append(failed, err)
		}
	}
	k.forgetParents(waiting)
	waits := fmt.Sprintf("The sealed backup waits in %s; the next `emsafe backup %s` ships it.", sp.dir, job.Database)
	switch {
	case len(failed) > 0 && ctx.Err() != nil:
		return fault.New(fault.Interrupted, "interrupted while shipping %s", item.ID).WithSafe("%s", waits)
	case len(failed) > 0 && len(failed) == len(out.Targets):
		return unshipped(errors.Join(failed...), item.ID).
			WithSafe("What was committed before is untouched. The sealed backup waits in %s; `emsafe backup %s` ships it when that is mended.", sp.dir, job.Database)
	case len(failed) > 0:
		return fault.New(fault.Partial, "%d of %d targets have backup %s: %w", len(out.Targets)-len(failed), len(out.Targets), item.ID, errors.Join(failed...))
	}
	return out.alarms()
}

// forgetParents lets go of what no later delta will be taken against.
func (k *keeper) forgetParents(waiting []*spooled) {
	if k.index == nil {
		return
	}
	ids := k.index.Ladder.parents()
	ids[k.index.ID] = true
	for _, item := range waiting {
		ids[item.ID], ids[item.Parent] = true, true
	}
	k.memory.retain(ids)
}

// unshipped is a failure of all targets: the first one's kind and remedy.
func unshipped(err error, id string) *fault.Error {
	kind, remedy := fault.Storage, ""
	if f := fault.Find(err); f != nil {
		kind, remedy = f.Kind, f.Remedy
	}
	e := fault.New(kind, "no target has backup %s: %w", id, err)
	e.Remedy = remedy
	return e
}

// opens stands for the recipients, in whatever order they are written.
func (j Job) opens() seal.Digest {
	names := slices.Clone(j.Recipients.Names())
	slices.Sort(names)
	return seal.Sum([]byte(strings.Join(names, "\n")))
}

func (j Job) targetNames() []string {
	var names []string
	for _, t := range j.Targets {
		names = append(names, t.Name)
	}
	return names
}
