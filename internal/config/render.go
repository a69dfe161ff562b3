package config

import (
	"fmt"
	"strings"
)

// Render writes a configuration as a commented file, which [Parse] reads back
// as the same configuration. What is not set is left out, and follows the
// defaults of whatever emsafe reads the file.
func Render(c Config) []byte {
	r := renderer{explained: map[string]bool{}}
	r.line(0, "# emsafe configuration. `emsafe config check` tells whether it is right,")
	r.line(0, "# `emsafe config show` what is in effect. Secrets do not belong in this file.")
	a := at{config: &c}
	for _, k := range children("") {
		if k.kind != kindNames && k.kind != kindGroup {
			if value := written(k, a, false); value != "" {
				r.line(0, "")
				r.comment(0, k.what)
				r.setting(0, k, a, value)
			}
			continue
		}
		if body := r.below(0, k, a); body != "" {
			r.line(0, "")
			r.comment(0, k.what)
			r.line(0, k.name()+":")
			r.b.WriteString(body)
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

// below is what is set below a group, or below the operator's names.
func (r *renderer) below(level int, k *key, a at) string {
	inner := renderer{explained: r.explained}
	if k.kind == kindGroup {
		inner.settings(level+1, k.path, a)
	}
	for _, e := range entries(k, a) {
		inner.line(level+1, quotable(e.name)+":")
		inner.settings(level+2, k.path+".*", e.at)
	}
	return inner.b.String()
}

// settings writes what is set of the keys below parent.
func (r *renderer) settings(level int, parent string, a at) {
	for _, k := range children(parent) {
		if k.kind == kindGroup || k.kind == kindNames {
			if body := r.below(level, k, a); body != "" {
				r.line(level, k.name()+":")
				r.b.WriteString(body)
			}
			continue
		}
		value := written(k, a, false)
		if value == "" || value == k.def {
			continue
		}
		if !r.explained[k.path] {
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
