// Package emsafe_test holds the house to its plan: which package may import
// which, one door for every dependency, and the size of files. The plan is
// three tables; a change of it is a change here, with a reason.
package emsafe_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// below is what any package may import: how errors are told, and how a file
// is made to last.
var below = []string{"internal/fault", "internal/durable", "internal/suggest", "internal/crash"}

// floors is "may import", besides below and the standard library. A package
// imports lower floors only, and siblings leave one another alone: backup and
// restore meet in storage, never in each other.
var floors = map[string][]string{
	"internal/fault":   {},
	"internal/crash":   {},
	"internal/durable": {"internal/fault"},
	"internal/suggest": {},

	// 0: nouns, and what only formats or reads.
	"storage":          {},
	"storage/seal":     {},
	"storage/sqlite":   {},
	"storage/restic":   {},
	"docs":             {},
	"internal/command": {},
	"internal/config":  {},
	"internal/journal": {},
	"internal/finding": {},
	"internal/report":  {},
	"internal/render":  {},

	// 1: the places, what lies in them, and what is looked at.
	"storage/dir":                 {"storage"},
	"storage/s3":                  {"storage"},
	"storage/storagetest":         {"storage"},
	"storage/catalog":             {"storage", "storage/seal", "storage/sqlite"},
	"storage/hostconf":            {"storage", "storage/seal"},
	"storage/point":               {"storage", "storage/seal"},
	"storage/harden":              {"storage/sqlite", "internal/finding"},
	"storage/sqlite/sqlitetest":   {"storage/sqlite"},
	"internal/sample":             {"storage/sqlite"},
	"internal/report/browsertest": {}, // looks at what is rendered, and knows none of it
	"drill/runbook":               {"internal/report", "docs"},
	"drill/tabletop":              {"internal/report", "docs"},
	"drill/audit":                 {"internal/report", "internal/finding", "docs"},

	// 2: the verbs.
	"backup":  {"storage", "storage/catalog", "storage/seal", "storage/sqlite", "storage/restic", "storage/hostconf", "storage/point"},
	"restore": {"storage", "storage/catalog", "storage/seal", "storage/sqlite", "storage/restic", "storage/point"},

	// 3: a drill is a real restore, and is looked at; it starts the application.
	"drill": {"restore", "internal/command", "storage", "storage/catalog", "storage/seal", "storage/sqlite", "storage/restic", "storage/point", "internal/report"},

	// 4: what runs by itself. Its page shows what it is given, and asks nobody.
	"internal/daemon/page": {"internal/report"},
	"internal/daemon": {
		"backup", "restore", "drill", "storage", "storage/catalog", "storage/seal", "storage/sqlite", "storage/restic",
		"storage/harden", "internal/config", "internal/command", "internal/report", "internal/finding",
	},

	// 5: the wiring. Test packages are not for the shipped command.
	"cmd/emsafe": {everything},
	"cmd/bench":  {everything, "storage/storagetest"},
}

const everything = "*"

// doors is one door for each dependency: who wants it asks the package that
// has it, so that its traps are known in one place. Test files, and packages
// for tests, are exempt.
var doors = map[string][]string{
	"os/exec":                       {"internal/command", "storage/restic", "drill/runbook", "cmd/bench"}, // the benchmark runs what it compares with
	"filippo.io/age":                {"storage/seal"},
	"github.com/klauspost/compress": {"storage/seal"},
	"crypto/ed25519":                {"storage/seal"},
	"golang.org/x/crypto/ssh":       {"storage/seal"},
	"github.com/hiddeco/sshsig":     {"storage/seal"},
	"github.com/go-json-experiment": {"storage/seal"},
	"github.com/aws":                {"storage/s3"},
	"modernc.org":                   {"storage/sqlite"},
	"go.yaml.in/yaml":               {"internal/config"},
	"github.com/go-co-op/gocron":    {"internal/daemon"},
	"github.com/robfig/cron":        {"internal/daemon"}, // the parser that gocron uses
	"github.com/jonboulle":          {"internal/daemon"}, // the clock that gocron takes
	"github.com/urfave/cli":         {"cmd/emsafe"},
}

// rooms are the folders at the top. Names that say nothing are not rooms
// anywhere.
var (
	rooms    = []string{"cmd", "backup", "restore", "drill", "storage", "docs", "internal"}
	nameless = []string{"pkg", "util", "utils", "common", "helpers", "misc", "lib"}
)

const (
	fileLines  = 400 // the aim
	linesLimit = 450 // the end of patience
)

func TestLayout(t *testing.T) {
	wrong, long, err := inspect(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	for _, l := range long {
		t.Log(l)
	}
}

// inspect walks a tree of sources. What is wrong breaks the plan; what is
// long is on its way to it.
func inspect(tree fs.FS) (wrong, long []string, err error) {
	ignored, _ := fs.ReadFile(tree, ".gitignore")
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			switch {
			case name == ".":
				return nil
			case base == "testdata", strings.HasPrefix(base, "."), bytes.Contains(ignored, []byte("/"+name+"/\n")):
				return fs.SkipDir
			case !strings.Contains(name, "/") && !slices.Contains(rooms, name):
				wrong = append(wrong, fmt.Sprintf("%s/: not a folder of the top level; those are %s", name, strings.Join(rooms, " ")))
				return fs.SkipDir
			case slices.Contains(nameless, base):
				wrong = append(wrong, fmt.Sprintf("%s/: the name says nothing about what is in it", name))
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		w, l, err := inspectFile(name, source)
		wrong, long = append(wrong, w...), append(long, l...)
		return err
	})
	return wrong, long, err
}

func inspectFile(name string, source []byte) (wrong, long []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return nil, nil, err
	}
	generated := slices.ContainsFunc(strings.Split(string(source), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "// Code generated ") && strings.HasSuffix(line, " DO NOT EDIT.")
	})
	switch n := bytes.Count(source, []byte("\n")); {
	case generated:
	case n > linesLimit:
		wrong = append(wrong, fmt.Sprintf("%s: %d lines; a file that holds one step has at most %d", name, n, fileLines))
	case n > fileLines:
		long = append(long, fmt.Sprintf("%s: %d lines, the aim is %d", name, n, fileLines))
	}
	if strings.HasSuffix(name, "_test.go") {
		return wrong, long, nil
	}
	from := path.Dir(name)
	if _, ok := floors[from]; !ok {
		return append(wrong, fmt.Sprintf("%s: the package %s has no floor; give it one in the table of layout_test.go", name, from)), long, nil
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, nil, err
		}
		if w := refused(from, imported); w != "" {
			wrong = append(wrong, fmt.Sprintf("%s: %s", name, w))
		}
	}
	return wrong, long, nil
}

// refused says why a package may not import another, or "".
func refused(from, imported string) string {
	if to, own := strings.CutPrefix(imported, "emsafe/"); own {
		may := slices.Contains(floors[from], to) || slices.Contains(floors[from], everything) && !forTests(to) ||
			slices.Contains(below, to) && !slices.Contains(below, from)
		if !may {
			return fmt.Sprintf("%s may not import %s: that is not a lower floor", from, to)
		}
		return ""
	}
	for dependency, through := range doors {
		if (imported == dependency || strings.HasPrefix(imported, dependency+"/")) && !slices.Contains(through, from) && !forTests(from) {
			return fmt.Sprintf("%s may not import %s: its door is %s", from, imported, strings.Join(through, ", "))
		}
	}
	return ""
}

// forTests tells the packages that only tests import, as storagetest.
func forTests(pkg string) bool { return strings.HasSuffix(pkg, "test") }

// TestLayoutRefuses shows every rule broken once.
func TestLayoutRefuses(t *testing.T) {
	source := func(imports ...string) *fstest.MapFile {
		var b strings.Builder
		b.WriteString("package x\n")
		for _, i := range imports {
			fmt.Fprintf(&b, "import _ %q\n", i)
		}
		return &fstest.MapFile{Data: []byte(b.String())}
	}
	lines := func(n int, head string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(head + "package x\n" + strings.Repeat("\n", n))}
	}
	for _, c := range []struct {
		name, file string
		content    *fstest.MapFile
		want       string // "" if it is in order
	}{
		{"verbs are siblings", "backup/a.go", source("emsafe/restore"), "backup may not import restore"},
		{"upwards", "storage/seal/a.go", source("emsafe/storage"), "storage/seal may not import storage"},
		{"upwards from below", "internal/durable/a.go", source("emsafe/storage"), "internal/durable may not import storage"},
		{"nothing is below fault", "internal/fault/a.go", source("emsafe/internal/durable"), "internal/fault may not import internal/durable"},
		{"tests in the command", "cmd/emsafe/a.go", source("emsafe/storage/storagetest"), "cmd/emsafe may not import storage/storagetest"},
		{"downwards", "backup/a.go", source("emsafe/storage/seal", "emsafe/internal/fault", "context"), ""},
		{"the command", "cmd/emsafe/a.go", source("emsafe/backup", "emsafe/restore", "github.com/urfave/cli/v2"), ""},
		{"exec", "backup/a.go", source("os/exec"), "its door is internal/command"},
		{"age", "restore/a.go", source("filippo.io/age/armor"), "its door is storage/seal"},
		{"a name that only begins alike", "restore/a.go", source("filippo.io/agent"), ""},
		{"ed25519", "storage/catalog/a.go", source("crypto/ed25519"), "its door is storage/seal"},
		{"aws", "cmd/emsafe/a.go", source("github.com/aws/smithy-go"), "its door is storage/s3"},
		{"sqlite", "restore/a.go", source("modernc.org/sqlite"), "its door is storage/sqlite"},
		{"a test may", "backup/a_test.go", source("os/exec", "emsafe/restore"), ""},
		{"a package for tests may", "storage/storagetest/a.go", source("os/exec", "emsafe/storage"), ""},
		{"no floor", "internal/cache/a.go", source(), "has no floor"},
		{"top level", "pkg/a.go", source(), "not a folder of the top level"},
		{"built things at the top", "demo/a.go", source(), ""},
		{"nameless", "internal/util/a.go", source(), "says nothing"},
		{"long", "backup/a.go", lines(linesLimit, ""), "451 lines"},
		{"generated", "backup/a.go", lines(linesLimit, "// Code generated by x. DO NOT EDIT.\n"), ""},
		{"long test", "backup/a_test.go", lines(linesLimit, ""), "451 lines"},
	} {
		wrong, _, err := inspect(fstest.MapFS{c.file: c.content, ".gitignore": {Data: []byte("/bin/\n/demo/\n")}})
		got := strings.Join(wrong, "\n")
		if err != nil || (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q %v, want %q", c.name, got, err, c.want)
		}
	}
	if _, long, err := inspect(fstest.MapFS{"backup/a.go": lines(fileLines, "")}); err != nil || len(long) != 1 {
		t.Error("a file past the aim is not mentioned", long, err)
	}
}
