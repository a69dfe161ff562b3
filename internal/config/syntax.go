package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// sizeLimit bounds a file; a configuration of a thousand databases has 0.1 MiB.
const sizeLimit = 1 << 20

// tree reads the one document of a file. What the YAML library cannot read
// becomes a problem at the line where it goes wrong, because the library often
// names another one, and no column.
func (p *parse) tree(data []byte) *yaml.Node {
	switch line, column, why := invalidText(data); {
	case len(data) > sizeLimit:
		p.add(spot{1, 1, 1}, "", "the file is larger than 1 MiB", "is it the right file?")
		return nil
	case why != "":
		p.add(spot{line, column, 1}, "", why, "")
		return nil
	}
	if p.tabs() {
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		p.add(spot{1, 1, 1}, "", "the file is empty", "`emsafe init` writes a configuration")
		return nil
	}
	if err == nil {
		if err = dec.Decode(&second); errors.Is(err, io.EOF) {
			return doc.Content[0]
		}
		if err == nil {
			p.add(p.secondDocument(), "", "a second document begins here", "one file, one configuration: take the --- out")
			return nil
		}
	}
	p.syntax(err)
	return nil
}

// invalidText finds bytes that are not text, with their place.
func invalidText(data []byte) (line, column int, why string) {
	line, column = 1, 1
	for i := 0; i < len(data) && i <= sizeLimit; {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return line, column, "the file is not UTF-8 text"
		case r == '\n':
			line, column = line+1, 0
		case r == '\r':
			if i+1 >= len(data) || data[i+1] != '\n' {
				line, column = line+1, 0
			}
		case r < ' ' && r != '\t', r >= 0x7f && r < 0xa0, r == 0xfeff && i > 0, r == 0x2028, r == 0x2029:
			return line, column, "a control character stands here, which may not even be visible"
		}
		i, column = i+n, column+1
	}
	return 0, 0, ""
}

// tabs reports all lines that are indented with tabs, which YAML forbids.
func (p *parse) tabs() bool {
	found := false
	for i, line := range p.lines.list {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if at := strings.IndexByte(indent, '\t'); at >= 0 && len(strings.TrimSpace(line)) > 0 && strings.TrimSpace(line)[0] != '#' {
			p.add(spot{i + 1, at + 1, strings.Count(indent, "\t")}, "", "a tab indents this line; YAML allows only spaces there", "use two spaces for each level")
			found = true
		}
	}
	return found
}

// secondDocument is where the separator of a second document stands.
func (p *parse) secondDocument() spot {
	content := false
	for i, line := range p.lines.list {
		if strings.HasPrefix(line, "---") && content {
			return spot{i + 1, 1, 3}
		}
		trimmed := strings.TrimSpace(line)
		content = content || trimmed != "" && trimmed[0] != '#' && trimmed[0] != '%'
	}
	return spot{len(p.lines.list), 1, 1}
}

var lineNumber = regexp.MustCompile(`^(yaml: )?(line \d+: )?`)

// syntax reports why the document cannot be read. The place is the first line
// with which the lines up to it stop being a document: a block that is cut off
// between two of its lines is whole, and an unclosed quote or bracket is
// blamed on the line that opens it.
func (p *parse) syntax(err error) {
	why := lineNumber.ReplaceAllString(err.Error(), "")
	line := p.firstBad()
	source := p.lines.list[line-1]
	place := spot{line, 1 + runeLen(source) - runeLen(strings.TrimLeft(source, " ")), 1}
	message, hint := "this line does not fit in: "+why, ""
	switch {
	case strings.Contains(why, "unknown anchor"):
		message, hint = "an alias (*name) stands here, and configurations have none", "quote a value that begins with *, or write the value out"
		place = p.locate(place, regexp.MustCompile(`[:\[,-]\s+(\*\S*)`))
	case strings.Contains(why, "cannot start any token"):
		message, hint = "a value cannot begin with this character", "put the value in quotes"
		place = p.locate(place, regexp.MustCompile("[:\\[,-]\\s+([@`%|>!&*])"))
	case strings.Contains(why, "mapping values are not allowed"):
		message, hint = "a colon stands where none can be", "put a value that holds \": \" in quotes, or mend the indentation"
		place = p.locate(place, regexp.MustCompile(`:\s.*?(:)(\s|$)`))
		if prev := p.contentBefore(line); prev > 0 && gluedColon.MatchString(p.lines.list[prev-1]) {
			place = p.locate(spot{prev, 1, 1}, gluedColon)
			message, hint = "a space is missing after the colon", "write \"key: value\""
		}
	case strings.Contains(why, "unexpected end of stream"):
		message, hint = "a quote is opened here and not closed", ""
		place = p.locate(place, regexp.MustCompile(`[:\[,-]\s+(["'])`))
	case strings.Contains(why, "',' or ']'"), strings.Contains(why, "',' or '}'"):
		message, hint = "a bracket is opened here and not closed, or a comma is missing", "put a value that holds { } [ ] or , in quotes"
		place = p.locate(place, regexp.MustCompile(`([\[{])`))
	case strings.Contains(why, "could not find expected ':'"):
		message, hint = "a key without a colon", "write \"key: value\""
		if gluedColon.MatchString(source) {
			place = p.locate(place, gluedColon)
			message = "a space is missing after the colon"
		}
	case strings.Contains(why, "expected key"), strings.Contains(why, "'-' indicator"):
		message, hint = "this line does not belong to the lines above it", "keys of one mapping, and items of one list, begin in the same column"
	case strings.Contains(why, "unknown escape"):
		message, hint = "an unknown escape sequence after a backslash", "in single quotes a backslash is just a backslash"
	case strings.Contains(why, "incompatible YAML document"):
		message, hint = "this version of YAML is not supported", "take the %YAML line out"
	}
	p.add(place, "", message, hint)
}

var gluedColon = regexp.MustCompile(`^\s*[A-Za-z_-]+(:)[^\s/]`)

// contentBefore is the last line above with something on it; 0 if none.
func (p *parse) contentBefore(line int) int {
	for i := line - 1; i > 0; i-- {
		if s := strings.TrimSpace(p.lines.list[i-1]); s != "" && s[0] != '#' {
			return i
		}
	}
	return 0
}

// locate moves the caret to what the pattern's first group finds.
func (p *parse) locate(s spot, pattern *regexp.Regexp) spot {
	line := p.lines.list[s.line-1]
	if m := pattern.FindStringSubmatchIndex(line); m != nil {
		return spot{s.line, 1 + runeLen(line[:m[2]]), runeLen(line[m[2]:m[3]])}
	}
	return s
}

// firstBad is the line after the longest run of lines that can be read.
func (p *parse) firstBad() int {
	whole := func(n int) bool {
		dec := yaml.NewDecoder(strings.NewReader(strings.Join(p.lines.list[:n], "\n") + "\n"))
		for {
			var doc yaml.Node
			if err := dec.Decode(&doc); err != nil {
				return errors.Is(err, io.EOF)
			}
		}
	}
	total := 1
	for _, line := range p.lines.list {
		total += len(line) + 1
	}
	// How often the document is read again is bounded by its size, so that a
	// large one costs seconds at most.
	probes := max(20, min(300, sizeLimit*8/total))
	low, high := 0, len(p.lines.list) // the first `low` lines can be read, all cannot
	for high-low > probes/2 {
		mid := (low + high) / 2
		good := mid
		for good < min(mid+8, high) && !whole(good) {
			good++ // a cut inside brackets that span lines looks bad and is not
		}
		if good < min(mid+8, high) {
			low = good
		} else {
			high = mid
		}
	}
	for n := min(len(p.lines.list)-1, high+probes/2); n > low; n-- {
		if whole(n) {
			return n + 1
		}
	}
	return low + 1
}

func runeLen(s string) int { return utf8.RuneCountInString(s) }
