// Package restore brings a backup back: it finds the manifest, verifies
// signatures and chain, fetches and opens the payload into a file beside the
// destination, checks it, and only then places it. [Choose] makes a [Plan]
// that says what would happen; [Plan.Run] does it.
//
// Nothing is decrypted that is not signed for, and nothing is placed that was
// not compared with its signed digest. A destination is never overwritten
// unless the request says InPlace, and then it is wholly old or wholly new,
// with the old one kept; [Undo] puts that back. Memory, state and
// configuration of the backed-up host are not needed.
package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// Request says what to bring back, whom to believe, and where to put it.
type Request struct {
	Database    string
	Wanted      catalog.Wanted
	Targets     []storage.Target // those that answer are compared; the newest match wins
	Signers     seal.Signers
	Identities  seal.Identities
	Destination string
	InPlace     bool
	Check       string      // quick (default), full, or none
	Mode        string      // of the restored file: "" (see choose), ModeOriginal, or octal digits
	Widest      fs.FileMode // that hardening allows a database file; 0: only its owner
	AllowBroken bool        // restore although the chain around the backup does not hold

	// What is known of the newest backup, to find out a target that hides it.
	MinSequence uint64
	Head        catalog.Head            // Repository may be empty: any
	Remembered  map[string]catalog.Head // by repository id

	Now      func() time.Time
	Progress func(done, total int64) // plaintext bytes restored; may be nil
	Trace    func(Phase)             // told when a phase has ended, also a failed one; may be nil
}

// Plan is a restore that was found possible.
type Plan struct {
	Target   string
	Entry    *catalog.Entry
	Path     []*catalog.Entry // what is fetched: a full backup and the deltas that lead from it to Entry
	Newest   *catalog.Entry   // head of that target's chain
	Proven   string           // what freshness was held against; "" if nothing
	Warnings []string
	Existing *Existing // what is at the destination now, nil if nothing

	req   Request
	chain *catalog.Chain
}

// candidate is a target with the backup in it.
type candidate struct {
	target string
	chain  *catalog.Chain
	found  *catalog.Found
	path   []*catalog.Entry
}

// Choose finds the wanted backup in the targets, verifies what leads to it,
// and looks at the destination. It writes nothing.
func Choose(ctx context.Context, req Request) (*Plan, error) {
	if req.Now == nil {
		req.Now = time.Now
	}
	plan := &Plan{req: req}
	var candidates []candidate
	var refused []error
	for _, t := range req.Targets {
		c, err := open(ctx, req, t)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("target %s: %w", t.Name, err))
			continue
		}
		candidates = append(candidates, c)
	}
	best := -1
	for i, c := range candidates {
		said, err := fresh(ctx, req, c, candidates)
		plan.Warnings = append(plan.Warnings, said...)
		if err != nil {
			refused = append(refused, fmt.Errorf("target %s: %w", c.target, err))
			continue
		}
		if best < 0 {
			best = i
			continue
		}
		newer, known := c.newer(candidates[best], req.Wanted)
		if !known {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("neither of the targets %s and %s knows of the other's newest backup: which of them is newer is told by their times alone", candidates[best].target, c.target))
		}
		if newer {
			best = i
		}
	}
	if best < 0 {
		return nil, errors.Join(refused...)
	}
	for _, err := range refused {
		plan.Warnings = append(plan.Warnings, "not used: "+err.Error())
	}
	c := candidates[best]
	plan.Target, plan.chain, plan.Entry, plan.Path, plan.Newest = c.target, c.chain, c.found.Entry, c.path, c.found.Head().Entry
	plan.Proven = provenBy(req, c, candidates)
	if uneven := c.found.Uneven(); uneven != "" {
		plan.Warnings = append(plan.Warnings, "the clock was set back: "+uneven+"; what is newer is told by the numbers")
	}
	for _, err := range c.chain.Tampered() {
		plan.Warnings = append(plan.Warnings, err.Error())
	}
	if err := storage.Blind(c.chain.Bucket); err != nil {
		plan.Warnings = append(plan.Warnings, err.Error()+": that this backup is the newest was not established by this target")
	}
	if req.AllowBroken {
		for _, err := range c.chain.Links(ctx, c.found.Since, 0) {
			plan.Warnings = append(plan.Warnings, "the chain does not hold: "+err.Error())
		}
	}
	if req.Destination == "" {
		return plan, nil
	}
	return plan, plan.look()
}

// Into says where the restore goes, for a request that left it open.
func (p *Plan) Into(destination string) error {
	p.req.Destination = destination
	return p.look()
}

// open finds the backup in one target and holds the chain behind it to account.
func open(ctx context.Context, req Request, t storage.Target) (candidate, error) {
	var chain *catalog.Chain
	var found *catalog.Found
	err := req.traced(PhasePick, func() error {
		bucket, err := t.Open(ctx)
		if err != nil {
			return err
		}
		c, err := catalog.Open(ctx, storage.Past(bucket), req.Signers)
		if err != nil {
			return err
		}
		chain = c.Chain(req.Database)
		found, err = chain.Find(ctx, req.Wanted)
		return err
	})
	if err != nil {
		return candidate{}, err
	}
	c := candidate{target: t.Name, chain: chain, found: found}
	err = req.traced(PhaseChain, func() error {
		c.path, err = way(ctx, req, chain, found)
		return err
	})
	return c, err
}

// newer reports whether a target's backup is newer than another target's. For
// the newest of each that is told by the manifests, which name the last that was
// known of every other target; known is false where they do not tell, and it is
// told by the times.
func (c candidate) newer(than candidate, w catalog.Wanted) (newer, known bool) {
	mine, theirs := c.found.Entry, than.found.Entry
	later := mine.SnapshotAt.After(theirs.SnapshotAt)
	if mine.ID == theirs.ID || w != (catalog.Wanted{}) {
		return later, true // the same, or asked for by what it says of itself
	}
	knows, isKnown := c.knows(than), than.knows(c)
	if knows == isKnown {
		return later, false
	}
	return knows, true
}

// knows reports whether the newest manifest of a target was made when the
// newest of the other was there.
func (c candidate) knows(other candidate) bool {
	head := other.found.Head().Entry.Head()
	for _, k := range c.found.Head().Entry.Heads {
		if k.Repository == head.Repository && k.Sequence >= head.Sequence {
			return true
		}
	}
	return false
}

// way is what a restore of the backup goes through, if the chain around it
// holds.
func way(ctx context.Context, req Request, chain *catalog.Chain, found *catalog.Found) ([]*catalog.Entry, error) {
	if problems := chain.Links(ctx, found.Since, 0); len(problems) > 0 && !req.AllowBroken {
		return nil, fmt.Errorf("backup %s: %w", found.Entry.ID, problems[0])
	}
	if found.Head().Err != nil {
		// With a chain that is allowed to be broken the head may be unreadable.
		found.Since[len(found.Since)-1].Entry = found.Entry
	}
	path, err := chain.Path(ctx, found.Entry)
	var broken *catalog.BrokenPath
	if errors.As(err, &broken) {
		return nil, offer(ctx, chain, found.Entry, broken.Sequence, err)
	}
	return path, err
}

// fresh refuses a target whose chain does not hold, or does not go on from, a
// head that the request, this host's memory, or another target's signed
// manifests know of. With a chain that is allowed to be broken that is said, but
// for what the request itself asks for.
func fresh(ctx context.Context, req Request, c candidate, all []candidate) (said []string, err error) {
	head := c.found.Head().Entry.Head()
	if head.Sequence < req.MinSequence {
		return nil, fault.New(fault.RolledBack, "its newest backup of %s is number %d, and --min-sequence says %d", req.Database, head.Sequence, req.MinSequence)
	}
	if err := c.chain.Continues(ctx, req.Head, head.Sequence); err != nil {
		return nil, err
	}
	problems := []error{sameRepository(req.Remembered, c.target, head.Repository)}
	known := []catalog.Head{req.Remembered[head.Repository]}
	for _, other := range all {
		known = append(known, other.found.Head().Entry.Heads...)
	}
	for _, k := range known {
		if k.Repository != "" && k.Repository != head.Repository {
			continue
		}
		problems = append(problems, c.chain.Continues(ctx, k, head.Sequence))
	}
	for _, err := range problems {
		switch {
		case err == nil:
		case req.AllowBroken:
			said = append(said, err.Error())
		case errors.Is(err, fault.RolledBack) && fault.Find(err).Remedy == "":
			return nil, fault.Find(err).WithRemedy("Try another target, or look for missing versions in the bucket's history. `emsafe verify` shows what is there; --allow-broken-chain restores it all the same.")
		default:
			return nil, err
		}
	}
	return said, nil
}

// sameRepository is an error if a target was another repository when this host
// committed to it last.
func sameRepository(remembered map[string]catalog.Head, target, repository string) error {
	if _, known := remembered[repository]; known {
		return nil
	}
	for _, h := range remembered {
		if h.Target == target {
			return fault.New(fault.RolledBack, "the target %s is another repository than the one where this host committed number %d", target, h.Sequence).
				WithRemedy("Check the target's url. To restore from what is there all the same, give it by its url: --target URL --allowed-signers FILE.")
		}
	}
	return nil
}

// provenBy says what vouches for the head not being rolled back.
func provenBy(req Request, c candidate, all []candidate) string {
	head := c.found.Head().Entry.Head()
	switch {
	case req.MinSequence > 0 || !req.Head.IsZero():
		return "the head given"
	case !req.Remembered[head.Repository].IsZero():
		return "this host's memory"
	}
	for _, other := range all {
		for _, k := range other.found.Head().Entry.Heads {
			if k.Repository == head.Repository {
				return "target " + other.target
			}
		}
	}
	return ""
}

// Run restores, checks and places. When it returns nil the destination is the
// backup, durable, and compared page by page with the signed digest.
func (p *Plan) Run(ctx context.Context) (*Outcome, error) {
	if p.req.InPlace {
		if err := recoverIntent(p.req.Destination); err != nil {
			return nil, err
		}
		if err := refuseHolders(p.req.Destination); err != nil {
			return nil, err
		}
	}
	started := p.req.Now()
	staged, err := p.stage(ctx)
	if err != nil {
		return nil, placeError(err, filepath.Dir(p.req.Destination))
	}
	defer staged.discard()
	out := &Outcome{Entry: p.Entry, Target: p.Target, Path: p.req.Destination, Warnings: p.Warnings}
	other, warnings := p.own(staged)
	out.Other, out.Warnings = other, append(out.Warnings, warnings...)
	out.Checked, out.Unchecked = staged.checked, append([]string{}, staged.report.Unchecked...)
	for _, what := range out.Unchecked {
		out.Warnings = append(out.Warnings, "not checked, because it needs what only the application has: "+what+"; its pages match the signed digest")
	}
	err = p.req.traced(PhasePlace, func() error {
		if p.req.InPlace {
			return p.placeOver(ctx, staged, out)
		}
		return placeNew(staged, p.req.Destination)
	})
	if err != nil {
		return nil, placeError(err, filepath.Dir(p.req.Destination))
	}
	out.Took = p.req.Now().Sub(started)
	return out, nil
}

// Outcome says what was placed.
type Outcome struct {
	Entry   *catalog.Entry
	Target  string
	Path    string
	Aside   string // folder with what was there before; "" if nothing was
	Checked string // which check passed on top of the page digest
	Other   string // how owner, group or mode differ from the recorded ones; "" if they do not
	// Unchecked is what that check could not cover without the application, and why.
	Unchecked []string
	Warnings  []string
	Took      time.Duration
}
