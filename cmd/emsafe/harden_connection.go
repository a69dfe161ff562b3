package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage/harden"
	"emsafe/storage/sqlite"
)

func driverNames() string {
	var names []string
	for _, d := range harden.Drivers {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

func (p *program) hardenConnection(c *cli.Context) error {
	wanted := []string{c.String("driver")}
	switch {
	case wanted[0] == "all":
		wanted = strings.Split(driverNames(), ", ")
	case wanted[0] == "":
		s, name, err := p.hardenOne(c)
		if err != nil {
			return err
		}
		if wanted = harden.DriversOf(s.path(name)); len(wanted) == 0 {
			return usage("which driver? Nobody that can be seen has %s open with one that is known: --driver all, or one of %s", s.path(name), driverNames())
		}
		p.print.note("%s is open with: %s", name, strings.Join(wanted, ", "))
	}
	var found []harden.Driver
	for _, name := range wanted {
		i := slices.IndexFunc(harden.Drivers, func(d harden.Driver) bool { return d.Name == name })
		if i < 0 {
			return usage("--driver is one of all, %s; not %q", driverNames(), name)
		}
		found = append(found, harden.Drivers[i])
	}
	p.print.emit(map[string]any{"settings": strings.Split(harden.Advice, "\n"), "drivers": found})
	if p.print.json {
		return nil
	}
	fmt.Fprintln(p.stdout, harden.Advice)
	for _, d := range found {
		fmt.Fprintf(p.stdout, "\n%s: %s\n\n", d.Name, d.Where)
		for line := range strings.Lines(d.Lines) {
			fmt.Fprint(p.stdout, "    "+line)
		}
	}
	return nil
}

func (p *program) hardenWAL(c *cli.Context) error {
	s, name, err := p.hardenOne(c)
	if err != nil {
		return err
	}
	path := s.path(name)
	if fs := harden.NetworkFS(path); fs != "" {
		return fault.New(fault.Unsupported, "%s lies on %s, where WAL cannot work: it needs memory that all processes share", path, fs)
	}
	if !c.Bool("yes") {
		p.print.line("%s goes to WAL mode. That stays in the file.", path)
		if err := p.confirm("Switch it?"); err != nil {
			return err
		}
	}
	was, err := sqlite.SwitchToWAL(c.Context, path, c.Duration("wait"))
	s.record(journal.Entry{Action: "journal mode", Database: name, What: "from " + was + " to wal"}, err)
	if err != nil {
		return err
	}
	p.print.emit(map[string]string{"was": was, "is": "wal"})
	p.print.line("%s  was %s, is wal", name, was)
	return nil
}
