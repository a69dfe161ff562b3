package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// result is one run of a contender.
type result struct {
	wall, cpu time.Duration
	rss       int64 // KiB, of the largest process
	bytes     int64
}

// measure runs the contenders in turn, A B C A B C, so that a machine that
// grows slower does so for all.
func (b *bench) measure(ctx context.Context, contenders []contender) ([][]result, error) {
	results := make([][]result, len(contenders))
	for round := range b.runs {
		for k := range contenders {
			i := (k + round) % len(contenders) // nobody is always first
			c := contenders[i]
			r, err := b.once(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	return results, nil
}

func (b *bench) once(ctx context.Context, c contender) (result, error) {
	if c.before != "" {
		if out, err := b.shell(ctx, c.before).CombinedOutput(); err != nil {
			return result{}, fmt.Errorf("prepare: %w\n%s", err, out)
		}
	}
	syscall.Sync() // what the one before left to write is not this one's cost
	// Source and stored objects are in memory for everybody, or for nobody.
	if out, err := b.shell(ctx, `find "$DB" "$DIR/s3/data" -type f -exec cat {} + > /dev/null`).CombinedOutput(); err != nil {
		return result{}, fmt.Errorf("warm up: %w\n%s", err, out)
	}
	had := int64(0)
	if c.bucket != "" {
		had = b.bytes(c.bucket)
	}
	cmd := b.shell(ctx, c.script)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	r := result{wall: time.Since(began)}
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, out)
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.rss = usage.Maxrss
	if c.bucket != "" {
		if r.bytes = b.bytes(c.bucket); c.bucket == "emsafe" {
			r.bytes -= had // each run adds one backup; the others replace theirs
		}
	}
	return r, nil
}

func median[T int64 | time.Duration](results []result, of func(result) T) T {
	var all []T
	for _, r := range results {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// report prints a table; the ratios are against the shell pipeline's medians,
// which is what most people have today.
func report(title string, contenders []contender, results [][]result) {
	base := 0
	for i, c := range contenders {
		if len(c.name) > 0 && (c.bucket == "shell" || c.name == "download | age -d | zstd -d") {
			base = i
		}
	}
	wall := func(r result) time.Duration { return r.wall }
	cpu := func(r result) time.Duration { return r.cpu }
	rss := func(r result) int64 { return r.rss }
	bytes := func(r result) int64 { return r.bytes }
	fmt.Printf("%s\n\n| | wall s (min–max) | ratio | CPU s | ratio | peak MiB | stored MiB | ratio |\n|---|---|---|---|---|---|---|---|\n", title)
	for i, c := range contenders {
		r, against := results[i], results[base]
		low, high := r[0].wall, r[0].wall
		for _, one := range r {
			low, high = min(low, one.wall), max(high, one.wall)
		}
		stored := "| |"
		if c.bucket != "" {
			stored = fmt.Sprintf("| %.1f | %.2f", float64(median(r, bytes))/(1<<20), float64(median(r, bytes))/float64(median(against, bytes)))
		}
		fmt.Printf("| %s | %.2f (%.2f–%.2f) | %.2f | %.2f | %.2f | %.0f %s |\n", strings.ReplaceAll(c.name, "|", `\|`),
			median(r, wall).Seconds(), low.Seconds(), high.Seconds(), float64(median(r, wall))/float64(median(against, wall)),
			median(r, cpu).Seconds(), float64(median(r, cpu))/float64(median(against, cpu)), float64(median(r, rss))/1024, stored)
	}
	fmt.Println()
}
