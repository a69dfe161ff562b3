package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"

	"emsafe/storage"
)

// Open implements storage.Bucket.
func (b *Bucket) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := b.begin(ctx, key); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if offset < 0 || length < -1 {
		return nil, fmt.Errorf("open %s: range from %d, %d bytes", key, offset, length)
	}
	// O_NONBLOCK: a named pipe in the folder must not hold us.
	f, err := b.root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if gone(err) {
		return nil, fmt.Errorf("open %s: %w", key, storage.ErrNotExist)
	}
	if err != nil {
		return nil, explain(fmt.Errorf("open: %w", err), b.path)
	}
	r, err := ranged(ctx, f, key, offset, length)
	if err != nil {
		f.Close()
		return nil, explain(err, b.path)
	}
	return r, nil
}

func ranged(ctx context.Context, f *os.File, key string, offset, length int64) (io.ReadCloser, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if st.IsDir() {
		return nil, fmt.Errorf("open %s: %w", key, storage.ErrNotExist)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a regular file", key)
	}
	if offset > st.Size() {
		return nil, fmt.Errorf("open %s: offset %d is beyond its %d bytes", key, offset, st.Size())
	}
	if length < 0 {
		length = st.Size() - offset
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return &stream{ctx: ctx, f: f, key: key, left: length}, nil
}

// stream gives exactly left bytes, or an error that is not io.EOF.
type stream struct {
	ctx  context.Context // of the one Open call that this stream is the result of
	f    *os.File
	key  string
	left int64
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if err := s.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", s.key, err)
	}
	n, err := s.f.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF {
		return n, fmt.Errorf("read %s: %d bytes short: %w", s.key, s.left, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return n, fmt.Errorf("read: %w", err)
	}
	return n, nil
}

func (s *stream) Close() error { return s.f.Close() }

// List implements storage.Bucket. It reads one folder at a time; entries that
// come or go meanwhile may or may not be seen.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		err := b.alive()
		if err == nil {
			w := walk{b: b, ctx: ctx, prefix: prefix, after: after, yield: yield}
			err = w.folder("")
		}
		if err == nil {
			// The walk may have been of a folder that vanished under it.
			err = b.alive()
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(storage.Info{}, explain(fmt.Errorf("list %s%s: %w", b, slashed(prefix), err), b.path))
		}
	}
}

func slashed(prefix string) string {
	if prefix == "" {
		return ""
	}
	return "/" + prefix
}

var errStopped = errors.New("the consumer has seen enough")

type walk struct {
	b             *Bucket
	ctx           context.Context // of the one List call that this walk is
	prefix, after string
	yield         func(storage.Info, error) bool
}

// wanted tells whether keys that start with name (a folder: with its slash)
// can be in the listing.
func (w *walk) wanted(name string, folder bool) bool {
	if !folder {
		return strings.HasPrefix(name, w.prefix) && name > w.after
	}
	if !strings.HasPrefix(name, w.prefix) && !strings.HasPrefix(w.prefix, name) {
		return false
	}
	return name > w.after || strings.HasPrefix(w.after, name)
}

// folder lists the folder named by at, which is empty or ends in a slash.
func (w *walk) folder(at string) error {
	names, err := w.names(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if dir, ok := strings.CutSuffix(name, "/"); ok {
			if err := w.folder(at + dir + "/"); err != nil {
				return err
			}
			continue
		}
		st, err := w.b.root.Lstat(at + name)
		if gone(err) {
			continue // removed since its folder was read
		}
		if err != nil {
			return err
		}
		if !w.yield(storage.Info{Key: at + name, Size: st.Size(), Modified: st.ModTime().UTC()}, nil) {
			return errStopped
		}
	}
	return nil
}

// names gives what is in a folder and wanted, folders with a slash, in the
// order of keys: so "a-b" comes before "a/b" although "a" sorts before "a-b".
func (w *walk) names(at string) ([]string, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	name := "."
	if at != "" {
		name = strings.TrimSuffix(at, "/")
	}
	d, err := w.b.root.Open(name)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if storage.CheckKey(e.Name()) != nil {
			continue // our scratch, or somebody else's
		}
		full := at + e.Name()
		switch {
		case e.IsDir():
			if w.wanted(full+"/", true) {
				names = append(names, e.Name()+"/")
			}
		case e.Type()&fs.ModeSymlink != 0:
			// Following it could leave the folder, skipping it could hide
			// objects: neither is a listing.
			if w.wanted(full, false) || w.wanted(full+"/", true) {
				return nil, fmt.Errorf("%s is a symbolic link, which a target does not have", full)
			}
		case e.Type().IsRegular():
			if w.wanted(full, false) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// gone: no such file, or a file where a folder would have to be.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
