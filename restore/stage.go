package restore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/sqlite"
)

// staged is a restored file beside its destination, not placed yet. It is
// locked while its process lives, so that another run can tell litter.
type staged struct {
	file    *os.File
	path    string
	checked string
	report  sqlite.Report // of that check
	placed  bool
	// operation is what is placed for: opRestore or opUndo.
	operation string
}

func stagePattern(destination string) string { return besideName(destination, ".", ".emsafe-") }

// stage fetches, opens, verifies and checks the backup into a file beside the
// destination.
func (p *Plan) stage(ctx context.Context) (*staged, error) {
	sweep(p.req.Destination)
	if err := p.room(); err != nil {
		return nil, err
	}
	s, err := newStaged(p.req.Destination, opRestore)
	if err != nil {
		return nil, err
	}
	if err := p.fill(ctx, s); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

func newStaged(destination, operation string) (*staged, error) {
	f, err := durable.NewFile(func() string {
		suffix := make([]byte, 6)
		rand.Read(suffix) //nolint:errcheck // never fails since Go 1.24
		return stagePattern(destination) + hex.EncodeToString(suffix) + ".part"
	})
	if err != nil {
		return nil, err
	}
	return &staged{file: f, path: f.Name(), operation: operation}, nil
}

// Sweep removes what killed restores left beside a destination: staged files,
// which hold a database in plain. What an intent still needs stays; the next
// restore or undo there carries it out.
func Sweep(destination string) error {
	destination, err := Resolve(destination)
	if err != nil || Pending(destination) {
		return err
	}
	dir := filepath.Dir(destination)
	return errors.Join(durable.SweepFiles(dir, filepath.Base(stagePattern(destination)), ".part"),
		durable.SweepFiles(dir, filepath.Base(intentTemp(intentFile(destination))), ""))
}

// sweep is Sweep for a restore or undo that holds the database's lock: it has
// carried out the intent.
func sweep(destination string) {
	Sweep(destination) //nolint:errcheck // what stays is reported by status
}

// room refuses before the first byte if the disk cannot hold the database.
func (p *Plan) room() error {
	dir := filepath.Dir(p.req.Destination)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil // the write itself will tell
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < p.Entry.Content.Size {
		return fault.New(fault.NoSpace, "the restored database needs %d bytes in %s, and %d are free", p.Entry.Content.Size, dir, free).
			WithSafe("Nothing was written.")
	}
	return nil
}

// fill brings the content in.
func (p *Plan) fill(ctx context.Context, s *staged) error {
	if err := reserve(s.file, p.Entry.Content.Size); err != nil {
		return err
	}
	dst := &flusher{file: s.file, total: p.Entry.Content.Size, report: p.req.Progress}
	if err := p.assemble(ctx, dst); err != nil {
		return err
	}
	if err := p.req.traced(PhaseSync, s.file.Sync); err != nil {
		return err
	}
	s.checked = p.req.Check
	if s.checked == "" {
		s.checked = "quick"
	}
	if s.checked == "none" {
		return nil
	}
	err := p.req.traced(PhaseCheck, func() (err error) {
		s.report, err = sqlite.CheckReport(ctx, s.path, s.checked)
		return err
	})
	if errors.Is(err, fault.Corrupt) || errors.Is(err, fault.NotSQLite) {
		return p.damaged(err)
	}
	if err != nil {
		return fmt.Errorf("check the restored backup %s: %w", p.Entry.ID, err)
	}
	return nil
}

// damaged is the error for a backup that was restored as it was signed, of a
// database that was damaged when it was backed up.
func (p *Plan) damaged(err error) error {
	return fault.New(fault.Find(err).Kind, "backup %s matches its signed digest, but the database in it is damaged: %w", p.Entry.ID, err).
		WithSafe("The destination is as it was, and so are all backups.").
		WithRemedy("Restore an earlier backup with --id or --at: `emsafe drill run %s --select latest,oldest,random` finds one that is whole. To restore the damaged file all the same, use --to FILE --check none. `sqlite3 FILE .recover` then saves the rows that can be read; `emsafe runbook show recover-damaged` has the steps.", p.Entry.Database)
}

// flushEvery is how much is written before the kernel is asked to begin
// writing back: the final fsync then has little left to wait for.
const flushEvery = 16 << 20

// flusher writes the staged file and keeps write-back and progress going.
type flusher struct {
	file        *os.File
	done, flush atomic.Int64
	total       int64
	report      func(done, total int64)
}

func (w *flusher) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.file.WriteAt(p, off)
	done := w.done.Add(int64(n))
	if step := done / flushEvery; step > w.flush.Load() {
		w.flush.Store(step)
		writeBack(w.file)
	}
	if w.report != nil {
		w.report(done, w.total)
	}
	return n, err
}

// discard removes the file unless it was placed.
func (s *staged) discard() {
	if !s.placed {
		os.Remove(s.path)
	}
	// By word: a child between fork and exec has the descriptor too.
	unix.Flock(int(s.file.Fd()), unix.LOCK_UN) //nolint:errcheck // closing unlocks as well
	s.file.Close()
}
