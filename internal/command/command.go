// Package command is the one door to other programs, for hooks, for commands
// that print a secret, and for what a drill starts. [Run] runs one to its end,
// [Start] one that is to be stopped.
//
// A command gets the arguments as they are, without a shell, the environment
// of this process, and neither input nor terminal. It has a bounded time and a
// bounded output, and when its time is over everything that it started goes
// with it. Arguments never appear in errors, for they may be secret.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	// Limit is the most that a command may print, in bytes.
	Limit = 64 << 10
	// DefaultTimeout is for commands that look something up.
	DefaultTimeout = 30 * time.Second

	tail = 2 << 10 // bytes of stderr that are kept
	// grace is how long pipes may stay open after the command itself ended:
	// what it left running may hold them for ever.
	grace = time.Second
)

// Options are what else a command may need.
type Options struct {
	Timeout time.Duration // 0: DefaultTimeout; negative: none
	Env     []string      // NAME=value, in addition to this process's
	Dir     string        // working folder; "" is this process's
	Bare    bool          // of this process's environment only PATH, LANG and TZ: what else is there may be secret
	As      *User         // nil: the user of this process; only root can be another
}

// User is somebody else to run a command as, without further groups.
type User struct{ UID, GID uint32 }

// environment is what the command gets to see.
func (o Options) environment() []string {
	if !o.Bare {
		return append(os.Environ(), o.Env...)
	}
	var env []string
	for _, name := range []string{"PATH", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, o.Env...)
}

// attributes put the command into a session of its own: a group that can be
// killed as a whole, and no terminal on which a question would wait for ever.
func (o Options) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true}
	if o.As != nil {
		a.Credential = &syscall.Credential{Uid: o.As.UID, Gid: o.As.GID}
	}
	return a
}

var (
	errTooMuch = fmt.Errorf("printed more than %d bytes", Limit)
	errTimeout = errors.New("did not end in time")
)

// Run runs a command to its end and returns what it printed. The error names
// the program and holds the end of what it wrote to stderr; it wraps
// exec.ErrNotFound, *exec.ExitError or the context's error.
func Run(ctx context.Context, argv []string, opts Options) (stdout []byte, err error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("no command")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := opts.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	if timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w (%s)", errTimeout, timeout))
		defer stop()
	}
	out := &head{full: func() { cancel(errTooMuch) }}
	var errs last
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = opts.Dir, out, &errs, grace
	cmd.Env, cmd.SysProcAttr = opts.environment(), opts.attributes()
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }

	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = errors.New("ended and left a process behind that holds its output open; redirect that one's output")
		killGroup(cmd.Process.Pid) //nolint:errcheck // the error is reported already
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		return nil, &Error{Program: argv[0], Err: err, Said: errs.quote()}
	}
	return out.b.Bytes(), nil
}

// Error is how a command failed.
type Error struct {
	Program string
	Err     error
	Said    string // the end of stderr, after a colon; "" if there was none
}

func (e *Error) Error() string { return "command " + e.Program + ": " + e.Err.Error() + e.Said }
func (e *Error) Unwrap() error { return e.Err }

// killGroup ends a command and what it started.
func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// endGroup asks a command and what it started to end.
func endGroup(pid int) { syscall.Kill(-pid, syscall.SIGTERM) } //nolint:errcheck // who does not hear is killed later

// head keeps the beginning of what is written, and calls full when there is
// more than Limit.
type head struct {
	b    bytes.Buffer
	full func()
}

func (h *head) Write(p []byte) (int, error) {
	if h.b.Len()+len(p) > Limit {
		h.full()
		return len(p), nil // the command is being killed; its pipe must not block
	}
	return h.b.Write(p)
}

// last keeps the end of what is written.
type last struct{ b []byte }

func (l *last) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if len(l.b) > tail {
		l.b = append(l.b[:0], l.b[len(l.b)-tail:]...)
	}
	return len(p), nil
}

// quote is the end of stderr, in one line that is safe for a terminal.
func (l *last) quote() string {
	var lines []string
	for line := range strings.Lines(string(l.b)) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, line))
		if line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// NotFound reports whether there was no such program.
func NotFound(err error) bool { return errors.Is(err, exec.ErrNotFound) }
