package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"emsafe/internal/suggest"
)

// preset fills in the default of a key that the file does not have.
func (p *parse) preset(k *key, path string, a at) {
	if k.kind == kindGroup {
		for _, sub := range children(k.path) {
			p.preset(sub, join(path, sub.name()), a)
		}
	}
	if k.field == nil {
		return
	}
	value, origin := k.def, "default"
	if value == "" {
		value = p.computed(k.name())
		if k.parent() != "" || value == "" {
			return // unset means something of its own
		}
		origin = "default: " + strings.ReplaceAll(k.computed, "`", "")
		if k.name() == "state" {
			origin = "default"
		}
	}
	if why, _ := store(k, value, a); why != "" {
		panic("config: the default of " + k.path + " is refused: " + why) // a mistake in the table
	}
	p.config.origins[path] = Origin{Default: origin}
}

// computed are the defaults that depend on the machine, the user and the place
// of the file.
func (p *parse) computed(name string) string {
	switch name {
	case "host":
		return HostName()
	case "state":
		return DefaultPaths(os.Getuid(), p.env).State
	case "signing_key":
		return beside(p.folder()).SigningKey
	case "allowed_signers":
		return beside(p.folder()).AllowedSigners
	}
	return ""
}

var (
	wholeVariable  = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)
	credentialForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,254}$`)
)

// secret decodes where a secret comes from. ${NAME} must be set now, as
// everywhere in the file; {env: NAME} is looked up when it is needed.
func (p *parse) secret(k *key, n *yaml.Node, path string, a at) {
	switch {
	case n.Kind == yaml.MappingNode:
		if s, ok := p.source(k, n, path); ok {
			s.env = p.env
			*k.field(a).(*Secret) = Secret{s}
		}
	case n.Kind != yaml.ScalarNode:
		p.maskAll(n)
		p.add(placeOf(n), path, fmt.Sprintf("%s takes the source of a secret, not a list", k.name()), expected(k))
	case wholeVariable.MatchString(n.Value):
		name := wholeVariable.FindStringSubmatch(n.Value)[1]
		if _, ok := p.env(name); !ok {
			p.add(placeOf(n), path, fmt.Sprintf("the environment variable %s is not set", name), fmt.Sprintf("set it where emsafe is started; {env: %s} is looked up only when the target is used", name))
		}
		*k.field(a).(*Secret) = Secret{&source{kind: "env", name: name, env: p.env}}
	case k.literal:
		if value, ok := p.text(k, n, path); ok {
			*k.field(a).(*Secret) = LiteralSecret(value)
		}
	default:
		p.maskAll(n)
		p.add(spot{n.Line, n.Column, len(hidden)}, path, "a secret is written out here", expected(k)+", and replace the secret if others have read this file")
	}
}

// maskAll keeps a value out of all messages.
func (p *parse) maskAll(n *yaml.Node) {
	last := n.Line + strings.Count(n.Value, "\n")
	p.lines.mask(n.Line, n.Column)
	for i := n.Line + 1; i <= last+1 && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0; i++ {
		p.lines.mask(i, 1)
	}
	for _, c := range n.Content {
		p.maskAll(c)
	}
}

// source decodes {env: …}, {file: …}, {credential: …} or {command: […]}.
func (p *parse) source(k *key, n *yaml.Node, path string) (*source, bool) {
	before := len(p.problems)
	var found []*source
	p.pairs(n, path, func(name, value *yaml.Node, at1 string) {
		if !p.plain(value, at1) {
			return
		}
		switch name.Value {
		case "env", "file", "credential":
			if value.Kind == yaml.ScalarNode && value.Tag != "!!null" {
				found = append(found, p.namedSource(name.Value, value, at1))
				return
			}
		case "command":
			if value.Kind == yaml.SequenceNode && len(value.Content) > 0 {
				found = append(found, p.commandSource(value, at1))
				return
			}
		default:
			p.maskAll(value)
			hint := expected(k)
			if near := suggest.Nearest(name.Value, []string{"env", "file", "credential", "command"}); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			p.add(placeOf(name), at1, fmt.Sprintf("a secret cannot come from %s", quoted(name.Value)), hint)
			return
		}
		p.maskAll(value)
		hint := "one value, as in {env: NAME}"
		if name.Value == "command" {
			hint = "a list, as in [program, argument]; no shell takes part"
		}
		p.add(placeOf(value), at1, name.Value+" takes another form", hint)
	})
	if len(p.problems) == before && len(found) != 1 {
		p.add(p.places[path], path, fmt.Sprintf("%s names %d sources, and needs one", k.name(), len(found)), expected(k))
	}
	return append(found, nil)[0], len(p.problems) == before
}

func (p *parse) namedSource(kind string, n *yaml.Node, path string) *source {
	value, ok := p.expand(n, path)
	s := &source{kind: kind, name: value}
	if !ok {
		return s
	}
	// A value of the wrong form may be the secret itself: it is not shown.
	switch {
	case kind == "env" && !variableName.MatchString(value):
		p.maskAll(n)
		p.add(placeOf(n), path, "this is not the name of an environment variable", "letters, digits and _ only; the secret itself belongs into the variable")
	case kind == "credential" && !credentialForm.MatchString(value):
		p.maskAll(n)
		p.add(placeOf(n), path, "this is not the name of a systemd credential", "as in LoadCredential=NAME:/path")
	case kind == "file":
		if why, hint := pathOK(value); why != "" {
			if !strings.HasPrefix(value, "~") {
				p.maskAll(n)
				why = "is not an absolute path"
			}
			p.add(placeOf(n), path, "the file of a secret "+why, hint)
			return s
		}
		s.name = filepath.Clean(value)
	}
	return s
}

func (p *parse) commandSource(n *yaml.Node, path string) *source {
	s := &source{kind: "command"}
	for i, item := range n.Content {
		if !p.plain(item, path) {
			continue
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			p.add(placeOf(item), path, "an argument of the command must be text", "put it in quotes")
			continue
		}
		value, ok := p.expand(item, path)
		if ok && (strings.ContainsRune(value, 0) || i == 0 && value == "") {
			p.add(placeOf(item), path, "the command has no program", "as in [/usr/local/bin/show-secret]")
		}
		s.argv = append(s.argv, value)
	}
	return s
}

// NewDatabase is a database with nothing but defaults.
func NewDatabase(path string) Database {
	d := Database{}
	d.preset("databases.*")
	d.Path = path
	return d
}

// preset sets the defaults of what is below a group.
func (d *Database) preset(group string) {
	for _, k := range children(group) {
		switch {
		case k.kind == kindGroup:
			d.preset(k.path)
		case k.def != "":
			store(k, k.def, at{database: d})
		}
	}
}
