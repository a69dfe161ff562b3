package runbook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"emsafe/docs"
	"emsafe/internal/fault"
)

const head = "---\nid: test\ntitle: A test\nwhen: Always\nseverity: low\ntime: 1 minute\nroles: operator, witness\n"

func parse(t *testing.T, text string) *Runbook {
	t.Helper()
	r, problems := Parse("test.md", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return r
}

func TestParse(t *testing.T) {
	t.Parallel()
	r := parse(t, head+"before:\n  - It is so: `true`\n  - You looked\nask:\n  - who: Whom? [nobody]\n---\nIntro.\n\n## One\n\nText.\n\n```sh\nls {{who}}\n```\n- expect: exit 0,2\n- expect: output \"x y\"\n- expect: not never\n- check: `true`\n- undo: `rm x`\n- confirm: Sure?\n- needs: ls, root\n- timeout: 5m\n\nAnd after.\n\n## Two\n\nBy hand:\n\n```yaml\na: b\n```\n")
	want := &Runbook{
		ID: "test", Title: "A test", When: "Always", Severity: "low", Time: "1 minute", Roles: []string{"operator", "witness"}, Intro: "Intro.", File: "test.md",
		Before: []Precheck{{"It is so", "true", 9}, {"You looked", "", 10}}, Ask: []Question{{"who", "Whom?", "nobody", 12}},
		Steps: []Step{
			{
				Title: "One", Text: "Text.\n\n\nAnd after.", Command: "ls {{who}}\n", Expect: []Expectation{{"exit", "0,2"}, {"output", "x y"}, {"not", "never"}}, Check: "true", Undo: "rm x",
				Confirm: "Sure?", Needs: []string{"ls", "root"}, Timeout: 5 * time.Minute, Line: 16,
			},
			{Title: "Two", Text: "By hand:\n\n```yaml\na: b\n```", Line: 34},
		},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
}

// TestParseRefuses shows what each fault is told as, with its line.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	step := "## One\n\n```sh\ntrue\n```\n"
	for _, c := range []struct{ text, want string }{
		{"", "1: a runbook begins with a header"},
		{head + "---\n", "1: there is no step"},
		{head + step, "1: the header does not end"},
		{"---\nid: test\n---\n" + step, "1: the header has no title"},
		{strings.Replace(head, "id: test", "id: Test One", 1) + "---\n" + step, `2: the id "Test One"`},
		{strings.Replace(head, "low", "awful", 1) + "---\n" + step, "5: the severity is one of"},
		{head + "colour: red\n---\n" + step, `8: the header knows no "colour"`},
		{head + "title: again\n---\n" + step, "8: title stands there twice"},
		{head + "ask:\n  - Who: x\n---\n" + step, "9: a question is written as"},
		{head + "---\n" + step + "- expect: success\n", "14: expect is"},
		{head + "---\n" + step + "- check: true\n", "14: check is a command"},
		{head + "---\n" + step + "- safe: maybe\n", "14: safe is yes or no"},
		{head + "---\n" + step + "- timeout: soon\n", "14: timeout is a time"},
		{head + "---\n" + step + "- expects: exit 0\n", `14: a step knows no "expects"`},
		{head + "---\n" + step + "\n```sh\ntrue\n```\n", "15: a step has one block"},
		{head + "---\n```sh\ntrue\n```\n" + step, "9: a block of commands belongs into a step"},
		{head + "---\n## One\n```sh\ntrue\n", "10: the block does not end"},
	} {
		_, problems := Parse("f", []byte(c.text))
		if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.Error(), "f:"+c.want) }) {
			t.Errorf("%q\n%v, want %s", c.text, problems, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "---\n## One\n```sh\nls | grep 'x' $(date)\n```\n- expect: exit 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, _ := Parse("f", text)
		Lint(r, Known{Program: func(string) bool { return true }})
		for _, s := range r.Steps {
			Fill(s.Command, map[string]string{"a": "b"}, true)
		}
	})
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"ls -l": "ls", "a | b && c || d; e &\nf": "a b c d e f", "# no\nls # yes": "ls", "X=1 Y=$(date -u) run 'a | b'": "date run", "if test -e x; then ls; else rm y; fi": "ls rm",
		"for f in a b; do cat \"$f\"; done": "cat", "! systemctl is-active x": "systemctl", "sudo -n nft list": "nft", "echo '; rm x' > out 2>&1": "",
		"cat > f <<'END'\nnot; this\nEND\nls": "cat ls", "(a; b) 2>/dev/null": "a b", "{{tool}} x": "", "ls \"$(wc -c < {{file}})\"": "wc ls", "a \\\n  b": "a",
	} {
		var got []string
		for _, argv := range Programs(script) {
			got = append(got, argv[0])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", script, got, want)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	known := Known{
		Variables: []string{"database"}, Program: func(name string) bool { return name == "ls" },
		Emsafe: func(args []string) error {
			if args[0] != "status" {
				return errors.New("no such command")
			}
			return nil
		},
		Books: func(string) bool { return false },
	}
	step := func(command, list string) string {
		return head + "---\n## One\nText.\n```sh\n" + command + "\n```\n" + list
	}
	for _, c := range []struct{ text, want string }{
		{step("ls {{database}}", "- expect: exit 0\n"), ""},
		{step("ls {{databse}}", "- expect: exit 0\n"), "unknown variable {{databse}}"},
		{step("lsof", "- expect: exit 0\n"), "no command lsof"},
		{step("lsof", "- expect: exit 0\n- needs: lsof\n"), ""},
		{step("lsof || true", "- expect: exit 0\n- may: lsof\n"), ""},
		{step("ls", ""), "expects nothing"},
		{step("ls", "- check: `lsof`\n"), "no command lsof"},
		{step("ls", "- expect: output {{gone}}\n"), "unknown variable {{gone}}"},
		{step("emsafe status", "- expect: exit 0\n"), ""},
		{step("emsafe statsu", "- expect: exit 0\n"), "emsafe statsu: no such command"},
		{step("ls", "- expect: exit 0\n- safe: yes\n- confirm: really\n"), "is safe, and has something to confirm"},
		{head + "---\n## One\n", "says nothing"},
		{head + "extends: nothing\n---\n## One\nx\n", "there is no such runbook"},
		{head + "before:\n  - x: `lsof {{x}}`\n---\n## One\nx\n", "unknown variable {{x}}"},
	} {
		problems := Lint(parse(t, c.text), known)
		if (c.want == "") != (len(problems) == 0) || c.want != "" && !strings.Contains(problems[0].Error(), c.want) {
			t.Errorf("%q\n%v, want %q", c.text, problems, c.want)
		}
	}
}

// TestBuiltIn: what comes with emsafe is in order as far as it can be told
// without a machine.
func TestBuiltIn(t *testing.T) {
	t.Parallel()
	files, err := docs.Runbooks.ReadDir("runbooks")
	if err != nil || len(files) < 19 {
		t.Fatal(len(files), err)
	}
	for _, f := range files {
		text, _ := docs.Runbooks.ReadFile("runbooks/" + f.Name())
		r, problems := Parse(f.Name(), text)
		if len(problems) > 0 || r.ID+".md" != f.Name() {
			t.Errorf("%s: %s %v", f.Name(), r.ID, problems)
		}
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"AGE-SECRET-KEY-1QQQQQQQQQQQQ", "AGE-SECRET-KEY-PQ-1QQQQQQQQQ", "AKIAIOSFODNN7EXAMPLE", "password: S3CR3T", "PASSWORD=S3CR3T", `"api_key": "S3CR3T"`, "Authorization: Bearer S3CR3T",
		"postgres://user:S3CR3T@host/db", "known-value-1", "-----BEGIN OPENSSH PRIVATE KEY-----\nS3CR3T\n-----END OPENSSH PRIVATE KEY-----", "aws_secret_access_key = S3CR3T", "Cookie: S3CR3T",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.S3CR3Tsignature", "$2b$12$S3CR3TS3CR3TS3CR3TS3CR3TS3CR3T",
	} {
		got := Scrub("before "+text+" after", "known-value-1")
		if strings.Contains(got, "S3CR3T") || strings.Contains(got, "QQQ") || strings.Contains(got, "IOSFOD") || strings.Contains(got, "known-value") || !strings.Contains(got, Scrubbed) || !strings.HasPrefix(got, "before ") {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, text := range []string{"tokens are counted", "the password is kept in a file", "SHA256:abcdef", "age1qqqqqqqq is a recipient"} {
		if got := Scrub(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// session makes one whose answers are written down.
func session(t *testing.T, text, answers string) (*Session, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	store := Store{t.TempDir()}
	r := &Record{Format: Format, ID: "run1", Runbook: "test", Started: time.Unix(1e9, 0), Variables: map[string]string{}, Outcome: Running}
	if err := store.Save(r); err != nil {
		t.Fatal(err)
	}
	return &Session{Book: parse(t, text), Record: r, Store: store, Operator: "ann", Work: store.Path("run1", "work"), In: strings.NewReader(answers), Out: &out}, &out
}

const two = head + "ask:\n  - name: A name\n---\n## One\n\n```sh\necho hello {{name}}; touch one\n```\n- expect: output hello\n\n## Two\n\nDo it.\n\n## Three\n\n```sh\ntest -e one && echo done\n```\n- check: `test -e one`\n- safe: yes\n"

func TestRun(t *testing.T) {
	t.Parallel()
	s, out := session(t, two, "it's $(me)\nr\nn password=hunter2 was tried\nd\nr\n")
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err, out)
	}
	if done, skipped, failed := s.Record.Counts(); done != 3 || skipped+failed > 0 || s.Record.Outcome != Completed {
		t.Errorf("%d %d %d %s\n%s", done, skipped, failed, s.Record.Outcome, out)
	}
	if got := s.Record.Steps[0].Output; got != "hello it's $(me)\n" {
		t.Errorf("%q", got)
	}
	markdown := s.Record.Markdown()
	var page bytes.Buffer
	if err := s.Record.WriteHTML(&page); err != nil || strings.Contains(page.String(), "hunter2") || strings.Contains(markdown, "hunter2") || !strings.Contains(markdown, "was tried") {
		t.Error(err, markdown)
	}
}

// A value that could be more than a word is not put between quotes.
func TestQuoted(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`a {{x}} 'b'{{y}}"c"`: "", `a "{{x}}"`: "x", `a '{{x}} {{y}}'`: "x y", `a "$(b {{x}})" {{y}}`: "", `a "$(b "{{x}}")"`: "x", `a "$(b 'c' {{x}} '{{y}}')"`: "y",
		"a # it's\nb {{x}}": "", `a \' {{x}}`: "", `a "\"{{x}}"`: "x", `a '\' {{x}}`: "", `(a 'b'; c {{x}})`: "", `a '{{x`: "", `a "#{{x}}"`: "x",
	} {
		if got := strings.Join(Quoted(script), " "); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	if got := Fill("{{a}} {{b}}", map[string]string{"a": "{{b}}", "b": "'; x"}, true); got != `'{{b}}' ''\''; x'` {
		t.Error(got)
	}
	const book = "---\nid: q\ntitle: Q\nwhen: x\nseverity: low\ntime: 1 minute\nroles: x\nask:\n  - who: Who?\n---\n\n## Say it\n\n```sh\necho \"it is {{who}}\"\n```\n- expect: exit 0\n"
	s, out := session(t, book, "$(touch pwned)\nAnn\nr\n")
	if err := s.Run(t.Context()); err != nil || !strings.Contains(out.String(), "Only letters") || !strings.Contains(s.Record.Steps[0].Output, "it is Ann") {
		t.Error(err, out)
	}
	s, out = session(t, book, "r\n")
	s.Values = map[string]string{"who": "$(touch pwned)"}
	if err := s.Run(t.Context()); !errors.Is(err, fault.Usage) || len(s.Record.Steps) > 0 {
		t.Error(err, out)
	}
	if _, err := os.Stat(filepath.Join(s.Work, "pwned")); err == nil {
		t.Error("it was run")
	}
}

// TestStopAndResume: what was done is not done again, and a step that was cut
// off is told.
func TestStopAndResume(t *testing.T) {
	t.Parallel()
	s, _ := session(t, two, "x\nr\nq\n")
	err := s.Run(t.Context())
	if !errors.Is(err, fault.Interrupted) || s.Record.Outcome != Stopped {
		t.Fatal(err, s.Record.Outcome)
	}
	again, err := s.Store.Find("run", nil)
	if err != nil || again.Steps[0].State != OK {
		t.Fatal(again, err)
	}
	if done, skipped, failed := again.Counts(); len(again.Steps) != 2 || again.Steps[1].State != Shown || done != 1 || skipped+failed != 0 {
		t.Error("a step that was only shown is counted:", again.Steps)
	}
	again.Steps = append(again.Steps[:1], Done{Title: "Two", State: OK}, Done{Title: "Three", State: Begun})
	var out bytes.Buffer
	next := &Session{Book: s.Book, Record: again, Store: s.Store, Operator: "bob", Work: s.Work, In: strings.NewReader("r\n"), Out: &out, Values: map[string]string{"name": "x"}}
	if err := next.Run(t.Context()); err != nil || !strings.Contains(out.String(), "was cut off") || strings.Contains(out.String(), "hello") || again.Steps[2].Operator != "bob" {
		t.Error(err, out.String())
	}
}

// TestConsent: nothing runs that nobody agreed to.
func TestConsent(t *testing.T) {
	t.Parallel()
	text := head + "---\n## One\n```sh\ntouch ran\n```\n- expect: exit 0\n- confirm: It is touched.\n"
	for answers, runs := range map[string]bool{"": false, "q\n": false, "s\nno need\n": false, "r\nno\nq\n": false, "r\nYES\nq\n": false, "r\nyes\n": true, "x\ny\nr\nyes\n": true} {
		for _, yes := range []bool{false, true} {
			s, out := session(t, text, answers)
			s.Yes = yes
			s.Run(t.Context()) //nolint:errcheck // most are stopped
			if _, err := os.Stat(filepath.Join(s.Work, "ran")); (err == nil) != runs {
				t.Errorf("%q: ran %v\n%s", answers, err == nil, out)
			}
		}
	}
	s, out := session(t, strings.Replace(text, "- confirm: It is touched.", "- safe: yes", 1), "")
	if s.Yes = true; s.Run(t.Context()) != nil {
		t.Error("a safe step wants more than --yes:", out)
	}
	s, out = session(t, text, "")
	if s.DryRun = true; s.Run(t.Context()) != nil || !strings.Contains(out.String(), "touch ran") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(s.Work, "ran")); err == nil {
		t.Error("a dry run ran something")
	}
}

// TestNotAsExpected: what goes wrong is told, can be tried again, undone, or gone
// on with for a reason.
func TestNotAsExpected(t *testing.T) {
	t.Parallel()
	text := head + "---\n## One\n```sh\necho x >> tries; test $(wc -l < tries) -ge 2\n```\n- expect: exit 0\n- undo: `rm tries`\n\n## Two\n```sh\necho bad\n```\n- expect: not bad\n"
	s, out := session(t, text, "r\nu\na\nr\na\nr\nr\ng\nit is known\n")
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err, out)
	}
	one, twoth := s.Record.Steps[0], s.Record.Steps[1]
	if one.State != OK || one.Attempts != 3 || !one.Undone || twoth.State != Failed || !strings.Contains(twoth.Reason, "it is known") || s.Record.Outcome != Partly {
		t.Errorf("%+v\n%+v\n%s", one, twoth, out)
	}
}

// TestBounds: output that never ends is kept by its end, a command that never
// ends is given up, with what it started.
func TestBounds(t *testing.T) {
	t.Parallel()
	text := head + "---\n## One\n```sh\nyes 0123456789 | head -c 3000000; printf '\\033[31mlast'\n```\n- expect: output last\n\n## Two\n```sh\n(sleep 1000 & echo $! > pid; wait)\n```\n- expect: exit 0\n- timeout: 1s\n"
	s, out := session(t, text, "r\nr\ng\nhung\n")
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Record.Steps[0].Output); n > Limit || !strings.Contains(out.String(), "[31mlast") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d bytes", n)
	}
	if !strings.Contains(s.Record.Steps[1].Reason, "did not end within 1s") {
		t.Errorf("%+v", s.Record.Steps[1])
	}
	pid, _ := os.ReadFile(filepath.Join(s.Work, "pid"))
	state, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", strings.TrimSpace(string(pid))))
	if err == nil && !strings.Contains(string(state), ") Z ") {
		t.Errorf("what it started lives on: %s", state)
	}
}

// TestNeeds: what this machine has not is left out, and said.
func TestNeeds(t *testing.T) {
	t.Parallel()
	s, out := session(t, head+"---\n## One\n```sh\nno-such-tool {{unknown}}\n```\n- expect: exit 0\n- needs: no-such-tool\n\n## Two\n```sh\ntrue\n```\n- expect: exit 0\n", "r\n")
	if err := s.Run(t.Context()); err != nil || s.Record.Steps[0].State != Skipped || !strings.Contains(s.Record.Steps[0].Reason, "no-such-tool") {
		t.Error(err, out)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	s, _ := session(t, head+"---\n## One\n```sh\nsleep 1000\n```\n- expect: exit 0\n", "r\n")
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, stop)
	if err := s.Run(ctx); !errors.Is(err, fault.Interrupted) || s.Record.Outcome != Stopped {
		t.Error(err, s.Record.Outcome)
	}
}

func TestIncident(t *testing.T) {
	t.Parallel()
	store := Incidents{t.TempDir()}
	at := func(minute int) time.Time { return time.Unix(1e9, 0).Add(time.Duration(minute) * time.Minute) }
	i := &Incident{ID: "i1", Title: "a | b", Started: at(0), By: "ann", Notes: []Note{{At: at(3), By: "bob", Text: "looked"}}}
	if err := store.Save(i); err != nil {
		t.Fatal(err)
	}
	if open, err := store.Open(); err != nil || open == nil || open.ID != "i1" {
		t.Fatal(open, err)
	}
	i.Ended, i.EndedBy = at(10), "ann"
	records := []*Record{{ID: "r", Runbook: "x", Incident: "i1", Started: at(1), Ended: at(5), Outcome: Completed, Steps: []Done{{Title: "S", Command: "ls", State: OK, Ended: at(2)}}}, {ID: "other", Started: at(1)}}
	text := i.Skeleton(i.Timeline(records, []Moment{{at(4), "root", "restore app"}, {at(20), "root", "later"}}), []string{"app is fine"})
	last := -1
	for _, want := range []string{"declared", "runbook x was begun", "x: S: done", "looked", "restore app", "runbook x ended", "was closed", "app is fine", "## Cause"} {
		if at := strings.Index(text, want); at < last || at < 0 {
			t.Errorf("%q is not in its place:\n%s", want, text)
		} else if want != "declared" {
			last = at
		}
	}
	if strings.Contains(text, "later") || strings.Contains(text, "| a | b |") {
		t.Error(text)
	}
}
