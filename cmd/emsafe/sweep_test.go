package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// litter are the files below folders that are not to be there.
func litter(t *testing.T, folders ...string) (left []string) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			name := filepath.Base(path)
			if err == nil && (strings.HasPrefix(name, "emsafe-drill-") || strings.Contains(name, ".emsafe-") || strings.HasSuffix(name, ".part") || name == "restoring") {
				left = append(left, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return left
}

// waitingDrill is a host with a drill that waits in a check while the database lies
// in scratch in plain.
func waitingDrill(t *testing.T) (h *host, scratch, pipe string) {
	t.Helper()
	h = newPictures(t, 5, false)
	h.asShipped()
	h.must("backup")
	base, err := os.MkdirTemp("/var/tmp", "sweep-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	scratch, pipe = filepath.Join(base, "scratch"), filepath.Join(base, "pipe")
	for _, err := range []error{os.Chmod(base, 0o755), os.Mkdir(scratch, 0o711), syscall.Mkfifo(pipe, 0o600), os.Chmod(pipe, 0o666)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text := string(h.read(h.conf))
	at := strings.Index(text, "path: ")
	end := at + strings.Index(text[at:], "\n")
	indent := strings.Repeat(" ", at-strings.LastIndex(text[:at], "\n")-1)
	h.write("etc/emsafe.yaml", text[:end]+"\n"+indent+"drill: {checks: {waits: {command: [cat, "+pipe+"]}}}"+text[end:]+"\ndrill_scratch: "+scratch+"\ndrill_user: nobody\n")
	h.must("config", "check")
	return h, scratch, pipe
}

// A drill that is killed while the database lies in scratch leaves it there; the
// next command of any kind removes it, and not that of a drill that still runs.
func TestSweepAfterAKilledDrill(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("checks run as another user, which only root can")
	}
	for _, next := range [][]string{{"status"}, {"list"}, {"backup"}, {"restore", "app", "--dry-run"}} {
		t.Run(next[0], func(t *testing.T) {
			t.Parallel()
			h, scratch, pipe := waitingDrill(t)
			p := h.start("drill", "run", "app", "--identity", h.path("key"), "--select", "latest")
			w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the check reads
			if err != nil {
				t.Fatal(err)
			}
			if found, _ := filepath.Glob(filepath.Join(scratch, "*", "restored", "app.db")); len(found) != 1 {
				t.Fatalf("no database in scratch: %v", litter(t, scratch))
			}
			h.must(next...)
			if found, _ := filepath.Glob(filepath.Join(scratch, "*", "restored", "app.db")); len(found) != 1 {
				t.Error("the scratch folder of a drill that runs was removed")
			}
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			p.end()
			w.Close()
			if len(litter(t, scratch)) == 0 {
				t.Fatal("the kill left nothing")
			}
			h.must(next...)
			if left := litter(t, scratch, h.path("state")); len(left) > 0 {
				t.Errorf("after %s: %v", next[0], left)
			}
		})
	}
}

// What cannot be removed is reported, and removed as soon as it can be.
func TestLeftOverIsReported(t *testing.T) {
	t.Parallel()
	if err := exec.Command("strace", "-qq", "-o", "/dev/null", "true").Run(); err != nil {
		t.Skip("strace cannot trace here: ", err)
	}
	h := newPictures(t, 5, false)
	h.asShipped()
	h.must("backup")
	scratch := t.TempDir()
	h.write("etc/emsafe.yaml", string(h.read(h.conf))+"\ndrill_scratch: "+scratch+"\n")
	broken := []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EIO"}
	h.tracer = broken
	out, errOut, code := h.command("drill", "run", "app", "--identity", h.path("key"), "--select", "latest")
	if code == 0 || !strings.Contains(errOut, "could not be removed") || len(litter(t, scratch)) == 0 {
		t.Errorf("a drill that cannot clean up: exit %d, left %v\n%s%s", code, litter(t, scratch), out, errOut)
	}
	_, errOut, code = h.command("status")
	if code != 0 || !strings.Contains(errOut, "plain data that an interrupted command left could not be removed") {
		t.Errorf("status: exit %d\n%s", code, errOut)
	}
	out = h.must("status", "--json")
	if !strings.Contains(out, `"left_over"`) {
		t.Errorf("status --json: %s", out)
	}
	if out, _, code := h.command("doctor"); code == 0 || !strings.Contains(out, "FAIL  left-over data") {
		t.Errorf("doctor: exit %d\n%s", code, out)
	}
	h.must("status", "--html", h.path("page.html"))
	if page := string(h.read(h.path("page.html"))); !strings.Contains(page, "Plain data that an interrupted command left") {
		t.Error("the page does not report it")
	}
	h.tracer = nil
	if _, errOut, _ = h.command("status"); strings.Contains(errOut, "plain data") || len(litter(t, scratch)) > 0 {
		t.Errorf("when it can be removed: %v\n%s", litter(t, scratch), errOut)
	}
}

// A killed restore leaves nothing beside a destination that no configuration
// names: the next command knows of it.
func TestSweepBesideAKilledRestore(t *testing.T) {
	t.Parallel()
	if err := exec.Command("strace", "-qq", "-o", "/dev/null", "true").Run(); err != nil {
		t.Skip("strace cannot trace here: ", err)
	}
	h := newPictures(t, 5, false)
	h.asShipped()
	h.must("backup")
	elsewhere := t.TempDir()
	for _, to := range []string{filepath.Join(elsewhere, "out.db"), h.path("srv/app.db")} {
		args := []string{"restore", "app", "--to", to, "--identity", h.path("key"), "--in-place", "--yes"}
		h.tracer = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat,renameat2,linkat", "-e", "inject=renameat,renameat2,linkat:signal=SIGKILL:when=1"}
		_, _, code := h.command(args...)
		h.tracer = nil
		if code >= 0 && code != 137 || len(litter(t, filepath.Dir(to))) == 0 {
			t.Fatalf("exit %d, left %v", code, litter(t, filepath.Dir(to)))
		}
		h.must("list")
		left := litter(t, filepath.Dir(to), h.path("state"))
		if _, err := os.Stat(to + ".emsafe-intent"); err == nil {
			h.must(args...)
			left = litter(t, filepath.Dir(to), h.path("state"))
		}
		if len(left) > 0 {
			t.Errorf("left after the next command: %v", left)
		}
	}
}
