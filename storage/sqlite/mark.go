package sqlite

import (
	"context"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"emsafe/internal/fault"
)

// Mark is where a snapshot stands in the history of its database: what a later
// snapshot needs to prove which pages can have changed since. It is opaque to
// callers, and written as JSON.
type Mark struct {
	Device   uint64     `json:"device"`
	Inode    uint64     `json:"inode"`
	PageSize int        `json:"page_size"`
	Pages    int64      `json:"pages"`
	WAL      *position  `json:"wal,omitempty"`  // in a WAL; or
	Rest     *restStamp `json:"rest,omitempty"` // of a file that has none
}

// mark is where an image stands, at a position in the WAL or with a stamp of
// the file at rest; nil without either.
func (i Image) mark(wal *position, rest *restStamp) *Mark {
	if wal == nil && rest == nil {
		return nil
	}
	return &Mark{i.Device, i.Inode, i.PageSize, i.Pages, wal, rest}
}

// of reports whether the mark is of the file that the image is of.
func (m *Mark) of(i Image) bool {
	return m != nil && m.Device == i.Device && m.Inode == i.Inode && m.PageSize == i.PageSize
}

// refuseReplaced is an error if another file lay at the path when the mark was
// made, and a process still writes to that one: what it commits is not in the
// file that is there now.
func (m *Mark) refuseReplaced(ctx context.Context, path string, image Image) error {
	if m == nil || m.Device == image.Device && m.Inode == image.Inode {
		return nil
	}
	who, err := stillOpen(ctx, path, fileID{m.Device, m.Inode})
	if who == "" || err != nil {
		return err
	}
	return fault.New(fault.Replaced, "%s was replaced by another file, and %s still has the file open that was there before: what it writes is not in the new one", path, who).
		WithRemedy("Restart the application. If the old file is the right one, restore it to its place first: `ls -l /proc/PID/fd` shows where it is now.")
}

// fileID is what a file is, whatever its names.
type fileID struct{ dev, ino uint64 }

// restStamp says what a database file without a WAL looks like while its
// writers are kept out. An equal one proves an equal file, if its times were
// old enough when it was taken: file systems stamp coarsely.
type restStamp struct {
	Size    int64     `json:"size"`
	Mtime   time.Time `json:"mtime"`
	Ctime   time.Time `json:"ctime"`
	Counter uint32    `json:"counter"` // the header's change counter
}

// stampRest is to be called under a lock that keeps writers out. It is nil
// where the times are too young to prove anything.
func stampRest(f *os.File) *restStamp {
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	s, err := restOf(f, st)
	if err != nil || time.Since(lastChange(st)) < quietFor {
		return nil
	}
	return s
}

func restOf(f *os.File, st fs.FileInfo) (*restStamp, error) {
	var head [32]byte
	if _, err := f.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	return &restStamp{st.Size(), st.ModTime().UTC(), lastChange(st).UTC(), beUint32(head[24:])}, nil
}

// atRest reports whether the file is still as the mark has it. It is to be
// called under a lock that keeps writers out.
func (m *Mark) atRest(f *os.File, image Image) bool {
	if !m.of(image) || m.Rest == nil {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := restOf(f, st)
	return err == nil && now.Size == m.Rest.Size && now.Mtime.Equal(m.Rest.Mtime) && now.Ctime.Equal(m.Rest.Ctime) && now.Counter == m.Rest.Counter
}

// unchanged makes image the proof that nothing changed since the mark, and
// reports whether the caller is content with no page.
func (o Options) unchanged(image *Image) bool {
	if o.Select == nil {
		return false
	}
	image.Proven, image.Changed, image.Mark = true, []int64{}, o.Since
	if pages := o.Select(*image); pages != nil && len(pages) == 0 {
		return true
	}
	image.Proven, image.Changed, image.Mark = false, nil, nil
	return false
}

// choose asks which pages to stream; nil is all.
func (o Options) choose(image Image) []int64 {
	if o.Select == nil {
		return nil
	}
	return o.Select(image)
}

// prove fills in what the WAL proves: the tail has read it after the image's
// transaction was pinned.
func (o Options) prove(t *Tail, image *Image) {
	pages, least, ok := t.since(o.Since)
	if !ok || !o.Since.of(*image) {
		return
	}
	least = min(least, o.Since.Pages)
	changed := make([]int64, 0, len(pages))
	for p := range pages {
		if int64(p) <= min(least, image.Pages) {
			changed = append(changed, int64(p))
		}
	}
	slices.Sort(changed)
	// A page that was not there for a while may have changed without a frame:
	// SQLite does not write pages that are free when a transaction ends.
	for p := least + 1; p <= image.Pages; p++ {
		changed = append(changed, p)
	}
	image.Proven, image.Changed = true, changed
}
