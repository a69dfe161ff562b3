package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"emsafe/internal/daemon"
	"emsafe/internal/fault"
)

// hooks lets a fileset's hooks write down that they ran.
func (h *host) hooks(before string) {
	h.t.Helper()
	h.write("before", "#!/bin/sh\necho \"before $EMSAFE_FILESET\" >> "+h.path("hooks")+"\n"+before+"\n")
	h.write("after", "#!/bin/sh\necho after >> "+h.path("hooks")+"\n[ ! -e "+h.path("broken")+" ]\n")
	h.files("    before: [" + h.path("before") + "]\n    after: [" + h.path("after") + "]\n    hook_timeout: 1s\n")
}

// ran is what the hooks wrote down since.
func (h *host) ran() string {
	h.t.Helper()
	text, _ := os.ReadFile(h.path("hooks"))
	os.Remove(h.path("hooks"))
	return strings.Join(strings.Fields(string(text)), " ")
}

// TestHooks: whatever fails, the application is woken.
func TestHooks(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 3)
	h.asShipped()
	h.hooks("[ ! -e " + h.path("refuse") + " ] && [ ! -e " + h.path("hang") + " ] || sleep 60")
	h.must("files", "backup")
	if got := h.ran(); got != "before uploads after" {
		t.Error(got)
	}
	h.write("before", strings.Replace(string(h.read(h.path("before"))), "sleep 60", "exit 3", 1))
	h.write("refuse", "")
	h.fails(fault.HookFailed, "before", "files", "backup")
	if got := h.ran(); got != "before uploads after" {
		t.Error(got)
	}
	h.write("before", strings.Replace(string(h.read(h.path("before"))), "exit 3", "sleep 60", 1))
	h.fails(fault.HookFailed, "did not end in time", "backup")
	if got := h.ran(); got != "before uploads after" {
		t.Error(got)
	}
	os.Remove(h.path("refuse"))
	// The files half fails: woken all the same.
	if err := os.Rename(h.path("srv/uploads"), h.path("srv/away")); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.NoFiles, "uploads", "files", "backup")
	if got := h.ran(); got != "before uploads after" {
		t.Error(got)
	}
	if err := os.Rename(h.path("srv/away"), h.path("srv/uploads")); err != nil {
		t.Fatal(err)
	}
	points := len(h.points().Points)
	if points != 2 {
		t.Errorf("%d points", points)
	}
	// After fails: the points are there, it is told, and run again.
	h.write("broken", "")
	h.fails(fault.HookFailed, "was made, and is whole, in 2 of 2 targets", "files", "backup")
	if got := len(h.points().Points); got != points+2 {
		t.Errorf("%d points", got)
	}
	os.Remove(h.path("broken"))
	h.ran()
	h.must("files", "backup")
	if got := h.ran(); got != "after before uploads after" {
		t.Error(got)
	}
}

// TestKillPoint kills emsafe in the middle of recovery points: no point is
// listed whose half is missing, an application that was quiesced is woken by the
// next run, and that succeeds.
func TestKillPoint(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 40)
	h.asShipped()
	h.targets("  one:\n    url: file://" + h.path("one") + "\n")
	h.hooks("")
	rng := random(t, 77)
	watch := []string{"state/filesets", "state/spool/app", "one/filesets/uploads", "one/filesets/uploads/locks", "one/filesets/uploads/snapshots", "one/points/uploads", "one/databases/app/manifests"}
	next := 40
	add := func() { h.pictures(next, next+2); next += 2 }
	moments := h.measure(rng, watch, add, "backup")
	whole := map[string]bool{}
	killed, woken := 0, 0
	for killed < max(3, rounds(200)/4) && !t.Failed() {
		add()
		os.Remove(h.path("hooks"))
		p, _ := h.cut(syscall.SIGKILL, moments.next(), "backup")
		switch p.ProcessState.ExitCode() {
		case -1:
			killed++
		case 0:
		default:
			t.Errorf("exit %d\n%s", p.ProcessState.ExitCode(), p.err.String())
		}
		list := h.points()
		seen := map[string]bool{}
		for _, r := range list.Points {
			if r.Error != nil || len(r.Lacks) > 0 {
				t.Errorf("a point that is not whole: %+v %+v", r, r.Error)
				continue
			}
			seen[r.Target+r.Point.ID] = true
		}
		for id := range whole {
			if !seen[id] {
				t.Errorf("the point %s is gone", id)
			}
		}
		whole = seen
		if rng.IntN(4) > 0 {
			continue // killed again before it could wake anybody
		}
		quiesced := slices.Contains(h.names("state/filesets"), "uploads.quiesced")
		h.ran()
		h.must("backup")
		switch ran := h.ran(); {
		case quiesced && ran == "after before uploads after":
			woken++
		case !quiesced && ran == "before uploads after":
		default:
			t.Errorf("quiesced %v: %s", quiesced, ran)
		}
	}
	h.must("backup")
	t.Logf("killed %d times, woken %d times, %d points", killed, woken, len(whole))
	h.must("restore", "--point", "latest", "--to", h.path("back"), "--identity", h.path("key"))
	h.same(h.path("back/files"), next)
	h.must("files", "check", "--read-data-subset", "100%")
}

// TestStaleLock: what a killed restic left locked is unlocked when that is
// proven, and named otherwise.
func TestStaleLock(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 3)
	h.must("backup")
	h.files("    keep: {last: 1}\n")
	h.must("files", "backup")
	foreign := h.lock("one", "elsewhere")
	h.fails(fault.Locked, "on elsewhere", "files", "forget")
	h.fails(fault.Locked, "on elsewhere", "files", "check", "--target", "one")
	os.Remove(foreign)
	host, _ := os.Hostname()
	h.lock("one", host)
	h.must("files", "check", "--target", "one")
	if left := h.names("one/filesets/uploads/locks"); len(left) > 0 {
		t.Error(left)
	}
}

// lock leaves the lock of a restic that was killed, on a machine of that name. It
// is sealed with the repository's key, so that only restic itself can write it.
func (h *host) lock(target, machine string) (file string) {
	h.t.Helper()
	script := "exec restic --no-cache backup --stdin"
	if now, _ := os.Hostname(); now != machine {
		script = "echo " + machine + " > /proc/sys/kernel/hostname && " + script
	}
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--uts", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "RESTIC_REPOSITORY="+h.path(target+"/filesets/uploads"), "RESTIC_PASSWORD_FILE="+h.path("state/filesets/uploads.password"))
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer in.Close()
	folder := target + "/filesets/uploads/locks"
	whole := func() bool { // restic writes it under another name first
		return slices.ContainsFunc(h.names(folder), func(name string) bool { return len(name) == 64 })
	}
	for end := time.Now().Add(time.Minute); !whole(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			cmd.Process.Kill() //nolint:errcheck // it failed anyway
			h.t.Skipf("no lock under another name can be made here: %s", said.String())
		}
	}
	cmd.Process.Kill() //nolint:errcheck // it runs
	cmd.Wait()         //nolint:errcheck // it was killed
	return h.path(folder + "/" + h.names(folder)[0])
}

// TestPointsOnSchedule: the daemon makes points and removes old ones, and wakes
// what an earlier run left quiesced.
func TestPointsOnSchedule(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 3)
	h.asShipped()
	h.hooks("")
	h.files("    schedule: every 1h\n    forget_schedule: every 1h\n    keep: {last: 2}\n    rpo: 2h\n")
	if err := os.Mkdir(h.path("state/filesets"), 0o700); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	h.write("state/filesets/uploads.quiesced", "")
	out := h.must("daemon", "--check")
	if !strings.Contains(out, "files uploads") || !strings.Contains(out, "forget uploads") {
		t.Fatal(out)
	}
	d := h.start("daemon")
	defer d.end()
	defer d.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it runs
	until(t, "the application is woken", d, func() bool { return strings.HasPrefix(h.peek("hooks"), "after") })
	until(t, "the daemon takes the job", d, func() bool {
		_, _, code := h.command("daemon", "run", "files", "uploads")
		return code == 0
	})
	until(t, "a point", d, func() bool { return len(h.points().Points) >= 2 })
	var o overview
	until(t, "the run in the status", d, func() bool {
		out, _, code := h.command("status", "--json")
		return code == 0 && json.Unmarshal([]byte(out), &o) == nil && slices.ContainsFunc(o.Scheduler.Jobs, func(j daemon.JobStatus) bool {
			return j.Name == "files uploads" && j.Last != nil && j.Last.Verdict == daemon.OK
		})
	})
	h.must("status", "--html", h.path("status.html"))
	newest := h.points().Points[0].Point.ID
	for _, want := range []string{`id="files-uploads"`, "emsafe restore --point " + newest, "objective 2 h"} {
		if !strings.Contains(string(h.read(h.path("status.html"))), want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	metrics := h.must("metrics")
	for _, want := range []string{`emsafe_objective_seconds{name="files uploads",kind="files",database="uploads"} 7200`, `emsafe_target_recovery_point_timestamp_seconds{name="files uploads",kind="files",database="uploads",target="one"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not say %q:\n%s", want, metrics)
		}
	}
}

func (h *host) peek(name string) string {
	text, _ := os.ReadFile(h.path(name))
	return string(text)
}
