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

// Options for NewWriter.
type Options struct {
	Recipients Recipients
	PageSize   int    // bytes; the pages that Content.Digest is over
	Level      string // default (also ""), better, best
}

// levels are the names of compression levels in the configuration. The library's
// fastest is the default: with databases it gives a few per cent of size for a
// third of the work, on a host whose processors belong to the application.
var levels = map[string]zstd.EncoderLevel{
	"": zstd.SpeedFastest, "default": zstd.SpeedFastest, "better": zstd.SpeedDefault,
	"best": zstd.SpeedBetterCompression,
}

// Writer seals what is written to it. It is not for concurrent use.
type Writer struct {
	age    io.WriteCloser
	parts  *partWriter
	digest *PageDigest
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

// NewWriter starts an age file for the recipients on dst. Close is the commit:
// without it dst holds nothing that opens.
func NewWriter(dst io.Writer, o Options) (*Writer, error) {
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
	w := &Writer{age: sealed, parts: parts, digest: NewPageDigest(o.PageSize)}
	w.pool.New = func() any { return &frame{plain: make([]byte, 0, FrameSize)} }
	// More workers than this add memory, not speed: the sink is one goroutine.
	workers := min(runtime.GOMAXPROCS(0), 8)
	w.frames, err = startOrdered(workers, func() (func(*frame) error, error) {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(FrameSize), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("start zstd encoder: %w", err)
		}
		return func(f *frame) error {
			f.hashes = hashPages(f.hashes[:0], f.plain, o.PageSize)
			f.packed = enc.EncodeAll(f.plain, f.packed[:0])
			return nil
		}, nil
	}, w.emit)
	return w, err
}

// emit runs in page order.
func (w *Writer) emit(f *frame) error {
	if _, err := w.age.Write(f.packed); err != nil {
		return err
	}
	w.digest.Add(f.hashes)
	w.seek.add(len(f.packed), len(f.plain))
	w.pool.Put(f)
	return nil
}

func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		if w.failed != nil {
			return n, w.failed
		}
		if w.cur == nil {
			w.cur = w.pool.Get().(*frame)
			w.cur.plain = w.cur.plain[:0]
		}
		take := min(FrameSize-len(w.cur.plain), len(p))
		w.cur.plain = append(w.cur.plain, p[:take]...)
		p, n = p[take:], n+take
		if len(w.cur.plain) == FrameSize {
			w.flush()
		}
	}
	return n, w.failed
}

func (w *Writer) flush() {
	f := w.cur
	w.cur = nil
	if err := w.frames.submit(f); err != nil {
		w.failed = err
	}
}

// Close finishes the age file and describes what was sealed.
func (w *Writer) Close() (Sealed, Content, error) {
	if w.cur != nil && len(w.cur.plain)%w.digest.pageSize != 0 {
		w.failed = errors.New("the content is not a whole number of pages")
	}
	if w.failed == nil && w.cur != nil {
		w.flush()
	}
	err := w.frames.close()
	if w.failed != nil {
		err = w.failed
	}
	if err != nil {
		return Sealed{}, Content{}, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.age.Write(w.seek.marshal()); err != nil {
		return Sealed{}, Content{}, fmt.Errorf("seal: write seek table: %w", err)
	}
	if err := w.age.Close(); err != nil {
		return Sealed{}, Content{}, fmt.Errorf("seal: finish age file: %w", err)
	}
	c := w.digest.Sum()
	return w.parts.sum(), c, c.Check()
}

// Abort ends the writer's goroutines without finishing the file. It may follow
// a failed Write, and must not follow Close.
func (w *Writer) Abort() {
	w.frames.stop(errors.New("aborted"))
	w.frames.close()
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
