package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"emsafe/internal/fault"
)

// Probed says what a round trip through a bucket showed.
type Probed struct {
	Read      bool // what was written could be read back
	Removed   bool // it could be deleted again: a backup host need not be able to
	Key       string
	ReadError error // why not, if Read is false: credentials that may only put and list are enough
}

// Probe proves a bucket with a small object: create, refuse to overwrite, list,
// read back, delete. Credentials that may not read or delete are reported, not
// refused.
func Probe(ctx context.Context, b Bucket) (Probed, error) {
	data := make([]byte, 64)
	rand.Read(data) //nolint:errcheck // never fails since Go 1.24
	p := Probed{Key: "probes/" + hex.EncodeToString(data[:8])}
	if _, err := b.Create(ctx, p.Key, bytes.NewReader(data), int64(len(data))); err != nil {
		return p, fmt.Errorf("write a test object: %w", err)
	}
	switch _, err := b.Create(ctx, p.Key, bytes.NewReader(data[:1]), 1); {
	case err == nil:
		_ = b.Delete(ctx, p.Key)
		return p, fault.New(fault.Storage, "%s does not keep objects from being overwritten: a second create of %s succeeded", b, p.Key).
			WithSafe("Only a test object was written.").
			WithRemedy("Use a provider that honours `If-None-Match: *` (docs/providers.md), or, in a bucket that keeps versions, set `conditional_writes: false` for the target.")
	case !errors.Is(err, ErrExists): // proves nothing about overwriting
		return p, fmt.Errorf("create the test object a second time, which must be refused: %w", err)
	}
	listed := false
	for info, err := range b.List(ctx, p.Key, "") {
		if err != nil {
			return p, fmt.Errorf("list the test object: %w", err)
		}
		listed = listed || info.Key == p.Key
	}
	if !listed {
		return p, fault.New(fault.Storage, "%s does not list an object that it just took", b)
	}
	r, err := b.Open(ctx, p.Key, 0, -1)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(r)
		r.Close()
		if err == nil && !bytes.Equal(got, data) {
			return p, fault.New(fault.Storage, "%s gave other bytes back than it was given", b)
		}
	}
	p.Read, p.ReadError = err == nil, err
	p.Removed = b.Delete(ctx, p.Key) == nil
	return p, nil
}
