package config

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// entry is one of the operator's names, and where what is set below it lies.
type entry struct {
	name string
	at   at
}

// entries are the names below a key of kindNames, sorted.
func entries(k *key, a at) []entry {
	switch k.path {
	case "targets":
		return sorted(a.config.Targets, func(t *Target) at { return at{target: t} })
	case "databases":
		return sorted(a.config.Databases, func(d *Database) at { return at{database: d} })
	case "filesets":
		return sorted(a.config.Filesets, func(f *Fileset) at { return at{fileset: f} })
	case "waivers":
		return sorted(a.config.Waivers, func(w *Waiver) at { return at{waiver: w} })
	case "notify":
		return sorted(a.config.Notify, func(c *Channel) at { return at{channel: c} })
	case "databases.*.drill.checks":
		return sorted(a.database.Drill.Checks, func(c *Check) at { return at{check: c} })
	case "databases.*.drill.checks.*.ask":
		return sorted(a.check.Ask, func(q *Ask) at { return at{ask: q} })
	}
	return nil
}

func sorted[T any](m map[string]T, in func(*T) at) []entry {
	var list []entry
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value := m[name]
		list = append(list, entry{name, in(&value)})
	}
	return list
}

// fresh is a new place for what is set below a name; keep puts it there.
func fresh(k *key, a at) (inner at, keep func(name string)) {
	switch k.path {
	case "targets":
		t := new(Target)
		return at{target: t}, func(name string) { a.config.Targets[name] = *t }
	case "databases":
		d := new(Database)
		return at{database: d}, func(name string) { a.config.Databases[name] = *d }
	case "filesets":
		f := new(Fileset)
		return at{fileset: f}, func(name string) { a.config.Filesets[name] = *f }
	case "waivers":
		w := new(Waiver)
		return at{waiver: w}, func(name string) { a.config.Waivers[name] = *w }
	case "notify":
		c := new(Channel)
		return at{channel: c}, func(name string) { a.config.Notify[name] = *c }
	case "databases.*.drill.checks":
		c := new(Check)
		return at{check: c}, func(name string) { put(&a.database.Drill.Checks, name, *c) }
	case "databases.*.drill.checks.*.ask":
		q := new(Ask)
		return at{ask: q}, func(name string) { put(&a.check.Ask, name, *q) }
	}
	panic("config: no place for what is below " + k.path)
}

// controlOK takes whatever a framework calls a control, in one short line.
func controlOK(s string) (why, hint string) {
	if n := len([]rune(s)); n == 0 || n > 80 || strings.ContainsFunc(s, unicode.IsControl) {
		return "is no id of a control: " + quoted(s), "one short line, as in SOC 2 A1.2"
	}
	return "", ""
}

func put[T any](m *map[string]T, name string, value T) {
	if *m == nil {
		*m = map[string]T{}
	}
	(*m)[name] = value
}
