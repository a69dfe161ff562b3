package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	File       string `json:"file"`
	Line       int    `json:"line"`             // from 1
	Column     int    `json:"column"`           // from 1, in characters
	Key        string `json:"key,omitempty"`    // as targets.offsite.url
	Message    string `json:"message"`          // what is wrong
	Suggestion string `json:"hint,omitempty"`   // what would be right
	Source     string `json:"source,omitempty"` // the line, secrets hidden

	width int // characters under the caret; 0 if it is not about a line
}

// Problems is an error with everything that is wrong with a file, in the
// order of its lines.
type Problems []Problem

// shownProblems bounds the output: whoever feeds a wrong file altogether
// should still see the top of it.
const shownProblems = 50

func (ps Problems) Error() string {
	var b strings.Builder
	switch len(ps) {
	case 0:
		return "no problems"
	case 1:
		fmt.Fprintf(&b, "%s has a problem:\n", ps[0].File)
	default:
		fmt.Fprintf(&b, "%s has %d problems:\n", ps[0].File, len(ps))
	}
	for i, p := range ps {
		if i == shownProblems {
			fmt.Fprintf(&b, "\n… and %d more", len(ps)-i)
			break
		}
		b.WriteString("\n" + p.String())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// String is the problem as compilers print theirs.
func (p Problem) String() string {
	var b strings.Builder
	if p.width == 0 {
		fmt.Fprintf(&b, "%s: %s\n", p.File, p.Message)
	} else {
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", p.File, p.Line, p.Column, p.Message)
	}
	line, column, width := window(p.Source, p.Column, p.width)
	if strings.TrimSpace(line) == "" {
		if p.Suggestion != "" {
			fmt.Fprintf(&b, "      | %s\n", p.Suggestion)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%5d | %s\n", p.Line, line)
	mark := strings.Repeat(" ", column-1) + strings.Repeat("^", width)
	switch {
	case p.Suggestion == "":
		fmt.Fprintf(&b, "      | %s\n", mark)
	case len(mark)+utf8.RuneCountInString(p.Suggestion) < 100:
		fmt.Fprintf(&b, "      | %s %s\n", mark, p.Suggestion)
	default:
		fmt.Fprintf(&b, "      | %s\n      | %s\n", mark, p.Suggestion)
	}
	return b.String()
}

// windowWidth is the longest piece of a line that is shown, in characters.
const windowWidth = 100

// window cuts a long line to the part around the caret, and makes it safe for
// a terminal.
func window(line string, column, width int) (string, int, int) {
	runes := []rune(strings.TrimRight(line, " \t\r\n"))
	for i, r := range runes {
		if r == '\t' {
			runes[i] = ' '
		} else if !unicode.IsPrint(r) {
			runes[i] = '·' // an escape sequence in the file must not reach the terminal
		}
	}
	column = max(1, min(column, len(runes)+1))
	if column > windowWidth*3/4 {
		cut := column - windowWidth/2
		runes, column = append([]rune{'…'}, runes[cut:]...), column-cut+1
	}
	if len(runes) > windowWidth {
		runes = append(slices.Clone(runes[:windowWidth-1]), '…')
	}
	return string(runes), column, max(1, min(width, len(runes)-column+1))
}

// lines are the lines of a file as problems quote them.
type lines struct {
	list   []string
	masked map[int]int // line → the column from which on it is hidden
}

func newLines(data []byte) *lines {
	s := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	list := strings.Split(s, "\n")
	if len(list) > 1 && list[len(list)-1] == "" {
		list = list[:len(list)-1]
	}
	return &lines{list: list, masked: map[int]int{}}
}

// mask hides the rest of a line, because a secret stands there.
func (l *lines) mask(line, column int) {
	if at, ok := l.masked[line]; !ok || column < at {
		l.masked[line] = column
	}
}

var (
	// likeSecret finds values that look as if they must not be shown, also
	// where the key is misspelled or the line is not YAML at all.
	likeSecret = regexp.MustCompile(`(?i)([a-z_-]*(?:secr|passw|passphr|token|private|credential|access_key)[a-z_-]*["']?\s*[:=]\s*)([^\s{\[$#].*)$`)
	userinfo   = regexp.MustCompile(`://[^/@\s"']+@`)
	identity   = regexp.MustCompile(`(?i)AGE-SECRET-KEY-\S*`)
)

// source is a line for display.
func (l *lines) source(n int) string {
	if n < 1 || n > len(l.list) {
		return ""
	}
	line := l.list[n-1]
	if column, ok := l.masked[n]; ok {
		if runes := []rune(line); column-1 < len(runes) {
			line = string(runes[:column-1]) + hidden
		}
	}
	return maskText(line)
}

// maskText hides what looks like a secret.
func maskText(s string) string {
	s = userinfo.ReplaceAllString(identity.ReplaceAllString(s, hidden), "://"+hidden+"@")
	return likeSecret.ReplaceAllString(s, "${1}"+hidden)
}

// quoted is a value for a message: short, printable, and no secret.
func quoted(s string) string {
	s = identity.ReplaceAllString(s, hidden)
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:59]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// sorted puts problems into the order of the file.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return ps
}
