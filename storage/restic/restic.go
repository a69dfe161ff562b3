// Package restic keeps trees of files in a restic repository, by running
// restic. [Find] says whether there is a restic that is new enough; a
// [Repository] then does what its methods say, with the traps of restic's
// versions behind it: what one version passes over in silence is an error with
// all, exit codes and output are read as the version has them, and every error
// that an operator must act on carries an internal/fault kind.
//
// Secrets reach restic through its environment alone. It runs in a process
// group of its own; when the context ends it is asked to stop, and so removes
// its lock, before it is killed.
package restic

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"emsafe/internal/fault"
)

const (
	program = "restic"
	// Minimum is the oldest version that is known to work.
	Minimum = "0.14.0"

	brief   = 2 * time.Minute  // for commands that only look something up
	closing = 20 * time.Second // that restic gets to remove its lock
	said    = 4 << 10          // bytes of what it said that are kept
	longest = 8 << 20          // of one line of its output
)

// Version is restic's.
type Version struct{ Major, Minor, Patch int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Less reports whether v is older than a version.
func (v Version) Less(major, minor int) bool {
	return v.Major < major || v.Major == major && v.Minor < minor
}

var versionForm = regexp.MustCompile(`\brestic v?(\d+)\.(\d+)(?:\.(\d+))?`)

// Find asks the restic of this machine what it is. Name is a program's name or
// path; "" is restic. The error is a fault.NoRestic if there is none, or none
// that is new enough.
func Find(ctx context.Context, name string) (Version, error) {
	if name == "" {
		name = program
	}
	ctx, stop := context.WithTimeout(ctx, brief)
	defer stop()
	out, err := exec.CommandContext(ctx, name, "version").Output()
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return Version{}, fault.New(fault.NoRestic, "files are kept by restic, and there is no %s on this machine", name)
	case err != nil && ctx.Err() != nil:
		return Version{}, ctx.Err()
	case err != nil:
		return Version{}, fault.New(fault.NoRestic, "%s does not run: %w", name, err)
	}
	m := versionForm.FindSubmatch(out)
	if m == nil {
		return Version{}, fault.New(fault.NoRestic, "%s does not say its version as restic does: %.80q", name, out)
	}
	number := func(b []byte) int { n, _ := strconv.Atoi(string(b)); return n }
	v := Version{number(m[1]), number(m[2]), number(m[3])}
	if v.Less(0, 14) {
		return v, fault.New(fault.NoRestic, "restic %s is too old: %s is the oldest that works", v, Minimum)
	}
	return v, nil
}

// Repository is one restic repository. Its methods may be used by several
// goroutines; restic's own locks keep apart what must be.
type Repository struct {
	Program  string // "": restic
	Location string // a folder, or s3:https://server/bucket/prefix
	Password string
	Env      []string // NAME=value: credentials
	CAFile   string   // PEM; "": the system's
	Lookup   string   // how an S3 server is addressed: path, dns, or "" for restic's own way
	Cache    string   // folder of restic's cache; "": none
	Zone     string   // IANA name, for the days of a policy; "": this process's
	Limit    int64    // bytes per second sent; 0: none

	// Unlock removes a lock of the repository by its id; nil: none is removed.
	Unlock func(ctx context.Context, id string) error
}

// replaced are the variables that say which repository and password: emsafe's
// own count. All others of restic's pass through.
var replaced = []string{
	"RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND",
}

func (r *Repository) environment() []string {
	own := append([]string{"RESTIC_REPOSITORY=" + r.Location, "RESTIC_PASSWORD=" + r.Password}, r.Env...)
	if r.Zone != "" {
		own = append(own, "TZ="+r.Zone)
	}
	if _, set := os.LookupEnv("RESTIC_PROGRESS_FPS"); !set {
		own = append(own, "RESTIC_PROGRESS_FPS=2")
	}
	hidden := slices.Clone(replaced)
	for _, pair := range own {
		name, _, _ := strings.Cut(pair, "=")
		hidden = append(hidden, name)
	}
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(hidden, name)
	})
	return append(env, own...)
}

func (r *Repository) arguments(args []string) []string {
	var all []string
	switch _, set := os.LookupEnv("RESTIC_CACHE_DIR"); {
	case r.Cache != "":
		all = append(all, "--cache-dir", r.Cache)
	case !set:
		all = append(all, "--no-cache")
	}
	if r.Limit > 0 {
		all = append(all, "--limit-upload", strconv.FormatInt(max(1, r.Limit>>10), 10))
	}
	if r.CAFile != "" {
		all = append(all, "--cacert", r.CAFile)
	}
	if r.Lookup != "" {
		all = append(all, "-o", "s3.bucket-lookup="+r.Lookup)
	}
	return append(all, args...)
}

// run runs restic and hands each line of its output to line, which may be nil.
// The error is *failed if restic ended with another code than 0.
func (r *Repository) run(ctx context.Context, line func([]byte) error, args ...string) error {
	name := r.Program
	if name == "" {
		name = program
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, name, r.arguments(args)...)
	cmd.Env = r.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = closing
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fault.New(fault.NoRestic, "%s does not start: %w", name, err)
	}
	f := &failed{command: args[0]}
	var reading sync.WaitGroup
	reading.Go(func() { f.heard = f.hear(stderr) })
	reading.Go(func() {
		if err := eachLine(stdout, line); err != nil {
			cancel(err)
		}
		io.Copy(io.Discard, stdout) //nolint:errcheck // so that restic does not block
	})
	reading.Wait()
	err = cmd.Wait()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // what it started, if anything is left
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("restic %s: %w", args[0], cause)
	}
	if err == nil {
		return nil
	}
	f.code = cmd.ProcessState.ExitCode()
	return f
}

// look is run for a command that must end soon: newer versions try for minutes
// where nothing can come of it.
func (r *Repository) look(ctx context.Context, line func([]byte) error, args ...string) error {
	slow := fault.New(fault.Storage, "%s did not answer restic within %s", r.Location, brief)
	ctx, stop := context.WithTimeoutCause(ctx, brief, slow)
	defer stop()
	return r.run(ctx, line, args...)
}

func eachLine(from io.Reader, line func([]byte) error) error {
	if line == nil {
		return nil
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, longest)
	for lines.Scan() {
		if err := line(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// failed is what is left of a restic that ended with a code.
type failed struct {
	command string
	code    int
	heard   string   // the end of what it said
	items   []string // files that it could not read
}

// hear reads what restic complains of: lines, some of them JSON.
func (f *failed) hear(from io.Reader) string {
	var text bytes.Buffer
	_ = eachLine(from, func(line []byte) error {
		var m message
		if json.Unmarshal(line, &m) == nil && m.Type != "" {
			if m.Type == "error" {
				f.items = append(f.items, m.complaint())
				return nil
			}
			if m.Message == "" {
				return nil
			}
			line = []byte(m.Message)
		}
		text.Write(bytes.TrimSpace(line))
		text.WriteByte('\n')
		if over := text.Len() - said; over > 0 {
			text.Next(over)
		}
		return nil
	})
	io.Copy(io.Discard, from) //nolint:errcheck // so that restic does not block
	return strings.TrimSpace(text.String())
}

func (f *failed) Error() string {
	return fmt.Sprintf("restic %s ended with code %d: %s", f.command, f.code, f.text())
}

// text is what restic said, in one line: how it began, and how it ended.
func (f *failed) text() string {
	var lines []string
	for _, line := range append(slices.Clone(f.items), strings.Split(f.heard, "\n")...) {
		if line = strings.TrimPrefix(strings.Join(strings.Fields(line), " "), "Fatal: "); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "it said nothing"
	}
	if last := len(lines) - 1; last > 4 {
		lines = append(lines[:3:3], fmt.Sprintf("and %d lines more", last-3), lines[last])
	}
	return strings.Join(lines, "; ")
}

func (f *failed) says(words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(f.heard, w) })
}

// Exit codes that newer versions have; older ones say it in words.
const (
	codePartial      = 3
	codeNoRepository = 10
	codeLocked       = 11
	codePassword     = 12
)

func (f *failed) locked() bool {
	return f.code == codeLocked || f.says("repository is already locked", "unable to create lock")
}

// explain gives an error of restic's its kind.
func (r *Repository) explain(err error) error {
	var f *failed
	if !errors.As(err, &f) {
		return err
	}
	switch {
	case f.code == codePassword, f.says("wrong password or no key found"):
		return fault.New(fault.WrongKey, "the password does not open the restic repository %s", r.Location).
			WithRemedy("It is another one than the repository was made with: put back the right one, or fetch it from the target with `emsafe files password`.")
	case f.locked():
		return fault.New(fault.Locked, "the restic repository %s is locked: %s", r.Location, f.text())
	case f.code == codeNoRepository, f.says("Is there a repository at the following location?"):
		return fault.New(fault.NotFound, "there is no restic repository at %s", r.Location).WithRemedy("The first `emsafe files backup` makes one.")
	case f.says("no matching ID found", "invalid id", "no snapshot found"):
		return fault.New(fault.NotFound, "there is no such snapshot in %s: %s", r.Location, f.text()).WithRemedy("`emsafe files list` shows them.")
	case f.says("no space left on device", "507 "):
		return fault.New(fault.NoSpace, "restic %s: %s", f.command, f.text())
	case f.says("Access Denied", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"):
		return fault.New(fault.Credentials, "%s refuses restic %s: %s", r.Location, f.command, f.text())
	case f.says("permission denied"):
		return fault.New(fault.Permission, "restic %s: %s", f.command, f.text())
	}
	return fault.New(fault.Restic, "%w", f)
}
