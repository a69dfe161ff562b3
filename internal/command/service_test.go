package command

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServiceIsStoppedWithItsChildren(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"listens":  "sleep 600 & echo $! > pid; echo ready; wait",
		"does not": "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done' & echo ready; wait; wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fifo := filepath.Join(dir, "fifo")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Start([]string{"sh", "-c", strings.Replace(script, "echo ready", "while [ ! -s pid ]; do :; done; echo ready > fifo", 1)}, Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(fifo) // until it is ready
			if err != nil {
				t.Fatal(err)
			}
			bufio.NewReader(f).ReadString('\n') //nolint:errcheck // it is only waited for
			f.Close()
			text, err := os.ReadFile(filepath.Join(dir, "pid"))
			if err != nil {
				t.Fatal(err)
			}
			child, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			s.Stop(50 * time.Millisecond)
			for _, pid := range []int{s.cmd.Process.Pid, child} {
				for alive(pid) {
					time.Sleep(time.Millisecond) // init reaps it
				}
			}
		})
	}
}

// alive tells a process from one that is gone or only not reaped yet.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestServiceThatEnds(t *testing.T) {
	t.Parallel()
	s, err := Start([]string{"sh", "-c", "echo no such table >&2; exit 3"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	<-s.Done
	var exit *exec.ExitError
	if !errors.As(s.Err(), &exit) || exit.ExitCode() != 3 || !strings.Contains(s.Output(), "no such table") {
		t.Errorf("%v %q", s.Err(), s.Output())
	}
	s.Stop(0)
	if _, err := Start([]string{"/no/such/program"}, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestBareEnvironmentAndUser(t *testing.T) {
	t.Setenv("SECRET_OF_OURS", "x")
	opts := Options{Bare: true, Env: []string{"GIVEN=y"}}
	want := "0"
	if os.Getuid() == 0 {
		opts.As, want = &User{UID: 65534, GID: 65534}, "65534 65534"
	} else {
		want = strconv.Itoa(os.Getuid()) + " "
	}
	out, err := Run(t.Context(), []string{"sh", "-c", "echo $(id -u) $(id -G) $SECRET_OF_OURS $GIVEN"}, opts)
	if err != nil || !strings.HasPrefix(string(out), want) || !strings.HasSuffix(string(out), " y\n") || strings.Contains(string(out), " x ") {
		t.Errorf("%q %v", out, err)
	}
}
