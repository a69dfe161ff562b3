package config

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Origin says where a value of the effective configuration comes from.
type Origin struct {
	Line      int    // 0 for a default
	Default   string // how the default came about, "" for a line
	Variables string // of the environment that took part, as "${A} ${B}"
}

func (o Origin) String() string {
	if o.Line > 0 {
		return strings.TrimSpace(fmt.Sprintf("line %d %s", o.Line, o.Variables))
	}
	return o.Default
}

// Origin of a key, as "databases.app.path".
func (c *Config) Origin(key string) Origin { return c.origins[key] }

// parse is one file on its way to a Config.
type parse struct {
	file     string
	env      func(string) (string, bool)
	lines    *lines
	config   *Config
	places   map[string]spot // of every key and list item that was seen
	meant    map[string]bool // keys that are there but for a misspelling
	problems Problems
}

// spot is a place in the file; all from 1, in characters.
type spot struct{ line, column, width int }

// Parse reads a configuration. The name is the file's, for messages and for
// what lies beside it by default; env looks up ${NAME}. If there are problems
// the Config is nil, and the problems are all that the file has.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, Problems) {
	p := newParse(name, &data, env)
	if root := p.tree(data); root != nil {
		p.root(root)
	}
	if problems := p.all(); problems != nil {
		return nil, problems
	}
	return p.config, nil
}

func newParse(name string, data *[]byte, env func(string) (string, bool)) *parse {
	*data = bytes.TrimPrefix(*data, []byte("\xef\xbb\xbf"))
	return &parse{
		file: name, env: env, lines: newLines(*data), places: map[string]spot{}, meant: map[string]bool{},
		config: &Config{File: name, Targets: map[string]Target{}, Databases: map[string]Database{}, Filesets: map[string]Fileset{}, Notify: map[string]Channel{}, Waivers: map[string]Waiver{}, origins: map[string]Origin{}},
	}
}

// all are the problems with their lines, now that all secrets are known.
func (p *parse) all() Problems {
	if len(p.problems) == 0 {
		return nil
	}
	for i := range p.problems {
		if p.problems[i].width > 0 {
			p.problems[i].Source = p.lines.source(p.problems[i].Line)
		}
	}
	return p.problems.sorted()
}

func (p *parse) root(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.add(placeOf(n), "", "the file is not a mapping of keys to values", "it begins with: version: 1")
		return
	}
	if p.newer(n) {
		return
	}
	p.mapping(n, "", "", at{config: p.config})
	if _, ok := p.places["version"]; !ok && !p.meant["version"] {
		p.add(spot{1, 1, 0}, "version", "the file does not say its version", "begin it with: version: 1")
	}
	p.check()
}

// newer reports a file of a later version, and nothing else of it: what its
// keys mean is not known here.
func (p *parse) newer(n *yaml.Node) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		var version int
		if n.Content[i].Value != "version" || n.Content[i+1].Tag != "!!int" || n.Content[i+1].Decode(&version) != nil || version <= Version {
			continue
		}
		p.add(placeOf(n.Content[i+1]), "version", fmt.Sprintf("this file has version %d, and this emsafe knows version %d", version, Version), "use a newer emsafe")
		return true
	}
	return false
}

// mapping decodes the keys under parent, a path of the table; where is the
// same path with the operator's names in it.
func (p *parse) mapping(n *yaml.Node, parent, where string, a at) {
	known := map[string]*key{}
	for _, k := range children(parent) {
		known[k.name()] = k
	}
	p.pairs(n, where, func(name *yaml.Node, value *yaml.Node, path string) {
		k := known[name.Value]
		if k == nil {
			message := fmt.Sprintf("unknown key %s", quoted(name.Value))
			if where != "" {
				message += " in " + where
			}
			hint, meant := unknown(name.Value, parent)
			if meant != "" {
				p.meant[join(where, meant)] = true
			}
			p.add(placeOf(name), path, message, hint)
			return
		}
		p.value(k, value, path, a)
	})
	for _, k := range children(parent) {
		path := join(where, k.name())
		if _, seen := p.places[path]; seen || k.name() == "version" {
			continue
		}
		if k.required {
			p.missing(k, where)
		} else {
			p.preset(k, path, a)
		}
	}
}

// pairs calls each for every key of a mapping that is sound and seen for the
// first time.
func (p *parse) pairs(n *yaml.Node, where string, each func(name, value *yaml.Node, path string)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			p.add(placeOf(name), where, "a key must be a plain word", "")
			continue
		}
		if name.Tag == "!!merge" {
			p.add(placeOf(name), where, "merge keys (<<) are not supported", "write the values out: each setting then stands in one place")
			continue
		}
		if !p.plain(name, where) {
			continue
		}
		path := join(where, name.Value)
		if first, ok := p.places[path]; ok {
			p.add(placeOf(name), path, fmt.Sprintf("%s is set twice", quoted(name.Value)), fmt.Sprintf("it is set in line %d already", first.line))
			continue
		}
		p.places[path] = placeOf(name)
		each(name, value, path)
	}
}

// plain refuses what a configuration has no use for, and what makes YAML
// dangerous or surprising: aliases (a few lines can mean gigabytes) and tags.
func (p *parse) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		p.add(placeOf(n), path, "aliases (*name) are not supported", "write the value out, or quote it if it begins with *")
	case n.Anchor != "":
		p.add(placeOf(n), path, "anchors (&name) are not supported", "write the value out where it is needed, or quote it if it begins with &")
	case n.Style&yaml.TaggedStyle != 0:
		p.add(placeOf(n), path, "tags (!name) are not supported", "take it out, or quote the value if it begins with !")
	default:
		return true
	}
	return false
}

// value decodes one key's value.
func (p *parse) value(k *key, n *yaml.Node, path string, a at) {
	if !p.plain(n, path) {
		return
	}
	if n.Tag == "!!null" && n.Kind == yaml.ScalarNode {
		p.add(p.places[path], path, k.name()+" has no value", expected(k)+"; or take the line out")
		return
	}
	p.config.origins[path] = Origin{Line: p.places[path].line, Variables: variables(n)}
	switch k.kind {
	case kindNames:
		p.names(k, n, path, a)
	case kindGroup:
		if n.Kind != yaml.MappingNode {
			child := children(k.path)[0]
			p.add(placeOf(n), path, fmt.Sprintf("%s takes settings of its own, not a %s", k.name(), nodeName(n)), fmt.Sprintf("as in: %s: {%s: %s}", k.name(), child.name(), child.example))
			return
		}
		p.mapping(n, k.path, path, a)
	case kindSecret:
		p.secret(k, n, path, a)
	case kindTexts, kindPaths, kindTargets, kindWords:
		p.list(k, n, path, a)
	default:
		if n.Kind != yaml.ScalarNode {
			p.add(placeOf(n), path, fmt.Sprintf("%s takes one value, not a %s", k.name(), nodeName(n)), expected(k))
			return
		}
		p.scalar(k, n, path, a)
	}
}

// names decodes a mapping from the operator's names to groups.
func (p *parse) names(k *key, n *yaml.Node, path string, a at) {
	if n.Kind != yaml.MappingNode {
		p.add(placeOf(n), path, fmt.Sprintf("%s takes a mapping from names to settings, not a %s", k.name(), nodeName(n)), "as in the reference: "+k.name()+": {NAME: {…}}")
		return
	}
	entry := find(k.path + ".*")
	p.pairs(n, path, func(name, value *yaml.Node, at1 string) {
		if !nameForm.MatchString(name.Value) {
			p.add(placeOf(name), at1, fmt.Sprintf("%s cannot be a name", quoted(name.Value)), "a name has 1 to 63 of a-z 0-9 - _ and begins with a letter or digit; it becomes part of paths in the target")
		}
		if !p.plain(value, at1) {
			return
		}
		if value.Kind != yaml.MappingNode {
			child := children(entry.path)[0]
			p.add(placeOf(name), at1, fmt.Sprintf("%s needs settings of its own", at1), fmt.Sprintf("as in: %s: {%s: %s}", quotable(name.Value), child.name(), child.example))
			return
		}
		inner, keep := fresh(k, a)
		p.mapping(value, entry.path, at1, inner)
		keep(name.Value)
	})
}

// list decodes a list of values; one value alone is not taken for a list,
// so that a key has one way to be written.
func (p *parse) list(k *key, n *yaml.Node, path string, a at) {
	if n.Kind != yaml.SequenceNode {
		hint := expected(k)
		if n.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf("write it as a list: [%s]", quotable(maskText(n.Value)))
		}
		p.add(placeOf(n), path, fmt.Sprintf("%s takes a list, not a %s", k.name(), nodeName(n)), hint)
		return
	}
	if len(n.Content) == 0 {
		p.add(placeOf(n), path, k.name()+" is an empty list", "name at least one, or take the line out")
	}
	out := k.field(a).(*[]string)
	seen := map[string]int{}
	for i, item := range n.Content {
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		p.places[itemPath] = placeOf(item)
		p.config.origins[itemPath] = Origin{Line: item.Line, Variables: variables(item)}
		if !p.plain(item, itemPath) {
			continue
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			p.add(placeOf(item), itemPath, fmt.Sprintf("an item of %s must be text, not a %s", k.name(), nodeName(item)), "")
			continue
		}
		value, ok := p.text(k, item, itemPath)
		if !ok {
			continue
		}
		if first, ok := seen[value]; ok && k.kind != kindWords {
			p.add(placeOf(item), itemPath, "this item is in the list twice", fmt.Sprintf("it stands in line %d already", first))
			continue
		}
		seen[value] = item.Line
		*out = append(*out, value)
	}
}

// add notes a problem.
func (p *parse) add(s spot, path, message, hint string) {
	s.line = max(1, s.line)
	if p.lines != nil {
		s.line = min(s.line, len(p.lines.list))
	}
	p.problems = append(p.problems, Problem{File: p.file, Line: s.line, Column: max(1, s.column), width: s.width, Key: path, Message: message, Suggestion: hint})
}

func (p *parse) missing(k *key, where string) {
	if p.meant[join(where, k.name())] {
		return
	}
	place, ok := p.places[where]
	if !ok {
		place = spot{1, 1, 0}
	}
	message := "the file has no " + k.name()
	if where != "" {
		message = where + " has no " + k.name()
	}
	hint := fmt.Sprintf("add: %s: %s", k.name(), k.example)
	if k.kind == kindNames {
		hint = "add: targets: {local: {url: file:///srv/backups}}"
	}
	p.add(place, join(where, k.name()), message, hint)
}

// folder is where the file lies.
func (p *parse) folder() string { return filepath.Dir(p.file) }

func join(where, name string) string {
	if where == "" {
		return name
	}
	return where + "." + name
}

// placeOf is where a node stands, with the width of what is written there.
func placeOf(n *yaml.Node) spot {
	width := 1
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 && !strings.Contains(n.Value, "\n") {
		width = runeLen(n.Value)
		if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			width += 2
		}
	}
	return spot{n.Line, n.Column, max(1, width)}
}

func nodeName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "mapping"
	case n.Kind == yaml.SequenceNode:
		return "list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return "single value"
}
