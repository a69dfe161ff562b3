// Command bench measures emsafe beside what a user would pick instead, in one
// run on one machine: the shell pipeline (sqlite3 .backup, zstd, age, upload),
// restic on a .backup copy, and litestream where it is installed. The database
// is realistic, the storage a real S3 server on loopback, every figure a
// median with its ratio; absolute times belong to the machine. `make bench`
// runs it; `make bench BENCH='-write docs'` also puts what was measured into
// docs/benchmarks.md.
//
// It needs about ten times the size of the database on disk, and removes that
// when it ends, but for the database itself, which the next run uses again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"emsafe/internal/sample"
	"emsafe/storage/storagetest"
)

type bench struct {
	emsafe, cache, docs string
	runs                int
	mib                 int64
	sizes               []int64 // MiB
	window, steady      time.Duration

	dir    string // scratch
	server *storagetest.Server
}

// measurement is one of the cases.
type measurement struct {
	name string
	what string
	run  func(*bench, context.Context) ([]section, error)
}

var measurements = []measurement{
	{"first", "first backup, and restore", (*bench).first},
	{"delta", "1 % of the pages changed", (*bench).delta},
	{"unchanged", "nothing changed", (*bench).unchanged},
	{"chain", "restore from a full backup, a differential and 60 incrementals", (*bench).chain},
	{"drill", "a backup proven by a drill", (*bench).drill},
	{"files", "10,000 files of 200 MiB, beside plain restic", (*bench).files},
	{"impact", "commit latency of an application while backups run", (*bench).impact},
	{"continuous", "continuous protection, killed", (*bench).continuous},
	{"daemon", "the daemon while it waits", (*bench).daemon},
	{"scale", "time and memory against size", (*bench).scale},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	b := &bench{}
	var names []string
	for _, m := range measurements {
		names = append(names, m.name)
	}
	flag.StringVar(&b.emsafe, "emsafe", "bin/emsafe", "emsafe binary")
	flag.IntVar(&b.runs, "runs", 3, "runs of each, in turn; the median counts")
	flag.Int64Var(&b.mib, "size", 512, "size of the database in MiB")
	flag.StringVar(&b.cache, "cache", ".cache/bench", "folder where the made databases are kept")
	flag.StringVar(&b.docs, "write", "", "folder of the documents to write the results into; empty: only print them")
	flag.DurationVar(&b.window, "window", 15*time.Second, "impact: length of one window")
	flag.DurationVar(&b.steady, "steady", time.Minute, "continuous: how long the application writes before all is killed")
	only := flag.String("only", "", "measure only these, by comma: "+strings.Join(names, ","))
	sizes := flag.String("sizes", "128,512,2048", "scale: sizes in MiB, by comma")
	file := flag.String("make", "", "make a database of -size at this path, and nothing else")
	flag.Parse()
	if *file != "" {
		return sample.Make(ctx, *file, b.mib<<20)
	}
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("-sizes: %w", err)
		}
		b.sizes = append(b.sizes, n)
	}
	chosen := names
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-only: there is no %q, there are %s", name, strings.Join(names, ", "))
		}
	}
	return b.measureAll(ctx, chosen)
}

func (b *bench) measureAll(ctx context.Context, chosen []string) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.close()
	for _, m := range measurements {
		if !slices.Contains(chosen, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, m.what)
		sections, err := m.run(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		text := b.setting(m.name) + render(sections)
		fmt.Println(text)
		if b.docs != "" {
			if err := writeInto(b.docs, m.name, text); err != nil {
				return err
			}
		}
	}
	return nil
}
