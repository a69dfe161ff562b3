package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// contender is one way to do the job.
type contender struct {
	name     string
	before   string // not measured
	script   string
	folder   string // whose growth is measured; "" for none
	replaces bool   // what it stores takes the place of what it stored before
	base     bool   // the others are measured against it
}

// result is one run of a contender.
type result struct {
	wall, cpu time.Duration
	rss       int64 // KiB, of the largest process
	bytes     int64
	said      []byte
}

// measure runs the contenders in turn, A B C B C A, so that a machine that
// grows slower does so for all. Before every round each is called.
func (l *lab) measure(ctx context.Context, contenders []contender, each func(round int) error) ([][]result, error) {
	results := make([][]result, len(contenders))
	for round := range l.runs {
		if each != nil {
			if err := each(round); err != nil {
				return nil, err
			}
		}
		for k := range contenders {
			i := (k + round) % len(contenders) // nobody is always first
			c := contenders[i]
			r, err := l.once(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	return results, nil
}

func (l *lab) once(ctx context.Context, c contender) (result, error) {
	if c.before != "" {
		if err := l.do(ctx, c.before); err != nil {
			return result{}, fmt.Errorf("prepare: %w", err)
		}
	}
	syscall.Sync() // what the one before left to write is not this one's cost
	// Source and stored objects are in memory for everybody, or for nobody.
	if err := l.do(ctx, `find "$DB" "$DATA/$NAME-"* -type f -exec cat {} + > /dev/null`); err != nil {
		return result{}, fmt.Errorf("warm up: %w", err)
	}
	had := int64(0)
	if c.folder != "" && !c.replaces {
		had = held(c.folder)
	}
	r, err := timed(l.shell(ctx, c.script))
	if err == nil && c.folder != "" {
		r.bytes = held(c.folder) - had
	}
	return r, err
}

// timed runs a command and its children to their end.
func timed(cmd *exec.Cmd) (result, error) {
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	began := time.Now()
	err := cmd.Run()
	r := result{wall: time.Since(began), said: out.Bytes()}
	if err != nil {
		return r, fmt.Errorf("%w\n%s%s", err, out.Bytes(), talk.Bytes())
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rss = usage.Maxrss
	}
	return r, nil
}

// taken is what the benchmark reads of `emsafe backup --json`.
type taken struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Pages  int64  `json:"delta_pages"`
	Proven bool   `json:"proven"`
	Held   int64  `json:"writers_held_ns"`
	Why    string `json:"why_full"`
}

func readTaken(said []byte) (t taken, err error) {
	if err := json.Unmarshal(said, &t); err != nil {
		return t, fmt.Errorf("what emsafe backup --json says: %w: %q", err, said)
	}
	return t, nil
}

// expect fails where a backup is not of the kind that is to be measured: a
// benchmark of deltas must not pass with full backups.
func expect(results []result, kind string) error {
	for _, r := range results {
		t, err := readTaken(r.said)
		if err != nil {
			return err
		}
		if t.Kind != kind {
			return fmt.Errorf("emsafe took a backup of kind %s instead of %s: %s", t.Kind, kind, t.Why)
		}
	}
	return nil
}

// proven is how many backups the WAL proved.
func proven(results []result) (n int) {
	for _, r := range results {
		if t, err := readTaken(r.said); err == nil && t.Proven {
			n++
		}
	}
	return n
}

func wallOf(r result) time.Duration { return r.wall }
func cpuOf(r result) time.Duration  { return r.cpu }
func rssOf(r result) int64          { return r.rss }
func bytesOf(r result) int64        { return r.bytes }

func median[T int64 | time.Duration | float64, R any](results []R, of func(R) T) T {
	var all []T
	for _, r := range results {
		all = append(all, of(r))
	}
	return quantile(all, 0.5)
}

// quantile is the value that a share q of all values do not exceed; 0 of none.
func quantile[T int64 | time.Duration | float64](all []T, q float64) T {
	if len(all) == 0 {
		return 0
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// ratio of two quantities; 0 where there is nothing to compare with.
func ratio[T int64 | time.Duration](a, b T) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
