package backup

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"emsafe/internal/crash"
	"emsafe/internal/fault"
	"emsafe/storage/catalog"
	"emsafe/storage/sqlite"
)

// Continuous is continuous protection of one database.
type Continuous struct {
	Job       Job
	Interval  time.Duration
	Taken     func(Outcome, error) // every backup, when it is durable in the spool; and every failure
	Delivered func(Delivery)       // every delivery, and every failure of one
	Dropped   func(Dropped)        // what a full spool could not hold
	RetryMost time.Duration        // between two attempts at a target that fails; 0: 5 minutes
}

const (
	// pollEvery is how often the -wal is read: several times between two
	// restarts of it, even under a fast writer.
	pollEvery = 100 * time.Millisecond

	// lastGrace is how long an orderly end takes to bring what changed last.
	lastGrace = 10 * time.Second

	// mostBackOff bounds how far failures stretch the interval: by 2^5.
	mostBackOff = 5
)

// Protect takes a delta whenever something changed, until ctx ends; then it
// takes a last one. A full backup is cut beside the deltas when the policy
// wants one. It holds the database's lock all the time. The error is for what
// kept it from beginning.
func Protect(ctx context.Context, c Continuous) error {
	k, err := open(c.Job)
	if err != nil {
		return err
	}
	defer k.close()
	waiting, err := k.spool.waiting()
	if err != nil {
		return err
	}
	p := &protection{Continuous: c, keeper: k, waiting: waiting}
	var mark *sqlite.Mark
	if k.index != nil {
		mark = k.index.Mark
	}
	k.tail = sqlite.NewTail(k.job.Path, mark)

	var background sync.WaitGroup
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { stop(); background.Wait() }()
	background.Go(func() { crash.Keep(working, nil, p.follow) }) // without it nothing is proven, and every page compared
	for _, t := range k.job.Targets {
		courier := newCourier(k, t, waiting, c.Delivered, p.settle)
		if c.RetryMost > 0 {
			courier.retryMost = c.RetryMost
		}
		p.couriers = append(p.couriers, courier)
		background.Go(func() { crash.Keep(working, courier.panicked, courier.run) })
	}
	p.loop(ctx, working)
	p.end(working, stop)
	return nil
}

// protection is continuous protection under way.
type protection struct {
	Continuous
	*keeper
	couriers []*courier
	cutting  sync.WaitGroup

	mu       sync.Mutex // over all of below, and over the spool's descriptions
	waiting  []*spooled
	cut      *cutting // a full backup that is being cut
	needFull string   // why the next backup must be full; "" if it need not
	still    stamps   // of the files before the last look, if they prove anything
}

// cutting is a full backup beside the deltas.
type cutting struct {
	gen  uint32
	item *spooled // when it is sealed
	err  error
	done bool // every target that works has it
}

// follow reads the -wal between the looks.
func (p *protection) follow(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.tail.Poll() //nolint:errcheck // what it cannot read it cannot prove
		}
	}
}

func (p *protection) loop(ctx, working context.Context) {
	failures := 0
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		began := time.Now()
		if err := p.look(ctx, working); err != nil && ctx.Err() == nil {
			p.Taken(Outcome{Database: p.job.Database}, err)
			failures = min(failures+1, mostBackOff)
		} else {
			failures = 0
		}
		next.Reset(max(p.Interval<<failures-time.Since(began), 10*time.Millisecond))
	}
}

// end takes what changed last, and waits a while for it to arrive. Then stop
// ends what still works, so that a target that hangs holds up nobody.
func (p *protection) end(working context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithTimeout(working, lastGrace)
	defer cancel()
	if err := p.look(ctx, nil); err != nil {
		p.Taken(Outcome{Database: p.job.Database}, err)
	}
	cut := make(chan struct{})
	go func() { p.cutting.Wait(); close(cut) }()
	select {
	case <-cut:
	case <-ctx.Done():
		stop()
		<-cut
	}
	for ctx.Err() == nil {
		busy := false
		for _, c := range p.couriers {
			busy = busy || !c.idle()
		}
		if !busy {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery / 2):
		}
	}
}

// look takes what changed since the last look, if anything did.
func (p *protection) look(ctx, working context.Context) error {
	if err := p.rebase(); err != nil {
		p.Taken(Outcome{Database: p.job.Database, Kind: catalog.KindFull}, err)
	}
	before := stampsOf(p.job.Path)
	if p.index != nil && p.needFull == "" && before.proves(p.still) {
		return p.memory.checked(p.index.ID, p.job.Now())
	}
	if err := p.makeRoom(); err != nil {
		return err
	}
	out, item, err := p.take(ctx, working)
	if err != nil {
		return err
	}
	if p.still = before; item != nil {
		p.Taken(out, nil)
		p.ship(item)
	}
	return nil
}

// makeRoom takes out of a full spool what can go.
func (p *protection) makeRoom() error {
	p.mu.Lock()
	left, dropped, err := p.bound(p.waiting)
	p.waiting = left
	p.mu.Unlock()
	if dropped.Backups > 0 {
		for _, c := range p.couriers {
			c.retain(left)
		}
		p.Dropped(dropped)
	}
	return err
}

// take seals a delta; or a full one where there is nothing to go on with.
func (p *protection) take(ctx, working context.Context) (Outcome, *spooled, error) {
	out := Outcome{Database: p.job.Database}
	p.mu.Lock()
	waiting, why := p.waiting, p.needFull
	p.mu.Unlock()
	pl := p.plan(waiting)
	if pl.full && pl.beside && why == "" && working != nil {
		p.begin(working, pl.why)
		pl = p.index.Ladder.delta()
		why = p.lacks(pl.parent.ID, waiting)
	}
	if why == "" && !pl.full {
		out.Kind, out.Parent = catalog.KindDelta, pl.parent.ID
		item, err := p.sealDelta(ctx, pl, &out)
		var no *notDelta
		switch {
		case err == nil && item.Kind == catalog.KindHeartbeat:
			return out, nil, p.memory.checked(item.Parent, item.SnapshotAt)
		case !errors.As(err, &no):
			return out, item, err
		}
		why = no.why
	} else if why == "" {
		why = pl.why
	}
	out = Outcome{Database: p.job.Database, Kind: catalog.KindFull, WhyFull: why}
	streams := newFeed()
	defer streams.close()
	item, err := p.sealFull(ctx, streams, &out)
	if err == nil {
		p.mu.Lock()
		p.needFull, p.cut = "", nil
		p.mu.Unlock()
		if p.index != nil {
			p.tail.Advance(p.index.Mark)
		}
	}
	return out, item, err
}

// ship hands a sealed backup to the couriers.
func (p *protection) ship(item *spooled) {
	p.mu.Lock()
	p.waiting = append(p.waiting, item)
	p.mu.Unlock()
	for _, c := range p.couriers {
		c.bring(item)
	}
}

// settle notes that a target has an item, or can never have it, and removes
// from the spool what all targets have.
func (p *protection) settle(item *spooled, target string, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if lost {
		p.needFull = "target " + target + " does not hold what the deltas build on"
	}
	left, err := p.memory.settle(p.spool, item, p.job.targetNames())
	if err != nil {
		p.Taken(Outcome{Database: p.job.Database}, spoolError(err, p.spool.dir))
	}
	if left {
		return
	}
	for i, w := range p.waiting {
		if w == item {
			p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
			break
		}
	}
}

// begin cuts a full backup beside the deltas, unless one is being cut.
func (p *protection) begin(ctx context.Context, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		return
	}
	// Deltas that are taken from now on are of a later generation, so that
	// whatever differs from the full one is.
	p.index.Ladder.Gen++
	cut := &cutting{gen: p.index.Ladder.Gen}
	p.cut = cut
	p.cutting.Go(func() {
		out := Outcome{Database: p.job.Database, Kind: catalog.KindFull, WhyFull: why}
		var item *spooled
		err := crash.Run(func() (err error) {
			item, err = p.sealBeside(ctx, cut.gen, &out)
			return err
		})
		p.Taken(out, err)
		if err == nil {
			p.mu.Lock()
			p.waiting = append(p.waiting, item)
			p.mu.Unlock()
			var group sync.WaitGroup
			for _, c := range p.couriers {
				group.Go(func() {
					if err := crash.Run(func() error { c.aside(ctx, item); return nil }); err != nil {
						c.panicked(err)
					}
				})
			}
			group.Wait()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		cut.item, cut.err, cut.done = item, err, true
	})
}

// rebase puts the ladder on a full backup that was cut meanwhile.
func (p *protection) rebase() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cut := p.cut
	if cut == nil {
		p.forgetParents(p.waiting)
		return nil
	}
	if !cut.done {
		return nil
	}
	p.cut = nil
	if cut.err != nil || p.index == nil {
		return nil // it was reported
	}
	head := p.index.indexHead
	head.Ladder = head.Ladder.rebased(rung{ID: cut.item.ID, Gen: cut.gen}, cut.item.Sealed.Size, cut.item.SnapshotAt)
	if err := p.index.setHead(head); err != nil {
		p.dropIndex("the page index could not be written: " + err.Error())
		return fault.New(fault.NoSpace, "the page index could not be written: %w", err)
	}
	return nil
}

// stamps are what the file system says of a database's files.
type stamps struct {
	files [3]os.FileInfo
	taken time.Time
}

func stampsOf(path string) stamps {
	s := stamps{taken: time.Now()}
	for i, ext := range []string{"", "-wal", "-journal"} {
		s.files[i], _ = os.Stat(path + ext) // nil: not there
	}
	return s
}

// settleTime is how old a time stamp must be before it proves that nothing was
// written since: file systems stamp coarsely.
const settleTime = 2 * time.Second

// proves reports whether nothing was written between before and s.
func (s stamps) proves(before stamps) bool {
	if before.files[0] == nil {
		return false
	}
	for i, now := range s.files {
		was := before.files[i]
		switch {
		case now == nil && was == nil:
			continue
		case now == nil || was == nil, !os.SameFile(now, was), now.Size() != was.Size(), !now.ModTime().Equal(was.ModTime()),
			before.taken.Sub(was.ModTime()) < settleTime:
			return false
		}
	}
	return true
}
