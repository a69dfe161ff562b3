package restic

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// fake is a restic that says and does what a version does: 0.19, which Debian
// has not.
func fake(t *testing.T, script string) *Repository {
	t.Helper()
	file := filepath.Join(t.TempDir(), "restic")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Repository{Program: file, Location: "s3:https://s3.example.com/b", Password: "p"}
}

// TestNewVersion is what 0.19 prints and how it ends, as its documents have it.
func TestNewVersion(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	for _, c := range []struct {
		name, script string
		kind         *fault.Kind
		says         string
	}{
		{"summary", `echo '{"message_type":"status","percent_done":1,"total_files":1}'
echo '{"message_type":"summary","files_new":1,"total_files_processed":1,"total_bytes_processed":3,"snapshot_id":"` + strings.Repeat("ab", 32) + `"}'`, nil, ""},
		{"partial", `echo '{"message_type":"error","error":{"message":"open /x: permission denied"},"during":"archival","item":"/x"}' >&2
echo '{"message_type":"summary","total_files_processed":1,"snapshot_id":"abcdef01"}'
echo '{"message_type":"exit_error","code":3,"message":"Warning: at least one source file could not be read"}' >&2; exit 3`, fault.Partial, "/x: open /x: permission denied"},
		{"no repository", `echo '{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist"}' >&2; exit 10`, fault.NotFound, "no restic repository"},
		{"locked", `[ "$2" = backup ] || exit 0; echo '{"message_type":"exit_error","code":11,"message":"unable to create lock in backend"}' >&2; exit 11`, fault.Locked, ""},
		{"password", `echo '{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}' >&2; exit 12`, fault.WrongKey, "password"},
		{"unknown", `echo 'out of cheese' >&2; exit 42`, fault.Restic, "out of cheese"},
		{"full", `echo 'Fatal: unable to save: write /r/tmp: no space left on device' >&2; exit 1`, fault.NoSpace, "no space"},
		{"silent", `exit 0`, fault.Other, "named no snapshot"},
	} {
		r := fake(t, c.script)
		out, err := r.Backup(t.Context(), Source{Paths: []string{files}, Host: "web"}, nil)
		switch {
		case c.kind == nil:
			if err != nil || len(out.Snapshot) != 64 || out.Files != 1 {
				t.Errorf("%s: %+v %v", c.name, out, err)
			}
		case c.kind == fault.Other && (err == nil || fault.Exit(err) != 1), c.kind != fault.Other && !errors.Is(err, c.kind), !strings.Contains(fmt.Sprint(err), c.says):
			t.Errorf("%s: %v, want %s %q", c.name, err, c.kind.ID, c.says)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"restic 0.14.0 compiled with go1.19.8 on linux/amd64":         "0.14.0",
		"restic 0.19.1 compiled with go1.26 on linux/arm64":           "0.19.1",
		"restic 0.18.0-dev (compiled manually) compiled with go1.25.": "0.18.0",
		"restic 0.12.1 compiled with go1.16":                          "",
		"restful 1.0":                                                 "",
	} {
		v, err := Find(t.Context(), fake(t, "echo '"+said+"'").Program)
		if (want == "") != errors.Is(err, fault.NoRestic) || want != "" && v.String() != want {
			t.Errorf("%q: %s %v", said, v, err)
		}
	}
}

// TestEnvironment: restic's own variables pass through, but for those that say
// which repository it is.
func TestEnvironment(t *testing.T) {
	t.Setenv("RESTIC_REPOSITORY", "/elsewhere")
	t.Setenv("RESTIC_PASSWORD_COMMAND", "echo wrong")
	t.Setenv("RESTIC_COMPRESSION", "max")
	t.Setenv("AWS_ACCESS_KEY_ID", "of somebody else")
	r := fake(t, `env >&2; exit 1`)
	r.Env = []string{"AWS_ACCESS_KEY_ID=ours"}
	err := r.run(t.Context(), nil, "x")
	got := err.(*failed).heard //nolint:errorlint,forcetypeassert // it is
	for _, line := range []string{"RESTIC_REPOSITORY=s3:https://s3.example.com/b", "RESTIC_PASSWORD=p", "RESTIC_COMPRESSION=max", "AWS_ACCESS_KEY_ID=ours"} {
		if strings.Count(got, line) != 1 {
			t.Errorf("%q is not in %s", line, got)
		}
	}
	for _, line := range []string{"/elsewhere", "echo wrong", "somebody"} {
		if strings.Contains(got, line) {
			t.Errorf("%q is in it", line)
		}
	}
}

// What restic says about many files is said in a line that can be read.
func TestText(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 94 {
		fmt.Fprintln(&many, i)
	}
	for want, f := range map[string]failed{
		"it said nothing":                       {heard: " \n\n"},
		"no such file":                          {heard: "Fatal: no  such\tfile\n"},
		"a; b; c; d; e":                         {items: []string{"a", "b", "c"}, heard: "d\nFatal: e\n"},
		"a; b; c; and 95 lines more; it failed": {items: []string{"a", "b", "c"}, heard: strings.Repeat("x\nx\n", 2) + many.String() + "it failed\n"},
	} {
		if got := f.text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzForget(f *testing.F) {
	f.Add([]byte(`[{"keep":[{"id":"a"}],"remove":null}]` + "\n1 snapshots have been removed, running prune\nloading indexes...\n"))
	f.Add([]byte("null\n"))
	f.Add([]byte(""))
	f.Add([]byte("[["))
	f.Fuzz(func(t *testing.T, text []byte) {
		keep, remove, err := parseForget(text)
		if err != nil && len(keep)+len(remove) > 0 {
			t.Error("a list beside an error")
		}
	})
}
