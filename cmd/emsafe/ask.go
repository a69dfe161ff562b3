package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"emsafe/internal/fault"
)

// asker asks on a terminal, and nowhere else.
type asker struct {
	p  *program
	in *bufio.Reader
}

func (a *asker) can() bool { return a.p.interactive() && !a.p.print.json }

func (a *asker) line(question, fallback string) (string, error) {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	fmt.Fprintf(a.p.stderr, "%s: ", question)
	answer, err := a.in.ReadString('\n')
	if err != nil && !(err == io.EOF && answer != "") {
		return "", fault.New(fault.Interrupted, "no answer").WithSafe("Nothing was written.")
	}
	if answer = strings.TrimSpace(answer); answer == "" {
		answer = fallback
	}
	return answer, nil
}

func (a *asker) yes(question string) (bool, error) {
	answer, err := a.line(question+" [Y/n]", "")
	return answer == "" || strings.HasPrefix(strings.ToLower(answer), "y"), err
}
