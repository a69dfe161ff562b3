package backup

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"emsafe/storage"
	"emsafe/storage/catalog"
)

// courier brings the backups of continuous protection to one target, in order,
// for as long as it takes. What it could not bring lies in the spool.
type courier struct {
	k       *keeper
	target  storage.Target
	report  func(Delivery)
	settled func(item *spooled, target string, lost bool) // the target has it, or can never have it

	retryMost time.Duration

	mu      sync.Mutex
	queue   []*spooled
	working bool
	failing bool
	wake    chan struct{}
	sh      *shipper // nil until the target was looked at
}

// Delivery is what became of one backup, or of an attempt at it, in one target.
type Delivery struct {
	TargetOutcome
	ID      string        `json:"id"`
	Kind    string        `json:"kind"`
	Lag     time.Duration `json:"lag_ns"`  // from the snapshot to the commit
	Waiting int           `json:"waiting"` // backups that the target does not have yet
	Retry   time.Duration `json:"retry_ns,omitempty"`
}

// Back-off between attempts at a target that fails.
const (
	retryFirst = time.Second
	retryMost  = 5 * time.Minute
)

func newCourier(k *keeper, t storage.Target, waiting []*spooled, report func(Delivery), settled func(*spooled, string, bool)) *courier {
	c := &courier{k: k, target: t, report: report, settled: settled, retryMost: retryMost, wake: make(chan struct{}, 1)}
	for _, item := range waiting {
		if !k.memory.isDone(item, t.Name) {
			c.queue = append(c.queue, item)
		}
	}
	return c
}

// bring puts a backup at the end of the queue.
func (c *courier) bring(item *spooled) {
	c.mu.Lock()
	c.queue = append(c.queue, item)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// idle reports whether there is nothing to do, or nothing that can be done now.
func (c *courier) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing || len(c.queue) == 0 && !c.working
}

func (c *courier) next() *spooled {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working = len(c.queue) > 0
	if !c.working {
		return nil
	}
	return c.queue[0]
}

func (c *courier) drop(item *spooled) (left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = slices.DeleteFunc(c.queue, func(q *spooled) bool { return q == item })
	c.failing = false
	return len(c.queue)
}

// retain takes out of the queue what is not in the spool any more.
func (c *courier) retain(left []*spooled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = slices.DeleteFunc(c.queue, func(q *spooled) bool { return !slices.Contains(left, q) })
}

// panicked tells of a bug that ended the work for a while.
func (c *courier) panicked(err error) {
	c.mu.Lock()
	c.failing, c.sh = true, nil
	d := Delivery{TargetOutcome: TargetOutcome{Target: c.target.Name, Err: err}, Waiting: len(c.queue)}
	c.mu.Unlock()
	c.report(d)
}

// run works until ctx ends.
func (c *courier) run(ctx context.Context) {
	retry := retryFirst
	for ctx.Err() == nil {
		item := c.next()
		if item == nil {
			select {
			case <-ctx.Done():
			case <-c.wake:
			}
			continue
		}
		d := c.deliver(ctx, item)
		if ctx.Err() != nil && d.Err != nil {
			return
		}
		if errors.Is(d.Err, errDropped) {
			c.drop(item)
			continue
		}
		if lost := errors.Is(d.Err, errNoParent); lost || d.Err == nil {
			if lost { // without its parent it can never be restored there
				c.k.memory.done(item, c.target.Name)
			}
			d.Waiting, retry = c.drop(item), retryFirst
			c.report(d)
			c.settled(item, c.target.Name, lost)
			continue
		}
		c.mu.Lock()
		c.failing, c.sh, d.Waiting = true, nil, len(c.queue)
		c.mu.Unlock()
		d.Retry = retry
		c.report(d)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, c.retryMost)
	}
}

// deliver brings one backup, and looks at the target first if that was not
// done since it last failed.
func (c *courier) deliver(ctx context.Context, item *spooled) Delivery {
	d := Delivery{ID: item.ID, Kind: item.Kind}
	d.Target = c.target.Name
	sh, err := c.shipper(ctx)
	if err == nil && !c.k.memory.isDone(item, c.target.Name) {
		err = sh.shipFile(ctx, item)
	}
	if d.Err = err; sh != nil {
		d.Alarm = sh.takeAlarm()
	}
	if err == nil {
		at, _ := c.k.memory.parent(c.target.Name, item.ID)
		d.Sequence, d.Manifest = at.Sequence, at.Manifest
		d.Lag = c.k.job.Now().Sub(item.SnapshotAt)
	}
	return d
}

func (c *courier) shipper(ctx context.Context) (*shipper, error) {
	c.mu.Lock()
	sh, queue := c.sh, slices.Clone(c.queue)
	c.mu.Unlock()
	if sh != nil {
		return sh, nil
	}
	bucket, err := c.target.Open(ctx)
	if err != nil {
		return nil, err
	}
	sh = &shipper{job: c.k.job, target: c.target.Name, memory: c.k.memory, out: &TargetOutcome{}, waiting: queue}
	if err := sh.open(ctx, bucket); err != nil {
		return nil, err
	}
	sh.recall(ctx, queue)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sh = sh
	return sh, nil
}

// aside brings a full backup while others go on, because that may take long.
// If it fails the backup takes its place in the queue.
func (c *courier) aside(ctx context.Context, item *spooled) {
	if !c.idle() || item.Kind != catalog.KindFull {
		c.bring(item)
		return
	}
	d := c.deliver(ctx, item)
	if d.Err != nil {
		c.bring(item)
		return
	}
	c.report(d)
	c.settled(item, c.target.Name, false)
}
