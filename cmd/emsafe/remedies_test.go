package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
	"emsafe/internal/fault"
)

// phrase is something that a user reads, and where it is written.
type phrase struct{ where, words string }

var (
	spans     = regexp.MustCompile("`([^`\n]+)`")
	bare      = regexp.MustCompile(`(?:^|[ (:;])(emsafe (?:[a-z][a-z-]*)(?: (?:[a-z][a-z-]+|--[a-z][a-z-]*|%[sqd]|[A-Z]+))*)`)
	keyForm   = regexp.MustCompile(`^([a-z][a-z0-9_]*(?:\.(?:[a-z][a-z0-9_]*|\*|[A-Z]+))*)(?:: .*)?$`)
	flagForm  = regexp.MustCompile(`(?:^|[ (])(--[a-z][a-z-]+)`)
	elsewhere = []string{ // programs, and words of other files
		"lsof", "cp", "true", "false", "yesterday", "command", "environment", "sqlite3",
	}
)

// Every remedy names commands, flags and configuration keys that there are: what
// an error advises must not be refused in its turn.
func TestRemediesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	app, keys := (&program{}).app(), configurationKeys(t)
	flags := allFlags(app.Flags, app.Commands)
	texts := remedies(t)
	for _, k := range fault.Table {
		texts = append(texts, phrase{"fault " + k.ID, k.Remedy}, phrase{"fault " + k.ID, k.Safe})
	}
	if len(texts) < 150 {
		t.Fatalf("only %d texts were found", len(texts))
	}
	for _, r := range texts {
		for _, m := range spans.FindAllStringSubmatch(r.words, -1) {
			name := keyForm.FindStringSubmatch(m[1])
			if name != nil && !strings.Contains(m[1], " --") && !slices.Contains(elsewhere, name[1]) && !keys[name[1]] && commandOf(app, m[1]) == nil {
				t.Errorf("%s: `%s` is not a key of the configuration:\n\t%s", r.where, m[1], r.words)
			}
		}
		for _, m := range flagForm.FindAllStringSubmatch(r.words, -1) {
			if !flags[m[1]] && !foreignFlag(r.words, m[1]) {
				t.Errorf("%s: emsafe has no flag %s:\n\t%s", r.where, m[1], r.words)
			}
		}
		checkCommands(t, app, r)
	}
}

// Every command line of emsafe in the documents, in help and in descriptions of
// keys is one.
func TestTextsNameCommandsThatThereAre(t *testing.T) {
	t.Parallel()
	app := (&program{}).app()
	var files []string
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md", "../../*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	n := 0
	for _, file := range files {
		if strings.HasSuffix(file, "CHANGELOG.md") {
			continue // history
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			for _, m := range spans.FindAllStringSubmatch(line, -1) {
				n++
				checkCommand(t, app, file, m[1])
			}
		}
	}
	for _, lit := range literals(t, func(ast.Node) []ast.Expr { return nil }) {
		for _, m := range spans.FindAllStringSubmatch(lit.words, -1) {
			n++
			checkCommand(t, app, lit.where, m[1])
		}
	}
	if n < 500 {
		t.Errorf("only %d spans were found", n)
	}
}

func checkCommands(t *testing.T, app *cli.App, r phrase) {
	t.Helper()
	rest := spans.ReplaceAllStringFunc(r.words, func(span string) string {
		checkCommand(t, app, r.where, strings.Trim(span, "`"))
		return "…"
	})
	for _, m := range bare.FindAllStringSubmatch(rest, -1) {
		if strings.HasPrefix(rest, m[1]) || strings.Contains(rest, ": "+m[1]) { // a command, not the subject of a sentence
			checkCommand(t, app, r.where, m[1])
		}
	}
}

func checkCommand(t *testing.T, app *cli.App, where, line string) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "emsafe" || strings.ContainsAny(words[1], "|[%") || words[1] == "VERSION" {
		return
	}
	if end := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") || w == "|" || w == "&&" || w == ">" }); end > 0 {
		words = words[:end]
	}
	var args []string
	for _, w := range words[1:] {
		if w != "…" && w != "COMMAND" && w != "FLAG…]" && !strings.HasPrefix(w, "[") {
			args = append(args, strings.TrimRight(w, ";,…"))
		}
	}
	alternatives := [][]string{args}
	for i, w := range args {
		if list := strings.Split(w, "|"); len(list) > 1 {
			alternatives = nil
			for _, a := range list {
				one := slices.Clone(args)
				one[i] = a
				alternatives = append(alternatives, one)
			}
			break
		}
	}
	for _, one := range alternatives {
		if err := knows(app, one); err != nil && one[0] != "help" {
			t.Errorf("%s: `%s`: %v", where, line, err)
		}
	}
}

// commandOf gives the command that a span names without "emsafe" before it.
func commandOf(app *cli.App, span string) *cli.Command {
	return app.Command(strings.Fields(span)[0])
}

// foreignFlag: flags of other programs, in texts that name those.
func foreignFlag(words, flag string) bool {
	return regexp.MustCompile(`(restic|systemctl|journalctl|sqlite3|apt-get|docker|systemd-run|garage|b2|age|ssh-keygen)[^.;]*` + regexp.QuoteMeta(flag)).MatchString(words)
}

func allFlags(flags []cli.Flag, commands []*cli.Command) map[string]bool {
	all := map[string]bool{"--help": true}
	for _, f := range flags {
		for _, n := range f.Names() {
			all["--"+n] = true
		}
	}
	for _, c := range commands {
		for n := range allFlags(c.Flags, c.Subcommands) {
			all[n] = true
		}
	}
	return all
}

// configurationKeys are the names and dotted paths of the schema.
func configurationKeys(t *testing.T) map[string]bool {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	var walk func(node any, path []string)
	walk = func(node any, path []string) {
		m, ok := node.(map[string]any)
		if !ok {
			return
		}
		if properties, ok := m["properties"].(map[string]any); ok {
			for name, sub := range properties {
				at := append(slices.Clone(path), name)
				for i := range at { // a path may be given from any of its keys on
					keys[strings.Join(at[i:], ".")] = true
				}
				walk(sub, at)
			}
		}
		for name, sub := range m {
			if name != "properties" {
				if list, ok := sub.([]any); ok {
					for _, s := range list {
						walk(s, path)
					}
				}
				walk(sub, path)
			}
		}
	}
	walk(root, nil)
	if !keys["targets"] || !keys["conditional_writes"] || !keys["daemon.listen"] || len(keys) < 100 {
		t.Fatalf("the schema has only %d keys", len(keys))
	}
	return keys
}

// remedies are the texts that are given to WithRemedy, wherever.
func remedies(t *testing.T) []phrase {
	t.Helper()
	return literals(t, func(n ast.Node) []ast.Expr {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasSuffix(spec.Names[0].Name, "Remedy") {
			return spec.Values
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return nil
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "WithRemedy" && sel.Sel.Name != "WithSafe" || len(call.Args) == 0 {
			return nil
		}
		return call.Args[:1]
	})
}

// literals gives the texts of the program's sources: those of the expressions
// that pick chooses, or all if it chooses none anywhere.
func literals(t *testing.T, pick func(ast.Node) []ast.Expr) []phrase {
	t.Helper()
	files := token.NewFileSet()
	var chosen, all []phrase
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			if d != nil && d.IsDir() && err == nil {
				return filepath.SkipDir
			}
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		words := func(n ast.Node) string {
			var b strings.Builder
			ast.Inspect(n, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					s, _ := strconv.Unquote(lit.Value)
					b.WriteString(s)
				}
				return true
			})
			return b.String()
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, e := range pick(n) {
				chosen = append(chosen, phrase{files.Position(e.Pos()).String(), words(e)})
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				all = append(all, phrase{files.Position(n.Pos()).String(), words(lit)})
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(chosen) > 0 {
		return chosen
	}
	return all
}
