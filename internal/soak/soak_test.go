// Package soak runs the real binary, as it ships, under kills and faults that
// come from outside of it, and examines what is left. Nothing in the binary
// knows that it is tested.
package soak

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of what is done, and of what fails")
	binary string
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "emsafe-soak-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "emsafe")
		build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-o", binary, "emsafe/cmd/emsafe")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		code := m.Run()
		tally.print()
		return code
	}())
}

// span is how long one kind of trouble is made: a sample in an ordinary run,
// and EMSAFE_SOAK_TIME (10m unless it is set) with EMSAFE_SOAK=1.
func span(t *testing.T) time.Duration {
	t.Helper()
	t.Logf("-seed %d", *seed)
	if os.Getenv("EMSAFE_SOAK") == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(os.Getenv("EMSAFE_SOAK_TIME"))
	if err != nil {
		d = 10 * time.Minute
	}
	return d
}

// counts is what was done, for the report at the end.
type counts struct {
	sync.Mutex
	n map[string]int
}

var tally = counts{n: map[string]int{}}

func (c *counts) add(format string, args ...any) {
	c.Lock()
	defer c.Unlock()
	c.n[fmt.Sprintf(format, args...)]++
	c.save()
}

// print shows the counts, and writes them to EMSAFE_SOAK_COUNTS.
func (c *counts) print() {
	c.Lock()
	defer c.Unlock()
	if testing.Verbose() {
		for _, k := range slices.Sorted(maps.Keys(c.n)) {
			fmt.Printf("%7d %s\n", c.n[k], k)
		}
	}
	c.save()
}

// save writes the counts so far: a soak that is ended keeps what it did.
func (c *counts) save() {
	if name := os.Getenv("EMSAFE_SOAK_COUNTS"); name != "" {
		doc, err := json.MarshalIndent(map[string]any{"seed": *seed, "counts": c.n}, "", " ")
		if err == nil {
			err = os.WriteFile(name, append(doc, '\n'), 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// marker is in every row, and so in every page that holds rows: where it is
// found outside of the databases, plaintext was left.
const marker = "SOAK-PLAINTEXT"

// world is a host with one database and two targets. Its folder keeps one path
// for all rounds: [world.fresh] brings back what was set up once.
type world struct {
	*testing.T
	rng  *rand.Rand
	root string
	say  string // what was done in this round, for the report of a failure
}

func newWorld(t *testing.T, stream uint64) *world {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, rng: rand.New(rand.NewPCG(*seed, stream)), root: t.TempDir()}
	for _, d := range []string{"w/srv/files", "w/scratch", "w/out"} {
		if err := os.MkdirAll(w.path(strings.TrimPrefix(d, "w/")), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.sql(`PRAGMA journal_mode=wal; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
		INSERT INTO t(v) SELECT '` + marker + ` '||hex(randomblob(30)) FROM generate_series(1,1500)`)
	if err := os.WriteFile(w.path("srv/files/a"), []byte("an upload\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("init", w.initFlags()...)
	w.settings()
	for range 3 {
		w.change()
		w.must("backup")
	}
	w.change()
	w.must("restore", "app", "--in-place", "--yes", "--identity", w.path("key"))
	w.copy("w", "template")
	return w
}

func (w *world) initFlags() []string {
	return []string{
		"--database", "app=" + w.path("srv/app.db"), "--target", "one=file://" + w.path("one"), "--target", "two=file://" + w.path("two"),
		"--recovery-key-out", w.path("key"), "--state", w.path("state"),
	}
}

// settings adds what init does not write, and a second configuration with a
// fileset.
func (w *world) settings() {
	w.Helper()
	name := w.path("conf/emsafe.yaml")
	conf, err := os.ReadFile(name)
	if err != nil {
		w.Fatal(err)
	}
	text := strings.Replace(string(conf), "version: 1\n", "version: 1\ndrill_key: "+w.path("key")+"\ndrill_scratch: "+w.path("scratch")+"\n", 1)
	text = strings.Replace(text, "    path: "+w.path("srv/app.db")+"\n", "    path: "+w.path("srv/app.db")+"\n    keep: {last: 2}\n", 1)
	files := "filesets:\n  pics:\n    paths: [" + w.path("srv/files") + "]\n    databases: [app]\n"
	for name, text := range map[string]string{"conf/emsafe.yaml": text, "conf/files.yaml": text + files} {
		if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) path(name string) string { return filepath.Join(w.root, "w", name) }

func (w *world) copy(from, to string) {
	w.Helper()
	if out, err := exec.Command("cp", "-a", filepath.Join(w.root, from), filepath.Join(w.root, to)).CombinedOutput(); err != nil {
		w.Fatalf("cp: %v %s", err, out)
	}
}

func (w *world) fresh() {
	w.Helper()
	if err := os.RemoveAll(w.path("")); err != nil {
		w.Fatal(err)
	}
	w.copy("template", "w")
	w.say = ""
}

func (w *world) sql(statements string) {
	w.Helper()
	if out, err := exec.Command("sqlite3", w.path("srv/app.db"), statements).CombinedOutput(); err != nil {
		w.Fatalf("sqlite3: %v %s", err, out)
	}
}

// change commits a random number of rows.
func (w *world) change() {
	w.Helper()
	w.sql(fmt.Sprintf(`INSERT INTO t(v) SELECT '%s %d '||hex(randomblob(20)) FROM generate_series(1,%d)`, marker, w.rng.Uint64(), 1+w.rng.IntN(60)))
}

// dump is what SQLite says is in a file; "" if there is none.
func (w *world) dump(file string) string {
	w.Helper()
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	out, err := exec.Command("sqlite3", "-readonly", file, ".dump").CombinedOutput()
	if err != nil {
		w.violated("%s does not open: %v %s", file, err, out)
		return "broken"
	}
	return string(out)
}

func (w *world) app() string { return w.dump(w.path("srv/app.db")) }

// result is what a command left on its outputs, and its exit code; -1 if a
// signal ended it.
type result struct {
	out  string
	code int
}

// run runs emsafe, behind the given program if there is one.
func (w *world) run(before []string, config string, args ...string) result {
	line := append(slices.Clone(before), binary, "--config", w.path(config))
	line = append(line, args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, _ := cmd.CombinedOutput() // the code says
	r := result{string(out), cmd.ProcessState.ExitCode()}
	w.calm(r)
	return r
}

// must runs a command to which nothing is done.
func (w *world) must(name string, args ...string) result {
	w.Helper()
	r := w.run(nil, "conf/emsafe.yaml", append([]string{name}, args...)...)
	if r.code != 0 {
		w.violated("%s %v, to which nothing was done, exits %d:\n%s", name, args, r.code, r.out)
	}
	return r
}

// calm is that no panic is in what a command printed. A Go program dies when
// the runtime cannot wake its own poller; that is not the program's doing.
func (w *world) calm(r result) {
	w.Helper()
	if strings.Contains(r.out, "netpollBreak") || strings.Contains(r.out, "runtime: epoll") {
		return
	}
	for _, s := range []string{"panic:", "fatal error:", "goroutine ", "a bug in emsafe", "SIGSEGV"} {
		if strings.Contains(r.out, s) {
			w.violated("a panic:\n%s", r.out)
			return
		}
	}
}

func (w *world) violated(format string, args ...any) {
	w.Helper()
	tally.add("violation")
	w.Errorf("-seed %d: %s: %s", *seed, w.say, fmt.Sprintf(format, args...))
}
