package backup

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"

	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// notDelta says that a delta is not what should be made of this, and why.
type notDelta struct{ why string }

func (n *notDelta) Error() string { return n.why }

// delta takes what changed since the plan's parent, makes it durable in the
// spool, and ships it. With nothing changed it signs that, or does nothing.
func (k *keeper) delta(ctx context.Context, p plan, waiting []*spooled) (Outcome, error) {
	out := Outcome{Database: k.job.Database, Kind: catalog.KindDelta, Parent: p.parent.ID}
	item, err := k.sealDelta(ctx, p, &out)
	if err != nil {
		return out, err
	}
	if item.Kind == catalog.KindHeartbeat {
		out.Kind, out.Parent = catalog.KindHeartbeat, item.Parent
		if !k.job.Heartbeat {
			out.Kind, out.ID = Unchanged, ""
			if err := k.memory.checked(item.Parent, item.SnapshotAt); err != nil {
				return out, spoolError(err, k.spool.dir)
			}
			if len(waiting) == 0 {
				return out, nil
			}
			// What waits goes as far as it goes; there is nothing to add.
			item, waiting = waiting[len(waiting)-1], waiting[:len(waiting)-1]
		}
	}
	k.sealed()
	out.Targets = startShipping(ctx, k.job, k.memory, load{waiting: waiting, item: item}).wait()
	for _, t := range out.Targets {
		if errors.Is(t.Err, errNoParent) {
			return out, errNoParent
		}
	}
	return out, k.settle(ctx, item, waiting, out)
}

// sealDelta finds what changed and seals it into the spool. The page index
// follows when that is durable. The item is a heartbeat if nothing changed.
func (k *keeper) sealDelta(ctx context.Context, p plan, out *Outcome) (*spooled, error) {
	d := &differ{job: k.job, spool: k.spool, index: k.index, plan: p, id: newID(k.job.Now())}
	defer d.giveUp()
	image, err := d.read(ctx, k.tail)
	if err != nil {
		return nil, spoolError(err, k.spool.dir)
	}
	head := k.index.indexHead
	head.Mark = image.Mark
	if len(d.changes) == 0 && image.Pages == k.index.Content.Pages {
		out.took(image, d.id, k.index.Content, seal.Sealed{})
		item := k.spool.item(d.id, catalog.KindHeartbeat, k.job, image, seal.Sealed{}, k.index.Content)
		item.Parent = k.index.ID
		k.advance(head, nil)
		return item, nil
	}
	gen := k.index.Ladder.Gen + 1
	update, err := k.index.prepare(d.changes, image.Pages, gen)
	if err != nil {
		return nil, err
	}
	sealed, delta, err := d.close()
	if err != nil {
		return nil, spoolError(err, k.spool.dir)
	}
	out.took(image, d.id, update.content, sealed)
	out.Pages = delta.Pages
	item := k.spool.item(d.id, catalog.KindDelta, k.job, image, sealed, update.content)
	item.Parent, item.Delta = p.parent.ID, &delta
	description, err := json.Marshal(item)
	if err != nil {
		return nil, err
	}
	if err := k.spool.keep(d.id, description, d.file); err != nil {
		return nil, spoolError(err, k.spool.dir)
	}
	d.file = nil
	head.ID, head.Ladder = d.id, head.Ladder.afterDelta(p, d.id, gen, sealed.Size)
	k.advance(head, update)
	return item, nil
}

// advance brings index and tail to a backup that is safe. Without the index
// the next backup is full, and nothing else is lost.
func (k *keeper) advance(head indexHead, u *update) {
	var err error
	if u == nil {
		err = k.index.setHead(head)
	} else {
		err = k.index.apply(u, head)
	}
	if err != nil {
		k.dropIndex("the page index could not be written: " + err.Error())
	}
	if k.tail != nil {
		k.tail.Advance(head.Mark)
	}
}

// differ reads a database, or the pages of it that can have changed, and seals
// those that did, and those that the parent does not have.
type differ struct {
	job   Job
	spool *spool
	index *index
	plan  plan
	id    string

	image   sqlite.Image
	pages   []int64 // the numbers of the pages that are read; nil: all
	hasher  *seal.Hasher
	w       *seal.DeltaWriter // made with the first page
	file    *os.File
	sealed  int64
	changes []change
	buf     []byte
}

func (d *differ) read(ctx context.Context, tail *sqlite.Tail) (sqlite.Image, error) {
	scratch, err := d.spool.scratch()
	if err != nil {
		return sqlite.Image{}, err
	}
	defer scratch.Close()
	opt := d.job.Snapshot
	opt.Ahead, opt.Since, opt.Tail = scratch, d.index.Mark, tail
	var selected error
	opt.Select = func(image sqlite.Image) []int64 {
		if d.pages = nil; image.Proven {
			d.pages, selected = d.candidates(image)
		}
		return d.pages
	}
	image, err := sqlite.Snapshot(ctx, d.job.Path, opt, func(image sqlite.Image) (io.Writer, error) {
		d.giveUp()
		if selected != nil {
			return nil, selected
		}
		if image.PageSize != d.index.Content.PageSize {
			return nil, &notDelta{"the page size was changed"}
		}
		d.image = image
		if d.hasher, err = seal.NewHasher(image.PageSize, d.see); err != nil {
			return nil, err
		}
		report := d.job.Progress
		if d.pages != nil {
			report = nil // over before anybody could look
		}
		return &meter{w: d.hasher, total: int64(image.PageSize) * image.Pages, report: report}, nil
	})
	if d.hasher != nil {
		if herr := d.hasher.Close(); herr != nil && err == nil {
			err = herr
		}
		d.hasher = nil
	}
	return image, err
}

// candidates are the pages that can have changed, and those that the parent
// does not have.
func (d *differ) candidates(image sqlite.Image) ([]int64, error) {
	pages := append([]int64{}, image.Changed...)
	if len(pages) > 0 && d.plan.parent.ID != d.index.ID {
		older, err := d.index.changedSince(d.plan.parent.Gen, image.Pages)
		if err != nil {
			return nil, err
		}
		pages = append(pages, older...)
		slices.Sort(pages)
		pages = slices.Compact(pages)
	}
	return pages, nil
}

// see gets all pages that are read, with their hashes, in ascending order.
func (d *differ) see(first int64, data []byte, hashes []seal.Digest) error {
	size := d.image.PageSize
	var entries []byte
	var err error
	if d.pages == nil {
		d.buf = slices.Grow(d.buf[:0], len(hashes)*entrySize)
		if entries, err = d.index.entries(first, int64(len(hashes)), d.buf[:cap(d.buf)]); err != nil {
			return err
		}
	}
	for i, hash := range hashes {
		page, entry := first+int64(i), []byte(nil)
		if d.pages == nil {
			if at := i * entrySize; at < len(entries) {
				entry = entries[at : at+entrySize]
			}
		} else {
			var one [entrySize]byte
			page = d.pages[page-1]
			if entry, err = d.index.entries(page, 1, one[:]); err != nil {
				return err
			}
		}
		same := len(entry) > 0 && string(entry[:32]) == string(hash[:])
		if !same {
			d.changes = append(d.changes, change{page, hash})
		}
		if !same || generation(entry) > d.plan.parent.Gen {
			if err := d.add(page, data[i*size:(i+1)*size]); err != nil {
				return err
			}
		}
	}
	return nil
}

// add seals one page, unless there are too many to be worth a delta.
func (d *differ) add(page int64, data []byte) error {
	if d.sealed++; d.sealed > d.image.Pages*int64(d.job.Policy.FullShare)/100+1 {
		return &notDelta{"more of its pages changed than the configured share"}
	}
	if err := d.begin(); err != nil {
		return err
	}
	return d.w.Add(page, data)
}

func (d *differ) begin() (err error) {
	if d.w != nil {
		return nil
	}
	if d.file, err = d.spool.create(d.id); err != nil {
		return err
	}
	d.w, err = seal.NewDeltaWriter(&guarded{Writer: d.file, guard: guard{dir: d.spool.dir}}, seal.Options{Recipients: d.job.Recipients, PageSize: d.image.PageSize, Level: d.job.Level})
	return err
}

// close finishes the payload; one without a page leads to a shorter database.
func (d *differ) close() (seal.Sealed, seal.Delta, error) {
	if err := d.begin(); err != nil {
		return seal.Sealed{}, seal.Delta{}, err
	}
	w := d.w
	d.w = nil
	return w.Close()
}

// giveUp removes what was made so far, and may be called at any time.
func (d *differ) giveUp() {
	if d.hasher != nil {
		d.hasher.Close() //nolint:errcheck // what it saw is forgotten
	}
	if d.w != nil {
		d.w.Abort()
	}
	if d.file != nil {
		d.file.Close()
		os.Remove(d.file.Name())
	}
	d.hasher, d.w, d.file, d.changes, d.sealed = nil, nil, nil, nil, 0
}
