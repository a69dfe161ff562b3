// Package backup takes the copy: it snapshots a live database, seals it into
// the local spool, ships it to every target while it is still being sealed,
// and commits a signed, chained manifest in each. [Database] is the call.
//
// A backup exists in a target when its manifest does, and not before. What
// could not be shipped waits in the spool and goes first next time.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage"
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
	Targets    []storage.Target
	TakeOver   bool // go on from what the targets hold, whoever made it
	Now        func() time.Time
	Progress   func(done, total int64) // plaintext bytes sealed; may be nil
}

// Outcome says what became of the backup.
type Outcome struct {
	Database string          `json:"database"`
	ID       string          `json:"id"`
	Content  seal.Content    `json:"content"`
	Sealed   int64           `json:"sealed_bytes"`
	At       time.Time       `json:"snapshot_at"`
	Held     time.Duration   `json:"writers_held_ns"`
	Method   string          `json:"method"`
	Targets  []TargetOutcome `json:"targets"`
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

// Database takes one backup. The outcome is valid as far as it goes also when
// the error is not nil.
func Database(ctx context.Context, job Job) (Outcome, error) {
	out := Outcome{Database: job.Database}
	if job.Now == nil {
		job.Now = time.Now
	}
	sp, err := openSpool(job.State, job.Database)
	if err != nil {
		return out, err
	}
	unlock, err := durable.Lock(LockFile(job.State, job.Database), "database "+job.Database)
	if err != nil {
		return out, spoolError(err, sp.dir)
	}
	defer unlock() //nolint:errcheck // the process is done with it
	waiting, err := sp.waiting()
	if err != nil {
		return out, err
	}
	memory, err := remember(job)
	if err != nil {
		return out, spoolError(err, sp.dir)
	}

	streams := newFeed()
	defer streams.close()
	shipping := startShipping(ctx, job, memory, waiting, streams)
	item, err := sealInto(ctx, job, sp, streams, &out)
	if err != nil {
		streams.fail(err)
		shipping.wait()
		return out, err
	}
	out.Targets = shipping.wait()
	return out, settle(ctx, job, sp, item, waiting, out)
}

// settle removes from the spool what every target has, and says what is left.
func settle(ctx context.Context, job Job, sp *spool, item *spooled, waiting []*spooled, out Outcome) error {
	var failed, alarms []error
	for _, t := range out.Targets {
		if t.Err != nil {
			failed = append(failed, fmt.Errorf("target %s: %w", t.Target, t.Err))
		}
		if t.Alarm != nil {
			alarms = append(alarms, fmt.Errorf("target %s: %w", t.Target, t.Alarm))
		}
	}
	for _, s := range append(waiting, item) {
		if err := sp.settle(s, job.targetNames()); err != nil {
			failed = append(failed, err)
		}
	}
	waits := fmt.Sprintf("The sealed backup waits in %s; the next `emsafe backup %s` ships it.", sp.dir, job.Database)
	switch {
	case len(failed) > 0 && ctx.Err() != nil:
		return fault.New(fault.Interrupted, "interrupted while shipping %s", item.ID).WithSafe("%s", waits)
	case len(failed) > 0 && len(failed) == len(out.Targets):
		return unshipped(errors.Join(failed...), item.ID).
			WithSafe("What was committed before is untouched. The sealed backup waits in %s; `emsafe backup %s` ships it when that is mended.", sp.dir, job.Database)
	case len(failed) > 0:
		return fault.New(fault.Partial, "%d of %d targets have backup %s: %w", len(out.Targets)-len(failed), len(out.Targets), item.ID, errors.Join(failed...))
	case len(alarms) > 0:
		return errors.Join(alarms...)
	}
	return nil
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

func (j Job) targetNames() []string {
	var names []string
	for _, t := range j.Targets {
		names = append(names, t.Name)
	}
	return names
}

// sealInto snapshots and seals into the spool; the feed carries the sealed
// bytes on to the targets meanwhile.
func sealInto(ctx context.Context, job Job, sp *spool, feed *feed, out *Outcome) (*spooled, error) {
	scratch, err := seal.NewScratch(sp.dir)
	if err != nil {
		return nil, spoolError(err, sp.dir)
	}
	defer scratch.Close()
	opt := job.Snapshot
	opt.Ahead = scratch

	id := newID(job.Now())
	var w *seal.Writer
	var file *os.File
	giveUp := func() {
		if w != nil {
			w.Abort()
		}
		if file != nil {
			file.Close()
			os.Remove(file.Name())
		}
		w, file = nil, nil
	}
	image, err := sqlite.Snapshot(ctx, job.Path, opt, func(image sqlite.Image) (io.Writer, error) {
		giveUp()
		total := int64(image.PageSize) * image.Pages
		var err error
		if file, err = sp.create(id); err != nil {
			return nil, err
		}
		stream, err := feed.start(file)
		if err != nil {
			return nil, err
		}
		w, err = seal.NewWriter(stream, seal.Options{Recipients: job.Recipients, PageSize: image.PageSize, Level: job.Level})
		if err != nil {
			return nil, err
		}
		return &meter{w: w, total: total, report: job.Progress}, nil
	})
	if err != nil {
		giveUp()
		return nil, spoolError(err, sp.dir)
	}
	sealed, content, err := w.Close()
	if err == nil && content.Size != int64(image.PageSize)*image.Pages {
		err = fmt.Errorf("the snapshot gave %d bytes for %d pages", content.Size, image.Pages)
	}
	if err != nil {
		w = nil
		giveUp()
		return nil, spoolError(err, sp.dir)
	}
	out.ID, out.Content, out.Sealed, out.At, out.Held, out.Method = id, content, sealed.Size, image.At, image.Held, image.Method
	item := newSpooled(id, job, image, sealed, content)
	description, err := json.Marshal(item)
	if err != nil {
		return nil, err
	}
	// The targets get the end of the stream now and its description with it;
	// the spool is made durable while they finish.
	feed.finish(item)
	if err := sp.keep(id, description, file); err != nil {
		return nil, spoolError(err, sp.dir)
	}
	return item, nil
}

// meter counts plaintext for the progress display.
type meter struct {
	w           io.Writer
	done, total int64
	report      func(done, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
	return n, err
}
