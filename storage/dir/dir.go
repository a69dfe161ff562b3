// Package dir keeps objects in a folder: a storage.Bucket on a disk.
//
// Start with [Make], once, to create or adopt the folder, and with [Open]
// whenever it is needed. A key is a path below the folder; a file there is an
// object, whole and durable from the moment it has its name: the bytes are
// written under a temporary name, fsynced, then linked to the key, which
// fails if the key is taken, and the folders on the way are fsynced.
//
// What it promises beyond storage.Bucket: files are 0600 and folders 0700;
// nothing outside the folder is read or written, symbolic links that lead out
// included; and a folder that has vanished, was replaced, or is only the
// mount point of a disk that is not mounted is an error and never an empty
// bucket.
//
// What it cannot do: keep both "a" and "a/b", which S3 can; and tell apart a
// disk that lies about fsync.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
)

const (
	// Both names have a character that no key has: List needs no exception
	// for them, and no Create can touch them.
	marker  = "~emsafe-target"
	scratch = "~tmp"

	// A temporary file this old belongs to no upload that still runs.
	staleAfter = 24 * time.Hour

	markerText = "This folder keeps emsafe backups. The file tells the folder from the empty mount point\n" +
		"of a disk that is not mounted: leave it here.\n"
)

// Bucket is a folder. It holds one file descriptor on it.
type Bucket struct {
	path string
	root *os.Root
	id   fs.FileInfo // of the folder when it was opened
	now  func() time.Time
	link func(from, to string) error // root.Link, but for tests

	mu      sync.Mutex
	durable map[string]bool // folders whose entries on the way up are fsynced
	swept   time.Time
}

var _ storage.Bucket = (*Bucket)(nil)

// Make creates the folder, with its parents, or adopts one that exists, and
// marks it as a target. It changes nothing in a folder that is one already.
func Make(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return explain(fmt.Errorf("make target folder: %w", err), folder)
	}
	b, err := open(folder)
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := b.root.Lstat(marker); err == nil {
		return nil
	}
	f, err := b.root.OpenFile(marker, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return explain(fmt.Errorf("mark target folder: %w", err), folder)
	}
	_, err = f.WriteString(markerText)
	if err = errors.Join(err, f.Sync(), f.Close(), b.syncFolder("."), syncPath(filepath.Dir(b.path))); err != nil {
		_ = b.root.Remove(marker)
		return explain(fmt.Errorf("mark target folder: %w", err), folder)
	}
	return nil
}

// Open opens the folder. One that does not exist, or that is empty and was
// not made by [Make], is fault.NoBucket: so looks a disk that is not mounted.
func Open(folder string) (*Bucket, error) {
	b, err := open(folder)
	if err != nil {
		return nil, err
	}
	if err := b.checkMounted(); err != nil {
		b.root.Close()
		return nil, err
	}
	// Best effort: a target that may only be read has nothing to sweep.
	_ = b.sweep()
	return b, nil
}

func open(folder string) (*Bucket, error) {
	abs, err := filepath.Abs(folder)
	if err != nil {
		return nil, fmt.Errorf("open target folder %s: %w", folder, err)
	}
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		return nil, fault.New(fault.NoBucket, "target folder %s is not a folder", abs)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, explain(missing(abs, fmt.Errorf("open target folder: %w", err)), abs)
	}
	id, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, explain(fmt.Errorf("open target folder: %w", err), abs)
	}
	return &Bucket{path: abs, root: root, id: id, now: time.Now, link: root.Link, durable: map[string]bool{}}, nil
}

func (b *Bucket) checkMounted() error {
	if _, err := b.root.Lstat(marker); err == nil {
		return nil
	}
	d, err := b.root.Open(".")
	if err != nil {
		return explain(fmt.Errorf("open target folder: %w", err), b.path)
	}
	defer d.Close()
	if names, _ := d.Readdirnames(1); len(names) > 0 {
		return nil
	}
	return fault.New(fault.NoBucket, "target folder %s is empty and was never set up as a target: is its disk mounted?", b.path).
		WithRemedy("Mount the disk. If the folder is new, `emsafe init` sets it up.")
}

// Close gives back the folder's file descriptor.
func (b *Bucket) Close() error { return b.root.Close() }

// Folder is where it lies.
func (b *Bucket) Folder() string { return b.path }

// String is the folder as a file URL.
func (b *Bucket) String() string { return "file://" + b.path }

// alive fails unless the folder that was opened is still what its path leads
// to. Without it a deleted or unmounted folder would read as an empty one.
func (b *Bucket) alive() error {
	now, err := os.Stat(b.path)
	if err != nil {
		return explain(missing(b.path, fmt.Errorf("target folder: %w", err)), b.path)
	}
	if !os.SameFile(now, b.id) {
		return fault.New(fault.NoBucket, "target folder %s was replaced, mounted over or unmounted while it was in use", b.path)
	}
	return nil
}

// Delete implements storage.Bucket. Folders that become empty stay: removing
// them would race with a Create that has just made sure of them.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, key); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	st, err := b.root.Lstat(key)
	switch {
	case gone(err):
		return nil
	case err == nil && st.IsDir():
		return nil // a folder is no object
	case err == nil:
		err = b.root.Remove(key)
	}
	if err != nil && !gone(err) {
		return explain(fmt.Errorf("delete: %w", err), b.path)
	}
	return nil
}

func (b *Bucket) begin(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return b.alive()
}

func (b *Bucket) syncFolder(name string) error {
	d, err := b.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func syncPath(name string) error {
	d, err := os.Open(name)
	if err != nil {
		// A parent that may be entered but not read cannot be fsynced by us;
		// it was there before, or MkdirAll had just made it readable.
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ensure makes the folder of key and all above it durable: also those that
// are there already, for another process may have made them a moment ago and
// not have fsynced them yet. Each costs that once.
func (b *Bucket) ensure(folder string) error {
	if folder == "." {
		return nil
	}
	b.mu.Lock()
	known := b.durable[folder]
	b.mu.Unlock()
	if known {
		return nil
	}
	parent := path.Dir(folder)
	if err := b.ensure(parent); err != nil {
		return err
	}
	if err := b.root.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := b.syncFolder(parent); err != nil {
		return err
	}
	b.mu.Lock()
	b.durable[folder] = true
	b.mu.Unlock()
	return nil
}

// Near says that looking costs no request.
func (b *Bucket) Near() {}

var _ storage.Near = (*Bucket)(nil)
