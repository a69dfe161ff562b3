package seal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Options for NewWriter and NewDeltaWriter.
type Options struct {
	Recipients Recipients
	PageSize   int    // bytes; the pages that digests are over
	Level      string // default (also ""), better, best

	// Hashes is given the hashes of all pages in their order, from one
	// goroutine, by NewWriter's Writer only; may be nil.
	Hashes func([]Digest)
}

// levels are the names of compression levels in the configuration. The library's
// fastest is the default: with databases it gives a few per cent of size for a
// third of the work, on a host whose processors belong to the application.
var levels = map[string]zstd.EncoderLevel{
	"": zstd.SpeedFastest, "default": zstd.SpeedFastest, "better": zstd.SpeedDefault,
	"best": zstd.SpeedBetterCompression,
}

// packer turns a stream into independent zstd frames, compressed in parallel,
// and one age file of them with its seek table.
type packer struct {
	age    io.WriteCloser
	parts  *partWriter
	seek   seekTable
	frames *ordered[*frame]
	cur    *frame
	pool   sync.Pool
	failed error
}

// frame is one megabyte on its way through a worker.
type frame struct {
	plain  []byte
	packed []byte
	hashes []Digest
}

// newPacker starts an age file. work runs on every frame in parallel before it
// is compressed, sink in order after it was written; both may be nil.
func newPacker(dst io.Writer, o Options, work, sink func(*frame)) (*packer, error) {
	level, ok := levels[o.Level]
	if !ok {
		return nil, fmt.Errorf("unknown compression level %q", o.Level)
	}
	if err := (Content{Size: int64(o.PageSize), PageSize: o.PageSize, Pages: 1}).Check(); err != nil {
		return nil, err
	}
	if len(o.Recipients.list) == 0 {
		return nil, errors.New("no recipients: a backup that nobody can open is not a backup")
	}
	parts := &partWriter{dst: dst, part: sha256.New()}
	sealed, err := age.Encrypt(parts, o.Recipients.list...)
	if err != nil {
		return nil, fmt.Errorf("start age file: %w", err)
	}
	p := &packer{age: sealed, parts: parts}
	p.pool.New = func() any { return &frame{plain: make([]byte, 0, FrameSize)} }
	newWork := func() (func(*frame) error, error) {
		// Made at the first frame: most deltas are small, and have one.
		var enc *zstd.Encoder
		return func(f *frame) (err error) {
			if enc == nil {
				if enc, err = newEncoder(level); err != nil {
					return err
				}
			}
			if work != nil {
				work(f)
			}
			f.packed = enc.EncodeAll(f.plain, f.packed[:0])
			return nil
		}, nil
	}
	p.frames, err = startOrdered(workers(), newWork, func(f *frame) error {
		if _, err := p.age.Write(f.packed); err != nil {
			return err
		}
		if sink != nil {
			sink(f)
		}
		p.seek.add(len(f.packed), len(f.plain))
		p.pool.Put(f)
		return nil
	})
	return p, err
}

// workers is how many frames are worked on at once. More add memory, not
// speed: the sink is one goroutine.
func workers() int { return min(runtime.GOMAXPROCS(0), 8) }

func newEncoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(FrameSize), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("start zstd encoder: %w", err)
	}
	return enc, nil
}

func (p *packer) Write(b []byte) (int, error) {
	n := 0
	for len(b) > 0 {
		if p.failed != nil {
			return n, p.failed
		}
		if p.cur == nil {
			p.cur = p.pool.Get().(*frame)
			p.cur.plain = p.cur.plain[:0]
		}
		take := min(FrameSize-len(p.cur.plain), len(b))
		p.cur.plain = append(p.cur.plain, b[:take]...)
		b, n = b[take:], n+take
		if len(p.cur.plain) == FrameSize {
			p.flush()
		}
	}
	return n, p.failed
}

// flush ends the frame that is being filled.
func (p *packer) flush() {
	f := p.cur
	p.cur = nil
	if f == nil || p.failed != nil {
		return
	}
	if err := p.frames.submit(f); err != nil {
		p.failed = err
	}
}

// close finishes the age file and describes it.
func (p *packer) close() (Sealed, error) {
	p.flush()
	err := p.frames.close()
	if p.failed != nil {
		err = p.failed
	}
	if err != nil {
		return Sealed{}, fmt.Errorf("seal: %w", err)
	}
	if _, err := p.age.Write(p.seek.marshal()); err != nil {
		return Sealed{}, fmt.Errorf("seal: write seek table: %w", err)
	}
	if err := p.age.Close(); err != nil {
		return Sealed{}, fmt.Errorf("seal: finish age file: %w", err)
	}
	return p.parts.sum(), nil
}

// Abort ends the writer's goroutines without finishing the file. It may follow
// a failed Write, and must not follow Close.
func (p *packer) Abort() {
	p.frames.stop(errors.New("aborted"))
	p.frames.close()
}

// partWriter hashes what passes through in parts.
type partWriter struct {
	dst    io.Writer
	part   hash.Hash
	inPart int64
	sealed Sealed
}

func (w *partWriter) Write(p []byte) (int, error) {
	n, err := w.dst.Write(p)
	for q := p[:n]; len(q) > 0; {
		take := min(int64(len(q)), PartSize-w.inPart)
		w.part.Write(q[:take])
		w.inPart += take
		w.sealed.Size += take
		if w.inPart == PartSize {
			w.endPart()
		}
		q = q[take:]
	}
	return n, err
}

func (w *partWriter) endPart() {
	w.sealed.Parts = append(w.sealed.Parts, Digest(w.part.Sum(nil)))
	w.part.Reset()
	w.inPart = 0
}

func (w *partWriter) sum() Sealed {
	if w.inPart > 0 {
		w.endPart()
	}
	w.sealed.PartSize = PartSize
	return w.sealed
}
