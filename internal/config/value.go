package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// expected says how a key's value is written.
func expected(k *key) string {
	switch k.kind {
	case kindBoolean:
		return "write true or false"
	case kindChoice:
		return "one of " + strings.Join(k.choices, ", ")
	case kindNames:
		return "write names below it, with settings below each"
	case kindSecret:
		return "write {env: NAME}, {file: /path}, {credential: name} or {command: [program, argument]}"
	}
	return fmt.Sprintf("as in: %s: %s", k.name(), k.example)
}

// scalar decodes a single value.
func (p *parse) scalar(k *key, n *yaml.Node, path string, a at) {
	if (k.kind == kindNumber || k.kind == kindBoolean) && n.Style != 0 {
		p.add(placeOf(n), path, k.name()+" is text because of the quotes", "take them away")
		return
	}
	value, ok := p.text(k, n, path)
	if !ok {
		return
	}
	if why, hint := store(k, value, a); why != "" {
		p.add(placeOf(n), path, why, hint)
	}
}

// yamlTypes are the types that YAML gives to words without quotes.
var yamlTypes = map[string]string{"!!int": "a number", "!!float": "a number", "!!bool": "a truth value"}

// text is a scalar with its ${NAME} replaced, and checked for form.
func (p *parse) text(k *key, n *yaml.Node, path string) (string, bool) {
	isText := k.kind == kindText || k.kind == kindTexts || k.kind == kindWords
	if isText && n.Style == 0 && yamlTypes[n.Tag] != "" {
		p.add(placeOf(n), path, fmt.Sprintf("%s takes text, and %s is %s in YAML", k.name(), n.Value, yamlTypes[n.Tag]), fmt.Sprintf("put it in quotes: %q", n.Value))
		return "", false
	}
	value, ok := p.expand(n, path)
	if !ok {
		return "", false
	}
	if why, hint := k.refuse(value); why != "" {
		subject := k.name()
		if strings.HasSuffix(path, "]") {
			subject = "an item of " + subject
		}
		p.add(placeOf(n), path, subject+" "+why, hint)
		return "", false
	}
	switch k.kind {
	case kindPath, kindPaths:
		value = filepath.Clean(value)
	}
	return value, true
}

var variable = regexp.MustCompile(`\$(\$|\{[^}]*\}?|.?)`)
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME}. What a variable holds is taken as it is: it cannot
// bring in further variables, or YAML.
func (p *parse) expand(n *yaml.Node, path string) (string, bool) {
	sound := true
	value := variable.ReplaceAllStringFunc(n.Value, func(found string) string {
		name := strings.TrimSuffix(strings.TrimPrefix(found, "${"), "}")
		place := p.within(n, found)
		switch {
		case found == "$$":
			return "$"
		case !strings.HasPrefix(found, "${"):
			p.add(place, path, "a lone $ stands here", "write ${NAME} for a variable of the environment, or $$ for a dollar sign")
		case !strings.HasSuffix(found, "}") || !variableName.MatchString(name):
			p.add(place, path, fmt.Sprintf("%s is not a variable's name", quoted(found)), "write ${NAME}, with letters, digits and _ only; there are no defaults or other operators")
		default:
			if v, ok := p.env(name); ok {
				return v
			}
			p.add(place, path, fmt.Sprintf("the environment variable %s is not set", name), "set it where emsafe is started, or write the value here")
		}
		sound = false
		return ""
	})
	return value, sound
}

// variables are the names in a value, with their braces.
func variables(n *yaml.Node) string {
	var found []string
	for _, v := range variable.FindAllString(n.Value, -1) {
		if strings.HasPrefix(v, "${") {
			found = append(found, v)
		}
	}
	return strings.Join(found, " ")
}

// within is where a piece of a value stands.
func (p *parse) within(n *yaml.Node, piece string) spot {
	place := placeOf(n)
	for i := n.Line; i <= len(p.lines.list) && i <= n.Line+strings.Count(n.Value, "\n")+1; i++ {
		runes := []rune(p.lines.list[i-1])
		from := 0
		if i == n.Line {
			from = min(n.Column-1, len(runes))
		}
		if j := strings.Index(string(runes[from:]), piece); j >= 0 {
			return spot{i, 1 + from + runeLen(string(runes[from:])[:j]), runeLen(piece)}
		}
	}
	return place
}

// refuse says what is wrong with the form of a value, if anything; the caller
// puts the key's name in front.
func (k *key) refuse(value string) (why, hint string) {
	switch {
	case value == "":
		return "is empty", expected(k)
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "holds a line break or another character that cannot be printed", ""
	}
	switch k.kind {
	case kindPath, kindPaths:
		if why, hint = pathOK(value); why != "" {
			return why, hint
		}
	case kindChoice:
		if !slices.Contains(k.choices, value) {
			hint = expected(k)
			if near := choiceMeant(value, k.choices); near != "" {
				hint = fmt.Sprintf("did you mean %q? (%s)", near, hint)
			}
			return fmt.Sprintf("cannot be %s", quoted(value)), hint
		}
	}
	if k.form != nil {
		return k.form(value)
	}
	return "", ""
}

// store converts a value to the type of the key's field, and puts it there.
func store(k *key, value string, a at) (why, hint string) {
	switch f := k.field(a).(type) {
	case *string:
		*f = value
	case *int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Sprintf("%s is not a whole number: %s", k.name(), quoted(value)), expected(k)
		}
		if n != Version {
			return fmt.Sprintf("there is no version %d", n), "write version: 1"
		}
		*f = n
	case *bool:
		return storeBool(k, value, f)
	case **bool:
		*f = new(bool)
		return storeBool(k, value, *f)
	case *time.Duration:
		d, err := parseDuration(value)
		if err != nil {
			return fmt.Sprintf("%s is no length of time: %s", k.name(), quoted(value)), err.Error()
		}
		low, _ := parseDuration(k.min)
		high, _ := parseDuration(k.max)
		if d < low || d > high {
			return fmt.Sprintf("%s must be between %s and %s, not %s", k.name(), k.min, k.max, value), ""
		}
		*f = d
	case *Count:
		n, err := strconv.Atoi(value)
		low, _ := strconv.Atoi(k.min)
		if err != nil || n < low {
			return fmt.Sprintf("%s is not a number from %d on: %s", k.name(), low, quoted(value)), expected(k)
		}
		*f = Count(n)
	case *Percent:
		n, err := strconv.Atoi(strings.TrimSuffix(value, "%"))
		if err != nil || n < 0 || n > 100 {
			return fmt.Sprintf("%s is not from 0%% to 100%%: %s", k.name(), quoted(value)), expected(k)
		}
		*f = Percent(n)
	case *int64:
		n, err := parseSize(value)
		if err != nil {
			return fmt.Sprintf("%s is no size: %s", k.name(), quoted(value)), err.Error()
		}
		if low, _ := parseSize(k.min); n < low {
			return fmt.Sprintf("%s must be at least %s, not %s", k.name(), k.min, value), ""
		}
		*f = n
	}
	return "", ""
}

func storeBool(k *key, value string, f *bool) (why, hint string) {
	switch value {
	case "true", "false":
		*f = value == "true"
		return "", ""
	}
	return fmt.Sprintf("%s takes true or false, not %s", k.name(), quoted(value)), expected(k)
}

var durationForm = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$`)

// parseDuration is time.ParseDuration with days and weeks, without signs and
// without units that nobody means in a configuration.
func parseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("add a unit: %ss for seconds, %sm for minutes", s, s)
	}
	if !durationForm.MatchString(s) {
		return 0, errors.New("write a number and ms, s, m, h, d or w, as in 250ms or 1h30m")
	}
	var total float64
	for _, part := range regexp.MustCompile(`([0-9.]+)([a-z]+)`).FindAllStringSubmatch(s, -1) {
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, err
		}
		unit := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[part[2]]
		total += n * float64(unit)
	}
	if total > math.MaxInt64/2 {
		return 0, errors.New("it is longer than a century")
	}
	return time.Duration(math.Round(total)), nil
}

var (
	sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z/]*)$`)
	sizeUnit = map[string]float64{"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
)

// parseSize reads bytes with a unit. M and Mbit are refused, because people
// mean different things by them.
func parseSize(s string) (int64, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, errors.New("write a number and B, KiB, MiB, GiB, KB, MB or GB, as in 10MiB")
	}
	unit, ok := sizeUnit[m[2]]
	if !ok {
		switch u := strings.ToUpper(m[2]); {
		case u == "":
			return 0, fmt.Errorf("add a unit: %sB for bytes, %sMiB for mebibytes", m[1], m[1])
		case strings.Contains(u, "BIT") || strings.HasSuffix(u, "PS"):
			return 0, errors.New("it counts bytes: 100 Mbit/s are 12MB")
		case strings.Contains("KMGT", u[:1]):
			return 0, fmt.Errorf("write %s%siB (powers of 1024) or %s%sB (powers of 1000)", m[1], strings.ToUpper(u[:1]), m[1], strings.ToUpper(u[:1]))
		}
		return 0, errors.New("write a number and B, KiB, MiB, GiB, KB, MB or GB, as in 10MiB")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil || n*unit > math.MaxInt64/2 {
		return 0, errors.New("it is larger than any disk")
	}
	return int64(n * unit), nil
}

// formatDuration and formatSize write what the parsers read, without loss.
func formatDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d != 0 && d%u.unit == 0 {
			return fmt.Sprintf("%d%s", d/u.unit, u.name)
		}
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64) + "ms"
}

func formatSize(n int64) string {
	for _, u := range []string{"TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "KB"} {
		if unit := int64(sizeUnit[u]); n != 0 && n%unit == 0 {
			return fmt.Sprintf("%d%s", n/unit, u)
		}
	}
	return fmt.Sprintf("%dB", n)
}
