package main

import (
	"context"
	"fmt"
	"strings"
)

// unchanged compares what a backup costs when nothing changed since the last,
// in time and in requests to the server: while an application has the database
// open, so that there is a WAL, and while nobody has.
func (b *bench) unchanged(ctx context.Context) ([]section, error) {
	var sections []section
	for _, open := range []bool{true, false} {
		s, err := b.unchangedOnce(ctx, open)
		if err != nil {
			return nil, err
		}
		sections = append(sections, s)
	}
	return sections, nil
}

func (b *bench) unchangedOnce(ctx context.Context, open bool) (section, error) {
	name, title := "unchanged", "Nothing changed, an application has the database open"
	if !open {
		name, title = "unchanged-closed", "Nothing changed, nobody has the database open"
	}
	proxy, err := startProxy(b.server.Endpoint)
	if err != nil {
		return section{}, err
	}
	defer proxy.close()
	l, err := b.lab(ctx, plan{name: name, mib: b.mib, s3: proxy.endpoint, restic: true})
	if err != nil {
		return section{}, err
	}
	defer l.close()
	app, err := l.application(ctx, l.db)
	if err != nil {
		return section{}, err
	}
	if err := app.tell("change 0 300"); err != nil {
		return section{}, err
	}
	if !open {
		app.close()
	}
	if err := l.do(ctx, `sed 's/^    path:/    unchanged: skip\n&/' "$CFG" > "$DIR/etc/skip.yaml"`); err != nil {
		return section{}, err
	}
	s, err := l.compareUnchanged(ctx, proxy)
	s.title = title
	return s, err
}

func (l *lab) compareUnchanged(ctx context.Context, proxy *proxy) (section, error) {
	heartbeat := l.emsafeBackup("emsafe backup, `unchanged: heartbeat`", "")
	skip := l.emsafeBackup("emsafe backup, `unchanged: skip`", "")
	skip.script = strings.Replace(skip.script, `"$CFG"`, `"$DIR/etc/skip.yaml"`, 1)
	contenders := []contender{heartbeat, skip, l.shellBackup(), l.resticBackup()}
	for _, c := range contenders { // the first one, which is not what is measured
		if _, err := l.once(ctx, c); err != nil {
			return section{}, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	requests := make([]string, len(contenders))
	counts := make([]int, len(contenders))
	for i := range contenders { // counted in a round of its own
		proxy.take()
		if _, err := l.once(ctx, contenders[i]); err != nil {
			return section{}, fmt.Errorf("%s: %w", contenders[i].name, err)
		}
		counts[i], requests[i] = proxy.take()
	}
	results, err := l.measure(ctx, contenders, nil)
	if err != nil {
		return section{}, err
	}
	if err := expect(results[0], "heartbeat"); err != nil {
		return section{}, err
	}
	if err := expect(results[1], "unchanged"); err != nil {
		return section{}, err
	}
	return unchangedSection(contenders, results, counts, requests), nil
}

func unchangedSection(contenders []contender, results [][]result, counts []int, requests []string) section {
	var s section
	s.text = fmt.Sprintf("emsafe knew it without reading the database in %d of %d backups.\n\n", proven(results[0])+proven(results[1]), len(results[0])+len(results[1]))
	s.text += table(contenders, results) + "\n| | requests |\n|---|---|\n"
	for i, c := range contenders {
		what := "none"
		if counts[i] > 0 {
			what = fmt.Sprintf("%d (%s)", counts[i], requests[i])
		}
		s.text += fmt.Sprintf("| %s | %s |\n", strings.ReplaceAll(c.name, "|", `\|`), what)
	}
	s.text += "\n"
	s.bars = []bar{
		atMost("wall time, heartbeat", " s", 0.1, median(results[0], wallOf).Seconds()),
		atMost("wall time, skip", " s", 0.1, median(results[1], wallOf).Seconds()),
		{"requests, heartbeat: at most 1", fmt.Sprint(counts[0]), counts[0] <= 1},
		{"requests, skip: none", fmt.Sprint(counts[1]), counts[1] == 0},
	}
	return s
}
