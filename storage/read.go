package storage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"emsafe/internal/fault"
)

// smallObject is how much of an object is read without further ado. What is
// larger waits for its turn: of all that was not verified yet, at most one
// object of this process is larger at a time, whoever put it into the target
// and however many are read at once.
const smallObject = 1 << 20

var turn = make(chan struct{}, 1)

// ReadAll reads one whole object of at most limit bytes. Objects that somebody
// else may have put there, and that have signatures, are for [ReadVersions].
func ReadAll(ctx context.Context, b Bucket, key string, limit int64) (data []byte, err error) {
	err = readOne(ctx, b, key, limit, func(object []byte) error {
		data = object
		return nil
	})
	return data, err
}

// ReadVersions reads one whole object of at most limit bytes, and hands it to
// accept. If accept refuses it, and the bucket has versions, accept gets those
// too, the oldest first, until it takes one. The error is that of the object
// itself.
func ReadVersions(ctx context.Context, b Bucket, key string, limit int64, accept func([]byte) error) error {
	err := readOne(ctx, b, key, limit, accept)
	v, ok := b.(Versioned)
	if err == nil || !ok || !errors.Is(err, fault.Forged) && !errors.Is(err, fault.Damaged) {
		return err
	}
	for r, verr := range v.Versions(ctx, key) {
		if verr != nil {
			return err
		}
		if readBounded(ctx, r, key, limit, accept) == nil {
			return nil
		}
	}
	return err
}

func readOne(ctx context.Context, b Bucket, key string, limit int64, accept func([]byte) error) error {
	r, err := b.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	return readBounded(ctx, r, key, limit, accept)
}

// readBounded gives accept what r has, while the object counts as one that is
// being verified.
func readBounded(ctx context.Context, r io.Reader, key string, limit int64, accept func([]byte) error) error {
	data, err := io.ReadAll(io.LimitReader(r, min(limit, smallObject)+1))
	if err == nil && len(data) > smallObject && limit > smallObject {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return ctx.Err()
		}
		var rest []byte
		rest, err = io.ReadAll(io.LimitReader(r, limit-int64(len(data))+1))
		data = append(data, rest...)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if int64(len(data)) > limit {
		return fault.New(fault.Damaged, "read %s: larger than %d bytes", key, limit)
	}
	return accept(data)
}
