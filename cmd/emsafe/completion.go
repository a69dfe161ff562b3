package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeFlag behind a line asks what could come next.
const completeFlag = "--generate-bash-completion"

// complete writes what may follow the words: commands, or what the last word
// may become if it is the beginning of a flag. It only reads, so that nothing
// is ever executed by TAB; the library would, behind "--".
func complete(w io.Writer, app *cli.App, words []string) {
	h := &hoister{global: app.Flags, commands: app.Commands}
	begun := ""
	if n := len(words); n > 0 && strings.HasPrefix(words[n-1], "-") {
		words, begun = words[:n-1], words[n-1]
	}
	for i := 0; i < len(words); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(words[i], "-"), "=")
		if words[i] == "--" {
			return
		}
		if len(words[i]) < 2 || words[i][0] != '-' {
			h.word(words[i])
		} else if f, _ := h.find(name); f != nil && takesValue(f) && !hasValue {
			if i++; i >= len(words) {
				return // its value, which the shell completes as a file
			}
		}
	}
	switch {
	case begun != "":
		for _, name := range h.flagNames() {
			if flag := "--" + name; len(name) > 1 && strings.HasPrefix(flag, begun) {
				fmt.Fprintln(w, flag)
			}
		}
	case len(h.positional) == 0:
		for _, c := range h.commands {
			if !c.Hidden {
				fmt.Fprintln(w, c.Name)
			}
		}
	}
}

const bashCompletion = `_emsafe() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  words=$("${COMP_WORDS[@]:0:$COMP_CWORD}" --generate-bash-completion 2>/dev/null)
  [[ $cur == -* ]] && words=$("${COMP_WORDS[@]:0:$COMP_CWORD}" "$cur" --generate-bash-completion 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _emsafe emsafe
`

const zshCompletion = `#compdef emsafe
_emsafe() {
  local -a words_
  if [[ "${words[-1]}" == -* ]]; then
    words_=("${(@f)$(${words[@]:0:#words[@]-1} ${words[-1]} --generate-bash-completion 2>/dev/null)}")
  else
    words_=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  compadd -- "${words_[@]%%:*}" || _files
}
compdef _emsafe emsafe
`

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completion script for a shell", ArgsUsage: "bash|zsh|fish",
		Description: "bash: source <(emsafe completion bash)\nzsh: emsafe completion zsh > \"${fpath[1]}/_emsafe\"\nfish: emsafe completion fish > ~/.config/fish/completions/emsafe.fish",
		Action: func(c *cli.Context) error {
			script := ""
			switch shell := c.Args().First(); shell {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				var err error
				if script, err = c.App.ToFishCompletion(); err != nil {
					return err
				}
				script = strings.ReplaceAll(script, "`", "") // marks of placeholders
			default:
				return usage("completion is for bash, zsh or fish, not %q", shell)
			}
			_, err := p.stdout.Write([]byte(script))
			return err
		},
	}
}
