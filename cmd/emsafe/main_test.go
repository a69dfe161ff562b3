package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// testAs in the environment makes the test binary be emsafe: tests that kill
// it, or send it signals, need a process of its own.
const testAs = "EMSAFE_TEST_AS"

func TestMain(m *testing.M) {
	if os.Getenv(testAs) == "emsafe" {
		main()
		return
	}
	testscript.Main(tidy{m}, map[string]func(){"emsafe": main})
}

// tidy removes what all tests shared.
type tidy struct{ m *testing.M }

func (t tidy) Run() int {
	defer func() { os.RemoveAll(plain.dir) }()
	return t.m.Run()
}

// plain is emsafe as it is shipped, made when the first test asks for it.
var plain struct {
	once sync.Once
	dir  string
	err  error
}

// asShipped makes a host run emsafe as it is shipped, if the tests run under
// the race detector: with it a process takes five times as long.
func (h *host) asShipped() {
	h.t.Helper()
	info, _ := debug.ReadBuildInfo()
	if info == nil || !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return
	}
	plain.once.Do(func() {
		if plain.dir, plain.err = os.MkdirTemp("", "emsafe-test-"); plain.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", plain.dir, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			plain.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if plain.err != nil {
		h.t.Fatal(plain.err)
	}
	h.binary = filepath.Join(plain.dir, "emsafe")
}

var (
	kills = flag.Int("kills", 0, "how often each command is killed; default 200, and 2000 with EMSAFE_SOAK=1")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of random moments and transactions")
)

// rounds is how often a random test does its thing: ci of 200, more in a soak.
func rounds(ci int) int {
	n := *kills
	if n == 0 {
		n = 200
		if os.Getenv("EMSAFE_SOAK") != "" {
			n = 2000
		}
	}
	return max(1, n*ci/200)
}

func random(t testing.TB, stream uint64) *rand.Rand {
	t.Logf("-seed %d", *seed)
	return rand.New(rand.NewPCG(*seed, stream))
}

// start runs emsafe as a process of its own.
func (h *host) start(args ...string) *process {
	h.t.Helper()
	binary := h.binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			h.t.Fatal(err)
		}
	}
	call := append(append(append([]string{}, h.tracer...), binary, "--config", h.conf), args...)
	p := &process{Cmd: exec.Command(call[0], call[1:]...)}
	// The race detector would wait a second before it lets a process end.
	p.Env = append(append(os.Environ(), testAs+"=emsafe", "GORACE=atexit_sleep_ms=0"), h.env...)
	p.Stdout, p.Stderr = &p.out, &p.err
	if h.input != nil {
		p.Stdin = h.input
	}
	if err := p.Start(); err != nil {
		h.t.Fatal(err)
	}
	return p
}

type process struct {
	*exec.Cmd
	out, err bytes.Buffer
}

// end waits for the process. A code of -1 means that a signal ended it.
func (p *process) end() (code int) {
	p.Wait() //nolint:errcheck // the state tells
	return p.ProcessState.ExitCode()
}

// moment is when a process gets a signal: some time after its start, or, if
// change is not 0, when that many changes of the watched folders were seen.
type moment struct {
	after  time.Duration
	change int
	watch  []string
}

// wait returns true at the moment, and false if done came first.
func (m moment) wait(done <-chan struct{}) bool {
	if m.change == 0 {
		select {
		case <-time.After(m.after):
			return true
		case <-done:
			return false
		}
	}
	return m.changes(done, m.change) == m.change
}

// changes watches the folders until done, or until enough changes were seen.
func (m moment) changes(done <-chan struct{}, enough int) (seen int) {
	for last := m.look(); seen < enough; {
		select {
		case <-done:
			return seen
		default:
		}
		if now := m.look(); now != last {
			last = now
			seen++
		}
		time.Sleep(50 * time.Microsecond) // leaves the processors to who is watched
	}
	return seen
}

func (m moment) look() string {
	var all []string
	for _, dir := range m.watch {
		if d, err := os.Open(dir); err == nil {
			names, _ := d.Readdirnames(-1)
			all = append(append(all, dir), names...)
			d.Close()
		}
	}
	return strings.Join(all, "/")
}

// cut starts emsafe and sends it a signal at the moment. It reports whether
// the process was still there to get it.
func (h *host) cut(sig syscall.Signal, at moment, args ...string) (p *process, sent bool) {
	h.t.Helper()
	p = h.start(args...)
	done := make(chan struct{})
	go func() { p.end(); close(done) }()
	if sent = at.wait(done); sent {
		p.Process.Signal(sig) //nolint:errcheck // too late is no error
	}
	<-done
	return p, sent
}

// moments spreads signals over a command: over its run time, and over the
// steps that its folders show.
type moments struct {
	rng         *rand.Rand
	start, over time.Duration
	changes     int
	watch       []string
}

// measure runs the command undisturbed a few times, after a command that does
// nothing: what both need is not worth killing.
func (h *host) measure(rng *rand.Rand, watch []string, prepare func(), args ...string) moments {
	h.t.Helper()
	m := moments{rng: rng, start: time.Hour, changes: 1 << 30}
	for _, dir := range watch {
		m.watch = append(m.watch, h.path(dir))
	}
	for range 3 {
		began := time.Now()
		h.start("version").end()
		m.start = min(m.start, time.Since(began)*8/10)
		prepare()
		began = time.Now()
		p, done := h.start(args...), make(chan struct{})
		go func() { p.end(); close(done) }()
		m.changes = min(m.changes, moment{watch: m.watch}.changes(done, 1<<30))
		if code := p.ProcessState.ExitCode(); code != 0 {
			h.t.Fatalf("emsafe %s: exit %d\n%s", strings.Join(args, " "), code, p.err.String())
		}
		m.over = max(m.over, time.Since(began))
	}
	if m.changes == 0 {
		h.t.Fatalf("nothing was seen to change in %v", watch)
	}
	return m
}

func (m moments) next() moment {
	if m.rng.IntN(2) == 0 {
		return moment{after: m.start + time.Duration(m.rng.Int64N(int64(max(m.over-m.start, time.Millisecond))))}
	}
	return moment{change: 1 + m.rng.IntN(m.changes), watch: m.watch}
}

// application is what uses a database: argument one is the file, two the
// journal mode, three the first number, four what to do.
//
//	run    commit until standard input ends, and print the number of every
//	       transaction
//	crash  leave commits in the WAL, or a hot journal, and die
//
// Rows lie in 1000 slots; every transaction puts the next five numbers, so
// that a database which holds a part of one shows it.
const application = `
import os, select, signal, sqlite3, sys
path, mode, first, what = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
c = sqlite3.connect(path, timeout=60, isolation_level=None)
c.execute("PRAGMA journal_mode=" + mode).fetchone()
c.execute("CREATE TABLE IF NOT EXISTS w (slot INTEGER PRIMARY KEY, n INTEGER NOT NULL, v TEXT NOT NULL)")
def commit(n, rows=5):
    c.execute("BEGIN IMMEDIATE")
    for i in range(n, n + rows):
        c.execute("INSERT OR REPLACE INTO w VALUES (?1 % 1000, ?1, replace(hex(zeroblob(?1 % 400 + 300)), '00', char(97 + ?1 % 26)))", (i,))
    c.execute("COMMIT")
commit(first, 1000)
n = first + 1000
if what == "crash":
    c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    c.execute("PRAGMA wal_autocheckpoint=0")
    for n in range(n, n + 200, 5):
        commit(n)
    if mode != "wal":
        c.execute("PRAGMA cache_size=10")
        c.execute("BEGIN IMMEDIATE")
        c.execute("UPDATE w SET v = v || 'never committed'")
    os.kill(os.getpid(), signal.SIGKILL)
while not select.select([0], [], [], 0.003)[0]:
    commit(n)
    print(n, flush=True)
    n += 5
`

const applicationCheck = `SELECT count(*) = 1000 AND max(n) - min(n) = 999 AND max(n) % 5 = 4
 AND sum(v <> replace(hex(zeroblob(n % 400 + 300)), '00', char(97 + n % 26))) = 0 FROM w;
PRAGMA integrity_check;`

// run starts the application on a database and returns when it has committed;
// stop ends it.
func (h *host) run(db, mode string, first int) (stop func()) {
	h.t.Helper()
	cmd := exec.Command("python3", "-c", application, db, mode, fmt.Sprint(first), "run")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		h.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		h.t.Fatalf("the application committed nothing: %v", err)
	}
	drained := make(chan struct{})
	go func() { io.Copy(io.Discard, out); close(drained) }() //nolint:errcheck // ends with the process
	var stopped bool
	stop = func() {
		if !stopped {
			stopped = true
			in.Close()
			<-drained
			if err := cmd.Wait(); err != nil {
				h.t.Errorf("the application: %v", err)
			}
		}
	}
	h.t.Cleanup(stop)
	return stop
}

// crash leaves a database as an application does that was killed.
func (h *host) crash(db, mode string, first int) {
	h.t.Helper()
	cmd := exec.Command("python3", "-c", application, db, mode, fmt.Sprint(first), "crash")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != -1 {
		h.t.Fatalf("the application did not crash: %v", err)
	}
}

// sqlite3 is what the stock shell says, errors included.
func sqlite3(db string, commands ...string) string {
	out, err := exec.Command("sqlite3", append([]string{"-batch", db}, commands...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return string(out)
}

// content is the digest of what the stock shell finds in a database, with its
// sidecars. It looks at a copy: looking can change them.
func (h *host) content(db string) string {
	h.t.Helper()
	dir := h.t.TempDir()
	h.copySet(db, filepath.Join(dir, filepath.Base(db)))
	defer os.RemoveAll(dir)
	return sqlite3(filepath.Join(dir, filepath.Base(db)), ".sha3sum --schema", "PRAGMA integrity_check")
}

// copySet copies a database with the files beside it that SQLite knows.
func (h *host) copySet(from, to string) {
	h.t.Helper()
	for _, ext := range []string{"", "-wal", "-shm", "-journal"} {
		data, err := os.ReadFile(from + ext)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to+ext, data, 0o600)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// newService is a host with a database in a folder of its own, srv, an
// application that runs on it, and two targets.
func newService(t testing.TB, mode string) (h *host, stop func()) {
	t.Helper()
	h = &host{t: t, dir: t.TempDir()}
	h.conf = h.path("etc/emsafe.yaml")
	for _, dir := range []string{"srv", "one", "two"} {
		if err := os.Mkdir(h.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	stop = h.run(h.path("srv/app.db"), mode, 0)
	h.must("init", "--database", h.path("srv/app.db"), "--target", "one=file://"+h.path("one"), "--target", "two=file://"+h.path("two"),
		"--recovery-key-out", h.path("key"), "--state", h.path("state"))
	return h, stop
}

// names are the files and folders in a folder.
func (h *host) names(dir string) (names []string) {
	h.t.Helper()
	entries, err := os.ReadDir(h.path(dir))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
