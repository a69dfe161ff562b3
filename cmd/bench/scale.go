package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// operations of the case, in the order in which they are run.
var operations = []string{"first backup", "delta of 1 %", "restore of both"}

// point is what was measured at one size: medians, by operation.
type point struct {
	mib  int64
	wall []time.Duration
	rss  []int64 // KiB
}

// scale measures time and memory against the size of the database.
func (b *bench) scale(ctx context.Context) ([]section, error) {
	var points []point
	for _, size := range b.sizes {
		p, err := b.scaleAt(ctx, size)
		if err != nil {
			return nil, fmt.Errorf("%d MiB: %w", size, err)
		}
		points = append(points, p)
	}
	s := section{title: "Time and memory against size"}
	var t strings.Builder
	t.WriteString("| MiB |")
	for _, o := range operations {
		t.WriteString(" " + o + ", s | peak MiB |")
	}
	t.WriteString("\n|" + strings.Repeat("---|", 1+2*len(operations)) + "\n")
	for _, p := range points {
		fmt.Fprintf(&t, "| %d |", p.mib)
		for i := range operations {
			fmt.Fprintf(&t, " %.2f | %.0f |", p.wall[i].Seconds(), float64(p.rss[i])/1024)
		}
		t.WriteString("\n")
	}
	t.WriteString("\n![time and memory against size](benchmarks-scale.svg)\n")
	s.text = t.String()
	first, last := points[0], points[len(points)-1]
	times := float64(last.mib) / float64(first.mib)
	for i, o := range operations {
		s.bars = append(s.bars,
			atMost(fmt.Sprintf("%s, linear: time for %.0f times the size", o, times), " times", times*1.3, ratio(last.wall[i], first.wall[i])),
			atMost(fmt.Sprintf("%s, flat: memory for %.0f times the size", o, times), " times", 1.3, ratio(last.rss[i], first.rss[i])))
	}
	if b.docs != "" {
		if err := os.WriteFile(filepath.Join(b.docs, "benchmarks-scale.svg"), drawScale(points), 0o644); err != nil {
			return nil, err
		}
	}
	return []section{s}, nil
}

func (b *bench) scaleAt(ctx context.Context, size int64) (point, error) {
	l, err := b.lab(ctx, plan{name: fmt.Sprintf("scale-%d", size), mib: size})
	if err != nil {
		return point{}, err
	}
	defer l.close()
	app, err := l.application(ctx, l.db)
	if err != nil {
		return point{}, err
	}
	if err := app.tell("change 0 300"); err != nil {
		return point{}, err
	}
	steps := []contender{l.emsafeBackup("full", "--full"), l.emsafeBackup("delta", ""), l.emsafeRestore("none")}
	results := make([][]result, len(steps))
	for round := range b.runs {
		for i, c := range steps {
			if i == 1 {
				if err := app.tell("change %d %d", round+1, size<<20/pageSize/100); err != nil {
					return point{}, err
				}
			}
			r, err := l.once(ctx, c)
			if err != nil {
				return point{}, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	if err := expect(results[1], "delta"); err != nil {
		return point{}, err
	}
	p := point{mib: size}
	for _, r := range results {
		p.wall = append(p.wall, median(r, wallOf))
		p.rss = append(p.rss, median(r, rssOf))
	}
	return p, nil
}

// drawScale draws the measurement: time to the left, memory to the right.
func drawScale(points []point) []byte {
	seconds := panel{title: "Time", unit: "seconds"}
	memory := panel{title: "Peak memory", unit: "MiB"}
	for i, o := range operations {
		t, m := series{name: o}, series{name: o}
		for _, p := range points {
			t.x, t.y = append(t.x, float64(p.mib)), append(t.y, p.wall[i].Seconds())
			m.x, m.y = append(m.x, float64(p.mib)), append(m.y, float64(p.rss[i])/1024)
		}
		seconds.series, memory.series = append(seconds.series, t), append(memory.series, m)
	}
	return draw("emsafe: time and memory against the size of the database", "database, MiB", seconds, memory)
}
