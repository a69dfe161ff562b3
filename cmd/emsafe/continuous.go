package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/storage/catalog"
)

// protect runs continuous protection until the process is told to stop.
func (p *program) protect(c *cli.Context, s *site) error {
	names := c.Args().Slice()
	if len(names) == 0 {
		for name, d := range s.cfg.Databases {
			if d.Continuous {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return fault.New(fault.Config, "no database of the configuration has `continuous: true`").
			WithRemedy("Set it for a database, or name one: emsafe backup --continuous NAME")
	}
	names, err := s.databases(c.Context, names)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	failed := make([]error, len(names))
	for i, name := range names {
		job, err := p.jobOf(c, s, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		job.Progress = nil
		w := &watch{p: p, database: name, mu: &mu, failing: map[string]bool{}}
		interval := s.cfg.Databases[name].Interval
		p.print.note("%s  protected continuously, every %s", name, interval)
		group.Go(func() {
			err := backup.Protect(c.Context, backup.Continuous{Job: job, Interval: interval, Taken: w.taken, Delivered: w.delivered, Dropped: w.dropped})
			if err != nil {
				failed[i] = fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	group.Wait()
	var bad []error
	for _, err := range failed {
		if err != nil {
			bad = append(bad, err)
		}
	}
	return worst(bad)
}

// watch says what continuous protection of one database does: with --json one
// line for each event, and to people what is news, and once a minute a line
// that sums up the deltas.
type watch struct {
	p        *program
	database string
	mu       *sync.Mutex     // shared: one line at a time
	failing  map[string]bool // by target; "" for the database
	since    time.Time
	deltas   int
	lag      time.Duration
}

// summaryEvery is how often deltas are summed up.
const summaryEvery = time.Minute

// event is a line of NDJSON.
type event struct {
	Time     time.Time `json:"time"`
	Event    string    `json:"event"` // sealed, delivered, dropped, or failed
	Database string    `json:"database"`
	*backup.Outcome
	Dropped  *backup.Dropped `json:"spool_dropped,omitempty"`
	Delivery *delivery       `json:"delivery,omitempty"`
	Error    *failure        `json:"error,omitempty"`
}

type delivery struct {
	backup.Delivery
	Error *failure `json:"error,omitempty"`
	Alarm *failure `json:"alarm,omitempty"`
}

func (w *watch) taken(out backup.Outcome, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := event{Time: w.p.now().UTC(), Event: "sealed", Database: w.database}
	if err != nil {
		f := describe(err)
		e.Event, e.Error = "failed", &f
		w.failed("", err)
	} else {
		e.Outcome = &out
		w.recovered("")
		if out.Kind != catalog.KindDelta {
			w.p.reportTaken(out, 0)
		}
	}
	w.p.print.emit(e)
}

func (w *watch) delivered(d backup.Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := event{Time: w.p.now().UTC(), Event: "delivered", Database: w.database, Delivery: &delivery{Delivery: d}}
	if d.Alarm != nil {
		f := describe(d.Alarm)
		e.Delivery.Alarm = &f
		w.p.print.line("%s  %s  ALARM: %v", w.database, d.Target, d.Alarm)
	}
	if d.Err != nil {
		f := describe(d.Err)
		e.Event, e.Delivery.Error = "failed", &f
		w.failed(d.Target, d.Err)
	} else {
		w.recovered(d.Target)
		w.sum(d)
	}
	w.p.print.emit(e)
}

func (w *watch) dropped(d backup.Dropped) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p.print.line("%s", droppedText(w.database, d))
	w.p.print.emit(event{Time: w.p.now().UTC(), Event: "dropped", Database: w.database, Dropped: &d})
}

// failed is told once, until it goes well again.
func (w *watch) failed(target string, err error) {
	if w.failing[target] {
		return
	}
	w.failing[target] = true
	w.p.print.warn("%s  %s  FAILED, and tried again: %v", w.database, target, err)
	w.p.print.note("  What to do: %s", describe(err).Remedy)
}

func (w *watch) recovered(target string) {
	if w.failing[target] {
		w.failing[target] = false
		w.p.print.note("%s  %s  works again", w.database, target)
	}
}

func (w *watch) sum(d backup.Delivery) {
	now := w.p.now()
	if w.since.IsZero() {
		w.since = now
	}
	if d.Kind == catalog.KindDelta {
		w.deltas++
	}
	w.lag = max(w.lag, d.Lag)
	if now.Sub(w.since) < summaryEvery {
		return
	}
	w.p.print.done("%s  %d deltas in %s, committed at most %s after their instant; newest is number %d in %s", w.database, w.deltas,
		now.Sub(w.since).Round(time.Second), w.lag.Round(10*time.Millisecond), d.Sequence, d.Target)
	w.since, w.deltas, w.lag = now, 0, 0
}
