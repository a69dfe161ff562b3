package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"emsafe/internal/sample"
	"emsafe/storage/catalog"
)

const (
	daemonDatabases = 10
	daemonSettles   = 20 * time.Second // before it is watched
	daemonWatched   = time.Minute
	retained        = 100_000
)

// daemon is what the daemon costs while it waits, and how long retention thinks
// about a long chain.
func (b *bench) daemon(ctx context.Context) ([]section, error) {
	dir := filepath.Join(b.dir, "daemon")
	if err := os.MkdirAll(filepath.Join(dir, "srv"), 0o700); err != nil {
		return nil, err
	}
	var named []string
	for i := range daemonDatabases {
		db := filepath.Join(dir, "srv", fmt.Sprintf("d%d.db", i))
		if err := sample.Make(ctx, db, 1<<20); err != nil {
			return nil, err
		}
		named = append(named, "--database", db)
	}
	cfg := filepath.Join(dir, "etc", "emsafe.yaml")
	init := exec.CommandContext(ctx, b.emsafe, append([]string{"--config", cfg, "init", "--target", "file://" + filepath.Join(dir, "target"),
		"--state", filepath.Join(dir, "state"), "--recovery-key-out", filepath.Join(dir, "key")}, named...)...)
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("init: %w\n%s", err, out)
	}
	text, err := os.ReadFile(cfg)
	if err != nil {
		return nil, err
	}
	// Not due while it is watched, whatever time it is.
	hour := (time.Now().UTC().Hour() + 12) % 24
	for i := range daemonDatabases {
		path := fmt.Sprintf("path: %s\n", filepath.Join(dir, "srv", fmt.Sprintf("d%d.db", i)))
		text = bytes.Replace(text, []byte(path), fmt.Appendf(nil, "%s    schedule: 0 %d * * *\n    objective: {rpo: 26h}\n    keep: {daily: 7}\n", path, hour), 1)
	}
	if err := os.WriteFile(cfg, text, 0o600); err != nil {
		return nil, err
	}
	cpu, rss, err := b.watchDaemon(ctx, cfg)
	if err != nil {
		return nil, err
	}
	thinking := retention()
	return []section{{
		title: "The daemon, waiting",
		text: fmt.Sprintf("Ten databases on schedule, none due: %.1f MiB resident, %.3f %% of one core over %s. Retention of %d backups, one a second, by `{last: 10, hourly: 24, daily: 7, weekly: 5, monthly: 12, yearly: 3, within: 1h}`: %.2f s.",
			float64(rss)/1024, cpu*100, daemonWatched, retained, thinking.Seconds()),
		bars: []bar{
			atMost("memory, resident", " MiB", 40, float64(rss)/1024),
			atMost("CPU of one core", " %", 0.1, cpu*100),
			atMost("retention plan over 100,000 manifests", " s", 1, thinking.Seconds()),
		},
	}}, nil
}

// watchDaemon runs the daemon and returns the share of a core that it uses, and
// its resident memory in KiB.
func (b *bench) watchDaemon(ctx context.Context, cfg string) (cpu float64, rss int64, err error) {
	cmd := exec.CommandContext(ctx, b.emsafe, "--config", cfg, "daemon")
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
		if werr := cmd.Wait(); werr != nil {
			err = errors.Join(err, fmt.Errorf("daemon: %w\n%s", werr, talk.Bytes()))
		}
	}()
	if err := wait(ctx, time.Now().Add(daemonSettles)); err != nil {
		return 0, 0, err
	}
	before, err := runTime(cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	if err := wait(ctx, time.Now().Add(daemonWatched)); err != nil {
		return 0, 0, err
	}
	after, err := runTime(cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	_, line, _ := bytes.Cut(status, []byte("VmRSS:"))
	rss, err = strconv.ParseInt(string(bytes.Fields(line)[0]), 10, 64)
	return float64(after-before) / float64(daemonWatched), rss, err
}

// runTime is what the threads of a process have used so far, to the nanosecond:
// the kernel's hundredths are too coarse for a process that waits.
func runTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no threads: %w", pid, err)
	}
	var total time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		ns, err := strconv.ParseInt(string(bytes.Fields(text)[0]), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// retention is how long the plan for a long chain takes.
func retention() time.Duration {
	now := time.Now().UTC()
	points := make([]catalog.Point, retained)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range points {
		points[i] = catalog.Point{ID: fmt.Sprint(i), Sequence: uint64(i + 1), At: now.Add(time.Duration(i-retained) * time.Second), Full: i%5000 == 0} //nolint:gosec // small
		if !points[i].Full {
			full := uint64(i - i%5000 + 1) //nolint:gosec // small
			points[i].Ancestors = []uint64{full}
			if i%5000 > 100 && rng.IntN(2) == 0 {
				points[i].Ancestors = append(points[i].Ancestors, full+uint64(i%5000/100)) //nolint:gosec // small
			}
		}
	}
	began := time.Now()
	catalog.Retain(points, catalog.Keep{Last: 10, Hourly: 24, Daily: 7, Weekly: 5, Monthly: 12, Yearly: 3, Within: time.Hour}, now, time.UTC)
	return time.Since(began)
}
