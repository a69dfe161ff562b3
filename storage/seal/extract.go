package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Fetch opens length sealed bytes at offset.
type Fetch func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// Extract fetches a sealed payload, checks every part against s before it is
// decrypted, decompresses in parallel, writes the plaintext to dst, and
// returns nil only if all of it matched s and c. Output never exceeds c.Size.
// dst gets concurrent WriteAt calls that do not overlap. Errors wrap
// ErrDamaged or ErrWrongIdentity where the payload or the key is at fault, and
// are the fetch's or dst's own otherwise.
func Extract(ctx context.Context, fetch Fetch, ids Identities, s Sealed, c Content, dst io.WriterAt) error {
	return extract(ctx, fetch, ids, s, c, dst, func([]Digest) {})
}

// extract gives each the hashes of all pages, in order.
func extract(ctx context.Context, fetch Fetch, ids Identities, s Sealed, c Content, dst io.WriterAt, each func([]Digest)) error {
	if err := errors.Join(s.Check(), c.Check()); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	parts := newPartReader(ctx, fetch, s)
	// The fetchers end before Extract returns, so that nothing reads the
	// bucket, or holds its memory, behind the caller's back.
	defer func() { cancel(); parts.wait() }()

	// age sorts the slice that it is given: callers may share theirs.
	plain, err := age.Decrypt(parts, slices.Clone(ids.list)...)
	if err != nil {
		return parts.blame(identityError(err))
	}
	digest := NewPageDigest(c.PageSize)
	err = extractFrames(ctx, newFrameReader(plain), c.Size, func(x *extracted, dec *zstd.Decoder) error {
		if err := x.unpack(dec); err != nil {
			return err
		}
		x.hashes = hashPages(x.hashes[:0], x.plain, c.PageSize)
		_, err := dst.WriteAt(x.plain, x.offset)
		return err
	}, func(x *extracted) {
		digest.Add(x.hashes)
		each(x.hashes)
	})
	if err == nil {
		err = digest.compare(c)
	}
	return parts.blame(err)
}

// identityError tells a key that does not fit from a header that is broken.
func identityError(err error) error {
	var no *age.NoIdentityMatchError
	if errors.As(err, &no) {
		return fmt.Errorf("%w: %w", ErrWrongIdentity, err)
	}
	return damaged("age: %v", err)
}

// extracted is one frame on its way out.
type extracted struct {
	packed []byte
	plain  []byte
	hashes []Digest
	offset int64
	want   int
}

// Discard takes content to nowhere: for those who only want to know whether it
// matches.
var Discard io.WriterAt = discard{}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// extractFrames takes the frames of content of size bytes through work, in
// parallel, and then through sink, in order, and holds the seek table against
// them.
func extractFrames(ctx context.Context, fr *frameReader, size int64, work func(*extracted, *zstd.Decoder) error, sink func(*extracted)) error {
	var seek seekTable
	pool := sync.Pool{New: func() any { return &extracted{plain: make([]byte, 0, FrameSize)} }}
	newWork := func() (func(*extracted) error, error) {
		dec, err := newDecoder()
		return func(x *extracted) error { return work(x, dec) }, err
	}
	o, err := startOrdered(workers(), newWork, func(x *extracted) error {
		sink(x)
		seek.add(len(x.packed), x.want)
		pool.Put(x)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	var offset int64
	for err == nil {
		x := pool.Get().(*extracted)
		if x.packed, err = fr.next(x.packed[:0]); err != nil {
			break
		}
		x.offset, x.want = offset, int(min(FrameSize, size-offset))
		if x.want <= 0 {
			err = damaged("more content than the %d bytes signed for", size)
			break
		}
		offset += int64(x.want)
		err = o.submit(x)
	}
	if err == io.EOF {
		err = nil
	}
	if cerr := o.close(); cerr != nil {
		err = cerr
	}
	switch {
	case err != nil:
		return err
	case offset != size:
		return damaged("content ends after %d of %d bytes", offset, size)
	case !bytes.Equal(fr.seek, seek.marshal()[8:]):
		return damaged("the seek table does not describe the frames")
	}
	return nil
}

func newDecoder() (*zstd.Decoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(FrameSize), zstd.WithDecoderMaxWindow(FrameSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("start zstd decoder: %w", err)
	}
	return dec, nil
}

// compare holds the digest of what came out against what was signed.
func (d *PageDigest) compare(c Content) error {
	if got := d.Sum(); got != c {
		return damaged("the database digest is %s, not the signed %s", got.Digest, c.Digest)
	}
	return nil
}

// unpack decompresses the frame to exactly the size that it must have.
func (x *extracted) unpack(dec *zstd.Decoder) error {
	plain, err := dec.DecodeAll(x.packed, x.plain[:0])
	if err != nil {
		return damaged("zstd frame at %d: %v", x.offset, err)
	}
	x.plain = plain
	if len(plain) != x.want {
		return damaged("zstd frame at %d holds %d bytes, not %d", x.offset, len(plain), x.want)
	}
	return nil
}
