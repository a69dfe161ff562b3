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
	Proven    []Property
	ReadError error // why not, if Read is false: credentials that may only put and list are enough
}

// Property is something that a backup rests on, and what a round trip showed of
// it.
type Property struct {
	Name   string `json:"name"`
	State  string `json:"state"` // proven, no, or not established
	Detail string `json:"detail"`
}

// What a round trip can show.
const (
	Proven         = "proven"
	Absent         = "no"
	NotEstablished = "not established"
)

// Proving is implemented by a bucket that has more to prove than a folder. The
// object with key exists. An error is a property without which backups are not
// safe.
type Proving interface {
	Prove(ctx context.Context, key string) ([]Property, error)
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
	p.prove("created once", "a second create of one object was refused")
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
	p.prove("listed after write", "the object was in the next listing")
	if err := p.readBack(ctx, b, data); err != nil {
		return p, err
	}
	p.Read = p.ReadError == nil
	if own, ok := b.(Proving); ok {
		more, err := own.Prove(ctx, p.Key)
		p.Proven = append(p.Proven, more...)
		if err != nil {
			_ = b.Delete(ctx, p.Key)
			return p, err
		}
	}
	p.Removed = b.Delete(ctx, p.Key) == nil
	return p, nil
}

// readBack reads the test object, whole and in part. Credentials that may not
// read are noted.
func (p *Probed) readBack(ctx context.Context, b Bucket, data []byte) error {
	for _, part := range []struct {
		name, detail string
		from, length int64
	}{{"read after write", "the object came back whole", 0, -1}, {"ranges", "16 bytes from the middle came back alone", 24, 16}} {
		got, err := readRange(ctx, b, p.Key, part.from, part.length)
		want := data[part.from:]
		if part.length >= 0 {
			want = want[:part.length]
		}
		switch {
		case err == nil && !bytes.Equal(got, want):
			return fault.New(fault.Storage, "%s gave other bytes back than it was given (%s, from byte %d)", b, part.name, part.from)
		case err == nil:
			p.prove(part.name, part.detail)
		case p.ReadError == nil:
			p.ReadError = err
			p.Proven = append(p.Proven, Property{part.name, NotEstablished, "these credentials may not read: " + err.Error()})
		}
		if err != nil {
			break
		}
	}
	return nil
}

func (p *Probed) prove(name, detail string) {
	p.Proven = append(p.Proven, Property{name, Proven, detail})
}

func readRange(ctx context.Context, b Bucket, key string, from, length int64) ([]byte, error) {
	r, err := b.Open(ctx, key, from, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
