package seal

import (
	"context"
	"crypto/sha256"
)

// Hashes opens a layer, compares all that is signed of it, and returns the
// page hashes of the database that it leads to, in page order: of a delta on
// top of its parent's, which are not changed. Nothing is kept of the content.
func (l Layer) Hashes(ctx context.Context, ids Identities, parent []Digest) ([]Digest, error) {
	if l.Delta == nil {
		hashes := make([]Digest, 0, min(l.Content.Pages, l.Sealed.Size)) // pages of zeros take less than a byte
		err := extract(ctx, l.Fetch, ids, l.Sealed, l.Content, Discard, func(h []Digest) { hashes = append(hashes, h...) })
		return hashes, err
	}
	r, err := OpenDelta(ctx, l.Fetch, ids, l.Sealed, *l.Delta, l.Content)
	if err != nil {
		return nil, err
	}
	hashes := make([]Digest, l.Content.Pages)
	copy(hashes, parent)
	err = r.Extract(func(int64) bool { return true }, func(page int64, data []byte) error {
		hashes[page-1] = sha256.Sum256(data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	digest := NewPageDigest(l.Content.PageSize)
	digest.Add(hashes)
	return hashes, digest.compare(l.Content)
}
