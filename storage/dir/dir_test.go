package dir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/storagetest"
)

func made(t *testing.T) *Bucket {
	t.Helper()
	b, err := remade(filepath.Join(t.TempDir(), "target"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func remade(folder string) (*Bucket, error) {
	if err := Make(folder); err != nil {
		return nil, err
	}
	return Open(folder)
}

func put(t *testing.T, b *Bucket, key, data string) {
	t.Helper()
	if _, err := b.Create(t.Context(), key, strings.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless err is of kind and its message has the words.
func refused(t *testing.T, err error, kind *fault.Kind, words ...string) {
	t.Helper()
	t.Logf("%v", err)
	if !errors.Is(err, kind) {
		t.Errorf("kind: want %s of %v", kind.ID, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

// nothingLeft: whatever happened, no temporary file stays.
func nothingLeft(t *testing.T, b *Bucket) {
	t.Helper()
	if left, _ := os.ReadDir(filepath.Join(b.path, scratch)); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func lastError(b *Bucket, t *testing.T) error {
	var last error
	for _, err := range b.List(t.Context(), "", "") {
		last = err
	}
	return last
}

func TestConformance(t *testing.T) {
	storagetest.Conformance(t, func(t *testing.T) storage.Bucket {
		b := made(t)
		t.Cleanup(func() { nothingLeft(t, b) })
		return b
	})
}

// The suite again on a file system that refuses hard links.
func TestConformanceWithoutLinks(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	b := made(t)
	probe := func() error { put(t, b, "probe", "x"); return b.renameNew("probe", "probe2") }
	if err := probe(); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("no rename without replacing here: %v", err)
	}
	storagetest.Conformance(t, func(t *testing.T) storage.Bucket {
		b := made(t)
		t.Cleanup(func() { nothingLeft(t, b) })
		b.link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
		return b
	})
}

func TestModes(t *testing.T) {
	b := made(t)
	put(t, b, "a/b/c", "x")
	for name, want := range map[string]fs.FileMode{
		".": 0o700 | fs.ModeDir, "a": 0o700 | fs.ModeDir, "a/b": 0o700 | fs.ModeDir, scratch: 0o700 | fs.ModeDir,
		"a/b/c": 0o600, marker: 0o600,
	} {
		if st, err := b.root.Lstat(name); err != nil || st.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, st.Mode(), want, err)
		}
	}
}

func TestOpenRefusesWhatIsNoTarget(t *testing.T) {
	base := t.TempDir()
	_, err := Open(filepath.Join(base, "missing"))
	refused(t, err, fault.NoBucket, "does not exist", base)
	if _, err := os.Stat(filepath.Join(base, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open made the folder")
	}

	empty := filepath.Join(base, "mountpoint")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Open(empty)
	refused(t, err, fault.NoBucket, "empty", "mounted")

	// A copy of a target made by other tools has no marker but has objects.
	if err := os.WriteFile(filepath.Join(empty, "repository.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Open(empty)
	if err != nil {
		t.Fatalf("a copied target: %v", err)
	}
	b.Close()

	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(file)
	refused(t, err, fault.NoBucket, "not a folder")
	if err := Make(file); err == nil {
		t.Error("Make on a file succeeded")
	}
	_, err = Open(filepath.Join(file, "below"))
	refused(t, err, fault.NoBucket)
}

// Make may run again, and leaves what is there.
func TestMakeAgain(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "deep", "target")
	for range 2 {
		b, err := remade(folder)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create(t.Context(), "k", strings.NewReader("x"), 1); err != nil && !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
		b.Close()
	}
}

// A folder that goes away under an open bucket is never an empty bucket.
func TestVanishedFolder(t *testing.T) {
	for name, vanish := range map[string]func(t *testing.T, folder string){
		"removed": func(t *testing.T, folder string) {
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, folder string) {
			if err := errors.Join(os.Rename(folder, folder+".old"), os.Mkdir(folder, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := made(t)
			put(t, b, "k", "x")
			vanish(t, b.path)
			refused(t, lastError(b, t), fault.NoBucket, b.path)
			_, err := b.Open(t.Context(), "k", 0, -1)
			refused(t, err, fault.NoBucket)
			_, err = b.Create(t.Context(), "new", strings.NewReader("x"), 1)
			refused(t, err, fault.NoBucket)
			refused(t, b.Delete(t.Context(), "k"), fault.NoBucket)
		})
	}
}

// A folder that vanishes while a Create runs: the object must not be reported
// as stored.
func TestVanishedDuringCreate(t *testing.T) {
	b := made(t)
	body := io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) {
		return 0, errors.Join(os.Rename(b.path, b.path+".old"), os.Mkdir(b.path, 0o700), io.EOF)
	}))
	if _, err := b.Create(t.Context(), "k", eof(body), -1); err == nil {
		t.Fatal("stored into a folder that is gone")
	} else {
		refused(t, err, fault.NoBucket)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// eof turns an error that wraps io.EOF into io.EOF itself.
func eof(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if errors.Is(err, io.EOF) {
			err = io.EOF
		}
		return n, err
	})
}

func TestSymlinksDoNotEscape(t *testing.T) {
	b := made(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, b, "z", "x")
	for name, to := range map[string]string{"out": outside, "file": filepath.Join(outside, "secret")} {
		if err := os.Symlink(to, filepath.Join(b.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := b.Open(t.Context(), "out/secret", 0, -1); err == nil {
		r.Close()
		t.Error("read through a symbolic link")
	}
	if r, err := b.Open(t.Context(), "file", 0, -1); err == nil {
		r.Close()
		t.Error("read a linked file")
	}
	if _, err := b.Create(t.Context(), "out/new", strings.NewReader("x"), 1); err == nil {
		t.Error("wrote through a symbolic link")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside now has %v", entries)
	}
	if err := lastError(b, t); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a listing over a symbolic link ended in %v", err)
	}
	if err := b.Delete(t.Context(), "file"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Errorf("delete followed the link: %v", err)
	}
}

func TestSpecialFiles(t *testing.T) {
	b := made(t)
	if err := syscall.Mkfifo(filepath.Join(b.path, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, b, "k", "x")
	if r, err := b.Open(t.Context(), "pipe", 0, -1); err == nil {
		r.Close()
		t.Error("opened a named pipe")
	}
	if err := lastError(b, t); err != nil {
		t.Error(err)
	}
}

// What a killed process left is invisible, and is removed after a day.
func TestSweep(t *testing.T) {
	b := made(t)
	put(t, b, "k", "x")
	left := filepath.Join(b.path, scratch, "left")
	fresh := filepath.Join(b.path, scratch, "fresh")
	for _, f := range []string{left, fresh} {
		if err := os.WriteFile(f, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info.Key)
	}
	if !slices.Equal(listed, []string{"k"}) {
		t.Errorf("listed %q", listed)
	}
	again, err := Open(b.path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open left an old temporary file")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("Open removed a fresh temporary file")
	}
	// A bucket that stays open for days sweeps when it is written to.
	b.now = func() time.Time { return time.Now().Add(49 * time.Hour) }
	put(t, b, "k2", "x")
	if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Create left an old temporary file")
	}
}

func TestExplain(t *testing.T) {
	for errno, kind := range map[syscall.Errno]*fault.Kind{
		syscall.ENOSPC: fault.NoSpace, syscall.EDQUOT: fault.NoSpace,
		syscall.EACCES: fault.Permission, syscall.EPERM: fault.Permission, syscall.EROFS: fault.Permission,
		syscall.EIO: fault.Storage, syscall.ESTALE: fault.Storage,
	} {
		err := explain(&fs.PathError{Op: "write", Path: "k", Err: errno}, "/backups")
		refused(t, err, kind, "/backups")
		if !errors.Is(err, errno) {
			t.Errorf("%v lost its cause", err)
		}
	}
	// An error of the reader is not about the target, whatever its errno.
	b := made(t)
	_, err := b.Create(t.Context(), "k", readerFunc(func([]byte) (int, error) { return 0, syscall.ENOSPC }), -1)
	if fault.Find(err) != nil || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the reader's error became %v", err)
	}
}

func TestNoPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	b := made(t)
	put(t, b, "a/k", "x")
	if err := os.Chmod(filepath.Join(b.path, "a"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(b.path, "a"), 0o700) })
	refused(t, lastError(b, t), fault.Permission, "a", b.path)
	_, err := b.Open(t.Context(), "a/k", 0, -1)
	refused(t, err, fault.Permission)
	if errors.Is(err, storage.ErrNotExist) {
		t.Error("no permission reads as no object")
	}
	_, err = b.Create(t.Context(), "a/new", strings.NewReader("x"), 1)
	refused(t, err, fault.Permission)
	nothingLeft(t, b)
}

// Failing steps after the bytes are written must leave nothing behind.
func TestLinkFails(t *testing.T) {
	b := made(t)
	b.link = func(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EIO} }
	_, err := b.Create(t.Context(), "a/k", bytes.NewReader([]byte("x")), -1)
	refused(t, err, fault.Storage, "a/k")
	nothingLeft(t, b)
	if _, err := b.Open(t.Context(), "a/k", 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Error(err)
	}
}

func TestAddress(t *testing.T) {
	b := made(t)
	if want := fmt.Sprintf("file://%s", b.path); b.String() != want || !filepath.IsAbs(b.path) {
		t.Errorf("%s, want %s", b, want)
	}
}
