package command_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"emsafe/internal/command"
)

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

func TestRun(t *testing.T) {
	t.Setenv("EMSAFE_TEST_INHERITED", "inherited")
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		argv []string
		opts command.Options
		want string
	}{
		{"arguments are not for a shell", []string{"/bin/echo", "$HOME", "a b", "; ls"}, command.Options{}, "$HOME a b ; ls\n"},
		{"environment", sh("echo $EMSAFE_TEST_INHERITED $ADDED"), command.Options{Env: []string{"ADDED=added"}}, "inherited added\n"},
		{"folder", sh("pwd -P"), command.Options{Dir: dir}, resolved(t, dir) + "\n"},
		{"no input", sh("cat; echo end"), command.Options{}, "end\n"},
		{"no terminal", sh("(: </dev/tty) 2>/dev/null || echo none"), command.Options{}, "none\n"},
		{"stderr does not mix", sh("echo data; echo talk >&2"), command.Options{}, "data\n"},
		{"as much as is allowed", sh("head -c 65536 /dev/zero"), command.Options{}, strings.Repeat("\x00", command.Limit)},
		{"found in PATH", []string{"true"}, command.Options{Timeout: -1}, ""},
	} {
		got, err := command.Run(t.Context(), c.argv, c.opts)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %.80q %v", c.name, got, err)
		}
	}
}

func resolved(t *testing.T, dir string) string {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRunFails(t *testing.T) {
	for _, c := range []struct {
		name string
		argv []string
		opts command.Options
		want string
	}{
		{"nothing", nil, command.Options{}, "no command"},
		{"not there", []string{"emsafe-no-such-program"}, command.Options{}, "executable file not found"},
		{"exit code and the end of stderr", sh("for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; printf '\\033[31mred' >&2; exit 3"), command.Options{},
			"command /bin/sh: exit status 3: line 4; line 5; line 6; line 7; [31mred"},
		{"much stderr", sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1"), command.Options{}, "xend"},
		{"too much output", sh("while :; do echo y; done"), command.Options{}, "printed more than 65536 bytes"},
		{"too much output from one that ignores signals", sh("trap '' PIPE TERM INT; while :; do echo y; done"), command.Options{}, "printed more than"},
		{"timeout", sh("sleep 1000; echo x"), command.Options{Timeout: 10 * time.Millisecond}, "did not end in time (10ms)"},
		{"left behind", sh("sleep 1000 & exit 0"), command.Options{}, "left a process behind"},
	} {
		got, err := command.Run(t.Context(), append(c.argv[:len(c.argv):len(c.argv)], secretArgument(c.argv)...), c.opts)
		if err == nil || got != nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 3000 {
			t.Errorf("%s: %.80q %v", c.name, got, err)
		}
	}
	_, err := command.Run(t.Context(), sh("exit 3"), command.Options{})
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Error(err)
	}
	if _, err := command.Run(t.Context(), []string{"emsafe-no-such-program"}, command.Options{}); !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
}

// secretArgument is an argument that must not show in an error.
func secretArgument(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	return []string{"hunter2"}
}

// TestRunTakesAllAlong: when the context ends, so does everything that the
// command started. All of them hold a pipe open, which ends with the last.
func TestRunTakesAllAlong(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := command.Run(ctx, sh(`trap '' TERM INT; exec 3>"$1"; (trap '' TERM INT HUP; sleep 1000; :) & echo ready >&3; wait`, pipe), command.Options{})
		done <- err
	}()
	f, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatal(line, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Error(fmt.Sprintf("%q", rest), err)
	}
}
