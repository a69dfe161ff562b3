package restore

import (
	"context"
	"fmt"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// offer adds to an error that wanted cannot be restored, because of manifest
// bad or its payload, which backups nearest to it can.
func offer(ctx context.Context, chain *catalog.Chain, wanted *catalog.Entry, bad uint64, err error) error {
	before, after := nearest(ctx, chain, wanted, bad)
	f := fault.Find(err)
	if f == nil || before == nil && after == nil {
		return err
	}
	e := fault.New(f.Kind, "%w", err)
	e.Safe = f.Safe
	var text string
	if before != nil {
		text = fmt.Sprintf("The nearest earlier one that restores is %s: --id %s (%s before it).", moment(before), before.ID, apart(wanted, before))
	}
	if after != nil {
		text += fmt.Sprintf(" The nearest later one is %s: --id %s (%s after it).", moment(after), after.ID, apart(wanted, after))
	}
	return e.WithRemedy("%s", text)
}

func moment(e *catalog.Entry) string { return e.SnapshotAt.UTC().Format(time.RFC3339) }

func apart(a, b *catalog.Entry) time.Duration {
	return a.SnapshotAt.Sub(b.SnapshotAt).Abs().Round(time.Second)
}

// around bounds how many manifests on either side are looked at.
const around = 5000

// nearest finds the backups next to wanted whose whole way is there, in the
// signed sizes, and does not lead through bad.
func nearest(ctx context.Context, chain *catalog.Chain, wanted *catalog.Entry, bad uint64) (before, after *catalog.Entry) {
	all, err := chain.Sequences(ctx, wanted.Sequence-min(wanted.Sequence, around))
	if err != nil {
		return nil, nil
	}
	for len(all) > 0 && all[len(all)-1] > wanted.Sequence+around {
		all = all[:len(all)-1]
	}
	results, err := chain.Walk(ctx, all)
	payloads, serr := storedPayloads(ctx, chain)
	if err != nil || serr != nil {
		return nil, nil
	}
	good := map[uint64]bool{}
	for _, r := range results {
		e := r.Entry
		if e == nil || e.Sequence == bad || e.Payload != nil && payloads[e.Payload.Key].Size != e.Payload.Size {
			continue
		}
		whole := true
		for _, n := range e.Ancestors {
			// What lies before those that were looked at is hoped for.
			whole = whole && n != bad && (good[n] || n < all[0])
		}
		if good[e.Sequence] = whole; !whole || e.ID == wanted.ID {
			continue
		}
		if e.SnapshotAt.After(wanted.SnapshotAt) {
			if after == nil || e.SnapshotAt.Before(after.SnapshotAt) {
				after = e
			}
		} else if before == nil || e.SnapshotAt.After(before.SnapshotAt) {
			before = e
		}
	}
	return before, after
}

// storedPayloads lists what is stored.
func storedPayloads(ctx context.Context, chain *catalog.Chain) (map[string]storage.Info, error) {
	stored := map[string]storage.Info{}
	for info, err := range chain.Bucket.List(ctx, "databases/"+chain.Database+"/payloads/", "") {
		if err != nil {
			return nil, err
		}
		stored[info.Key] = info
	}
	return stored, nil
}
