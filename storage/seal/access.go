package seal

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// verifiedAt reads sealed bytes at random. Every part is fetched whole and
// compared with its signed hash before a byte of it is given out; the last few
// are kept.
type verifiedAt struct {
	ctx   context.Context // io.ReaderAt has no place for one
	fetch Fetch
	s     Sealed
	mu    sync.Mutex
	kept  []keptPart
}

type keptPart struct {
	number int
	data   []byte
}

// keepParts is enough for a reader that goes forward and one that looks up the
// table at the end.
const keepParts = 2

func (v *verifiedAt) part(i int) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.kept {
		if k.number == i {
			return k.data, nil
		}
	}
	offset := int64(i) * v.s.PartSize
	data := make([]byte, min(v.s.PartSize, v.s.Size-offset))
	r, err := v.fetch(v.ctx, offset, int64(len(data)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read part %d: %w", i+1, err)
	}
	if err := v.s.matches(i, data); err != nil {
		return nil, err
	}
	if len(v.kept) == keepParts {
		v.kept = v.kept[1:]
	}
	v.kept = append(v.kept, keptPart{i, data})
	return data, nil
}

// drop lets the parts go.
func (v *verifiedAt) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept = nil
}

func (v *verifiedAt) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		if offset >= v.s.Size {
			return n, io.EOF
		}
		part, err := v.part(int(offset / v.s.PartSize))
		if err != nil {
			return n, err
		}
		c := copy(p[n:], part[offset%v.s.PartSize:])
		n, offset = n+c, offset+int64(c)
	}
	return n, nil
}

// DeltaReader reads a delta payload at random.
type DeltaReader struct {
	Runs []Run // the pages that it holds, ascending

	sealed *verifiedAt
	plain  io.ReaderAt
	frames []span
	d      Delta
	c      Content
}

// span is where a data frame lies in the decrypted payload.
type span struct {
	offset int64
	packed int
	plain  int
}

// OpenDelta fetches what it needs of a delta payload to know its pages. c is
// the database that the delta leads to. Errors wrap ErrDamaged or
// ErrWrongIdentity where the payload or the key is at fault.
func OpenDelta(ctx context.Context, fetch Fetch, ids Identities, s Sealed, d Delta, c Content) (*DeltaReader, error) {
	for _, err := range []error{s.Check(), c.Check(), d.Check(c)} {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	r := &DeltaReader{sealed: &verifiedAt{ctx: ctx, fetch: fetch, s: s}, d: d, c: c}
	plain, size, err := age.DecryptReaderAt(r.sealed, s.Size, slices.Clone(ids.list)...)
	if err != nil {
		if _, perr := r.sealed.part(0); perr != nil {
			return nil, perr // age only sees that it cannot read on
		}
		if _, perr := r.sealed.part(len(s.Parts) - 1); perr != nil {
			return nil, perr
		}
		return nil, identityError(err)
	}
	r.plain = plain
	if err := r.table(size); err != nil {
		return nil, err
	}
	return r, r.index()
}

// table reads the seek table at the end, and refuses one that does not
// describe pages and index as they are signed for.
func (r *DeltaReader) table(size int64) error {
	var foot [9]byte
	if size < int64(len(foot)) {
		return damaged("a payload of %d bytes", size)
	}
	if _, err := r.plain.ReadAt(foot[:], size-int64(len(foot))); err != nil && err != io.EOF {
		return err
	}
	frames := int64(binary.LittleEndian.Uint32(foot[:]))
	whole := 8*frames + 17
	if binary.LittleEndian.Uint32(foot[5:]) != seekFooter || frames != frameCount(r.d.Pages*int64(r.c.PageSize))+frameCount(r.d.IndexSize) || whole > size {
		return damaged("the seek table is not that of the delta")
	}
	table := make([]byte, whole)
	if _, err := r.plain.ReadAt(table, size-whole); err != nil && err != io.EOF {
		return err
	}
	if binary.LittleEndian.Uint32(table) != seekMagic || int64(binary.LittleEndian.Uint32(table[4:])) != whole-8 {
		return damaged("the seek table is not that of the delta")
	}
	var offset int64
	for i := range frames {
		e := table[8+8*i:]
		s := span{offset, int(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:]))}
		if s.packed > maxPacked || s.plain > FrameSize {
			return damaged("the seek table names a frame of %d bytes", s.packed)
		}
		r.frames = append(r.frames, s)
		offset += int64(s.packed)
	}
	return nil
}

func frameCount(size int64) int64 { return (size + FrameSize - 1) / FrameSize }

// index reads which pages there are.
func (r *DeltaReader) index() error {
	dec, err := newDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	var index []byte
	for i := frameCount(r.d.Pages * int64(r.c.PageSize)); i < int64(len(r.frames)); i++ {
		x, err := r.frame(i, r.d.IndexSize-int64(len(index)), dec)
		if err != nil {
			return err
		}
		index = append(index, x...)
	}
	r.Runs, err = parseRuns(index, r.d, r.c)
	return err
}

// frame reads one data frame, of which left bytes at most are signed for.
func (r *DeltaReader) frame(i, left int64, dec *zstd.Decoder) ([]byte, error) {
	s := r.frames[i]
	x := extracted{packed: make([]byte, s.packed), plain: make([]byte, 0, min(FrameSize, left)), offset: s.offset, want: int(min(FrameSize, left))}
	if _, err := r.plain.ReadAt(x.packed, s.offset); err != nil && err != io.EOF {
		return nil, err
	}
	if s.plain != x.want {
		return nil, damaged("the seek table says %d bytes for a frame of %d", s.plain, x.want)
	}
	if err := x.unpack(dec); err != nil {
		return nil, err
	}
	return x.plain, nil
}

// Extract gives sink the pages that want says, in ascending order. Frames
// without such a page are not fetched. sink must not keep data.
func (r *DeltaReader) Extract(want func(page int64) bool, sink func(page int64, data []byte) error) error {
	dec, err := newDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	size := int64(r.c.PageSize)
	total := r.d.Pages * size
	var data []byte
	have, at := int64(-1), int64(0)
	for _, run := range r.Runs {
		for page := run.First; page < run.First+run.Count; page, at = page+1, at+size {
			if err := r.sealed.ctx.Err(); err != nil {
				return err
			}
			if !want(page) {
				continue
			}
			if i := at / FrameSize; i != have {
				if data, err = r.frame(i, total-i*FrameSize, dec); err != nil {
					return err
				}
				have = i
			}
			if err := sink(page, data[at%FrameSize:at%FrameSize+size]); err != nil {
				return err
			}
		}
	}
	return nil
}
