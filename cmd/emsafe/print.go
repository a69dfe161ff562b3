package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"emsafe/internal/fault"
	"emsafe/internal/report"
)

// The rules of output: data goes to stdout, talk to stderr. With --json stdout
// carries one JSON document (or one line each for many) and an error is one
// JSON object on stderr. Progress is drawn only on a terminal; colour only
// there, and never under NO_COLOR. Sizes are binary (MiB) for people and bytes
// for machines; times are UTC.
type printer struct {
	out, err io.Writer
	json     bool
	quiet    bool
	tty      bool // stderr is a terminal
	color    bool

	mu    sync.Mutex
	drawn bool
	last  time.Time
	began time.Time
}

func newPrinter(out, err io.Writer, asJSON bool, env func(string) (string, bool)) *printer {
	p := &printer{out: out, err: err, json: asJSON}
	if f, ok := err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.tty = true
		_, no := env("NO_COLOR")
		p.color = !no
	}
	return p
}

// note says something to people; not with --json or --quiet.
func (p *printer) note(format string, args ...any) {
	if p.json || p.quiet {
		return
	}
	p.clearProgress()
	fmt.Fprintf(p.err, format+"\n", visible(args)...)
}

// painted is text with a colour of our own.
type painted string

// visible keeps what comes from elsewhere from steering the terminal.
func visible(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			out[i] = report.Visible(v)
		case error:
			out[i] = report.Visible(v.Error())
		default:
			out[i] = a
		}
	}
	return out
}

// warn says something that must not be missed, also with --quiet.
func (p *printer) warn(format string, args ...any) {
	p.clearProgress()
	if p.json {
		p.object(p.err, map[string]string{"warning": fmt.Sprintf(format, visible(args)...)})
		return
	}
	fmt.Fprintf(p.err, "%s %s\n", p.paint("33", "warning:"), fmt.Sprintf(format, visible(args)...))
}

// line writes data for people; data for machines goes through emit.
func (p *printer) line(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.out, format+"\n", visible(args)...)
	}
}

// done is a line about what went well: not with --quiet.
func (p *printer) done(format string, args ...any) {
	if !p.quiet {
		p.line(format, args...)
	}
}

// emit writes a document with --json, and nothing otherwise.
func (p *printer) emit(doc any) {
	if p.json {
		p.object(p.out, doc)
	}
}

func (p *printer) object(w io.Writer, doc any) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.Encode(doc)                                    //nolint:errcheck // our own documents
	io.WriteString(w, report.Visible(text.String())) //nolint:errcheck // stdout is gone: nobody is left to tell
}

// table aligns rows; the first is the heading.
func (p *printer) table(rows [][]string) {
	if p.json {
		return
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.TrimRight(report.Visible(strings.Join(r, "\t")), "\t "))
	}
	w.Flush()
}

// failure is an error in JSON.
type failure struct {
	ID      string `json:"id"`
	Exit    int    `json:"exit"`
	Message string `json:"message"`
	Safe    string `json:"safe,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

func describe(err error) failure {
	f := fault.Of(err)
	if f == nil {
		return failure{fault.Other.ID, fault.Exit(err), err.Error(), fault.Other.Safe, fault.Other.Remedy}
	}
	out := failure{f.Kind.ID, f.Kind.Exit, err.Error(), f.Safe, f.Remedy}
	if out.Safe == "" {
		out.Safe = f.Kind.Safe
	}
	if out.Remedy == "" {
		out.Remedy = f.Kind.Remedy
	}
	return out
}

// fail says what happened, what is still safe, and what to do.
func (p *printer) fail(err error) {
	f := describe(err)
	if p.json {
		p.object(p.err, map[string]failure{"error": f})
		return
	}
	fmt.Fprintf(p.err, "%s %s\n", p.paint("31", "emsafe:"), report.Visible(f.Message))
	for _, extra := range [][2]string{{"Still safe: ", f.Safe}, {"What to do: ", f.Remedy}} {
		if extra[1] != "" {
			fmt.Fprintf(p.err, "  %s%s\n", extra[0], report.Visible(extra[1]))
		}
	}
	fmt.Fprintf(p.err, "  (error %s, exit code %d)\n", f.ID, f.Exit)
}

func (p *printer) paint(code, s string) painted {
	s = report.Visible(s)
	if p.color {
		s = "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	return painted(s)
}

// progress returns a function that draws done of total bytes, at most ten
// times a second, on a terminal.
func (p *printer) progress(what string) func(done, total int64) {
	if !p.tty || p.json || p.quiet {
		return nil
	}
	p.began = time.Now()
	return func(done, total int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		now := time.Now()
		if now.Sub(p.last) < 100*time.Millisecond {
			return
		}
		p.last, p.drawn = now, true
		rate := float64(done) / now.Sub(p.began).Seconds()
		eta := ""
		if rate > 0 && done < total {
			eta = ", " + (time.Duration(float64(total-done)/rate*float64(time.Second)) / time.Second * time.Second).String() + " left"
		}
		fmt.Fprintf(p.err, "\r\x1b[K%s %d%%  %s of %s, %s/s%s", what, done*100/max(total, 1), size(done), size(total), size(int64(rate)), eta)
	}
}

func (p *printer) clearProgress() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.err, "\r\x1b[K")
		p.drawn = false
	}
}

// size is bytes for people.
func size(n int64) string {
	switch f := float64(n); {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", f/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", f/(1<<20))
	default:
		return fmt.Sprintf("%.2f GiB", f/(1<<30))
	}
}

// age is a span for people: two units at most.
// ago is a time that has passed, or has not.
func ago(d time.Duration) string {
	if d < 0 {
		return age(d)
	}
	return age(d) + " ago"
}

func age(d time.Duration) string {
	switch {
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// several is a number of something.
func several(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
