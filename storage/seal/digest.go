package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// GroupPages is how many page hashes a group digest is over: a delta
// recomputes only the groups that it touched.
const GroupPages = 1024

// PageDigest folds page hashes, in page order, into the database digest:
// h(i) is the SHA-256 of page i (the lock-byte page as zeros), g(k) the
// SHA-256 over up to 1,024 consecutive h, and the digest the SHA-256 of
// "emsafe-pages-1", the page size (4 bytes, big-endian), the page count (8
// bytes, big-endian) and all g.
type PageDigest struct {
	pageSize int
	pages    int64
	group    hash.Hash
	groups   []byte
}

// NewPageDigest starts a digest over pages of pageSize bytes.
func NewPageDigest(pageSize int) *PageDigest {
	return &PageDigest{pageSize: pageSize, group: sha256.New()}
}

// Add folds the hashes of the next pages in.
func (d *PageDigest) Add(hashes []Digest) {
	for i := range hashes {
		d.group.Write(hashes[i][:])
		d.pages++
		if d.pages%GroupPages == 0 {
			d.groups = d.group.Sum(d.groups)
			d.group.Reset()
		}
	}
}

// Sum returns the content description of all pages so far.
func (d *PageDigest) Sum() Content {
	whole := *d
	if d.pages%GroupPages != 0 {
		whole.groups = d.group.Sum(whole.groups[:len(whole.groups):len(whole.groups)])
	}
	return whole.root()
}

// root folds complete group digests.
func (d *PageDigest) root() Content {
	root := sha256.New()
	root.Write([]byte("emsafe-pages-1"))
	var head [12]byte
	binary.BigEndian.PutUint32(head[:4], uint32(d.pageSize))
	binary.BigEndian.PutUint64(head[4:], uint64(d.pages))
	root.Write(head[:])
	root.Write(d.groups)
	c := Content{Size: d.pages * int64(d.pageSize), PageSize: d.pageSize, Pages: d.pages}
	root.Sum(c.Digest[:0])
	return c
}

// hashPages appends the hash of every page of data, whose length is a multiple
// of pageSize.
func hashPages(hashes []Digest, data []byte, pageSize int) []Digest {
	for ; len(data) >= pageSize; data = data[pageSize:] {
		hashes = append(hashes, sha256.Sum256(data[:pageSize]))
	}
	return hashes
}

// GroupDigest is g over the concatenated hashes of the pages of one group.
func GroupDigest(hashes []byte) Digest { return sha256.Sum256(hashes) }

// ContentOf describes a database by its group digests, one after the other.
func ContentOf(pageSize int, pages int64, groups []byte) Content {
	d := PageDigest{pageSize: pageSize, pages: pages, groups: groups}
	return d.root()
}
