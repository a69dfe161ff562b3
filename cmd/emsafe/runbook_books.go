package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/docs"
	"emsafe/drill/runbook"
	"emsafe/internal/fault"
	"emsafe/internal/suggest"
)

// book is a runbook with its text.
type book struct {
	*runbook.Runbook
	text     []byte
	problems []runbook.Problem
}

func (b book) digest() string {
	sum := sha256.Sum256(b.text)
	return hex.EncodeToString(sum[:])
}

// books are the built-in runbooks and the operator's own, by id. The own take
// the place of built-in ones, or add to them.
func (s *site) books() (list []book, err error) {
	by := map[string]book{}
	err = fs.WalkDir(docs.Runbooks, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := docs.Runbooks.ReadFile(name)
		if err != nil {
			return err
		}
		r, problems := runbook.Parse("docs/"+name, text)
		by[r.ID] = book{r, text, problems}
		return nil
	})
	if err != nil {
		return nil, err
	}
	own, err := s.ownBooks()
	if err != nil {
		return nil, err
	}
	for _, b := range own {
		if b.Extends != "" {
			if base, ok := by[b.Extends]; ok {
				b.Runbook = extended(base.Runbook, b.Runbook)
				b.text = append(append([]byte{}, base.text...), b.text...)
			}
		}
		by[b.ID] = b
	}
	for _, b := range by {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b book) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// extended is a runbook with the steps of another in front.
func extended(base, own *runbook.Runbook) *runbook.Runbook {
	out := *own
	out.Before = append(slices.Clone(base.Before), own.Before...)
	out.Ask = append(slices.Clone(base.Ask), own.Ask...)
	out.Steps = append(slices.Clone(base.Steps), own.Steps...)
	if out.Intro == "" {
		out.Intro = base.Intro
	}
	return &out
}

func (s *site) ownBooks() (list []book, err error) {
	if s.cfg == nil || s.cfg.Runbooks.Folder == "" {
		return nil, nil
	}
	folder := s.cfg.Runbooks.Folder
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Config, "runbooks.folder: %s is not there", folder)
	case err != nil:
		return nil, permission(err)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fault.New(fault.Permission, "others may write to %s (mode %04o), and what lies there is run", folder, info.Mode().Perm()).WithRemedy("chmod go-w %s", fault.Shell(folder))
	}
	files, _ := filepath.Glob(filepath.Join(folder, "*.md"))
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, permission(err)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fault.New(fault.Permission, "others may write to %s (mode %04o), and it is run", file, info.Mode().Perm()).WithRemedy("chmod go-w %s", fault.Shell(file))
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, permission(err)
		}
		r, problems := runbook.Parse(file, text)
		r.Own = true
		list = append(list, book{r, text, problems})
	}
	return list, nil
}

// book is the one of an id.
func (s *site) book(id string) (book, error) {
	list, err := s.books()
	if err != nil {
		return book{}, err
	}
	var known []string
	for _, b := range list {
		if b.ID == id {
			return b, nil
		}
		known = append(known, b.ID)
	}
	missing := fault.New(fault.NotFound, "there is no runbook %q", id)
	if near := suggest.Nearest(id, known); near != "" {
		return book{}, missing.WithRemedy("Did you mean %q?", near)
	}
	return book{}, missing.WithRemedy("`emsafe runbook list` shows them.")
}

// lint looks at one runbook as this machine has it.
func (p *program) lint(s *site, b book, app *cli.App) []runbook.Problem {
	problems := slices.Clone(b.problems)
	if len(problems) > 0 {
		return problems
	}
	return append(problems, runbook.Lint(b.Runbook, runbook.Known{
		Variables: configured, Program: runbook.HasProgram,
		Emsafe: func(args []string) error { return knows(app, args) },
		Books:  func(id string) bool { _, err := s.book(id); return err == nil },
	})...)
}

// knows reports what is wrong with a command line of emsafe's own, as far as
// that can be told without running it.
func knows(app *cli.App, args []string) error {
	commands, flags, path := app.Commands, slices.Clone(app.Flags), "emsafe"
	var at *cli.Command
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			return nil
		}
		if len(word) > 1 && word[0] == '-' {
			name, _, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
			f := flagOf(flags, name)
			if f == nil && name != "help" && name != "h" {
				return fmt.Errorf("%s has no flag %s", path, word)
			}
			if _, isBool := f.(*cli.BoolFlag); !isBool && f != nil && !hasValue {
				i++
			}
			continue
		}
		next := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if next < 0 {
			if at == nil || len(at.Subcommands) > 0 && at.ArgsUsage == "" && at.Name != "daemon" {
				return fmt.Errorf("%s has no command %s", path, word)
			}
			commands = nil
			continue
		}
		at = commands[next]
		path += " " + at.Name
		commands, flags = at.Subcommands, append(flags, at.Flags...)
	}
	return nil
}

func flagOf(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}
