package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"emsafe/internal/command"
	"emsafe/internal/fault"
	"emsafe/storage/sqlite"
)

// applies reports whether assertions are asked of this restore: they are about
// the database as it is, not as it was.
func (a *attempt) applies() bool { return a.first && a.x.Why == Latest }

// queries asks the assertions in SQL.
func (a *attempt) queries(ctx context.Context, q *sqlite.Inquiry) {
	if !a.applies() {
		return
	}
	for _, c := range a.Checks {
		if c.SQL == "" {
			continue
		}
		kind := "sql"
		if c.NewerThan > 0 {
			kind = "fresh"
		}
		a.check(ctx, c.Name, kind, func(ctx context.Context) finding {
			value, _, ok, err := ask(ctx, q, c.SQL, c.timeout())
			if q.Lacks(ctx, err) {
				a.private("check " + c.Name + ": " + err.Error())
				return finding{untested: "check " + c.Name + ": it needs a collation, function or module that only the application has"}
			}
			if err != nil {
				a.private("check " + c.Name + ": " + err.Error())
				return finding{verdict: Fail, reason: ReasonSQL, expected: c.expected(), got: wrongAnswer(err), err: fmt.Errorf("check %s: %w", c.Name, err)}
			}
			return c.compare(value, ok, a.report.Started)
		})
	}
}

// expected says what an assertion in SQL wants.
func (c Assertion) expected() string {
	switch {
	case c.NewerThan > 0:
		return "a time not more than " + c.NewerThan.String() + " before the drill"
	case c.Min != "" && c.Max != "":
		return "from " + c.Min + " to " + c.Max
	case c.Min != "":
		return "at least " + c.Min
	case c.Max != "":
		return "at most " + c.Max
	case c.Expect != "":
		return c.Expect
	}
	return "a row"
}

// compare holds a value against what is expected.
func (c Assertion) compare(value string, ok bool, started time.Time) finding {
	f := finding{verdict: Pass, reason: ReasonSQL, expected: c.expected(), got: clip(value)}
	bad := func(got string) finding {
		f.verdict, f.got = Fail, got
		return f
	}
	switch {
	case !ok:
		return bad("no row, or NULL")
	case c.NewerThan > 0:
		at, err := parseMoment(value)
		if err != nil {
			return bad(err.Error())
		}
		if age := started.Sub(at); age > c.NewerThan {
			f.reason = ReasonStale
			return bad(at.UTC().Format(time.RFC3339) + ", " + age.Round(time.Second).String() + " before the drill")
		}
	case c.Min != "" || c.Max != "":
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return bad(clip(value) + ", which is no number")
		}
		low, lerr := strconv.ParseFloat(c.Min, 64)
		high, herr := strconv.ParseFloat(c.Max, 64)
		if lerr == nil && !(n >= low) || herr == nil && !(n <= high) {
			return bad(f.got)
		}
	case c.Expect != "" && value != c.Expect:
		return bad(f.got)
	}
	return f
}

// clip makes a value short enough for a report, and one line.
func clip(s string) string {
	const most = 100
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// parseMoment reads a time as databases hold it: seconds, milliseconds or
// microseconds since 1970, or a date and time, in UTC if it has no zone.
func parseMoment(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		for f > 1e11 { // seconds come so far in the year 5138
			f /= 1000
		}
		return time.UnixMicro(int64(f * 1e6)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02T15:04:05.999999999",
		"2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q, which is no time", clip(s))
}

// programs runs the commands and services. What one does to the restored file
// the next one sees; nothing else looks at it any more.
func (a *attempt) programs(ctx context.Context) {
	if !a.applies() {
		return
	}
	given := false
	for _, c := range a.Checks {
		if len(c.Command) == 0 && len(c.Service) == 0 {
			continue
		}
		if !given {
			if err := a.give(); err != nil {
				a.because(Inconclusive, ReasonSurroundings, err)
				return
			}
			given = true
		}
		kind, do := "command", a.command
		if len(c.Service) > 0 {
			kind, do, a.service = "service", a.serve, true
		}
		a.check(ctx, c.Name, kind, func(ctx context.Context) finding { return do(ctx, c) })
	}
}

// give hands the file to the user as whom programs run.
func (a *attempt) give() error {
	if a.As == nil && os.Getuid() == 0 {
		return errors.New("as root, checks are run as another user, and there is none: set drill_user")
	}
	return giveTo(a.As, a.dir, a.path)
}

// LookUp finds a user by name to run checks as.
func LookUp(name string) (*command.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &command.User{UID: uint32(uid), GID: uint32(gid)}, nil
}

// options are those of a program of a check: it sees the restored file and
// nothing of this process's environment.
func (a *attempt) options(port string) command.Options {
	env := []string{"EMSAFE_DATABASE=" + a.path, "HOME=" + a.dir, "TMPDIR=" + a.dir}
	if port != "" {
		env = append(env, "EMSAFE_PORT="+port)
	}
	return command.Options{Env: env, Dir: a.dir, Bare: true, As: a.As}
}

func (a *attempt) words(argv []string, port string) []string {
	out := make([]string, len(argv))
	for i, w := range argv {
		out[i] = strings.NewReplacer("{database}", a.path, "{port}", port).Replace(w)
	}
	return out
}

func (a *attempt) command(ctx context.Context, c Assertion) finding {
	f := finding{verdict: Pass, reason: ReasonCommand, expected: "exit code 0", got: "exit code 0"}
	if c.Expect != "" {
		f.expected = c.Expect
	}
	opts := a.options("")
	opts.Timeout = c.timeout()
	out, err := command.Run(ctx, a.words(c.Command, ""), opts)
	switch {
	case notStarted(err):
		f.verdict, f.reason, f.got, f.err = Inconclusive, ReasonSurroundings, brief(err), a.cannotStart(err)
	case err != nil:
		f.verdict, f.got, f.err = Fail, brief(err), err
	case c.Expect != "":
		if f.got = clip(string(out)); strings.TrimSpace(string(out)) != c.Expect {
			f.verdict = Fail
		}
	}
	return f
}

// brief is how a program failed without what it said, which may be anything.
func brief(err error) string {
	var e *command.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return told(err)
}

// notStarted tells a program that is not there from one that said no.
func notStarted(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || command.NotFound(err)
}

// cannotStart says what an operator needs to know of a program that could not
// be started.
func (a *attempt) cannotStart(err error) error {
	if a.As == nil {
		return err
	}
	return fault.New(fault.Permission, "%w (it was started as user %d, in %s)", err, a.As.UID, a.dir).
		WithRemedy("That user must be able to run the program, and to enter the scratch folder: set drill_user, drill_scratch or the program's mode.")
}

// freePort asks the system for a port that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
