// Package seal is the form of a backup at rest: pages in independent zstd
// frames with a seek table, one age file around them, digests of what went in
// and of what came out, and SSH signatures over what is said about both. All
// of emsafe's cryptography is here and nothing else.
//
// [NewWriter] seals a stream, [Extract] brings it back. Extract decrypts no
// part whose hash does not match the signed list, and returns nil only when
// every byte, frame and page digest matched. A full payload opens with stock
// tools: age -d | zstd -d. The format is specified in docs/format.md.
package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

const (
	// FrameSize is the plaintext size, in bytes, of every zstd frame but the
	// last. It is a multiple of every SQLite page size.
	FrameSize = 1 << 20

	// PartSize is the size, in bytes, of the sealed parts whose SHA-256 the
	// manifest lists; the last part may be shorter.
	PartSize = 8 << 20
)

// ErrDamaged is wrapped by every error that says that sealed bytes are not
// what was signed for.
var ErrDamaged = errors.New("damaged")

// ErrWrongIdentity is wrapped when no identity opens a payload.
var ErrWrongIdentity = errors.New("no identity matches")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Digest is a SHA-256; it marshals as lower-case hex.
type Digest [sha256.Size]byte

// Sum is the SHA-256 of data.
func Sum(data []byte) Digest { return sha256.Sum256(data) }

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes hex, and nothing for the zero digest.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return []byte{}, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads exactly what MarshalText writes.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	var got Digest
	wrong := len(text) != hex.EncodedLen(len(got))
	if !wrong {
		_, err := hex.Decode(got[:], text)
		wrong = err != nil || got.String() != string(text)
	}
	if wrong {
		return fmt.Errorf("not a SHA-256 in lower-case hex: %q", text)
	}
	*d = got
	return nil
}

// Sealed describes the sealed bytes of a payload.
type Sealed struct {
	Size     int64    `json:"size"`      // bytes
	PartSize int64    `json:"part_size"` // bytes, PartSize
	Parts    []Digest `json:"parts"`     // SHA-256 of each part in order
}

// Check refuses a description that contradicts itself.
func (s Sealed) Check() error {
	if s.PartSize != PartSize {
		return fmt.Errorf("part size %d is not %d", s.PartSize, PartSize)
	}
	if s.Size <= 0 || int64(len(s.Parts)) != (s.Size+s.PartSize-1)/s.PartSize {
		return fmt.Errorf("%d parts do not make %d bytes", len(s.Parts), s.Size)
	}
	return nil
}

// Content describes the database that a payload restores to.
type Content struct {
	Size     int64  `json:"size"`      // bytes: page size times pages
	PageSize int    `json:"page_size"` // bytes
	Pages    int64  `json:"pages"`
	Digest   Digest `json:"digest"` // the database digest, see PageDigest
}

// Check refuses a description that contradicts itself.
func (c Content) Check() error {
	if c.PageSize < 512 || c.PageSize > 65536 || c.PageSize&(c.PageSize-1) != 0 {
		return fmt.Errorf("page size %d is not a power of two from 512 to 65536", c.PageSize)
	}
	// SQLite's own limit; it also keeps the product below from overflowing.
	if c.Pages < 1 || c.Pages > 1<<32-2 || c.Size != c.Pages*int64(c.PageSize) {
		return fmt.Errorf("%d pages of %d bytes do not make %d bytes", c.Pages, c.PageSize, c.Size)
	}
	return nil
}
