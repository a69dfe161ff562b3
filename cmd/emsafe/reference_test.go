package main

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
)

var update = flag.Bool("update", false, "write the documents that are made from the program")

// references are the generated documents by the file that keeps them.
var references = map[string]string{
	"cli.md": "cli", "emsafe.1": "man", "errors.md": "errors", "configuration.md": "configuration",
}

func TestReferencesAreUpToDate(t *testing.T) {
	t.Parallel()
	for file, what := range references {
		path := filepath.Join("..", "..", "docs", file)
		want, err := (&program{}).reference(what)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if string(got) != string(want) {
			t.Errorf("docs/%s is not what emsafe reference %s prints: `make docs` writes it anew\n%s", file, what, firstDifference(string(got), string(want)))
		}
	}
	if _, err := (&program{}).reference("nothing"); fault.Exit(err) != fault.Usage.Exit {
		t.Errorf("a reference of nothing: %v", err)
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "is      " + a[i] + "\nwould be " + b[i]
		}
	}
	return "one is the beginning of the other"
}

// Every command and flag has words, and both documents show them.
func TestEveryFlagHasWords(t *testing.T) {
	t.Parallel()
	app := (&program{}).app()
	md, man := string(cliReference(app)), strings.ReplaceAll(string(manPage(app)), `\-`, "-")
	var commands, flags int
	describe := func(name string, list []cli.Flag) {
		for _, f := range list {
			names, words := flagRow(f)
			flags++
			if names == "" || words == "" || strings.Contains(words, "`") || !strings.Contains(md, "| `"+names+"` |") || !strings.Contains(man, ".B "+names+"\n") {
				t.Errorf("%s: flag %v: %q, %q", name, f.Names(), names, words)
			}
			if strings.Contains(names, " value") {
				t.Errorf("%s: --%s has no name for its value", name, f.Names()[0])
			}
		}
	}
	describe("emsafe", app.Flags)
	eachCommand("emsafe", app.Commands, func(name string, c *cli.Command) {
		commands++
		if c.Usage == "" || strings.HasSuffix(c.Usage, ".") || c.Usage != strings.ToLower(c.Usage[:1])+c.Usage[1:] {
			t.Errorf("%s: usage %q", name, c.Usage)
		}
		if !strings.Contains(md, "\n## "+name+"\n") || !strings.Contains(man, "\n.SS \""+name) {
			t.Errorf("%s stands in no document", name)
		}
		describe(name, c.Flags)
	})
	if commands < 15 || flags < 40 {
		t.Errorf("%d commands and %d flags seen", commands, flags)
	}
}

var kebab = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Every row of the error table is whole, stands in the documents, and is used
// by the program.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	errorsDoc, man := string(errorReference()), string(manPage((&program{}).app()))
	used := usedFaults(t)
	seen := map[string]bool{}
	for _, k := range fault.Table {
		if !kebab.MatchString(k.ID) || seen[k.ID] {
			t.Errorf("%s: not an id, or one that is taken", k.ID)
		}
		seen[k.ID] = true
		if k.Exit < 1 || k.Exit > 255 || k.Exit == 2 && k != fault.AuditUnclear || k.Exit > 125 && k.Exit != 130 {
			t.Errorf("%s: exit code %d means something else to a shell", k.ID, k.Exit)
		}
		for what, words := range map[string]string{"meaning": k.Means, "what is safe": k.Safe, "remedy": k.Remedy} {
			if len(words) < 10 || !strings.ContainsAny(words[len(words)-1:], ".?") {
				t.Errorf("%s: %s is %q", k.ID, what, words)
			}
			if !strings.Contains(errorsDoc, words) {
				t.Errorf("%s: %s does not stand in the reference", k.ID, what)
			}
		}
		if !strings.Contains(errorsDoc, "\n## "+k.ID+"\n") || !strings.Contains(man, strings.ReplaceAll(k.ID, "-", `\-`)) {
			t.Errorf("%s stands in no document", k.ID)
		}
	}
	for name, where := range used {
		if where == "" {
			t.Errorf("fault.%s is used nowhere", name)
		}
	}
	if len(used) != len(fault.Table) {
		t.Errorf("%d kinds in the source and %d in the table", len(used), len(fault.Table))
	}
	// What a remedy says to type exists.
	app := (&program{}).app()
	for _, k := range fault.Table {
		for _, quoted := range regexp.MustCompile("`emsafe ([^`]*)`").FindAllStringSubmatch(k.Remedy, -1) {
			if _, err := hoist(app, append([]string{"emsafe"}, strings.Fields(quoted[1])...)); err != nil {
				t.Errorf("%s: `emsafe %s`: %v", k.ID, quoted[1], err)
			}
		}
	}
}

// usedFaults are the names of the error kinds, and a file outside of package
// fault that uses each.
func usedFaults(t *testing.T) map[string]string {
	t.Helper()
	used := map[string]string{}
	files := token.NewFileSet()
	table, err := parser.ParseFile(files, "../../internal/fault/table.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(table, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if call, ok := spec.Values[0].(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "kind" {
				used[spec.Names[0].Name] = ""
			}
		}
		return true
	})
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "internal/fault/") {
			return err
		}
		text, err := os.ReadFile(path)
		for name := range used {
			if used[name] == "" && regexp.MustCompile(`\bfault\.`+name+`\b`).Match(text) {
				used[name] = path
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

// The table's codes are promised to scripts: none changes by accident.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	var codes []int
	for _, c := range exitCodes() {
		codes = append(codes, c.code)
	}
	if want := []int{1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 64, 78, 130}; !slices.Equal(codes, want) {
		t.Errorf("%v, want %v", codes, want)
	}
}

// The manual is without warnings, and man shows what it should.
func TestManualRenders(t *testing.T) {
	t.Parallel()
	man := manPage((&program{}).app())
	for _, tool := range [][]string{
		{"groff", "-man", "-ww", "-z", "-K", "utf8", "-T", "utf8"},
		{"mandoc", "-T", "lint", "-W", "warning"},
	} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Logf("%s is not installed", tool[0])
			continue
		}
		cmd := exec.Command(tool[0], tool[1:]...)
		cmd.Stdin = strings.NewReader(string(man))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", tool[0], err, out)
		}
	}
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("man is not installed")
	}
	cmd := exec.Command("man", "--warnings", "-E", "utf-8", "-l", "-")
	cmd.Env = append(os.Environ(), "MANPAGER=cat", "LC_ALL=C.UTF-8", "MANWIDTH=100")
	cmd.Stdin = strings.NewReader(string(man))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("man: %v\n%s", err, out)
	}
	shown := regexp.MustCompile(`.\x08|\x1b\[[0-9;]*m`).ReplaceAllString(string(out), "")
	shown = regexp.MustCompile(`‐\n +`).ReplaceAllString(shown, "") // a word may be broken
	for _, part := range []string{"NAME\n", "SYNOPSIS\n", "emsafe backup", "--recovery-key-out FILE", "EXIT STATUS\n", "foreign-lineage", "file:///…", "--target file:///mnt/backup\n"} {
		if !strings.Contains(shown, part) {
			t.Errorf("man does not show %q", part)
		}
	}
	if strings.Contains(shown, "warning:") {
		t.Errorf("man warns:\n%s", shown)
	}
}
