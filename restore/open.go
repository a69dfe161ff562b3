package restore

import (
	"context"
	"errors"
	"io"
	"strings"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// assemble brings the plan's content in, and says what else would restore if
// something on the way to it is damaged.
func (p *Plan) assemble(ctx context.Context, dst io.WriterAt) error {
	f := newFlow(p.req)
	err := openPath(ctx, p.chain, p.Path, p.req.Identities, f.writer(dst), f)
	f.tell(p.req.Trace, err)
	var of *seal.LayerError
	if errors.As(err, &of) && errors.Is(err, fault.Damaged) {
		return offer(ctx, p.chain, p.Entry, p.Path[of.Layer].Sequence, err)
	}
	return err
}

// Open fetches, verifies and decrypts the payloads of a path, as
// [catalog.Chain.Path] gives it, into dst. It gives the seal's errors their
// kinds.
func Open(ctx context.Context, chain *catalog.Chain, path []*catalog.Entry, ids seal.Identities, dst io.WriterAt) error {
	return openPath(ctx, chain, path, ids, dst, nil)
}

func openPath(ctx context.Context, chain *catalog.Chain, path []*catalog.Entry, ids seal.Identities, dst io.WriterAt, f *flow) error {
	layers := make([]seal.Layer, len(path))
	for i, e := range path {
		layers[i] = layer(chain, e, f)
	}
	err := seal.Assemble(ctx, layers, ids, dst)
	last := path[len(path)-1]
	var of *seal.LayerError
	if !errors.As(err, &of) {
		if errors.Is(err, seal.ErrDamaged) {
			return fault.New(fault.Damaged, "backup %s in %s, put together from %d payloads: %w", last.ID, chain.Bucket, len(path), err)
		}
		return err
	}
	err = explain(ctx, chain, path[of.Layer], ids, of.Err)
	if of.Layer < len(path)-1 && fault.Find(err) != nil {
		f := *fault.Find(err)
		e := fault.New(f.Kind, "backup %s (number %d) needs number %d: %w", last.ID, last.Sequence, path[of.Layer].Sequence, err)
		e.Safe, e.Remedy = f.Safe, f.Remedy
		err = e
	}
	return &seal.LayerError{Layer: of.Layer, Err: err}
}

func layer(chain *catalog.Chain, e *catalog.Entry, f *flow) seal.Layer {
	return seal.Layer{Sealed: e.Payload.Sealed, Content: e.Content, Delta: e.Delta,
		Fetch: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			r, err := chain.Bucket.Open(ctx, e.Payload.Key, offset, length)
			if err != nil {
				return nil, err
			}
			return f.reader(r), nil
		}}
}

// explain gives the error of one payload its kind.
func explain(ctx context.Context, chain *catalog.Chain, e *catalog.Entry, ids seal.Identities, err error) error {
	switch {
	case errors.Is(err, seal.ErrWrongIdentity):
		given := strings.Join(ids.Names(), ", ")
		if given == "" {
			given = "of an unknown recipient"
		}
		return fault.New(fault.WrongKey, "backup %s is sealed to %s; the identity given is %s", e.ID, strings.Join(e.Recipients, ", "), given)
	case errors.Is(err, seal.ErrDamaged):
		return fault.New(fault.Damaged, "backup %s in %s, %s: %w", e.ID, chain.Bucket, e.Payload.Key, err)
	case errors.Is(err, storage.ErrNotExist):
		f := fault.New(fault.Damaged, "backup %s in %s: its payload %s is missing", e.ID, chain.Bucket, e.Payload.Key)
		f.Err = err // so that a drill can name it
		return f
	case err != nil && fault.Find(err) == nil && ctx.Err() == nil:
		// A range of an object that was cut off fails in as many ways as there
		// are storages; the listing tells it from a bad connection.
		if size, ok := storedSize(ctx, chain.Bucket, e.Payload.Key); ok && size != e.Payload.Size {
			return fault.New(fault.Damaged, "backup %s in %s: its payload %s has %d bytes, not the %d signed for", e.ID, chain.Bucket, e.Payload.Key, size, e.Payload.Size)
		}
	}
	return err
}

func storedSize(ctx context.Context, b storage.Bucket, key string) (int64, bool) {
	for info, err := range b.List(ctx, key, "") {
		if err == nil && info.Key == key {
			return info.Size, true
		}
		break
	}
	return 0, false
}
