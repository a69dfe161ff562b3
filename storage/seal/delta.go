package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Delta describes the content of a delta payload: some pages, one after the
// other in ascending order, and behind them, in zstd frames of its own, the
// index that says which they are.
type Delta struct {
	Pages     int64 `json:"pages"`
	IndexSize int64 `json:"index_size"` // bytes
}

// Check refuses a description that contradicts itself or the database.
func (d Delta) Check(c Content) error {
	// A run takes at least two bytes and at most two varints.
	if d.Pages < 0 || d.Pages > c.Pages || d.IndexSize < 0 || d.IndexSize > 2*binary.MaxVarintLen64*d.Pages || d.Pages > 0 && d.IndexSize < 2 {
		return fmt.Errorf("%d pages with an index of %d bytes are no delta of %d pages", d.Pages, d.IndexSize, c.Pages)
	}
	return nil
}

// Run is a number of consecutive pages.
type Run struct {
	First int64 // number of the first page; pages count from 1
	Count int64
}

// DeltaWriter seals a delta payload. It is not for concurrent use.
type DeltaWriter struct {
	*packer
	pageSize int
	pages    int64
	runs     []Run
}

// NewDeltaWriter starts an age file for the recipients on dst. Close is the
// commit.
func NewDeltaWriter(dst io.Writer, o Options) (*DeltaWriter, error) {
	p, err := newPacker(dst, o, nil, nil)
	if err != nil {
		return nil, err
	}
	return &DeltaWriter{packer: p, pageSize: o.PageSize}, nil
}

// Add seals one page. Pages come in ascending order.
func (w *DeltaWriter) Add(page int64, data []byte) error {
	var last Run
	if n := len(w.runs); n > 0 {
		last = w.runs[n-1]
	}
	switch next := last.First + last.Count; {
	case len(data) != w.pageSize:
		w.failed = fmt.Errorf("page %d has %d bytes", page, len(data))
	case page < max(next, 1):
		w.failed = errors.New("pages are not in ascending order")
	case page == next && next > 0:
		w.runs[len(w.runs)-1].Count++
	default:
		w.runs = append(w.runs, Run{page, 1})
	}
	w.pages++
	_, err := w.Write(data)
	return err
}

// Close finishes the age file and describes what was sealed.
func (w *DeltaWriter) Close() (Sealed, Delta, error) {
	w.flush() // the index begins a frame
	index := marshalRuns(w.runs)
	w.Write(index) //nolint:errcheck // close says it
	s, err := w.close()
	return s, Delta{w.pages, int64(len(index))}, err
}

// marshalRuns writes, for every run, the number of pages passed over since the
// one before and the number of pages in it, as unsigned LEB128 varints.
func marshalRuns(runs []Run) []byte {
	var b []byte
	next := int64(1)
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.First-next))
		b = binary.AppendUvarint(b, uint64(r.Count))
		next = r.First + r.Count
	}
	return b
}

// parseRuns refuses what marshalRuns does not write, and pages that the
// description does not allow.
func parseRuns(b []byte, d Delta, c Content) ([]Run, error) {
	var runs []Run
	next, pages := int64(1), int64(0)
	number := func() int64 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(c.Pages) {
			return -1
		}
		b = b[size:]
		return int64(n)
	}
	for len(b) > 0 {
		gap, count := number(), int64(-1)
		if gap >= 0 {
			count = number()
		}
		if gap < 0 || count < 1 || gap == 0 && len(runs) > 0 || next+gap+count-1 > c.Pages {
			return nil, damaged("the index of the delta is not one")
		}
		runs = append(runs, Run{next + gap, count})
		next += gap + count
		pages += count
	}
	if pages != d.Pages {
		return nil, damaged("the index of the delta names %d pages, not %d", pages, d.Pages)
	}
	return runs, nil
}

// Hasher hashes the pages of a stream in parallel and hands them on in order:
// for those who must see a whole database to know what changed.
type Hasher struct {
	frames *ordered[*frame]
	size   int
	cur    *frame
	free   chan *frame
}

// NewHasher hands every megabyte that is written to sink with the hashes of
// its pages, beginning with page 1. sink runs on one goroutine and must not
// keep what it is given.
func NewHasher(pageSize int, sink func(first int64, data []byte, hashes []Digest) error) (*Hasher, error) {
	h := &Hasher{size: pageSize, free: make(chan *frame, 2*workers()+2)}
	next := int64(1)
	newWork := func() (func(*frame) error, error) {
		return func(f *frame) error {
			f.hashes = hashPages(f.hashes[:0], f.plain, pageSize)
			return nil
		}, nil
	}
	var err error
	h.frames, err = startOrdered(workers(), newWork, func(f *frame) error {
		if err := sink(next, f.plain, f.hashes); err != nil {
			return err
		}
		next += int64(len(f.hashes))
		select {
		case h.free <- f:
		default:
		}
		return nil
	})
	return h, err
}

func (h *Hasher) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if h.cur == nil {
			select {
			case h.cur = <-h.free:
				h.cur.plain = h.cur.plain[:0]
			default:
				h.cur = &frame{plain: make([]byte, 0, FrameSize)}
			}
		}
		take := min(FrameSize-len(h.cur.plain), len(p))
		h.cur.plain = append(h.cur.plain, p[:take]...)
		p, n = p[take:], n+take
		if len(h.cur.plain) < FrameSize {
			break
		}
		f := h.cur
		h.cur = nil
		if err := h.frames.submit(f); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close waits until sink has seen everything. It must be called once.
func (h *Hasher) Close() error {
	if h.cur != nil && len(h.cur.plain) > 0 {
		if len(h.cur.plain)%h.size != 0 {
			h.frames.stop(errors.New("the content is not a whole number of pages"))
		} else {
			h.frames.submit(h.cur) //nolint:errcheck // close says it
		}
	}
	h.cur = nil
	return h.frames.close()
}

var _ io.WriteCloser = (*Hasher)(nil)
