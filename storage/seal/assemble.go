package seal

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Layer is one payload of a path that leads to a database: a full one first,
// then deltas, each on top of the one before.
type Layer struct {
	Fetch   Fetch
	Sealed  Sealed
	Content Content // of the database that the layer leads to
	Delta   *Delta  // nil for the full one
}

// LayerError says which layer an error is of.
type LayerError struct {
	Layer int
	Err   error
}

func (e *LayerError) Error() string { return e.Err.Error() }
func (e *LayerError) Unwrap() error { return e.Err }

// Assemble rebuilds the database that the last layer leads to. Every page is
// taken from the newest layer that has it and written once; what a later layer
// replaces is not decompressed, and where a whole part of a delta is replaced
// not fetched. It returns nil only if the digest over the complete database is
// the signed one. Memory is 34 bytes a page when there are deltas. Errors of a
// layer are LayerErrors; otherwise it is as [Extract].
func Assemble(ctx context.Context, layers []Layer, ids Identities, dst io.WriterAt) error {
	if len(layers) == 1 {
		l := layers[0]
		if err := Extract(ctx, l.Fetch, ids, l.Sealed, l.Content, dst); err != nil {
			return &LayerError{0, err}
		}
		return nil
	}
	final := layers[len(layers)-1].Content
	for i, l := range layers {
		if err := l.Content.Check(); err != nil || l.Content.PageSize != final.PageSize || (l.Delta == nil) != (i == 0) {
			return &LayerError{i, damaged("the layers do not belong together: %v", err)}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &assembly{layers: layers, ids: ids, dst: dst, size: int64(final.PageSize), pages: final.Pages, hashes: make([]Digest, final.Pages)}
	if err := a.open(ctx, cancel); err != nil {
		return err
	}
	if err := a.own(); err != nil {
		return err
	}
	if err := a.fill(ctx, cancel); err != nil {
		return err
	}
	digest := NewPageDigest(final.PageSize)
	digest.Add(a.hashes)
	return digest.compare(final)
}

// assembly is a database that is being put together.
type assembly struct {
	layers []Layer
	ids    Identities
	dst    io.WriterAt
	size   int64 // of a page
	pages  int64
	deltas []*DeltaReader // by layer; none at 0
	owner  []uint16       // by page, from 0: the layer that it is taken from
	hashes []Digest       // by page, from 0
}

const (
	openers    = 8        // deltas that are opened at once
	fillers    = 2        // deltas that are applied at once
	keepOpened = 64 << 20 // sealed bytes of deltas that are kept between the two
)

// each runs do for all deltas, newest first, a few at a time.
func (a *assembly) each(ctx context.Context, cancel context.CancelCauseFunc, workers int, do func(i int) error) error {
	next := make(chan int)
	var group sync.WaitGroup
	for range min(workers, len(a.layers)-1) {
		group.Go(func() {
			for i := range next {
				if ctx.Err() != nil {
					continue
				}
				if err := do(i); err != nil {
					cancel(&LayerError{i, err})
				}
			}
		})
	}
	for i := len(a.layers) - 1; i > 0; i-- {
		next <- i
	}
	close(next)
	group.Wait()
	return context.Cause(ctx)
}

func (a *assembly) open(ctx context.Context, cancel context.CancelCauseFunc) error {
	a.deltas = make([]*DeltaReader, len(a.layers))
	var mu sync.Mutex
	kept := int64(0)
	return a.each(ctx, cancel, openers, func(i int) (err error) {
		l := a.layers[i]
		if a.deltas[i], err = OpenDelta(ctx, l.Fetch, a.ids, l.Sealed, *l.Delta, l.Content); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if kept += min(l.Sealed.Size, keepParts*PartSize); kept > keepOpened {
			a.deltas[i].sealed.drop()
		}
		return nil
	})
}

// own decides which layer each page is taken from: the newest that has it.
func (a *assembly) own() error {
	a.owner = make([]uint16, a.pages)
	for i := 1; i < len(a.layers); i++ {
		for _, run := range a.deltas[i].Runs {
			for p := run.First; p < run.First+run.Count && p <= a.pages; p++ {
				a.owner[p-1] = uint16(i)
			}
		}
	}
	for p := a.layers[0].Content.Pages; p < a.pages; p++ {
		if a.owner[p] == 0 {
			return damaged("no layer holds page %d of %d", p+1, a.pages)
		}
	}
	return nil
}

// fill writes every page from its owner.
func (a *assembly) fill(ctx context.Context, cancel context.CancelCauseFunc) error {
	var group sync.WaitGroup
	group.Go(func() {
		if err := a.base(ctx); err != nil {
			cancel(&LayerError{0, err})
		}
	})
	err := a.each(ctx, cancel, fillers, func(i int) error {
		err := a.deltas[i].Extract(func(page int64) bool { return page <= a.pages && a.owner[page-1] == uint16(i) }, a.place)
		a.deltas[i] = nil
		return err
	})
	group.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

func (a *assembly) place(page int64, data []byte) error {
	a.hashes[page-1] = sha256.Sum256(data)
	_, err := a.dst.WriteAt(data, (page-1)*a.size)
	return err
}

// base takes from the full payload what no delta replaces.
func (a *assembly) base(ctx context.Context) error {
	l := a.layers[0]
	if err := l.Sealed.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	parts := newPartReader(ctx, l.Fetch, l.Sealed)
	defer func() { cancel(); parts.wait() }()
	plain, err := age.Decrypt(parts, slices.Clone(a.ids.list)...)
	if err != nil {
		return parts.blame(identityError(err))
	}
	err = extractFrames(ctx, newFrameReader(plain), l.Content.Size, a.baseFrame, func(*extracted) {})
	return parts.blame(err)
}

// baseFrame writes the runs of pages in a frame that are taken from it.
func (a *assembly) baseFrame(x *extracted, dec *zstd.Decoder) error {
	first := x.offset / a.size
	last := min(first+int64(x.want)/a.size, a.pages)
	unpacked := false
	for p := first; p < last; {
		if a.owner[p] != 0 {
			p++
			continue
		}
		end := p + 1
		for end < last && a.owner[end] == 0 {
			end++
		}
		if !unpacked {
			if err := x.unpack(dec); err != nil {
				return err
			}
			unpacked = true
		}
		data := x.plain[(p-first)*a.size : (end-first)*a.size]
		hashPages(a.hashes[p:p:end], data, int(a.size))
		if _, err := a.dst.WriteAt(data, p*a.size); err != nil {
			return err
		}
		p = end
	}
	return nil
}
