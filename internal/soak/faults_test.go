package soak

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// strace says why system calls cannot be made to fail here, or is silent.
func strace(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("strace", "-f", "-o", os.DevNull, "-e", "inject=fsync:error=EIO:when=1", "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot inject faults here: %v %s", err, out)
	}
}

// calls is which system calls fail, or are the last one. The second number is
// up to which one: a command makes about so many.
var calls = []call{
	{"write", 60}, {"pwrite64", 4}, {"fsync", 40}, {"fdatasync", 4}, {"openat", 400}, {"renameat", 24}, {"renameat2", 3},
	{"linkat", 6}, {"unlinkat", 40}, {"mkdirat", 26}, {"fchmod", 10}, {"fchmodat", 10}, {"getdents64", 300}, {"ftruncate", 3},
}

var errnos = []string{"ENOSPC", "EIO", "EROFS", "EACCES"}

// causes is which exit codes are true for an error, beside 0, where the call
// did not matter, and 3, where the other target was served. An error of a
// target's file may be one of its storage (14), one of a configuration file or
// key one of the configuration (78, 12), and one of the database's file is told
// as SQLite's (17).
var causes = map[string][]int{
	"ENOSPC": {0, 3, 15, 14, 78, 12, 17},
	"EIO":    {0, 3, 14, 1, 78, 12, 17},
	"EROFS":  {0, 3, 16, 14, 78, 12, 17},
	"EACCES": {0, 3, 16, 14, 78, 12, 17},
}

// caused is that the exit code is one of the cause. SQLite has one error for
// whatever the system said of its shared memory and its journal, and a drill
// that could not be completed is inconclusive (1) or failed (20).
func caused(op operation, errno string, r result) bool {
	switch {
	case slices.Contains(causes[errno], r.code), strings.Contains(r.out, "netpollBreak"):
		return true
	case r.code == 1:
		return strings.Contains(r.out, "disk I/O error") || op.name == "drill" || op.name == "files backup"
	}
	return r.code == 20 && op.name == "drill" || r.code == 18 && op.name == "files backup"
}

var injected = regexp.MustCompile(`\(INJECTED\)`)

// TestSystemCallErrors lets the n-th of a system call fail, once or for ever.
func TestSystemCallErrors(t *testing.T) {
	strace(t)
	t.Parallel()
	w := newWorld(t, 1)
	trace, known := w.root+"/trace", made{}
	w.while(span(t), func(int) {
		op, errno := w.choose(), errnos[w.rng.IntN(len(errnos))]
		c, n := known.choose(w, op)
		when := fmt.Sprint(n)
		if w.rng.IntN(3) == 0 {
			when += "+"
		}
		hit := false
		w.round(op, func(args ...string) result {
			w.say = fmt.Sprintf("%s with %s of %s number %s", op.name, errno, c.name, when)
			inject := fmt.Sprintf("inject=%s:error=%s:when=%s", c.name, errno, when)
			r := w.run([]string{"timeout", "-s", "QUIT", "60", "strace", "--seccomp-bpf", "-f", "-qq", "-o", trace, "-e", "trace=" + c.name, "-e", inject}, op.file(), args...)
			log, _ := os.ReadFile(trace)
			if hit = injected.Match(log); !hit {
				known.learn(op, c, log)
				return r
			}
			tally.add("errors: %s %s", c.name, errno)
			tally.add("disturbed by errors: %s", op.name)
			tally.add("exit code after %s: %d", errno, r.code)
			switch {
			case op.name == "undo" && r.code == 10:
				w.known("--undo that cannot read a folder says that nothing is there to put back")
			case !caused(op, errno, r):
				w.violated("exits %d:\n%s", r.code, r.out)
			}
			return r
		})
		if !hit {
			tally.add("errors: number not reached")
		}
	})
}

type call struct {
	name string
	most int
}

// made is how many calls an operation was seen to make.
type made map[string]int

func (m made) choose(w *world, op operation) (call, int) {
	for {
		c := calls[w.rng.IntN(len(calls))]
		if most, seen := m[op.name+c.name]; seen {
			c.most = most
		}
		if c.most > 0 {
			return c, w.nth(c.most)
		}
	}
}

// learn takes the number from a trace of a run in which nothing was disturbed.
func (m made) learn(op operation, c call, trace []byte) {
	m[op.name+c.name] = bytes.Count(trace, []byte(" "+c.name+"("))
}

// nth is a number up to most, small ones more often.
func (w *world) nth(most int) int {
	return min(most, int(math.Exp(w.rng.Float64()*math.Log(float64(most)+1))))
}

// TestKills ends commands by SIGKILL after a random time, or at a system call.
func TestKills(t *testing.T) {
	strace(t)
	t.Parallel()
	w := newWorld(t, 2)
	trace, known := w.root+"/trace", made{}
	w.while(span(t), func(n int) {
		op := w.choose()
		w.round(op, func(args ...string) result {
			if n%3 == 0 {
				after := time.Duration(w.rng.Int64N(int64(150 * time.Millisecond)))
				if op.rare > 0 {
					after *= 15
				}
				w.say = fmt.Sprintf("%s killed after %v", op.name, after)
				return w.killed(op, after, args...)
			}
			c, when := known.choose(w, op)
			w.say = fmt.Sprintf("%s killed at %s number %d", op.name, c.name, when)
			r := w.run([]string{"strace", "--seccomp-bpf", "-f", "-qq", "-o", trace, "-e", "trace=" + c.name,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", c.name, when)}, op.file(), args...)
			log, _ := os.ReadFile(trace)
			if bytes.Contains(log, []byte("killed by SIGKILL")) {
				tally.add("kills at system calls: %s", c.name)
				tally.add("killed: %s", op.name)
			} else {
				known.learn(op, c, log)
				tally.add("kills: number not reached")
			}
			return r
		})
	})
}

func (w *world) killed(op operation, after time.Duration, args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, append([]string{"--config", w.path(op.file())}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 30 * time.Second // restic, its child, ends by itself
	cmd.Run()                        //nolint:errcheck // the state tells
	r := result{out.String(), -1}
	if cmd.ProcessState != nil {
		r.code = cmd.ProcessState.ExitCode()
	}
	if r.code == -1 {
		tally.add("kills by time")
		tally.add("killed: %s", op.name)
	}
	w.calm(r)
	return r
}
