package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Render writes a configuration as a commented file, which [Parse] reads back
// as the same configuration. What is not set is left out, and follows the
// defaults of whatever emsafe reads the file.
func Render(c Config) []byte {
	r := renderer{}
	r.line(0, "# emsafe configuration. `emsafe config check` tells whether it is right,")
	r.line(0, "# `emsafe config show` what is in effect. Secrets do not belong in this file.")
	for _, k := range children("") {
		switch {
		case k.path == "targets" && len(c.Targets) > 0:
			r.open(0, k)
			for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
				t := c.Targets[name]
				r.entry(name, "targets.*", at{target: &t})
			}
		case k.path == "databases" && len(c.Databases) > 0:
			r.open(0, k)
			for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
				d := c.Databases[name]
				r.entry(name, "databases.*", at{database: &d})
			}
		case k.field != nil:
			if value := written(k, at{config: &c}, false); value != "" {
				r.line(0, "")
				r.comment(0, k.what)
				r.setting(0, k, at{config: &c}, value)
			}
		}
	}
	return []byte(r.b.String())
}

type renderer struct {
	b         strings.Builder
	explained map[string]bool
}

func (r *renderer) line(level int, s string) {
	if s != "" {
		s = indent(level) + s
	}
	r.b.WriteString(s + "\n")
}

func (r *renderer) open(level int, k *key) {
	r.line(level, "")
	r.comment(level, k.what)
	r.line(level, k.name()+":")
}

// entry writes one target or database. A key is explained where it occurs
// first.
func (r *renderer) entry(name, parent string, a at) {
	r.line(1, quotable(name)+":")
	r.settings(2, parent, a)
}

// settings writes what is set of the keys below parent.
func (r *renderer) settings(level int, parent string, a at) {
	for _, k := range children(parent) {
		if k.kind == kindGroup {
			var group renderer
			group.explained = r.explained
			if group.settings(level+1, k.path, a); group.b.Len() > 0 {
				r.line(level, k.name()+":")
				r.b.WriteString(group.b.String())
			}
			continue
		}
		value := written(k, a, false)
		if value == "" || value == k.def {
			continue
		}
		if !r.explained[k.path] {
			if r.explained == nil {
				r.explained = map[string]bool{}
			}
			r.explained[k.path] = true
			r.comment(level, k.what)
		}
		r.setting(level, k, a, value)
	}
}

// setting writes one key; a list gets a line for each item, because recipients
// are long.
func (r *renderer) setting(level int, k *key, a at, value string) {
	items, ok := k.field(a).(*[]string)
	if !ok || k.kind == kindTargets {
		r.line(level, fmt.Sprintf("%s: %s", k.name(), value))
		return
	}
	r.line(level, k.name()+":")
	for _, item := range *items {
		r.line(level+1, "- "+quotable(item))
	}
}

// comment writes text in lines of a bearable length.
func (r *renderer) comment(level int, text string) {
	text = strings.ReplaceAll(text, "`", "")
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 76-2*level {
			r.line(level, line)
			line = "#"
		}
		line += " " + word
	}
	r.line(level, line)
}
