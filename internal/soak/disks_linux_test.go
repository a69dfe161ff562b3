package soak

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// mounted puts a file system where a folder of the world is, with what was in
// the folder. The test ends here, with a reason, where that is not permitted.
func (w *world) mounted(folder string, args ...string) {
	w.Helper()
	at := w.path(folder)
	if err := os.Rename(at, at+".before"); err != nil {
		w.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		w.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		w.Skipf("a file system cannot be mounted here: %v %s", err, out)
	}
	if out, err := exec.Command("cp", "-a", at+".before/.", at).CombinedOutput(); err != nil {
		w.Fatalf("cp: %v %s", err, out)
	}
	if err := os.RemoveAll(at + ".before"); err != nil {
		w.Fatal(err)
	}
}

func (w *world) unmount(folder string) {
	w.Helper()
	if exec.Command("umount", w.path(folder)).Run() != nil { // restic, whose parent was killed, is still at work
		if out, err := exec.Command("umount", "-l", w.path(folder)).CombinedOutput(); err != nil {
			w.Errorf("umount: %v %s", err, out)
		}
	}
}

// TestFullDisks gives the state, a target, or the folder in which drills work
// a little room, or few files, and then more.
func TestFullDisks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	t.Parallel()
	w := newWorld(t, 3)
	w.while(span(t), func(int) {
		op := w.choose()
		folder := []string{"state", "two", "scratch"}[w.rng.IntN(3)]
		if op.name == "init" || folder == "scratch" && op.name != "drill" {
			return
		}
		defer func() {
			if syscall.Unmount(w.path(folder), 0) != nil {
				w.unmount(folder)
			}
		}()
		w.round(op, func(args ...string) result {
			w.mounted(folder, "-t", "tmpfs", "-o", "size=160m", "soak")
			small := w.little(folder)
			w.say = fmt.Sprintf("%s with %s of %s", op.name, small, folder)
			w.remount(folder, small)
			r := w.run([]string{"timeout", "-s", "QUIT", "90"}, op.file(), args...)
			w.remount(folder, "size=160m,nr_inodes=100000")
			tally.add("full disks: %s", folder)
			tally.add("exit code after a full disk: %d", r.code)
			if !caused(op, "ENOSPC", r) {
				w.violated("exits %d:\n%s", r.code, r.out)
			}
			if folder == "two" && op.name == "delta" {
				w.oneOf("the newest backup of the target that has room", w.restored("one"), w.app())
			}
			return r
		})
	})
}

// little is an option that leaves a file system a little more than it has.
func (w *world) little(folder string) string {
	w.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(w.path(folder), &st); err != nil {
		w.Fatal(err)
	}
	if w.rng.IntN(2) == 0 {
		return fmt.Sprintf("nr_inodes=%d", st.Files-st.Ffree+1+uint64(w.rng.IntN(8)))
	}
	return fmt.Sprintf("size=%d", (st.Blocks-st.Bfree+1+uint64(w.rng.IntN(30)))*uint64(st.Bsize))
}

func (w *world) remount(folder, options string) {
	w.Helper()
	if out, err := exec.Command("mount", "-o", "remount,"+options, w.path(folder)).CombinedOutput(); err != nil {
		w.Fatalf("remount %s: %v %s", options, err, out)
	}
}

// TestPowerCuts copies the image of a mounted disk, right after a command or in
// the middle of one, and goes on with the copy: what was not yet on the disk is
// gone. What was reported as committed must be there.
func TestPowerCuts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	t.Parallel()
	w := newWorld(t, 4)
	image, after := filepath.Join(w.root, "image"), filepath.Join(w.root, "after")
	w.while(span(t), func(int) {
		op := operations[1+w.rng.IntN(7)]
		folder := []string{"state", "one", "srv"}[w.rng.IntN(3)]
		options := []string{"loop,data=ordered", "loop,data=writeback"}[w.rng.IntN(2)]
		if out, err := exec.Command("sh", "-c", "rm -f "+image+" && truncate -s 24M "+image+" && mkfs.ext4 -q "+image).CombinedOutput(); err != nil {
			w.Skipf("no ext4 can be made here: %v %s", err, out)
		}
		defer func() {
			if syscall.Unmount(w.path(folder), 0) != nil {
				w.unmount(folder)
			}
		}()
		cut := false
		w.round(op, func(args ...string) result {
			w.say = fmt.Sprintf("%s, the power cut, %s on %s", op.name, folder, options)
			w.mounted(folder, "-t", "ext4", "-o", options, image)
			syscall.Sync()
			var r result
			if w.rng.IntN(3) == 0 {
				r = w.run(nil, op.file(), args...)
			} else {
				r = w.killed(op, time.Duration(w.rng.Int64N(int64(120*time.Millisecond))), args...)
			}
			cut = copied(w, image, after)
			w.unmount(folder)
			if !cut { // the kernel wrote while it was copied: no instant
				after = image
			}
			if out, err := exec.Command("mount", "-t", "ext4", "-o", options, after, w.path(folder)).CombinedOutput(); err != nil {
				w.violated("mount of the copy: %v %s", err, out)
			}
			after = filepath.Join(w.root, "after")
			if cut {
				tally.add("power cuts: %s on %s", folder, options)
			}
			return r
		})
	})
}

// copied copies an image, and is true if it did not change meanwhile.
func copied(w *world, from, to string) bool {
	w.Helper()
	first, err := os.ReadFile(from)
	if err != nil {
		w.Fatal(err)
	}
	second, err := os.ReadFile(from)
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(to, first, 0o600); err != nil {
		w.Fatal(err)
	}
	return bytes.Equal(first, second)
}
