package durable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A sweep takes what dead processes left, in whatever state, and nothing else.
func TestSweepFolders(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	alive, err := NewFolder(base, "x-")
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("plain"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(alive.Path, "in", "app.db"))
	kept := []string{alive.Path, filepath.Join(base, "y-other"), filepath.Join(base, "x-link"), filepath.Join(base, "x-file"), filepath.Join(base, "x-earlier")}
	write(filepath.Join(base, "y-other", "app.db"))
	write(filepath.Join(base, "x-file"))
	if err := os.Symlink(filepath.Join(base, "y-other"), filepath.Join(base, "x-link")); err != nil {
		t.Fatal(err)
	}
	// As an earlier version locks, which still runs.
	write(filepath.Join(base, "x-earlier", "lock"))
	lock, err := os.OpenFile(filepath.Join(base, "x-earlier", "lock"), os.O_RDWR, 0)
	if err != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX) != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if os.Getuid() == 0 {
		other := filepath.Join(base, "x-others")
		write(filepath.Join(other, "app.db"))
		if err := os.Chown(other, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, other)
	}
	gone := []string{filepath.Join(base, "x-dead"), filepath.Join(base, "x-unlocked"), filepath.Join(base, "x-empty")}
	write(filepath.Join(gone[0], "lock"))
	write(filepath.Join(gone[0], "restored", "app.db"))
	write(filepath.Join(gone[1], "restored", "app.db"))
	if err := os.Mkdir(gone[2], 0o700); err != nil {
		t.Fatal(err)
	}
	if err := SweepFolders(base, "x-"); err != nil {
		t.Error(err)
	}
	for _, path := range kept {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("removed: %v", err)
		}
	}
	for _, path := range gone {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("left: %s", path)
		}
	}
	if _, err := os.Stat(filepath.Join(base, "y-other", "app.db")); err != nil {
		t.Errorf("through a link: %v", err)
	}
	if err := alive.Remove(); err != nil {
		t.Error(err)
	}
	if err := SweepFolders(filepath.Join(base, "none"), "x-"); err != nil {
		t.Error(err)
	}
}

// Folders and files that are made while others sweep are there for their makers.
func TestSweepLeavesTheLiving(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	stop := make(chan struct{})
	var sweepers, makers sync.WaitGroup
	for range 3 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := errors.Join(SweepFolders(base, "x-"), SweepFiles(base, ".y-", ".part")); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 3 {
		makers.Go(func() {
			for range 100 {
				f, err := NewFolder(base, "x-")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(f.Path, "app.db"), []byte("plain"), 0o600); err != nil {
					t.Errorf("a living folder was swept: %v", err)
				}
				file, err := NewFile(func() string { return filepath.Join(base, fmt.Sprintf(".y-%d.part", rand.Uint64())) })
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(file.Name()); err != nil {
					t.Errorf("a living file was swept: %v", err)
				}
				if err := errors.Join(f.Remove(), os.Remove(file.Name()), file.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	sweepers.Wait()
	if left, _ := os.ReadDir(base); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A process that is killed while it removes its folder leaves what the next
// sweep takes, at any point.
func TestSweepAfterAKill(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("EMSAFE_TEST_FOLDER"); dir != "" {
		f, err := NewFolder(dir, "x-")
		if err != nil {
			os.Exit(3)
		}
		for _, name := range []string{"a", "b", "c"} {
			os.WriteFile(filepath.Join(f.Path, name), []byte("plain"), 0o600) //nolint:errcheck // it is removed below
		}
		f.Remove() //nolint:errcheck // strace interrupts it
		return
	}
	if err := exec.Command("strace", "-qq", "-o", "/dev/null", "true").Run(); err != nil {
		t.Skip("strace cannot trace here: ", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, inject := range []string{"signal=SIGKILL:when=1", "signal=SIGKILL:when=2", "signal=SIGKILL:when=3", "signal=SIGKILL:when=4", "error=EIO:when=1+", "error=EIO:when=2+"} {
		dir := t.TempDir()
		cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", "inject=unlinkat:"+inject, self, "-test.run=^TestSweepAfterAKill$")
		cmd.Env = append(os.Environ(), "EMSAFE_TEST_FOLDER="+dir)
		cmd.Run() //nolint:errcheck // it is killed
		if left, _ := os.ReadDir(dir); len(left) == 0 {
			t.Logf("%s left nothing", inject)
		}
		if err := SweepFolders(dir, "x-"); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: after a sweep: %v", inject, left)
		}
	}
}
