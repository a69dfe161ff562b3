package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// protection is a running `emsafe backup --continuous`.
type protection struct {
	cmd   *exec.Cmd
	began time.Time
	file  string // what it says
	talk  bytes.Buffer
	done  chan struct{}
}

func (l *lab) protect(ctx context.Context) (*protection, error) {
	p := &protection{file: filepath.Join(l.dir, "continuous"), done: make(chan struct{})}
	out, err := os.Create(p.file)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.CommandContext(ctx, l.emsafe, "--config", filepath.Join(l.dir, "etc", "emsafe.yaml"), "backup", "--continuous", "--json", "app")
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = l.env, out, &p.talk
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait() //nolint:errcheck // how it ends is asked where it matters
		close(p.done)
	}()
	return p, nil
}

// end sends a signal and waits. That it ended before is an error.
func (p *protection) end(signal syscall.Signal) error {
	select {
	case <-p.done:
		return fmt.Errorf("emsafe backup --continuous ended by itself: %s\n%s", p.cmd.ProcessState, p.talk.Bytes())
	default:
	}
	p.cmd.Process.Signal(signal) //nolint:errcheck // it has ended
	<-p.done
	return nil
}

// event is what the benchmark reads of a line that it said.
type event struct {
	Event string `json:"event"`
	taken
}

func (p *protection) events() ([]event, error) {
	text, err := os.ReadFile(p.file)
	if err != nil {
		return nil, err
	}
	var all []event
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil { // the last one may be cut off
			all = append(all, e)
		}
	}
	return all, nil
}

// protectUntil runs continuous protection for a while and ends it as an
// operator would.
func (l *lab) protectUntil(ctx context.Context, until time.Time) (int, error) {
	p, err := l.protect(ctx)
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, until); err != nil {
		return 0, err
	}
	if err := p.end(syscall.SIGINT); err != nil {
		return 0, err
	}
	events, err := p.events()
	return countSealed(events).all, err
}

// sealed is what became of the looks at the database.
type sealed struct{ all, deltas, proven, failed int }

func countSealed(events []event) (n sealed) {
	for _, e := range events {
		switch {
		case e.Event == "failed":
			n.failed++
		case e.Event != "sealed":
		case e.Kind == "delta":
			n.all++
			n.deltas++
			if e.Proven {
				n.proven++
			}
		default:
			n.all++
		}
	}
	return n
}

// killed is one run of the case: the loss, and what protection cost.
type killed struct {
	sealed
	commits  int
	lost     int
	loss     time.Duration // from the last commit that was restored to the last that was acknowledged
	cpu      float64       // share of one core
	rss      int64         // KiB
	requests int
	seconds  float64
	kinds    string
}

// continuous kills an application and its protection at once, throws the
// host's state away, restores from the target, and counts what is lost.
func (b *bench) continuous(ctx context.Context) ([]section, error) {
	var all []killed
	idle, err := b.idle(ctx)
	if err != nil {
		return nil, err
	}
	for round := range b.runs {
		one, err := b.killOnce(ctx, round)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	s := section{title: "Continuous protection, killed"}
	s.text = fmt.Sprintf("An application with %d commits a second, `interval: 1s`; after %s it and emsafe are killed with SIGKILL, the state folder is removed, and the newest backup restored.\n\n"+
		"| commits | lost | loss s | emsafe's CPU, of one core | peak MiB | deltas | of them proven by the WAL | requests | failures |\n|---|---|---|---|---|---|---|---|---|\n", commitRate, b.steady)
	var loss time.Duration
	var cpu []float64
	for _, k := range all {
		s.text += fmt.Sprintf("| %d | %d | %.2f | %.1f %% | %.0f | %d | %d | %d (%s) | %d |\n", k.commits, k.lost, k.loss.Seconds(), k.cpu*100, float64(k.rss)/1024,
			k.deltas, k.proven, k.requests, k.kinds, k.failed)
		loss = max(loss, k.loss)
		cpu = append(cpu, k.cpu*100)
	}
	s.text += fmt.Sprintf("\nWhile nothing is written: %d requests in %s, %.1f %% of one core.\n", idle.requests, idleTime, idle.cpu*100)
	s.bars = []bar{
		atMost("loss of acknowledged commits, the worst", " s", 2, loss.Seconds()),
		atMost("CPU of one core", " %", 15, quantile(cpu, 0.5)),
		{"requests while nothing is written: none", fmt.Sprint(idle.requests), idle.requests == 0},
	}
	return []section{s}, nil
}

// steadyLab has its first full backup: what is measured is what comes after.
func (b *bench) steadyLab(ctx context.Context, name string) (*lab, *proxy, error) {
	proxy, err := startProxy(b.server.Endpoint)
	if err != nil {
		return nil, nil, err
	}
	l, err := b.lab(ctx, plan{name: name, mib: b.mib, s3: proxy.endpoint, keys: []string{"continuous: true", "interval: 1s"}})
	if err == nil {
		if err = l.do(ctx, emsafeOnce); err == nil {
			proxy.take()
			return l, proxy, nil
		}
		l.close()
	}
	proxy.close()
	return nil, nil, err
}

// idleTime is how long protection of a database is watched to which nothing
// is written.
const idleTime = 15 * time.Second

func (b *bench) idle(ctx context.Context) (one killed, err error) {
	l, proxy, err := b.steadyLab(ctx, "idle")
	if err != nil {
		return one, err
	}
	defer proxy.close()
	defer l.close()
	app, err := l.application(ctx, l.db)
	if err != nil {
		return one, err
	}
	if err := app.tell("change 0 300"); err != nil {
		return one, err
	}
	p, err := l.protect(ctx)
	if err != nil {
		return one, err
	}
	// The changes from before are its first delta.
	if err := wait(ctx, time.Now().Add(5*time.Second)); err != nil {
		return one, err
	}
	proxy.take()
	before, err := processorTime(p.cmd.Process.Pid)
	if err != nil {
		return one, err
	}
	if err := wait(ctx, time.Now().Add(idleTime)); err != nil {
		return one, err
	}
	one.requests, one.kinds = proxy.take()
	after, err := processorTime(p.cmd.Process.Pid)
	one.cpu = float64(after-before) / float64(idleTime)
	return one, errors.Join(err, p.end(syscall.SIGINT))
}

// processorTime is what a running process has used so far.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not what it should be: %q", pid, stat)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err // the kernel counts hundredths for its readers
}

func (b *bench) killOnce(ctx context.Context, round int) (killed, error) {
	l, proxy, err := b.steadyLab(ctx, fmt.Sprintf("continuous-%d", round))
	if err != nil {
		return killed{}, err
	}
	defer proxy.close()
	defer l.close()
	w, err := l.startWriter(ctx, "wal")
	if err != nil {
		return killed{}, err
	}
	defer w.kill()
	p, err := l.protect(ctx)
	if err != nil {
		return killed{}, err
	}
	// Every round ends at another moment of the interval.
	err = wait(ctx, time.Now().Add(b.steady+time.Duration(round)*370*time.Millisecond))
	if err = errors.Join(err, w.alive()); err != nil {
		return killed{}, err
	}
	w.kill()
	if err := p.end(syscall.SIGKILL); err != nil {
		return killed{}, err
	}
	took := time.Since(p.began)
	one := killed{seconds: took.Seconds(), cpu: float64(p.cmd.ProcessState.UserTime()+p.cmd.ProcessState.SystemTime()) / float64(took)}
	one.requests, one.kinds = proxy.take()
	if usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		one.rss = usage.Maxrss
	}
	events, err := p.events()
	if err != nil {
		return one, err
	}
	one.sealed = countSealed(events)
	return one, l.countLoss(ctx, w, &one)
}

const countAcknowledged = `
rm -rf "$DIR/state"
"$EMSAFE" --config "$CFG" restore app --to "$DIR/out.db" --identity "$DIR/key" -q > /dev/null
python3 -c 'import sqlite3, sys
print(*sqlite3.connect(sys.argv[1]).execute("SELECT count(*), ifnull(max(n), 0) FROM acknowledged").fetchone())' "$DIR/out.db"`

// countLoss restores and holds what came back against what was acknowledged.
func (l *lab) countLoss(ctx context.Context, w *writer, one *killed) error {
	r, err := timed(l.shell(ctx, countAcknowledged))
	if err != nil {
		return err
	}
	var count, last int64
	if _, err := fmt.Sscan(string(r.said), &count, &last); err != nil {
		return fmt.Errorf("what was restored: %w: %q", err, r.said)
	}
	if count != last {
		return fmt.Errorf("of %d commits %d were restored: there is a gap", last, count)
	}
	all, err := w.commits()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c commit) bool { return c.busy })
	one.commits = len(all)
	// Commit n is the nth acknowledged; one more may be in the backup, which
	// the kill kept from being acknowledged.
	switch restored := int(last); {
	case restored == 0:
		return fmt.Errorf("nothing that was written while protected was restored")
	case restored < len(all):
		one.lost = len(all) - restored
		one.loss = all[len(all)-1].acknowledged().Sub(all[restored-1].acknowledged())
	}
	return nil
}
