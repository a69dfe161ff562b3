package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"emsafe/internal/crash"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// shipping is the goroutines that bring backups to the targets, one each.
type shipping struct {
	group    sync.WaitGroup
	outcomes []TargetOutcome
}

// load is what is to be shipped: what waits in the spool, oldest first, and
// then either the backup of the feed, or one that is in the spool as well.
type load struct {
	waiting []*spooled
	feed    *feed
	item    *spooled
}

// startShipping ships a load to every target independently.
func startShipping(ctx context.Context, job Job, memory *memory, load load) *shipping {
	s := &shipping{outcomes: make([]TargetOutcome, len(job.Targets))}
	for i, target := range job.Targets {
		s.group.Go(func() {
			out := &s.outcomes[i]
			out.Target = target.Name
			sh := &shipper{job: job, target: target.Name, memory: memory, out: out}
			out.Err = crash.Run(func() error { return sh.run(ctx, target, load) })
		})
	}
	return s
}

func (s *shipping) wait() []TargetOutcome {
	s.group.Wait()
	return s.outcomes
}

// shipper brings backups to one target.
type shipper struct {
	job     Job
	target  string
	memory  *memory
	out     *TargetOutcome
	chain   *catalog.Chain
	mu      sync.Mutex // over head: one commit at a time
	head    catalog.Head
	waiting []*spooled // what was sealed earlier
	unseen  bool       // these credentials may put and list, and not read
}

func (s *shipper) run(ctx context.Context, target storage.Target, load load) error {
	s.waiting = load.waiting
	bucket, err := target.Open(ctx)
	if err != nil {
		return err
	}
	if load.item != nil && load.item.Kind == catalog.KindHeartbeat && s.undone(load.waiting) == 0 && s.trust(bucket) {
		return s.commit(ctx, load.item, "")
	}
	if err := s.open(ctx, bucket); err != nil {
		return err
	}
	s.recall(ctx, load.waiting)
	for _, item := range load.waiting {
		if s.memory.isDone(item, s.target) {
			continue
		}
		err := s.shipFile(ctx, item)
		if errors.Is(err, errNoParent) {
			// It can never be restored there, and must not be in the way.
			s.memory.done(item, s.target)
			continue
		}
		if err != nil {
			return fmt.Errorf("ship %s, which waits in the spool: %w", item.ID, err)
		}
		s.out.Caught++
	}
	switch {
	case load.feed != nil:
		return s.shipFeed(ctx, load.feed)
	case load.item.Kind == catalog.KindHeartbeat:
		return s.commit(ctx, load.item, "")
	case s.memory.isDone(load.item, s.target):
		return nil
	}
	return s.shipFile(ctx, load.item)
}

// undone counts what the target does not have yet.
func (s *shipper) undone(items []*spooled) (n int) {
	for _, item := range items {
		if !s.memory.isDone(item, s.target) {
			n++
		}
	}
	return n
}

// trustFor is how long a target is trusted to be as it was found: a target that
// lost what it held must be noticed, also while a database does not change.
const trustFor = time.Hour

// trust goes by what is remembered of the target without a look at it: a
// heartbeat is worth one request, and the manifest that it would overwrite
// refuses it.
func (s *shipper) trust(bucket storage.Bucket) bool {
	head, look := s.memory.headOf(s.target, ""), s.memory.look(s.target)
	ago := s.job.Now().Sub(look.At)
	if _, near := bucket.(storage.Near); near {
		return false // looking costs nothing
	}
	if head.IsZero() || s.job.TakeOver || look.Address != bucket.String() || ago < 0 || ago > trustFor {
		return false
	}
	s.chain = catalog.Trusted(storage.Past(bucket), head.Repository, s.job.Signers).Chain(s.job.Database)
	s.head = head
	return true
}

// errNoParent says that a target does not have what a delta is taken against.
var errNoParent = errors.New("the target does not hold the backup that this one builds on")

// errDropped says that a backup left the spool before it was shipped.
var errDropped = errors.New("the spool does not hold it any more")

// recall notes what a run that was killed committed here and could not note
// any more: it would be committed twice.
func (s *shipper) recall(ctx context.Context, waiting []*spooled) {
	for _, item := range waiting {
		if _, ok := s.memory.parent(s.target, item.ID); ok && !s.memory.isDone(item, s.target) {
			s.memory.done(item, s.target)
		}
	}
	if len(waiting) == 0 || s.unseen {
		return
	}
	// They were committed one after the other, and perhaps one that is not in
	// the spool after them.
	for n, strangers := s.head.Sequence, 0; n > 0 && strangers < 2; n-- {
		entry, err := s.chain.Read(ctx, n)
		if err != nil {
			return // twice is better than not at all
		}
		known := false
		for _, item := range waiting {
			if item.ID != entry.ID {
				continue
			}
			if known = true; !s.memory.isDone(item, s.target) {
				s.memory.done(item, s.target)
				s.memory.recall(s.target, entry)
			}
		}
		if !known {
			strangers++
		}
	}
}

// open prepares the chain: repository, head, lineage.
func (s *shipper) open(ctx context.Context, bucket storage.Bucket) error {
	c, err := s.openPast(ctx, bucket)
	if errors.Is(err, fault.Credentials) {
		return s.openUnseen(ctx, storage.Past(bucket), err)
	}
	if errors.Is(err, fault.NotFound) {
		if known := s.memory.headOf(s.target, ""); !known.IsZero() && !s.job.TakeOver {
			return fault.New(fault.RolledBack, "the repository in %s is gone: this host committed manifest %d there", bucket, known.Sequence).
				WithRemedy("If it is a disk that is not mounted, mount it. If the target was emptied on purpose, `emsafe backup --take-over` starts a new repository there.")
		}
		c, err = catalog.Create(ctx, storage.Past(bucket), s.job.Key, s.job.Signers, random(16), s.job.Host, s.job.Now())
	}
	if err != nil {
		return err
	}
	s.chain = c.Chain(s.job.Database)
	if err := s.findHead(ctx); err != nil {
		return err
	}
	s.tell()
	return nil
}

// findHead learns after which manifest to commit, from memory and the target.
func (s *shipper) findHead(ctx context.Context) error {
	if s.unseen {
		return s.findHeadUnseen(ctx)
	}
	known := s.memory.headOf(s.target, s.chain.Repository)
	if other := s.memory.headOf(s.target, ""); known.IsZero() && !other.IsZero() && !s.job.TakeOver {
		return fault.New(fault.RolledBack, "the target %s is another repository than the one where this host committed manifest %d", s.chain.Bucket, other.Sequence).
			WithRemedy("Check the target's url. If the change is intended, `emsafe backup --take-over` goes on there.")
	}
	newest, err := s.newest(ctx, known)
	if err != nil {
		return err
	}
	s.memory.looked(s.target, catalog.Look{Address: s.chain.Bucket.String(), At: s.job.Now().UTC()})
	if newest == 0 {
		s.head = catalog.Head{Repository: s.chain.Repository}
		return nil
	}
	entry, err := s.chain.Read(ctx, newest)
	switch {
	case errors.Is(err, fault.NotFound), err == nil && newest == known.Sequence && entry.Digest != known.Digest:
		// Somebody removed or replaced what this host committed. Backups go
		// on, chained to what was remembered: the hole stays visible for ever.
		s.out.Alarm = fault.New(fault.RolledBack, "manifest %d, which this host committed, is not in %s any more", known.Sequence, s.chain.Bucket).
			WithSafe("The new backup is committed and chained to the remembered manifest %s.", known)
		s.head = known
		s.memory.forget(s.target)
		return nil
	case errors.Is(err, fault.Forged), errors.Is(err, fault.Damaged):
		if newest == known.Sequence {
			s.out.Alarm, s.head = err, known
			s.memory.forget(s.target)
			return nil
		}
		return fault.New(fault.Find(err).Kind, "somebody put an object where the next manifest belongs: %w", err).
			WithRemedy("Delete it with credentials that may: in a bucket with versions that very version, or, where it is locked, with a delete marker over it. Find out whose credentials wrote it, and change them.")
	case err != nil:
		return err
	}
	if entry.Lineage != s.memory.lineage() && !s.job.TakeOver {
		return fault.New(fault.Foreign, "manifest %d of %s in %s was committed by another installation (host %s, %s)",
			entry.Sequence, s.job.Database, s.chain.Bucket, entry.Host, entry.CommittedAt.Format(time.RFC3339))
	}
	if newest > known.Sequence && !known.IsZero() && !s.job.TakeOver {
		if err := s.caughtUp(ctx, known, newest); err != nil {
			return err
		}
	}
	s.head = entry.Head()
	return s.memory.learn(s.target, entry)
}

// shipFile ships a backup that is complete in the spool.
func (s *shipper) shipFile(ctx context.Context, item *spooled) error {
	if err := s.hasParent(item); err != nil {
		return err
	}
	sp, err := openSpool(s.job.State, s.job.Database)
	if err != nil {
		return err
	}
	f, err := os.Open(sp.file(item.ID, ".age"))
	if errors.Is(err, fs.ErrNotExist) {
		return errDropped
	}
	if err != nil {
		return err
	}
	defer f.Close()
	key := catalog.PayloadKey(s.job.Database, random(16))
	if _, err := s.chain.Bucket.Create(ctx, key, f, item.Sealed.Size); err != nil {
		return err
	}
	return s.commit(ctx, item, key)
}

// shipFeed ships the backup that is being sealed right now.
func (s *shipper) shipFeed(ctx context.Context, feed *feed) error {
	var last *stream
	for {
		stream, err := feed.current(ctx, last)
		if err != nil {
			return err
		}
		key := catalog.PayloadKey(s.job.Database, random(16))
		_, err = s.chain.Bucket.Create(ctx, key, stream.reader(ctx), -1)
		if errors.Is(err, errRestarted) {
			last = stream
			continue
		}
		if err != nil {
			return err
		}
		item, err := feed.complete(ctx)
		if err != nil {
			return err
		}
		return s.commit(ctx, item, key)
	}
}

// commitTries bounds how often a rival's commit is stepped over.
const commitTries = 5

// commit signs the manifest into the chain. From here the backup exists.
func (s *shipper) commit(ctx context.Context, item *spooled, payloadKey string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 1; ; try++ {
		m, err := s.manifest(item, payloadKey)
		if err != nil {
			return err
		}
		entry, err := s.chain.Sign(s.job.Key, s.head, m)
		if err == nil && (s.unseen || item.Kind != catalog.KindDelta) { // a delta is known from the spool, where it waits already
			err = s.memory.pending(s.target, entry)
		}
		if err == nil {
			s.memory.making(item.ID)
			err = s.chain.Commit(ctx, entry)
		}
		if errors.Is(err, storage.ErrExists) && try < commitTries {
			// Another daemon of this lineage was faster, or it is a foreign
			// one: findHead tells.
			if err := s.findHead(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		s.head = entry.Head()
		s.out.Sequence, s.out.Manifest = entry.Sequence, entry.Digest
		s.collect(ctx, entry)
		s.relock(ctx, entry)
		// What is not remembered stays in the spool: the next run knows by it that
		// this is a backup of its own.
		if err := s.memory.learn(s.target, entry); err != nil {
			kind := fault.Other
			if f := fault.Of(err); f != nil {
				kind = f.Kind
			}
			return fault.New(kind, "number %d is committed in %s, and this host's memory of it could not be written: %w", entry.Sequence, s.chain.Bucket, err).
				WithSafe("The backup exists and restores. It stays in the spool until that is written down.").
				WithRemedy("Free space in the state folder %s, or give it back its permissions, and back up again.", s.job.State)
		}
		s.memory.done(item, s.target)
		return nil
	}
}

// takeAlarm gives an alarm once.
func (s *shipper) takeAlarm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.out.Alarm
	s.out.Alarm = nil
	return err
}

func (s *shipper) hasParent(item *spooled) error {
	if _, ok := s.memory.parent(s.target, item.Parent); !ok && item.Parent != "" {
		return errNoParent
	}
	return nil
}

// manifest describes an item as it is committed in this target.
func (s *shipper) manifest(item *spooled, payloadKey string) (catalog.Manifest, error) {
	m := catalog.Manifest{
		Host: item.Host, Lineage: s.memory.lineage(), ID: item.ID, Kind: item.Kind, Delta: item.Delta,
		SnapshotAt: item.SnapshotAt, CommittedAt: s.job.Now().UTC().Truncate(time.Millisecond),
		Content: item.Content, Source: item.Source, Recipients: item.Recipients, Versions: item.Versions,
		Heads: s.memory.others(s.chain.Repository), LockedUntil: storage.LockedUntil(s.chain.Bucket, s.job.Now()),
	}
	if item.Kind != catalog.KindHeartbeat {
		m.Payload = &catalog.Payload{Key: payloadKey, Sealed: item.Sealed}
	}
	if item.Parent == "" {
		return m, nil
	}
	p, ok := s.memory.parent(s.target, item.Parent)
	if !ok {
		return m, errNoParent
	}
	m.Parent = &catalog.Parent{ID: item.Parent, Sequence: p.Sequence, Manifest: p.Manifest}
	m.Ancestors = append(slices.Clone(p.Ancestors), p.Sequence)
	return m, nil
}
