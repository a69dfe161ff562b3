package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Setting is one value of the effective configuration.
type Setting struct {
	Key    string `json:"key"`   // as databases.app.path
	Value  string `json:"value"` // in the file's notation; secrets by their source
	Origin string `json:"origin"`
}

// Settings are all values in effect, with defaults and without secrets, in
// the order of the reference.
func (c *Config) Settings() []Setting {
	var list []Setting
	c.walk(func(k *key, path string, a at) {
		value := written(k, a, true)
		if k.kind == kindTargets && value == "" {
			list = append(list, Setting{path, flow(slices.Sorted(maps.Keys(c.Targets))), "default: all targets"})
		} else if value != "" {
			list = append(list, Setting{path, value, c.origins[path].String()})
		}
	})
	return list
}

// Show writes the effective configuration as a file that says of every value
// where it comes from. Secrets are shown by their source.
func (c *Config) Show() []byte {
	var body [][2]string // line, comment
	for _, s := range c.Settings() {
		parts := strings.Split(s.Key, ".")
		for i, part := range parts[:len(parts)-1] {
			if path := strings.Join(parts[:i+1], "."); !opened(body, path) {
				body = append(body, [2]string{indent(i) + part + ":", "\x00" + path})
			}
		}
		body = append(body, [2]string{indent(len(parts)-1) + parts[len(parts)-1] + ": " + s.Value, s.Origin})
	}
	width := 0
	for _, line := range body {
		if n := runeLen(line[0]); n <= 60 {
			width = max(width, n)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# the configuration in effect, from %s\n", c.File)
	for _, line := range body {
		if line[1] == "" || line[1][0] == 0 {
			b.WriteString(line[0] + "\n")
			continue
		}
		fmt.Fprintf(&b, "%-*s  # %s\n", width, line[0], line[1])
	}
	return []byte(b.String())
}

func opened(body [][2]string, path string) bool {
	return slices.ContainsFunc(body, func(l [2]string) bool { return l[1] == "\x00"+path })
}

func indent(level int) string { return strings.Repeat("  ", level) }

// walk visits every key with a field, below every name.
func (c *Config) walk(visit func(k *key, path string, a at)) { walk("", "", at{config: c}, visit) }

func walk(parent, where string, a at, visit func(k *key, path string, a at)) {
	for _, k := range children(parent) {
		path := join(where, k.name())
		switch k.kind {
		case kindGroup:
			walk(k.path, path, a, visit)
		case kindNames:
			for _, e := range entries(k, a) {
				walk(k.path+".*", join(path, e.name), e.at, visit)
			}
		default:
			visit(k, path, a)
		}
	}
}

// written is a value in the file's notation; "" if it is not set. With hide
// set, a literal that stands in a secret's place is not shown.
func written(k *key, a at, hide bool) string {
	switch f := k.field(a).(type) {
	case *int:
		return strconv.Itoa(*f)
	case *string:
		if *f != "" {
			return quotable(*f)
		}
	case *[]string:
		if len(*f) > 0 {
			return flow(*f)
		}
	case *bool:
		return strconv.FormatBool(*f)
	case **bool:
		if *f != nil {
			return strconv.FormatBool(**f)
		}
	case *time.Duration:
		if *f != 0 {
			return formatDuration(*f)
		}
	case *Count:
		if *f != 0 {
			return strconv.Itoa(int(*f))
		}
	case *Percent:
		return strconv.Itoa(int(*f)) + "%"
	case *int64:
		if *f != 0 {
			return formatSize(*f)
		}
	case *Secret:
		if !f.IsZero() {
			return f.from.written(hide)
		}
	}
	return ""
}

func (s *source) written(hide bool) string {
	switch {
	case s.kind == "command" && hide:
		return "{command: " + flow([]string{s.argv[0], "…"}[:min(2, len(s.argv))]) + "}"
	case s.kind == "command":
		return "{command: " + flow(s.argv) + "}"
	case s.kind == "literal" && hide:
		return quotable(hidden)
	case s.kind == "literal":
		return quotable(s.value())
	}
	return "{" + s.kind + ": " + quotable(s.name) + "}"
}

func flow(items []string) string {
	var quoted []string
	for _, s := range items {
		quoted = append(quoted, quotable(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

var plainForm = regexp.MustCompile(`^[A-Za-z0-9/_.][A-Za-z0-9/_.:@=+% -]*$`)

// quotable is text as it must be written to be read back as the same text.
func quotable(s string) string {
	s = strings.ReplaceAll(s, "$", "$$")
	if plainForm.MatchString(s) && s == strings.TrimSpace(s) && !strings.Contains(s, ": ") && !strings.HasSuffix(s, ":") {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(s), &n); err == nil && len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode && n.Content[0].Tag == "!!str" && n.Content[0].Value == s {
			return s
		}
	}
	return strconv.QuoteToGraphic(s)
}
