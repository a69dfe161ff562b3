package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/internal/suggest"
)

// hoist puts every flag where the library looks for it: behind the command
// that it belongs to and in front of the positional arguments. The library
// silently ignores flags that follow a positional argument, so that
// `restore app --dry-run` would restore; here order does not matter, and a
// flag that no command knows is refused.
func hoist(app *cli.App, args []string) ([]string, error) {
	h := &hoister{global: app.Flags, commands: app.Commands}
	rest := args[1:]
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		switch {
		case arg == "--":
			h.positional = append(h.positional, rest[i+1:]...)
			i = len(rest)
		case len(arg) > 1 && arg[0] == '-':
			used, err := h.flag(arg, rest[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		default:
			h.word(arg)
		}
	}
	out := append([]string{args[0]}, h.globals...)
	out = append(out, h.path...)
	out = append(out, h.flags...)
	if len(h.positional) > 0 {
		out = append(append(out, "--"), h.positional...)
	}
	return out, nil
}

type hoister struct {
	global     []cli.Flag
	commands   []*cli.Command // what the next word may be; nil when the path is complete
	command    *cli.Command
	path       []string
	globals    []string
	flags      []string
	positional []string
}

// word is the next command, or a positional argument.
func (h *hoister) word(arg string) {
	if len(h.positional) == 0 {
		for _, c := range h.commands {
			if c.HasName(arg) {
				h.command, h.commands, h.path = c, c.Subcommands, append(h.path, arg)
				return
			}
		}
		if arg == "help" || arg == "h" {
			h.path = append(h.path, arg)
			return
		}
	}
	h.positional = append(h.positional, arg)
}

// flag files one flag, with its value, and returns how many of the following
// arguments it used.
func (h *hoister) flag(arg string, following []string) (int, error) {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	f, into := h.find(name)
	if f == nil {
		where := strings.Join(append([]string{"emsafe"}, h.path...), " ")
		err := fault.New(fault.Usage, "%s has no flag %s", where, arg).WithRemedy("`%s --help` lists its flags.", where)
		if near := suggest.Nearest(name, h.flagNames()); near != "" {
			return 0, err.WithRemedy("Did you mean --%s?", near)
		}
		return 0, err
	}
	*into = append(*into, arg)
	if hasValue || !takesValue(f) {
		return 0, nil
	}
	// "-" alone is a value (standard input); another dash is a forgotten one.
	if len(following) == 0 || len(following[0]) > 1 && following[0][0] == '-' {
		return 0, usage("--%s needs a value", name)
	}
	*into = append(*into, following[0])
	return 1, nil
}

// find looks for a flag of the command, and then of all, and says where it
// belongs.
func (h *hoister) find(name string) (f cli.Flag, into *[]string) {
	if f = lookup(h.commandFlags(), name); f != nil {
		return f, &h.flags
	}
	return lookup(h.global, name), &h.globals
}

func takesValue(f cli.Flag) bool {
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}

func (h *hoister) commandFlags() []cli.Flag {
	flags := []cli.Flag{cli.HelpFlag}
	if h.command == nil {
		return append(flags, cli.VersionFlag)
	}
	return append(flags, h.command.Flags...)
}

func (h *hoister) flagNames() (names []string) {
	for _, f := range append(h.commandFlags(), h.global...) {
		names = append(names, f.Names()...)
	}
	return names
}

func lookup(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}
