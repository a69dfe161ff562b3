package runbook

import (
	"fmt"
	"slices"
	"strings"
)

// Known is what a linter must know besides the runbook.
type Known struct {
	Variables []string                     // that the configuration gives
	Program   func(name string) bool       // whether this machine has it
	Emsafe    func(args []string) error    // whether emsafe knows such a command line; nil: not asked
	Books     func(id string) (there bool) // whether there is such a runbook
}

// Lint finds what would fail on the worst day: unknown variables, commands that
// are not there, steps without an expectation.
func Lint(r *Runbook, k Known) (problems []Problem) {
	bad := func(line int, format string, args ...any) {
		problems = append(problems, Problem{r.File, line, fmt.Sprintf(format, args...)})
	}
	known := slices.Clone(k.Variables)
	for _, q := range r.Ask {
		known = append(known, q.Name)
	}
	variables := func(text string, line int) {
		for _, name := range Variables(text) {
			if !slices.Contains(known, name) {
				bad(line, "unknown variable {{%s}}; there are %s", name, strings.Join(known, ", "))
			}
		}
	}
	if r.Extends != "" && k.Books != nil && !k.Books(r.Extends) {
		bad(1, "extends %s, and there is no such runbook", r.Extends)
	}
	for _, s := range r.Steps {
		variables(s.Text, s.Line)
		variables(s.Confirm, s.Line)
		variables(s.Title, s.Line)
		for _, e := range s.Expect {
			variables(e.Text, s.Line)
		}
		if s.Command == "" && strings.TrimSpace(s.Text) == "" {
			bad(s.Line, "the step %q says nothing", s.Title)
		}
		if s.Command != "" && len(s.Expect) == 0 && s.Check == "" {
			bad(s.Line, "the step %q runs a command, and expects nothing of it: add - expect: exit 0", s.Title)
		}
		if s.Safe && (s.Confirm != "" || s.Undo != "") {
			bad(s.Line, "the step %q is safe, and has something to confirm or undo", s.Title)
		}
	}
	for _, c := range r.Commands() {
		variables(c.Command, c.Line)
		for _, name := range Quoted(c.Command) {
			bad(c.Line, "{{%s}} stands inside quotes; outside it is quoted by itself", name)
		}
		for _, argv := range Programs(c.Command) {
			switch name := argv[0]; {
			case name == "emsafe" && k.Emsafe != nil:
				if err := k.Emsafe(argv[1:]); err != nil {
					bad(c.Line, "%s: %v", strings.Join(argv, " "), err)
				}
			case slices.Contains(c.Needs, name), name == "systemctl" && slices.Contains(c.Needs, "systemd"):
				// Where it is missing, the step is left out, and that is said.
			case k.Program != nil && !k.Program(name):
				bad(c.Line, "there is no command %s on this machine; if it can be done without, say - needs: %s", name, name)
			}
		}
	}
	return problems
}
