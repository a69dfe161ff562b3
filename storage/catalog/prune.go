package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

// Prune is the signed record of manifests that were removed on purpose. It is
// written before any of them goes, so that a gap without one is an alarm.
type Prune struct {
	header
	Repository string      `json:"repository"`
	Host       string      `json:"host"`
	Database   string      `json:"database"`
	Number     uint64      `json:"number"`
	Previous   seal.Digest `json:"previous"` // of the whole prune record before; empty at 1
	PrunedAt   time.Time   `json:"pruned_at"`
	Head       Head        `json:"head"` // of the chain, at that time
	Removed    []Removed   `json:"removed"`

	digest seal.Digest
}

// Removed is a run of consecutive manifests.
type Removed struct {
	First    uint64      `json:"first"`
	Last     uint64      `json:"last"`
	Previous seal.Digest `json:"previous"` // that manifest First named
	Manifest seal.Digest `json:"manifest"` // of manifest Last
	IDs      []string    `json:"ids"`
}

func prunePrefix(database string) string { return "databases/" + database + "/prunes/" }

func pruneKey(database string, number uint64) string {
	return fmt.Sprintf("%s%020d", prunePrefix(database), number)
}

// maxPrune allows for more than a million deltas in one record: two weeks of
// them at one a second.
const maxPrune = 64 << 20

// Prunes reads all records, oldest first. What is not validly signed is no
// record, and one that is missing bridges nothing: both are told by
// [Chain.Tampered].
func (ch *Chain) Prunes(ctx context.Context) ([]*Prune, error) {
	list, problems, err := ch.prunes(ctx)
	if err != nil {
		return nil, err
	}
	ch.past.mu.Lock()
	defer ch.past.mu.Unlock()
	ch.past.badRecords = problems
	return list, nil
}

func (ch *Chain) prunes(ctx context.Context) (list []*Prune, problems []error, err error) {
	var previous seal.Digest
	for info, err := range ch.Bucket.List(ctx, prunePrefix(ch.Database), "") {
		if err != nil {
			return nil, nil, err
		}
		p, err := ch.readPrune(ctx, info.Key)
		switch {
		case err != nil && !ofObject(err):
			return nil, nil, err
		case err != nil:
			problems = append(problems, err)
			continue
		case p.Previous != previous:
			problems = append(problems, fault.New(fault.BrokenChain, "the prune record of %s before number %d is missing", ch.Database, p.Number))
		}
		previous = p.digest
		list = append(list, p)
	}
	return list, problems, nil
}

func (ch *Chain) readPrune(ctx context.Context, key string) (*Prune, error) {
	var p *Prune
	err := storage.ReadVersions(ctx, ch.Bucket, key, maxPrune, func(object []byte) error {
		p = &Prune{digest: seal.Sum(object)}
		return ch.parsePrune(key, object, p)
	})
	return p, err
}

func (ch *Chain) parsePrune(key string, object []byte, p *Prune) error {
	err := verify(ch.signers, seal.NamespacePrune, key, object, p, func() (header, seal.Claim) {
		return p.header, seal.Claim{At: p.PrunedAt, Host: p.Host, Database: p.Database}
	})
	if err == nil && (p.Repository != ch.Repository || p.Database != ch.Database || key != pruneKey(ch.Database, p.Number)) {
		return fault.New(fault.Forged, "%s is signed, but for another place: it was copied there", key)
	}
	return err
}

// AddPrune signs a record after the ones that there are, and stores it. The
// manifests that it names may be deleted then.
func (ch *Chain) AddPrune(ctx context.Context, key *seal.SigningKey, before []*Prune, p Prune) (*Prune, error) {
	p.header = header{Format: Format}
	number, err := ch.nextPrune(ctx, before)
	if err != nil {
		return nil, err
	}
	p.Repository, p.Database, p.Number = ch.Repository, ch.Database, number
	if n := len(before); n > 0 {
		p.Previous = before[n-1].digest
	}
	object, err := sign(key, seal.NamespacePrune, p)
	if err != nil {
		return nil, err
	}
	p.digest = seal.Sum(object)
	name := pruneKey(ch.Database, p.Number)
	// Nothing must be stored that the readers will not accept.
	if err := ch.parsePrune(name, object, &Prune{}); err != nil {
		return nil, fmt.Errorf("the key's record would not be accepted, and nothing was removed: %w", err)
	}
	if err := create(ctx, ch.Bucket, name, object); err != nil {
		if errors.Is(err, storage.ErrExists) {
			return nil, fault.New(fault.Locked, "somebody else prunes %s right now: %s is there", ch.Database, name)
		}
		return nil, err
	}
	return &p, nil
}

// nextPrune is the lowest number above that of the last record under which
// nothing lies: what is no record takes a number as well.
func (ch *Chain) nextPrune(ctx context.Context, before []*Prune) (uint64, error) {
	next := uint64(1)
	if n := len(before); n > 0 {
		next = before[n-1].Number + 1
	}
	for info, err := range ch.Bucket.List(ctx, prunePrefix(ch.Database), pruneKey(ch.Database, next-1)) {
		switch {
		case err != nil:
			return 0, err
		case info.Key > pruneKey(ch.Database, next):
			return next, nil
		case info.Key == pruneKey(ch.Database, next):
			next++
		}
	}
	return next, nil
}

// DeleteManifest removes a manifest that a record names.
func (ch *Chain) DeleteManifest(ctx context.Context, sequence uint64) error {
	return ch.Bucket.Delete(ctx, manifestKey(ch.Database, sequence))
}

// Runs joins consecutive entries, ascending, into what a record says of them.
func Runs(entries []*Entry) []Removed {
	var runs []Removed
	for _, e := range entries {
		if n := len(runs); n > 0 && runs[n-1].Last+1 == e.Sequence && e.Previous == runs[n-1].Manifest {
			runs[n-1].Last, runs[n-1].Manifest, runs[n-1].IDs = e.Sequence, e.Digest, append(runs[n-1].IDs, e.ID)
			continue
		}
		runs = append(runs, Removed{e.Sequence, e.Sequence, e.Previous, e.Digest, []string{e.ID}})
	}
	return runs
}

// Covers reports whether the record names a manifest.
func (p *Prune) Covers(sequence uint64) bool {
	for _, r := range p.Removed {
		if r.First <= sequence && sequence <= r.Last {
			return true
		}
	}
	return false
}

// bridges are removed runs by their first number.
type bridges map[uint64]Removed

// lead follows the records from the manifest before from, whose digest is d,
// and returns where they end: the number of the next manifest that must be
// there, and the digest that it must name.
func (b bridges) lead(from uint64, d seal.Digest) (uint64, seal.Digest) {
	for {
		r, ok := b[from]
		if !ok || r.Previous != d {
			return from, d
		}
		from, d = r.Last+1, r.Manifest
	}
}

// Links holds consecutive results against each other as the function Links
// does, and takes gaps that signed prune records bridge for what they are.
func (ch *Chain) Links(ctx context.Context, results []Result, first uint64) []error {
	problems := links(results, first, nil)
	gaps := false
	for _, p := range problems {
		gaps = gaps || errors.Is(p, fault.BrokenChain)
	}
	if !gaps {
		return problems
	}
	records, err := ch.Prunes(ctx)
	if err != nil {
		return append(problems, err)
	}
	b := bridges{}
	for _, p := range records {
		for _, r := range p.Removed {
			b[r.First] = r
		}
	}
	// What is recorded and still there belongs to a prune that was cut off: it
	// is no link any more.
	live := slices.DeleteFunc(slices.Clone(results), func(r Result) bool {
		return slices.ContainsFunc(records, func(p *Prune) bool { return p.Covers(r.Sequence) })
	})
	return links(live, first, b)
}

// String is what was removed, for people.
func (p *Prune) String() string {
	var runs []string
	for _, r := range p.Removed {
		if r.First == r.Last {
			runs = append(runs, fmt.Sprint(r.First))
		} else {
			runs = append(runs, fmt.Sprintf("%d to %d", r.First, r.Last))
		}
	}
	return strings.Join(runs, ", ")
}
