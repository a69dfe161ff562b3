package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"emsafe/storage"
)

// Create implements storage.Bucket.
func (b *Bucket) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	if err := b.begin(ctx, key); err != nil {
		return storage.Info{}, fmt.Errorf("create: %w", err)
	}
	if _, err := b.root.Lstat(key); err == nil {
		return storage.Info{}, fmt.Errorf("create %s: %w", key, storage.ErrExists)
	}
	_ = b.sweep()
	temp, n, err := b.write(ctx, r, size)
	if err != nil {
		return storage.Info{}, explain(fmt.Errorf("create %s: %w", key, err), b.path)
	}
	st, err := b.publish(ctx, temp, key)
	if err != nil {
		return storage.Info{}, explain(fmt.Errorf("create %s: %w", key, err), b.path)
	}
	return storage.Info{Key: key, Size: n, Modified: st.ModTime().UTC()}, nil
}

// write puts all of r into a temporary file and makes its bytes durable.
func (b *Bucket) write(ctx context.Context, r io.Reader, size int64) (temp string, n int64, err error) {
	if err := b.root.Mkdir(scratch, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", 0, err
	}
	temp = scratch + "/" + rand.Text()
	f, err := b.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, err
	}
	n, err = fill(ctx, f, r, size)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = b.root.Remove(temp)
		return "", 0, err
	}
	return temp, n, nil
}

// fill copies r into f, checks its size and fsyncs.
func fill(ctx context.Context, f *os.File, r io.Reader, size int64) (int64, error) {
	// One byte more than announced is enough to know that there are too many.
	limited := r
	if size >= 0 {
		limited = io.LimitReader(r, size+1)
	}
	n, err := io.CopyBuffer(onlyWrite{f}, &stopping{ctx, limited}, make([]byte, 256<<10))
	switch {
	case err != nil:
		return 0, err
	case size >= 0 && n > size:
		return 0, fmt.Errorf("more bytes came than the %d announced", size)
	case size >= 0 && n < size:
		return 0, fmt.Errorf("%d bytes came, %d were announced", n, size)
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return n, ctx.Err()
}

// publish gives the temporary file its key, unless the key is taken, and
// makes the name durable. What fails after the link takes the name back.
func (b *Bucket) publish(ctx context.Context, temp, key string) (st fs.FileInfo, err error) {
	defer func() {
		if err != nil {
			_ = b.root.Remove(temp)
		}
	}()
	folder := path.Dir(key)
	if err := b.ensure(folder); err != nil {
		return nil, err
	}
	if st, err = b.root.Lstat(temp); err != nil {
		return nil, err
	}
	// The last moments at which the caller's will, or an unmounted disk, can
	// still be heeded.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.alive(); err != nil {
		return nil, err
	}
	err = b.link(temp, key)
	if linkRefused(err) {
		err = b.renameNew(temp, key)
	} else if err == nil {
		err = b.root.Remove(temp)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, storage.ErrExists
	}
	if err == nil {
		err = b.syncFolder(folder)
	}
	if err != nil {
		b.takeBack(key, st)
		return nil, err
	}
	return st, nil
}

// takeBack removes key if it is the file that st describes.
func (b *Bucket) takeBack(key string, st fs.FileInfo) {
	if now, err := b.root.Lstat(key); err == nil && os.SameFile(now, st) {
		_ = b.root.Remove(key)
		_ = b.syncFolder(path.Dir(key))
	}
}

// renameNew is for file systems without hard links (FAT, exFAT, some network
// shares): a rename that refuses to overwrite.
func (b *Bucket) renameNew(temp, key string) error {
	from, err := b.root.Open(path.Dir(temp))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := b.root.Open(path.Dir(key))
	if err != nil {
		return err
	}
	defer to.Close()
	if err := renameNoReplace(from, path.Base(temp), to, path.Base(key)); err != nil {
		return &os.LinkError{Op: "rename without replacing", Old: temp, New: key, Err: err}
	}
	return nil
}

// sweep removes temporary files that a killed process left, once a day.
func (b *Bucket) sweep() error {
	b.mu.Lock()
	due := b.now().Sub(b.swept) >= staleAfter
	if due {
		b.swept = b.now()
	}
	b.mu.Unlock()
	if !due {
		return nil
	}
	d, err := b.root.Open(scratch)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		st, serr := b.root.Lstat(scratch + "/" + name)
		if serr == nil && st.Mode().IsRegular() && b.now().Sub(st.ModTime()) > staleAfter {
			err = errors.Join(err, b.root.Remove(scratch+"/"+name))
		}
	}
	return err
}

// stopping gives the context's error as soon as it has one, and marks the
// reader's own errors: they may carry an errno that is not about the folder.
type stopping struct {
	ctx context.Context // of the one Create call that reads
	r   io.Reader
}

func (s *stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError{err}
	}
	return n, err
}

type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// onlyWrite hides the file's ReadFrom, which would ignore the buffer's size.
type onlyWrite struct{ io.Writer }
