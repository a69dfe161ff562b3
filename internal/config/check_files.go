package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"emsafe/internal/suggest"
)

// checkFilesets looks at what filesets name, and at who names them.
func (p *parse) checkFilesets() {
	databases := slices.Sorted(maps.Keys(p.config.Databases))
	for _, name := range slices.Sorted(maps.Keys(p.config.Filesets)) {
		f, where := p.config.Filesets[name], "filesets."+name
		if slices.Contains(databases, name) {
			p.add(p.places[where], where, "a database is called "+name+" as well", "the command line could not tell them apart: choose another name")
		}
		for i, target := range f.Targets {
			if _, ok := p.config.Targets[target]; !ok {
				p.noTarget(target, fmt.Sprintf("%s.targets[%d]", where, i))
			}
		}
		for i, database := range f.Databases {
			path := fmt.Sprintf("%s.databases[%d]", where, i)
			d, ok := p.config.Databases[database]
			if !ok {
				p.add(p.places[path], path, "there is no database "+quoted(database), among(database, databases, "databases"))
				continue
			}
			if missing := slices.DeleteFunc(p.goesTo(f.Targets), func(t string) bool { return slices.Contains(p.goesTo(d.Targets), t) }); len(missing) > 0 {
				p.add(p.places[path], path, fmt.Sprintf("%s does not go to %s, to which these files go", database, strings.Join(missing, ", ")),
					"a recovery point needs both halves in one target: give both the same targets")
			}
		}
		if _, before := p.places[where+".before"]; before && len(f.After) == 0 {
			p.add(p.places[where+".before"], where+".before", "before without after: the application would stay quiesced", "add after, which undoes it; [/bin/true] if there is nothing to undo")
		}
	}
	for _, name := range databases {
		p.checkPairing(name, p.config.Databases[name].Drill.Files)
	}
}

// goesTo are the targets that a list means.
func (p *parse) goesTo(targets []string) []string {
	if len(targets) == 0 {
		return slices.Sorted(maps.Keys(p.config.Targets))
	}
	return slices.Clone(targets)
}

func (p *parse) checkPairing(database string, f Pairing) {
	where := "databases." + database + ".drill.files"
	if _, ok := p.places[where]; !ok {
		return
	}
	set, ok := p.config.Filesets[f.Fileset]
	switch at, named := p.places[where+".fileset"]; {
	case !named:
		p.add(p.places[where], where, "files needs fileset: which one has them", "add: fileset: NAME")
	case !ok:
		p.add(at, where+".fileset", "there is no fileset "+quoted(f.Fileset), among(f.Fileset, slices.Sorted(maps.Keys(p.config.Filesets)), "filesets"))
	case !slices.Contains(set.Databases, database):
		p.add(at, where+".fileset", fmt.Sprintf("%s does not name %s in its databases, so they make no recovery points", f.Fileset, database), "add it there")
	case f.SQL != "" && f.Root == "" && len(set.Paths) > 1:
		p.add(p.places[where], where, f.Fileset+" has several paths", "add root: the folder that the database's paths are relative to")
	}
}

func among(name string, known []string, what string) string {
	switch near := suggest.Nearest(name, known); {
	case near != "":
		return fmt.Sprintf("did you mean %q?", near)
	case len(known) == 0:
		return "no " + strings.TrimSuffix(what, "s") + " is defined"
	}
	return "the " + what + " are: " + strings.Join(known, ", ")
}
