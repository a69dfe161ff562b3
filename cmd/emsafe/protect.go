package main

import (
	"context"
	"errors"
	"time"

	"emsafe/backup"
	"emsafe/internal/crash"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage/catalog"
)

const (
	protectAgain = 30 * time.Second // after continuous protection could not begin
	pulseEvery   = time.Minute      // a sign of life of continuous protection, for pings
)

// protectAll replaces what is protected continuously. It waits for nobody: what
// protected a database until now takes a last backup first, and another database
// does not wait for that.
func (d *service) protectAll(s *site) {
	if d.stop != nil {
		d.stop()
	}
	ctx, stop := context.WithCancel(d.c.Context)
	d.stop = stop
	before := d.ended
	d.ended = map[string]chan struct{}{}
	for name, db := range s.cfg.Databases {
		if db.Continuous {
			earlier, end := before[name], make(chan struct{})
			d.ended[name] = end
			d.running.Go(func() {
				defer close(end)
				if earlier != nil {
					<-earlier // it holds the database's lock
				}
				crash.Keep(ctx, d.panicked(name), func(ctx context.Context) { d.protect(ctx, s, name, db.Interval) })
			})
			d.running.Go(func() {
				crash.Keep(ctx, d.panicked(name), func(ctx context.Context) { d.pulse(ctx, s, name, db.Interval) })
			})
		}
	}
}

// panicked tells of a bug in what protects a database: it goes on after a while.
func (d *service) panicked(name string) func(error) {
	return func(err error) {
		d.log.Error("continuous protection panicked", "database", name, "error", err)
		d.tell("bug in "+protectName(name), "a bug in emsafe ended the protection of "+name+" for a while", err)
	}
}

// halt ends continuous protection; what changed last is taken along.
func (d *service) halt() {
	if d.stop != nil {
		d.stop()
		d.running.Wait()
	}
}

// protect keeps continuous protection of one database going.
func (d *service) protect(ctx context.Context, s *site, name string, interval time.Duration) {
	log := d.log.With("database", name)
	// At least once: what changed between a reload and the end is taken along.
	for first := true; first || ctx.Err() == nil; first = false {
		job, err := s.job(name, false)
		if err == nil && restore.Pending(s.path(name)) {
			err = fault.New(fault.InUse, "a restore of %s was cut off half-way", s.path(name))
		}
		if err == nil {
			job.Now = d.p.now
			log.Info("protected continuously", "interval", interval)
			d.tell(protectName(name), "", nil)
			err = backup.Protect(ctx, backup.Continuous{
				Job: job, Interval: interval,
				Taken: func(out backup.Outcome, err error) {
					if d.taken(name, out, err); out.Kind == catalog.KindFull {
						d.tell("configuration", "a target has no copy of the configuration", s.keepConfiguration(ctx))
					}
				},
				Delivered: func(out backup.Delivery) { d.delivered(name, out) },
				Dropped:   func(out backup.Dropped) { d.dropped(name, out) },
			})
		}
		if err == nil {
			return
		}
		log.Error("continuous protection cannot begin", "error", err, "again_in", protectAgain)
		d.tell(protectName(name), name+" is not protected", err)
		select {
		case <-ctx.Done():
		case <-time.After(protectAgain):
		}
	}
}

// tell says what is wrong, or that it is right again.
func (d *service) tell(subject, title string, err error) {
	switch n := d.notifier(); {
	case n == nil:
	case err != nil:
		n.Problem(subject, title, err.Error())
	default:
		n.Solved(subject, "")
	}
}

// taken and delivered log what is news: full backups and failures. Deltas come
// every second, and are for those who want to see everything.
func (d *service) taken(name string, out backup.Outcome, err error) {
	log := d.log.With("database", name)
	d.tell("backup "+name, "a backup of "+name+" failed", err)
	switch {
	case err != nil:
		log.Error("backup failed", "error", err)
	case out.Kind == catalog.KindFull:
		for _, what := range out.Unestablished {
			log.Warn("not established", "what", what)
		}
		log.Info("full backup sealed", "id", out.ID, "why", out.WhyFull, "bytes", out.Sealed)
	default:
		log.Debug("delta sealed", "id", out.ID, "pages", out.Pages, "bytes", out.Sealed, "proven", out.Proven)
	}
}

func (d *service) delivered(name string, out backup.Delivery) {
	log := d.log.With("database", name, "target", out.Target)
	subject := name + " in " + out.Target
	if out.Alarm != nil {
		log.Error("alarm", "error", out.Alarm)
		d.tell("alarm of "+subject, "what is in "+out.Target+" is wrong", out.Alarm)
	}
	if d.tell(subject, "backups of "+name+" do not arrive in "+out.Target, out.Err); out.Err == nil && out.Waiting == 0 {
		d.tell("spool of "+name, "", nil)
	}
	switch {
	case out.Err != nil:
		log.Error("delivery failed", "id", out.ID, "error", out.Err, "waiting", out.Waiting, "again_in", out.Retry)
	case out.Kind == catalog.KindFull:
		log.Info("full backup committed", "id", out.ID, "number", out.Sequence, "lag", out.Lag)
	default:
		log.Debug("delta committed", "id", out.ID, "number", out.Sequence, "lag", out.Lag)
	}
}

func (d *service) dropped(name string, out backup.Dropped) {
	d.log.Warn("the spool is full", "database", name, "dropped", out.Backups, "bytes", out.Bytes)
	d.tell("spool of "+name, "the spool is full", errors.New(droppedText(name, out)))
}

// pulse is continuous protection as runs, for whoever listens for pings: one
// that went well every minute in which every target is up to date.
func (d *service) pulse(ctx context.Context, s *site, name string, interval time.Duration) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.tell("canary of "+name, "the canary of "+name+" is not stamped", s.stamp(ctx, name))
		memory, err := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, name))
		if err != nil {
			continue
		}
		fresh := true
		for _, t := range s.targetsOf(name) {
			// What is unchanged is written down once a minute.
			fresh = fresh && d.p.now().Sub(memory.AsOf(t.Name)) < 2*pulseEvery+3*interval
		}
		if n := d.notifier(); fresh && n != nil {
			n.Observe(daemon.Event{At: d.p.now(), Type: daemon.RunFinished, Job: protectName(name), Run: &daemon.Run{Verdict: daemon.OK}})
		}
	}
}
