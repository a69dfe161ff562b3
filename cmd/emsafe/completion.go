package main

import (
	"github.com/urfave/cli/v2"
)

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
			default:
				return usage("completion is for bash, zsh or fish, not %q", shell)
			}
			_, err := p.stdout.Write([]byte(script))
			return err
		},
	}
}
