package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"emsafe/drill"
	"emsafe/internal/crash"
	"emsafe/internal/daemon/page"
)

const (
	reportsEvery = 5 * time.Minute // the targets are asked for new reports
	countEvery   = 24 * time.Hour  // and are listed
	recordEvery  = time.Minute     // how things are, for the history
)

// pages are the daemon's page: what it remembers between two looks. What is
// asked of targets is asked behind it, so that the page never waits for one.
type pages struct {
	d       *service
	history *page.History
	library drill.Library

	mu      sync.Mutex
	asking  bool
	asked   time.Time
	counted time.Time
	reports []drill.Signed
	stored  []page.Stored
}

// newPages opens the history. The page is there without it: it then looks back
// on nothing.
func (d *service) newPages(ctx context.Context) *pages {
	history, err := page.OpenHistory(d.current().cfg.State, d.p.now())
	if err != nil {
		d.log.Error("the page's history cannot be kept", "error", err)
		history = new(page.History)
	} else {
		go crash.Keep(ctx, nil, func(ctx context.Context) { d.record(ctx, history) })
	}
	return &pages{d: d, history: history}
}

// record notes every minute how every database is; the history writes only
// what is new for the day.
func (d *service) record(ctx context.Context, history *page.History) {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		o := d.current().pageOf(d.overview(), history, nil, nil)
		for _, j := range o.Judge() {
			if err := history.Record(j.Database, o.At, j.State, j.Words, j.Bytes); err != nil {
				d.log.Warn("the page's history", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// handler serves them.
func (g *pages) handler() http.Handler {
	return page.Handler(func(context.Context) (page.Overview, error) {
		reports, stored := g.known()
		return g.d.current().pageOf(g.d.overview(), g.history, reports, stored), nil
	}, page.Options{Now: g.d.p.now, Report: func(_ context.Context, w io.Writer, id string) error {
		reports, _ := g.known()
		for _, r := range reports {
			if r.Report.ID == id {
				var b bytes.Buffer
				if err := drill.ExecutePage(&b, r.Page("../")); err != nil {
					return err
				}
				_, err := w.Write(b.Bytes())
				return err
			}
		}
		return page.ErrNotExist
	}})
}

// known is what the targets said last; where that is old they are asked again,
// behind the page.
func (g *pages) known() ([]drill.Signed, []page.Stored) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.d.p.now()
	if old := now.Sub(g.asked); !g.asking && (old >= reportsEvery || old < 0) {
		g.asking = true
		go crash.Run(func() error { g.ask(now); return nil }) //nolint:errcheck // it is logged and counted
	}
	return g.reports, g.stored
}

func (g *pages) ask(now time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.d.c.Context), reportsEvery)
	defer cancel()
	s := g.d.current()
	reports, problems, err := s.reports(ctx, &g.library)
	for _, p := range append(problems, err) {
		if p != nil {
			g.d.log.Warn("reports of drills", "error", p)
		}
	}
	g.mu.Lock()
	if err == nil {
		g.reports = reports
	}
	count := now.Sub(g.counted) >= countEvery
	g.mu.Unlock()
	var stored []page.Stored
	for _, t := range s.targets {
		if !count {
			break
		}
		counted, err := storedIn(ctx, t, s.cfg.Targets[t.Name], now)
		if err != nil {
			g.d.log.Warn("what lies in a target cannot be counted", "target", t.Name, "error", err)
			continue
		}
		stored = append(stored, counted)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked, g.asking = now, false
	if count {
		g.stored, g.counted = stored, now
	}
}
