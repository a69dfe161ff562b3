package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// section is a part of a case's results.
type section struct {
	title string
	text  string // Markdown
	bars  []bar
}

// bar is what was promised, and what was measured.
type bar struct {
	what     string
	measured string
	held     bool
}

func render(sections []section) string {
	var w strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&w, "### %s\n\n%s\n\n", s.title, strings.TrimRight(s.text, "\n"))
		if len(s.bars) == 0 {
			continue
		}
		w.WriteString("| bar | measured | |\n|---|---|---|\n")
		for _, b := range s.bars {
			verdict := "held"
			if !b.held {
				verdict = "**missed**"
			}
			fmt.Fprintf(&w, "| %s | %s | %s |\n", b.what, b.measured, verdict)
		}
		w.WriteString("\n")
	}
	return w.String()
}

// atMost is a bar for a number.
func atMost(what, unit string, limit, measured float64) bar {
	return bar{what: what + ": at most " + digits(limit) + unit, measured: digits(measured) + unit, held: measured <= limit}
}

// digits writes a number with three digits that count.
func digits(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0")
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", f), ".00")
}

// table compares the contenders; the ratios are against the base's medians.
func table(contenders []contender, results [][]result) string {
	base := 0
	for i, c := range contenders {
		if c.base {
			base = i
		}
	}
	var w strings.Builder
	w.WriteString("| | wall s (min–max) | ratio | CPU s | ratio | peak MiB | stored MiB | ratio |\n|---|---|---|---|---|---|---|---|\n")
	for i, c := range contenders {
		r, against := results[i], results[base]
		stored := "| |"
		if c.folder != "" {
			stored = fmt.Sprintf("| %.2f | %.3f |", mib(median(r, bytesOf)), ratio(median(r, bytesOf), median(against, bytesOf)))
		}
		fmt.Fprintf(&w, "| %s | %s | %.2f | %.2f | %.2f | %.0f %s\n", strings.ReplaceAll(c.name, "|", `\|`),
			spread(r), ratio(median(r, wallOf), median(against, wallOf)),
			median(r, cpuOf).Seconds(), ratio(median(r, cpuOf), median(against, cpuOf)), float64(median(r, rssOf))/1024, stored)
	}
	return w.String()
}

// spread is the median of the wall times, and the extremes.
func spread(r []result) string {
	low, high := r[0].wall, r[0].wall
	for _, one := range r {
		low, high = min(low, one.wall), max(high, one.wall)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(r, wallOf).Seconds(), low.Seconds(), high.Seconds())
}

// setting says on what it was measured.
func (b *bench) setting(name string) string {
	runs := "one run each"
	if b.runs > 1 {
		runs = fmt.Sprintf("%d runs each", b.runs)
	}
	size := fmt.Sprintf("a database of %d MiB, ", b.mib)
	if name == "scale" || name == "files" {
		size = ""
	}
	version := "emsafe"
	if out, err := exec.Command(b.emsafe, "--version").Output(); err == nil {
		version, _, _ = strings.Cut(string(out), "\n")
	}
	return fmt.Sprintf("%s, %s on %d cores (%s), %s%s.\n\n", time.Now().UTC().Format(time.DateOnly), version,
		runtime.NumCPU(), processor(), size, runs)
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// writeInto puts a case's results into its place in benchmarks.md.
func writeInto(docs, name, text string) error {
	file := filepath.Join(docs, "benchmarks.md")
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, err = place(doc, name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, doc, 0o644)
}

// place replaces what lies between a case's marks. Whatever else the document
// says is its authors'.
func place(doc []byte, name, text string) ([]byte, error) {
	begin, end := []byte("<!-- measured: "+name+" -->\n"), []byte("<!-- end: "+name+" -->\n")
	i, j := bytes.Index(doc, begin), bytes.Index(doc, end)
	if i < 0 || j < i {
		return nil, fmt.Errorf("there is no place for %s", name)
	}
	return bytes.Join([][]byte{doc[:i], begin, []byte("\n" + text), doc[j:]}, nil), nil
}
