package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const pageSize = 4096 // of the made databases

// delta compares what 1 % of changed pages costs: once with a WAL that still
// holds everything since the backup before, so that it proves what changed,
// and once after the application's checkpoint has started it over.
func (b *bench) delta(ctx context.Context) ([]section, error) {
	var sections []section
	for _, restarted := range []bool{false, true} {
		s, err := b.deltaOnce(ctx, restarted)
		if err != nil {
			return nil, err
		}
		sections = append(sections, s)
	}
	return sections, nil
}

func (b *bench) deltaOnce(ctx context.Context, restarted bool) (section, error) {
	name := "delta"
	if restarted {
		name = "delta-restarted"
	}
	l, err := b.lab(ctx, plan{name: name, mib: b.mib, restic: true, keys: []string{"full_share: 100%"}})
	if err != nil {
		return section{}, err
	}
	defer l.close()
	c, err := l.changes(ctx, restarted)
	if err != nil {
		return section{}, err
	}
	contenders := []contender{l.emsafeBackup("emsafe backup", ""), l.shellBackup(), l.resticBackup()}
	if c.litestream != nil {
		contenders = append(contenders, l.litestream())
	}
	for _, one := range contenders { // the first, which is not what is measured
		if _, err := l.once(ctx, one); err != nil {
			return section{}, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	results, err := l.measure(ctx, contenders, func(round int) error { return c.next(ctx, round) })
	if err != nil {
		return section{}, err
	}
	if err := expect(results[0], "delta"); err != nil {
		return section{}, err
	}
	return b.deltaSection(contenders, results, c, restarted), nil
}

func (b *bench) deltaSection(contenders []contender, results [][]result, c *changes, restarted bool) section {
	own := quantile(c.sealed, 0.5)
	pages := quantile(c.pages, 0.5)
	ours := results[0]
	proofs := proven(ours)
	s := section{title: "1 % of the pages changed, the WAL reaches back to the last backup"}
	if restarted {
		s.title = "1 % of the pages changed, the WAL was started over since"
	}
	s.text = fmt.Sprintf("%d pages changed; `zstd -3` makes %.2f MiB of them. The WAL proved the change in %d of %d backups.\n\n",
		pages, mib(own), proofs, len(ours)) + table(contenders, results) + "\n"
	if c.litestream == nil {
		s.text += "litestream is not installed (`go install github.com/benbjohnson/litestream/cmd/litestream@v0.5.18`).\n\n"
	}
	s.bars = []bar{
		atMost("bytes, of the changed pages' own zstd size", "", 1.15, ratio(median(ours, bytesOf), own)),
		atMost("wall time of the pipeline's", "", 0.2, ratio(median(ours, wallOf), median(results[1], wallOf))),
		atMost("peak memory", " MiB", 96, float64(median(ours, rssOf))/1024),
	}
	if b.mib == 512 && proofs == len(ours) {
		s.bars = append(s.bars, atMost("wall time where the WAL proves the change", " s", 0.35, median(ours, wallOf).Seconds()))
	} else if b.mib == 512 && !restarted {
		s.bars = append(s.bars, bar{"wall time where the WAL proves the change: at most 0.35 s", fmt.Sprintf("proven in %d of %d", proofs, len(ours)), false})
	}
	return s
}

// litestream has a database of its own, with the same changes: it keeps
// tables in it, and a folder, not a server, is its replica.
func (l *lab) litestream() contender {
	return contender{name: "litestream replicate -once (not encrypted)", folder: filepath.Join(l.dir, "litestream"),
		script: `exec "$LITESTREAM" replicate -once -log-level error "$DIR/lite.db" "file://$DIR/litestream"`}
}

// changes are the rounds of a case: what the applications change, and what it
// comes to.
type changes struct {
	lab             *lab
	restarted       bool
	rows            int
	app, litestream *application
	pages, sealed   []int64 // of every round: pages that differ, and their size after zstd -3
}

// changes starts an application on every database and writes a little, so
// that there is a WAL; so is the state of a service that runs.
func (l *lab) changes(ctx context.Context, restarted bool) (*changes, error) {
	c := &changes{lab: l, restarted: restarted, rows: int(l.mib << 20 / pageSize / 100)}
	var err error
	if c.app, err = l.application(ctx, l.db); err != nil {
		return nil, err
	}
	if program, err := findLitestream(); err == nil {
		l.env = append(l.env, "LITESTREAM="+program)
		if err := l.do(ctx, `cp --reflink=auto "$SAMPLE" "$DIR/lite.db"`); err != nil {
			return nil, err
		}
		if c.litestream, err = l.application(ctx, filepath.Join(l.dir, "lite.db")); err != nil {
			return nil, err
		}
	}
	if err := c.tell("change 0 %d", min(300, c.rows)); err != nil {
		return nil, err
	}
	return c, l.do(ctx, `sqlite3 "$DB" ".backup '$DIR/before.db'"`)
}

func (c *changes) tell(order string, args ...any) error {
	err := c.app.tell(order, args...)
	if c.litestream != nil {
		err = errors.Join(err, c.litestream.tell(order, args...))
	}
	return err
}

// next makes a round's changes and measures what they come to.
func (c *changes) next(ctx context.Context, round int) error {
	if c.restarted {
		if err := c.tell("restart"); err != nil {
			return err
		}
	}
	if err := c.tell("change %d %d", round+1, c.rows); err != nil {
		return err
	}
	if err := c.lab.do(ctx, `sqlite3 "$DB" ".backup '$DIR/after.db'"`); err != nil {
		return err
	}
	before, after := filepath.Join(c.lab.dir, "before.db"), filepath.Join(c.lab.dir, "after.db")
	pages, sealed, err := difference(ctx, before, after)
	if err != nil {
		return err
	}
	c.pages, c.sealed = append(c.pages, pages), append(c.sealed, sealed)
	return os.Rename(after, before)
}

// difference is how many pages two images differ in, and how large the later
// one's are together after zstd -3: what nobody can do without who sends whole
// pages.
func difference(ctx context.Context, before, after string) (pages, sealed int64, err error) {
	a, err := os.Open(before)
	if err != nil {
		return 0, 0, err
	}
	defer a.Close()
	b, err := os.Open(after)
	if err != nil {
		return 0, 0, err
	}
	defer b.Close()
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-3", "-c")
	var out counter
	cmd.Stdout = &out
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	pages, err = differing(in, bufio.NewReaderSize(a, 1<<20), bufio.NewReaderSize(b, 1<<20))
	in.Close()
	err = errors.Join(err, cmd.Wait())
	return pages, int64(out), err
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// differing copies the pages of b that a has not.
func differing(w io.Writer, a, b io.Reader) (n int64, err error) {
	was, is := make([]byte, pageSize), make([]byte, pageSize)
	for {
		if _, err := io.ReadFull(b, is); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if _, err := io.ReadFull(a, was); err == nil && bytes.Equal(was, is) {
			continue
		}
		n++
		if _, err := w.Write(is); err != nil {
			return n, err
		}
	}
}

func findLitestream() (string, error) {
	if p, err := exec.LookPath("litestream"); err == nil {
		return p, nil
	}
	out, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		return "", err
	}
	return exec.LookPath(filepath.Join(strings.TrimSpace(string(out)), "bin", "litestream"))
}
