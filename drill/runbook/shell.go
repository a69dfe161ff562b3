package runbook

import "strings"

// builtin are the words of a shell that are no programs.
var builtin = map[string]bool{
	"": true, ".": true, ":": true, "[": true, "break": true, "case": true, "cd": true, "command": true, "continue": true, "do": true, "done": true, "echo": true, "elif": true, "else": true,
	"esac": true, "eval": true, "exec": true, "exit": true, "export": true, "false": true, "fi": true, "for": true, "if": true, "in": true, "kill": true, "printf": true, "pwd": true, "read": true,
	"set": true, "shift": true, "test": true, "then": true, "trap": true, "true": true, "type": true, "ulimit": true, "umask": true, "unset": true, "until": true, "wait": true, "while": true,
	"{": true, "}": true, "!": true, "return": true,
}

// through are words that have another command behind them.
var through = map[string]bool{
	"if": true, "then": true, "else": true, "elif": true, "while": true, "until": true, "do": true, "!": true, "{": true, "exec": true, "command": true, "sudo": true, "env": true, "nice": true,
}

// Words are the simple commands of a script, each as its words. It knows as much
// of a shell as runbooks should use: quotes, comments, pipes, lists, groups,
// command substitution.
func Words(script string) (commands [][]string) {
	var words []string
	var word strings.Builder
	inWord, here := false, false
	push := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	end := func() {
		push()
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	quote := rune(0)
	runes := []rune(script)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		next := rune(0)
		if i+1 < len(runes) {
			next = runes[i+1]
		}
		switch {
		case quote == '\'' || quote == '"' && r != '$' && r != '`':
			if r == quote {
				quote = 0
			} else if quote == '"' && r == '\\' && next != 0 {
				word.WriteRune(next)
				i++
			} else {
				word.WriteRune(r)
			}
		case r == '$' && next == '(':
			inner, skipped := substitution(runes[i+2:])
			commands = append(commands, Words(inner)...)
			word.WriteString("$()")
			inWord = true
			i += 1 + skipped
		case quote == '"':
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '\\' && next == '\n':
			i++
		case r == '\\' && next != 0:
			word.WriteRune(next)
			inWord = true
			i++
		case r == '#' && !inWord:
			for i+1 < len(runes) && runes[i+1] != '\n' {
				i++
			}
		case r == '<' && next == '<':
			here = true
			word.WriteRune(r)
		case r == '\n' && here:
			end()
			return append(commands, Words(afterHere(string(runes[:i]), string(runes[i+1:])))...)
		case r == '>' || r == '<':
			if strings.Trim(word.String(), "0123456789") == "" {
				word.Reset() // the number of what is redirected
				inWord = false
			}
			push()
			word.WriteRune(r)
			inWord = true
			for i+1 < len(runes) && strings.ContainsRune(">& ", runes[i+1]) {
				i++
			}
		case strings.ContainsRune("\n;|&()", r):
			end()
		case r == ' ' || r == '\t':
			push()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	end()
	return commands
}

// afterHere is what follows a here-document.
func afterHere(before, rest string) string {
	at := strings.LastIndex(before, "<<")
	mark := strings.Trim(strings.Fields(before[at+2:] + " x")[0], `-'"\`)
	for line := range strings.Lines(rest) {
		rest = rest[len(line):]
		if strings.TrimSpace(line) == mark {
			return rest
		}
	}
	return ""
}

// substitution is what stands in $( ), and how many runes that takes.
func substitution(runes []rune) (inner string, skipped int) {
	depth := 1
	for i, r := range runes {
		switch r {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return string(runes[:i]), i + 1
			}
		}
	}
	return string(runes), len(runes)
}

// Programs are the programs that a script starts, each with its arguments, where
// they can be told.
func Programs(script string) (programs [][]string) {
	for _, words := range Words(script) {
		words = dropRedirections(words)
		for len(words) > 0 && (through[words[0]] || isAssignment(words[0]) || words[0] == "-E" || words[0] == "-n") {
			words = words[1:]
		}
		if len(words) == 0 || builtin[words[0]] || strings.HasPrefix(words[0], "$") || strings.Contains(words[0], "{{") || strings.HasSuffix(words[0], ")") {
			continue
		}
		programs = append(programs, words)
	}
	return programs
}

func dropRedirections(words []string) []string {
	var kept []string
	for _, w := range words {
		if !strings.HasPrefix(w, ">") && !strings.HasPrefix(w, "<") {
			kept = append(kept, w)
		}
	}
	return kept
}

func isAssignment(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	return ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
