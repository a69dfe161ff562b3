package main

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// switchingCalls are the system calls by which a restore changes names.
const switchingCalls = "mkdirat,linkat,unlinkat,renameat,renameat2,fsync"

// cutAt runs a command under strace, which kills it at its n-th such call.
func (h *host) cutAt(n int, args ...string) (killed bool) {
	h.t.Helper()
	h.tracer = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + switchingCalls, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", switchingCalls, n)}
	defer func() { h.tracer = nil }()
	p := h.start(args...)
	code := p.end()
	ws, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	if killed = ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL; !killed && code != 0 {
		h.t.Fatalf("call %d: exit %d\n%s", n, code, p.err.String())
	}
	return killed
}

// TestKillSwitchAtEveryCall kills a restore in place, and an undo, at each of the
// calls by which names are switched. Whatever is run next, the old database is
// what an undo brings: after a restore that was run again, after an undo of the
// killed restore, and after an undo that was killed and run again.
func TestKillSwitchAtEveryCall(t *testing.T) {
	t.Parallel()
	if err := exec.Command("strace", "-qq", "-o", "/dev/null", "true").Run(); err != nil {
		t.Skip("strace cannot trace here: ", err)
	}
	for stream, old := range []string{"wal", "damaged"} {
		t.Run(old, func(t *testing.T) {
			t.Parallel()
			o := newOverwriting(t, old)
			o.asShipped()
			rng := random(t, uint64(30+stream))
			restored := []string{"restore", "app", "--in-place", "--yes", "--identity", o.path("key")}
			undo := []string{"restore", "app", "--undo", "--yes"}
			calls := 0 // of the longest run so far
			try := func(n int, way string) {
				o.prepare()
				first := restored
				if strings.HasPrefix(way, "undo killed") {
					o.must(restored...)
					first = undo
				}
				killed := o.cutAt(n, first...)
				state, stage, back := o.state(t), o.stage(), "old"
				if o.completed() && first[2] == "--in-place" && way != "restore killed, undone" {
					back = "new" // a second restore is one of its own
				}
				if killed {
					calls = max(calls, n)
				}
				switch way {
				case "restore killed, run again":
					o.must(restored...)
					if got := o.state(t); got != "new" {
						t.Errorf("call %d, %s, %s: the run after the kill left %s", n, stage, state, got)
					}
					o.clean(t, stage)
					o.must(undo...)
				case "restore killed twice":
					o.cutAt(n+rng.IntN(5), restored...)
					if o.completed() {
						back = "new"
					}
					o.must(restored...)
					o.must(undo...)
				case "restore killed, undone":
					if state == "old" {
						return // there is nothing to undo; a later run removes what is left
					}
					o.must(undo...)
				case "undo killed, run again":
					if killed && !o.undone(t) {
						o.must(undo...)
					}
				}
				if got := o.state(t); got != back {
					t.Errorf("%s at call %d, when %s, %s: the undo gave %s, not %s: %v", way, n, stage, state, got, back, o.names("srv"))
				}
				if o.stage() == "intent" || strings.Contains(strings.Join(o.names("srv"), " "), ".part") {
					t.Errorf("%s at call %d: left %v", way, n, o.names("srv"))
				}
			}
			ways := []string{"restore killed, run again", "restore killed twice", "restore killed, undone", "undo killed, run again"}
			if rounds(1) > 1 {
				for n := 1; n <= calls+3; n++ {
					for _, way := range ways {
						try(n, way)
					}
				}
				t.Logf("%d calls", calls)
				return
			}
			for range 12 {
				try(1+rng.IntN(40), ways[rng.IntN(len(ways))])
			}
		})
	}
}

// undone reports whether an undo did all of its steps.
func (o *overwriting) undone(t *testing.T) bool {
	return o.completed() && o.state(t) == "old"
}
