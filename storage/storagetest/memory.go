package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"emsafe/storage"
)

// RAM is a bucket in memory. Its map is open to tests that damage what is
// stored: use Peek and Poke, which lock.
type RAM struct {
	mu      sync.RWMutex
	objects map[string]object
}

type object struct {
	data     []byte
	modified time.Time
}

var _ storage.Bucket = (*RAM)(nil)

// Memory gives an empty bucket in RAM.
func Memory() *RAM { return &RAM{objects: map[string]object{}} }

// Peek gives a copy of the bytes under key, nil if there are none.
func (b *RAM) Peek(key string) []byte {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.objects[key].data)
}

// Poke puts data under key whatever was there, which no honest Bucket can do;
// nil removes the key.
func (b *RAM) Poke(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if data == nil {
		delete(b.objects, key)
		return
	}
	b.objects[key] = object{slices.Clone(data), time.Now().UTC()}
}

// Create implements storage.Bucket.
func (b *RAM) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	if err := storage.CheckKey(key); err != nil {
		return storage.Info{}, err
	}
	var buf bytes.Buffer
	_, err := io.Copy(&buf, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("create %s: %w", key, err)
	}
	if size >= 0 && int64(buf.Len()) != size {
		return storage.Info{}, fmt.Errorf("create %s: %d bytes came, %d were announced", key, buf.Len(), size)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[key]; ok {
		return storage.Info{}, fmt.Errorf("create %s: %w", key, storage.ErrExists)
	}
	o := object{buf.Bytes(), time.Now().UTC()}
	b.objects[key] = o
	return storage.Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}, nil
}

// Open implements storage.Bucket.
func (b *RAM) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	b.mu.RLock()
	o, ok := b.objects[key]
	b.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("open %s: %w", key, storage.ErrNotExist)
	}
	n := int64(len(o.data))
	if offset < 0 || length < -1 || offset > n {
		return nil, fmt.Errorf("open %s: range %d, %d outside of %d bytes", key, offset, length, n)
	}
	rest := o.data[offset:]
	if length < 0 || length <= int64(len(rest)) {
		if length >= 0 {
			rest = rest[:length]
		}
		return io.NopCloser(bytes.NewReader(rest)), nil
	}
	return io.NopCloser(broken(bytes.NewReader(rest), io.ErrUnexpectedEOF)), nil
}

// List implements storage.Bucket.
func (b *RAM) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var infos []storage.Info
		b.mu.RLock()
		for key, o := range b.objects {
			if strings.HasPrefix(key, prefix) && key > after {
				infos = append(infos, storage.Info{Key: key, Size: int64(len(o.data)), Modified: o.modified})
			}
		}
		b.mu.RUnlock()
		slices.SortFunc(infos, func(x, y storage.Info) int { return strings.Compare(x.Key, y.Key) })
		for _, info := range infos {
			if ctx.Err() != nil {
				break
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

// Delete implements storage.Bucket.
func (b *RAM) Delete(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

func (b *RAM) String() string { return "memory:" }
