package seal

import (
	"errors"
	"io"
)

// Writer seals a full payload: every page of a database, in order. It is not
// for concurrent use.
type Writer struct {
	*packer
	digest *PageDigest
}

// NewWriter starts an age file for the recipients on dst. Close is the commit:
// without it dst holds nothing that opens.
func NewWriter(dst io.Writer, o Options) (*Writer, error) {
	digest := NewPageDigest(o.PageSize)
	p, err := newPacker(dst, o, func(f *frame) {
		f.hashes = hashPages(f.hashes[:0], f.plain, o.PageSize)
	}, func(f *frame) {
		digest.Add(f.hashes)
		if o.Hashes != nil {
			o.Hashes(f.hashes)
		}
	})
	if err != nil {
		return nil, err
	}
	return &Writer{p, digest}, nil
}

// Close finishes the age file and describes what was sealed.
func (w *Writer) Close() (Sealed, Content, error) {
	if w.cur != nil && len(w.cur.plain)%w.digest.pageSize != 0 {
		w.failed = errors.New("the content is not a whole number of pages")
	}
	s, err := w.close()
	if err != nil {
		return Sealed{}, Content{}, err
	}
	c := w.digest.Sum()
	return s, c, c.Check()
}
