package drill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage"
)

const (
	defaultLimit = time.Hour
	// afterwards is what a drill may take to record itself when its own time is
	// over or it was interrupted.
	afterwards = time.Minute
)

// Run holds one drill: it restores, checks, judges, and records itself. The
// report is not nil if the drill was held and recorded, whatever came out; the
// error then is the verdict: nil for a pass, a fault.ObjectiveMissed, a
// fault.DrillFailed, or, if it is inconclusive, what stood in its way.
func Run(ctx context.Context, p Plan) (*Report, error) {
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Limit <= 0 {
		p.Limit = defaultLimit
	}
	if err := os.MkdirAll(p.State, 0o700); err != nil {
		return nil, err
	}
	unlock, err := durable.Lock(filepath.Join(p.State, p.Database+".drill.lock"), "the drill of "+p.Database)
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // nothing depends on it any more
	book, err := openBook(&p)
	if err != nil {
		return nil, err
	}
	r := &runner{Plan: &p, book: book, report: book.begin(ctx, &p)}
	limited, stop := context.WithTimeoutCause(ctx, p.Limit, errLimit)
	r.all(limited)
	stop()
	r.conclude()
	keeping, stop := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer stop()
	if err := book.keep(keeping, &p, r.report, r.baseline); err != nil {
		return nil, err
	}
	return r.report, r.verdict()
}

// runner is one drill that is held.
type runner struct {
	*Plan
	book     *book
	report   *Report
	baseline *baseline // of the first restore, if it passed
	causes   []error   // why it is not a pass
	rpoFrom  time.Time // the newest recovered write
	rpoHow   string
	checked  time.Time // when the first restore was checked
	measured bool      // the first restore is one that the objectives are about
	service  bool      // an application was started
	paired   bool      // files were looked at
}

// all restores every selection in every target whose turn it is.
func (r *runner) all(ctx context.Context) {
	targets := r.turn()
	done := map[string]bool{}
	for _, t := range targets {
		for _, s := range r.selections() {
			first := len(r.report.Restores) == 0
			if !first && ctx.Err() != nil {
				r.untested("%s of target %s: there was no time left", s.Kind, t.Name)
				continue
			}
			wanted, why := r.resolve(ctx, t, s)
			if why != "" {
				r.untested("%s", why)
				continue
			}
			if s.Kind == OfPoint && (done[t.Name+wanted.ID] || r.paired) {
				continue // it was restored, with its files
			}
			x := r.restore(ctx, t, s.Kind, wanted, first)
			if done[t.Name+x.Backup] && (x.Verdict == Pass || x.Backup == "") {
				continue
			}
			done[t.Name+x.Backup] = true
			r.report.Restores = append(r.report.Restores, x)
		}
	}
}

// turn are the targets of this drill: the one that was named, or all, or the
// one whose turn it is by the report's number.
func (r *runner) turn() []storage.Target {
	for _, t := range r.Targets {
		if t.Name == r.Target {
			return []storage.Target{t}
		}
	}
	n := uint64(len(r.Targets))
	if n == 0 {
		return nil
	}
	at := (r.report.Number - 1) % n
	turned := append(append([]storage.Target{}, r.Targets[at:]...), r.Targets[:at]...)
	if r.Full {
		return turned
	}
	return turned[:1]
}

func (r *runner) untested(format string, args ...any) {
	r.report.NotTested = append(r.report.NotTested, fmt.Sprintf(format, args...))
}

// verdict is the report's, as the error that the command line tells.
func (r *runner) verdict() error {
	cause := errors.Join(r.causes...)
	switch r.report.Verdict {
	case Fail:
		return failed(r.report, cause)
	case Missed:
		return fault.New(fault.ObjectiveMissed, "%s", r.report.Finding)
	case Inconclusive:
		if cause == nil {
			cause = errors.New("nothing could be restored")
		}
		return fmt.Errorf("the drill of %s was inconclusive: %w", r.Database, cause)
	}
	return nil
}

func failed(r *Report, cause error) error {
	err := fault.New(fault.DrillFailed, "%s", r.Finding)
	if f := fault.Find(cause); f != nil && f.Remedy != "" {
		err.Remedy = f.Remedy
	}
	return err
}

// newID is as a backup's: the time, and what makes it unique.
func newID(at time.Time) string {
	suffix := make([]byte, 4)
	rand.Read(suffix) //nolint:errcheck // never fails since Go 1.24
	return at.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(suffix)
}
