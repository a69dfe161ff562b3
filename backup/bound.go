package backup

import (
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// Dropped is what had to leave the spool before every target had it.
type Dropped struct {
	Backups int   `json:"backups"`
	Bytes   int64 `json:"bytes"`
}

// What is left free on the spool's disk for whoever else writes to it: a
// twentieth, within bounds.
const (
	reserveShare = 20
	reserveLeast = 8 << 20 // more than is on its way to the disk at any time
	reserveMost  = 1 << 30
)

// room is what a file system has.
type room struct{ free, reserve int64 }

func roomIn(dir string) (room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return room{}, err
	}
	block := int64(st.Bsize) //nolint:unconvert // of another type elsewhere
	return room{
		free:    int64(st.Bavail) * block,                                                 //nolint:gosec // disks are not that large
		reserve: max(min(int64(st.Blocks)*block/reserveShare, reserveMost), reserveLeast), //nolint:gosec // see above
	}, nil
}

// held are the sealed bytes in the spools of all databases.
func held(state string) (bytes int64) {
	filepath.WalkDir(filepath.Join(state, "spool"), func(name string, d fs.DirEntry, err error) error { //nolint:errcheck // what cannot be read is not counted
		if err == nil && strings.HasSuffix(name, ".age") {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// bound makes room in a spool that is full: what waits leaves it, oldest
// first, but for the newest backup, what that is built on, and what the next
// may be built on. If that is not enough, and a good part of it are deltas, the
// next backup will be a full one, which then replaces them all.
func (k *keeper) bound(waiting []*spooled) (left []*spooled, dropped Dropped, err error) {
	k.spill = ""
	if len(waiting) == 0 {
		return waiting, dropped, nil
	}
	space, err := roomIn(k.spool.dir)
	if err != nil {
		return waiting, dropped, err
	}
	over := max(held(k.job.State)-k.job.SpoolLimit, space.reserve-space.free)
	if k.job.SpoolLimit <= 0 {
		over = space.reserve - space.free
	}
	if over <= 0 {
		return waiting, dropped, nil
	}
	needed := k.needed(waiting)
	var own, deltas int64
	for _, item := range waiting {
		if over > 0 && !needed[item.ID] {
			if err := k.spool.remove(item.ID); err != nil {
				return waiting, dropped, err
			}
			over -= item.Sealed.Size
			dropped.Backups++
			dropped.Bytes += item.Sealed.Size
			continue
		}
		left = append(left, item)
		own += item.Sealed.Size
		if item.Kind == catalog.KindDelta {
			deltas += item.Sealed.Size
		}
	}
	if over > 0 && deltas > own/4 {
		k.spill = "the spool is full, and a full backup replaces what waits there"
	}
	return left, dropped, nil
}

// needed are the backups that must stay: the newest, what the next may be
// taken against, and all that these are built on.
func (k *keeper) needed(waiting []*spooled) map[string]bool {
	ids := map[string]bool{waiting[len(waiting)-1].ID: true}
	if k.index != nil {
		ids = k.index.Ladder.parents()
		ids[k.index.ID] = true
		ids[waiting[len(waiting)-1].ID] = true
	}
	for _, item := range slices.Backward(waiting) { // parents are older
		if ids[item.ID] {
			ids[item.Parent] = true
		}
	}
	return ids
}

// guard refuses to write into the reserve of the spool's disk. A look costs a
// microsecond.
type guard struct {
	dir   string
	mu    sync.Mutex
	since int // bytes since the last look
}

const guardEvery = 256 << 10

func (g *guard) wrote(n int) error {
	g.mu.Lock()
	g.since += n
	look := g.since >= guardEvery
	if look {
		g.since = 0
	}
	g.mu.Unlock()
	if !look {
		return nil
	}
	space, err := roomIn(g.dir)
	if err != nil || space.free >= space.reserve {
		return err
	}
	return fault.New(fault.NoSpace, "the disk of the spool %s is nearly full: %d MiB are free, and %d MiB are left to others", g.dir, space.free>>20, space.reserve>>20).
		WithSafe("The backup was given up. What was committed, and what waits in the spool, is untouched.").
		WithRemedy("Free space there, or move `state:` to a larger disk.")
}

// guarded is a writer to the spool's disk.
type guarded struct {
	io.Writer
	guard guard
}

func (g *guarded) Write(p []byte) (int, error) {
	if err := g.guard.wrote(len(p)); err != nil {
		return 0, err
	}
	return g.Writer.Write(p)
}

// scratch is where a snapshot puts pages aside, sealed, on the spool's disk.
type scratch struct {
	*seal.Scratch
	guard guard
}

func (s *spool) scratch() (*scratch, error) {
	inner, err := seal.NewScratch(s.dir)
	if err != nil {
		return nil, spoolError(err, s.dir)
	}
	return &scratch{Scratch: inner, guard: guard{dir: s.dir}}, nil
}

// Put refuses what would fill the disk.
func (s *scratch) Put(i int64, data []byte) error {
	if err := s.guard.wrote(len(data)); err != nil {
		return err
	}
	return s.Scratch.Put(i, data)
}
