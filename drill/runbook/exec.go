package runbook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"emsafe/internal/report"
)

const (
	// Limit is how much of a command's output is kept, in bytes: its end.
	Limit          = 64 << 10
	defaultTimeout = time.Hour
	grace          = 5 * time.Second
)

// ran is what became of a command.
type ran struct {
	output string // scrubbed
	code   int    // -1: a signal, or it did not start
	took   time.Duration
	err    error // it did not start, or was given up
}

// shell runs a script to its end, in a group of its own, without input, and shows
// its output line by line as it comes.
func (s *Session) shell(ctx context.Context, script string, timeout time.Duration, show func(line string)) ran {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, stop := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("did not end within %s", timeout))
	defer stop()
	cmd := exec.CommandContext(ctx, "sh", "-euc", script)
	cmd.Dir, cmd.Env = s.Work, append(os.Environ(), s.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	out := &lines{show: show, scrub: func(text string) string { return Scrub(text, s.Secrets...) }}
	cmd.Stdout, cmd.Stderr = out, out
	began := time.Now()
	err := cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // what is left of the group
	}
	out.end()
	r := ran{output: Scrub(out.kept.String(), s.Secrets...), code: -1, took: time.Since(began)}
	if cmd.ProcessState != nil {
		r.code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	switch cause := context.Cause(ctx); {
	case cause != nil:
		r.err = cause
	case err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay):
		r.err = err
	}
	return r
}

// lines shows whole lines, and keeps the end of all.
type lines struct {
	show  func(string)
	scrub func(string) string
	rest  []byte
	kept  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.kept.Write(p)
	if over := l.kept.Len() - Limit; over > 0 {
		l.kept.Next(over)
	}
	l.rest = append(l.rest, p...)
	for {
		at := bytes.IndexByte(l.rest, '\n')
		if at < 0 {
			if len(l.rest) > Limit {
				l.rest = l.rest[:0]
			}
			return len(p), nil
		}
		l.show(l.scrub(printable(string(l.rest[:at]))))
		l.rest = l.rest[at+1:]
	}
}

func (l *lines) end() {
	if len(l.rest) > 0 {
		l.show(l.scrub(printable(string(l.rest))))
	}
}

// printable keeps a command from steering the operator's terminal.
func printable(line string) string {
	if at := strings.LastIndexByte(strings.TrimRight(line, "\r"), '\r'); at >= 0 {
		line = line[at+1:] // a progress bar: its last state
	}
	return report.Visible(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, line))
}

// met says which expectation does not hold; "" if all do.
func (s Step) met(r ran, values map[string]string) string {
	expect := slices.Clone(s.Expect)
	for i := range expect {
		expect[i].Text = Fill(expect[i].Text, values, false)
	}
	if !slices.ContainsFunc(expect, func(e Expectation) bool { return e.Kind == "exit" }) {
		expect = append([]Expectation{{Kind: "exit", Text: "0"}}, expect...)
	}
	for _, e := range expect {
		switch {
		case e.Kind == "exit" && e.Text != "any" && !slices.Contains(strings.Split(e.Text, ","), strconv.Itoa(r.code)):
			return fmt.Sprintf("expected exit code %s, got %d", e.Text, r.code)
		case e.Kind == "output" && !strings.Contains(r.output, e.Text):
			return fmt.Sprintf("expected %q in the output", e.Text)
		case e.Kind == "not" && strings.Contains(r.output, e.Text):
			return fmt.Sprintf("%q is in the output", e.Text)
		}
	}
	return ""
}

// Missing is what a step needs and this machine has not.
func Missing(needs []string) (missing []string) {
	for _, need := range needs {
		var there bool
		switch need {
		case "root":
			there = os.Getuid() == 0
		case "systemd":
			_, err := os.Stat("/run/systemd/system")
			there = err == nil
		default:
			_, err := exec.LookPath(need)
			there = err == nil
		}
		if !there {
			missing = append(missing, need)
		}
	}
	return missing
}

// HasProgram reports whether this machine has a program.
func HasProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// Answers runs a precheck on a quiet day. That it says no is an answer; that it
// cannot be asked is an error.
func (s *Session) Answers(ctx context.Context, command string) error {
	got := s.shell(ctx, command, 2*time.Minute, func(string) {})
	switch {
	case got.err != nil:
		return got.err
	case got.code == 126 || got.code == 127 || got.code == 64:
		return fmt.Errorf("exit code %d: %s", got.code, strings.TrimSpace(tail(got.output, 200)))
	}
	return nil
}
