// Command emsafe takes consistent, sealed, signed backups of SQLite databases
// and proves that they restore. This package is wiring and words: what is done
// is done by backup, restore and storage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/internal/suggest"
)

func main() {
	// For the whole life of the process: a signal after the work is done must
	// not make the exit code say that it was not.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit((&program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv, now: time.Now,
	}).run(ctx, os.Args))
}

// program is one run of the command; tests make their own.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	now            func() time.Time
	print          *printer
	copying        sync.Mutex // of the configuration, into targets
}

// run executes the arguments and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	app := p.app()
	if last := len(args) - 1; args[last] == completeFlag {
		complete(p.stdout, app, args[1:last])
		return 0
	}
	p.print = newPrinter(p.stdout, p.stderr, slices.Contains(args, "--json"), p.env)
	hoisted, err := hoist(app, args)
	if err == nil {
		err = app.RunContext(ctx, hoisted)
	}
	p.print.clearProgress()
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && fault.Find(err) == nil && errors.Is(err, context.Canceled) {
		err = fault.New(fault.Interrupted, "interrupted")
	}
	p.print.fail(err)
	return fault.Exit(err)
}

// app is the command tree; the reference and the man page are made from it.
func (p *program) app() *cli.App {
	// The library's own -v would hide ours, and its exits would skip defers.
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}
	cli.OsExiter = func(int) {}
	app := &cli.App{
		Name:  "emsafe",
		Usage: "consistent, sealed, proven backups of SQLite databases",
		Description: "Three commands from nothing to a proven restore:\n\n" +
			"  emsafe init --scan /srv/app --target file:///mnt/backup\n" +
			"  emsafe backup\n" +
			"  emsafe restore NAME --to /tmp/restored.db --identity recovery.key\n\n" +
			"Exit codes are listed in docs/errors.md; 0 is success.",
		Version:                   version(),
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           false,
		UseShortOptionHandling:    false,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              wrongValue,
		Before:                    func(c *cli.Context) error { p.print.quiet = c.Bool("quiet"); return nil },
		CommandNotFound:           nil,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE`", EnvVars: []string{"EMSAFE_CONFIG"}},
			&cli.BoolFlag{Name: "json", Usage: "machine-readable output on stdout, errors as JSON on stderr"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say only what went wrong"},
		},
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return unknownCommand(c.App.Commands, name)
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			p.initCommand(), p.backupCommand(), p.listCommand(), p.showCommand(), p.statusCommand(), p.verifyCommand(), p.pruneCommand(), p.restoreCommand(), p.daemonCommand(), p.targetCommand(), p.hardenCommand(), p.auditCommand(), p.evaluateCommand(), p.logCommand(), p.serviceCommand(), p.metricsCommand(), p.notifyCommand(),
			p.filesCommand(),
			p.drillCommand(),
			p.runbookCommand(), p.incidentCommand(), p.exerciseCommand(), p.renderCommand(),
			p.keyCommand(), p.configCommand(), p.doctorCommand(), p.demoCommand(), p.completionCommand(), p.referenceCommand(), p.versionCommand(),
		},
	}
	inherit(app.Commands)
	return app
}

// inherit gives commands what the library does not hand down to them.
func inherit(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = wrongValue
		inherit(c.Subcommands)
	}
}

// wrongValue is for flags whose value is of another type; hoist has refused
// what is wrong with a flag besides.
func wrongValue(_ *cli.Context, err error, _ bool) error {
	return usage("%s", strings.Replace(err.Error(), "for flag -", "for flag --", 1))
}

func usage(format string, args ...any) error { return fault.New(fault.Usage, format, args...) }

func unknownCommand(commands []*cli.Command, name string) error {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	if near := suggest.Nearest(name, names); near != "" {
		return usage("there is no command %q; did you mean %q?", name, near)
	}
	return fault.New(fault.Usage, "there is no command %q", name).WithRemedy("`emsafe help` lists the commands.")
}

// group is a command that only holds others.
func group(name, what string, subs ...*cli.Command) *cli.Command {
	return &cli.Command{Name: name, Usage: what, Subcommands: subs, Action: func(c *cli.Context) error {
		if first := c.Args().First(); first != "" {
			return unknownCommand(subs, first)
		}
		return usage("%s needs a command of its own: %s", name, fmt.Sprint(commandNames(subs)))
	}}
}

func commandNames(commands []*cli.Command) (names []string) {
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}
