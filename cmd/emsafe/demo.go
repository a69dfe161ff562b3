package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/internal/sample"
)

// demoMarker tells a folder that the demo made, and may remove, from any other.
const demoMarker = ".emsafe-demo"

func (p *program) demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "show the whole way on a folder: keys, backup under load, restore, a damaged copy refused, drills",
		Description: "Works in a folder of its own and leaves it for you to look at. With --db it uses your database, read-only.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Value: "emsafe-demo", Usage: "`FOLDER` to work in; an earlier demo there is replaced"},
			&cli.StringFlag{Name: "db", Usage: "your own database `FILE` instead of a made one"},
		},
		Action: func(c *cli.Context) error {
			dir, err := filepath.Abs(c.String("dir"))
			if err != nil {
				return err
			}
			d := &demo{p: p, dir: dir, db: c.String("db")}
			return d.run(c.Context)
		},
		Subcommands: []*cli.Command{{
			Name: "writer", Hidden: true, ArgsUsage: "FILE", Usage: "commit rows until standard input ends",
			Action: func(c *cli.Context) error { return p.demoWriter(c.Context, c.Args().First()) },
		}},
	}
}

// demoWriter is the application of the demo: a process of its own.
func (p *program) demoWriter(ctx context.Context, path string) error {
	ctx, stop := context.WithCancel(ctx)
	go func() { io.Copy(io.Discard, p.stdin); stop() }() //nolint:errcheck // ends with the parent
	return sample.Write(ctx, path, func(n int) error {
		_, err := fmt.Fprintln(p.stdout, n)
		time.Sleep(5 * time.Millisecond) // a busy small service, not a benchmark
		return err
	})
}

type demo struct {
	p       *program
	dir, db string
	step    int
}

func (d *demo) say(format string, args ...any) {
	d.step++
	d.p.print.line("%2d  %s", d.step, fmt.Sprintf(format, args...))
}

func (d *demo) path(name ...string) string { return filepath.Join(append([]string{d.dir}, name...)...) }

func (d *demo) run(ctx context.Context) error {
	if err := d.fresh(); err != nil {
		return err
	}
	own := d.db != ""
	writer := &demoWriterProcess{}
	if own {
		abs, err := filepath.Abs(d.db)
		if err != nil {
			return err
		}
		d.db = abs
		d.say("your database %s is only read", d.db)
	} else {
		d.db = d.path("app.db")
		if err := sample.Make(ctx, d.db, 24<<20); err != nil {
			return err
		}
		if err := writer.start(ctx, d.db); err != nil {
			return err
		}
		defer writer.stop()
		d.say("made %s, 24 MiB, and a process (pid %d) that commits to it all the time", d.db, writer.process.Pid)
	}
	if err := d.backups(ctx, writer); err != nil {
		return err
	}
	if err := d.restores(ctx, own); err != nil {
		return err
	}
	if err := d.damage(ctx); err != nil {
		return err
	}
	return d.drills(ctx)
}

// fresh makes the folder anew, and removes only what a demo made.
func (d *demo) fresh() error {
	entries, err := os.ReadDir(d.dir)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(d.path(demoMarker)); err != nil {
			return fault.New(fault.TargetExists, "%s is not empty and no demo made it", d.dir).WithRemedy("Choose another --dir.")
		}
		if err := os.RemoveAll(d.dir); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(d.path("backups"), 0o700); err != nil {
		return permission(err)
	}
	return os.WriteFile(d.path(demoMarker), []byte("made by emsafe demo; the next one removes this folder\n"), 0o600)
}

// emsafe runs a command of this very program and returns what it printed.
func (d *demo) emsafe(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errOut bytes.Buffer
	q := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, env: d.p.env, now: d.p.now}
	code = q.run(ctx, append([]string{"emsafe", "--config", d.path("etc", "emsafe.yaml")}, args...))
	return out.String(), errOut.String(), code
}

// must runs a command that has to succeed.
func (d *demo) must(ctx context.Context, args ...string) (string, error) {
	out, errOut, code := d.emsafe(ctx, args...)
	if code != 0 {
		return out, fmt.Errorf("emsafe %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out, nil
}

func (d *demo) backups(ctx context.Context, writer *demoWriterProcess) error {
	_, err := d.must(ctx, "init", "--database", "app="+d.db, "--target", "file://"+d.path("backups"),
		"--recovery-key-out", d.path("recovery.key"), "--state", d.path("state"))
	if err != nil {
		return err
	}
	d.say("init: signing key, configuration, target proven; recovery key in %s (keep yours off the host)", d.path("recovery.key"))
	for i := range 2 {
		before := writer.commits()
		out, err := d.must(ctx, "backup")
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(out, "\n")
		d.say("backup %d: %s", i+1, strings.Join(strings.Fields(first), " "))
		if n := writer.commits(); n > before {
			d.say("  the application committed %d transactions meanwhile", n-before)
		}
	}
	list, err := d.must(ctx, "list")
	if err != nil {
		return err
	}
	rows := strings.Split(strings.TrimSpace(list), "\n")
	d.say("list: %d backups, signed and chained; the newest: %s", len(rows)-2, strings.Join(strings.Fields(rows[len(rows)-1]), " "))
	verify, err := d.must(ctx, "verify", "--read-data")
	if err != nil {
		return err
	}
	d.say("verify: %s", strings.TrimSpace(verify))
	return nil
}

func (d *demo) restores(ctx context.Context, own bool) error {
	restored := d.path("restored.db")
	out, err := d.must(ctx, "restore", "app", "--to", restored, "--identity", d.path("recovery.key"), "--check", "full")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	d.say("restore: %s", lines[0])
	for _, l := range lines[1:] {
		d.say("%s", l)
	}
	if !own {
		rows, err := sample.Count(ctx, restored)
		if err != nil {
			return err
		}
		d.say("  it holds %d rows", rows)
	}
	return nil
}

// damage flips one bit in a copy of the target and shows that it is refused.
func (d *demo) damage(ctx context.Context) error {
	damaged := d.path("damaged")
	if err := os.CopyFS(damaged, os.DirFS(d.path("backups"))); err != nil {
		return err
	}
	payloads, err := filepath.Glob(filepath.Join(damaged, "databases", "app", "payloads", "*"))
	if err != nil || len(payloads) == 0 {
		return fmt.Errorf("no payload to damage: %w", err)
	}
	for _, file := range payloads {
		if err := flipBit(file); err != nil {
			return err
		}
	}
	to := d.path("must-not-appear.db")
	_, errOut, code := d.emsafe(ctx, "restore", "app", "--target", "file://"+damaged, "--to", to, "--identity", d.path("recovery.key"))
	if code != fault.Damaged.Exit || exists(to) {
		return fmt.Errorf("a damaged copy was not refused: exit code %d\n%s", code, errOut)
	}
	message, _, _ := strings.Cut(errOut[strings.Index(errOut, "emsafe:"):], "\n")
	d.say("one bit flipped in a copy of each payload: restore refused, exit code %d, nothing placed", code)
	d.say("  %s", message)
	return nil
}

// drills proves the backups, and shows that a drill finds what is wrong with
// the damaged ones.
func (d *demo) drills(ctx context.Context) error {
	args := []string{"drill", "run", "app", "--identity", d.path("recovery.key")}
	out, err := d.must(ctx, args...)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	d.say("drill: %s", strings.Join(strings.Fields(lines[0]), " "))
	for _, l := range lines[1:] {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "RPO") || strings.HasPrefix(l, "RTO") || strings.Contains(l, "checks passed") {
			d.say("  %s", l)
		}
	}
	report := d.path("drill.html")
	if _, err := d.must(ctx, "drill", "report", "--out", report); err != nil {
		return err
	}
	d.say("  its signed report, as a page to look at: %s", report)
	out, errOut, code := d.emsafe(ctx, append(args, "--target", "file://"+d.path("damaged"), "--allowed-signers", d.path("etc", "allowed_signers"), "--select", "latest")...)
	if code != fault.DrillFailed.Exit || !strings.Contains(out, "("+drill.ReasonDamaged+")") {
		return fmt.Errorf("a drill did not find the damage: exit code %d\n%s%s", code, out, errOut)
	}
	first, _, _ := strings.Cut(out, "\n")
	d.say("drill of the damaged copy: %s; exit code %d", strings.Join(strings.Fields(first), " "), code)
	if _, err := d.must(ctx, "drill", "report", "--out", d.path("drill-failed.html"), "--target", "file://"+d.path("damaged")); err != nil {
		return err
	}
	d.say("  its report: %s", d.path("drill-failed.html"))
	d.say("look around: %s; run the commands yourself with --config %s", d.dir, d.path("etc", "emsafe.yaml"))
	return nil
}

func flipBit(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(file, data, 0o600)
}

// demoWriterProcess is the writing process and what it says.
type demoWriterProcess struct {
	process *os.Process
	stdin   *os.File
	lines   chan int
	last    int
}

func (w *demoWriterProcess) start(ctx context.Context, path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	w.process, err = os.StartProcess(self, []string{"emsafe", "demo", "writer", path}, &os.ProcAttr{Files: []*os.File{inR, outW, os.Stderr}})
	inR.Close()
	outW.Close()
	if err != nil {
		return err
	}
	w.stdin, w.lines = inW, make(chan int, 1)
	started := make(chan struct{})
	go w.count(outR, started)
	select {
	case <-started:
		return nil
	case <-ctx.Done():
		w.stop()
		return ctx.Err()
	}
}

// count keeps the newest number that the writer printed.
func (w *demoWriterProcess) count(r io.ReadCloser, started chan struct{}) {
	defer r.Close()
	buf := make([]byte, 4096)
	tail := ""
	for {
		n, err := r.Read(buf)
		tail += string(buf[:n])
		if i := strings.LastIndexByte(tail, '\n'); i >= 0 {
			lines := strings.Split(strings.TrimSpace(tail[:i]), "\n")
			if c, err := strconv.Atoi(lines[len(lines)-1]); err == nil {
				select {
				case <-w.lines:
				default:
				}
				w.lines <- c
			}
			tail = tail[i+1:]
			if started != nil {
				close(started)
				started = nil
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *demoWriterProcess) commits() int {
	if w.process == nil {
		return 0
	}
	select {
	case w.last = <-w.lines:
	default:
	}
	return w.last
}

func (w *demoWriterProcess) stop() {
	if w.stdin != nil {
		w.stdin.Close()
		w.process.Wait() //nolint:errcheck // it ends with its input
	}
}
