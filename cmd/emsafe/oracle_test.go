package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestOracle backs up a database while two processes run random transactions
// on it, and holds every backup against what they acknowledged: it is the
// replay of a prefix of their transactions, which ends nowhere before the
// backup began and nowhere after it ended.
func TestOracle(t *testing.T) {
	t.Parallel()
	for stream, c := range []struct {
		name, mode string
		ballast    int // MiB; a large database is not read under one lock
		rounds     int // of 200
	}{
		{"wal", "wal", 0, 90},
		{"delete", "delete", 0, 90},
		{"large", "delete", 34, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			random(t, 0) // prints the seed
			o := newOracle(t, c.mode, c.ballast, *seed+uint64(stream))
			restores := make(chan round, 4)
			var checking sync.WaitGroup
			checking.Go(func() {
				for r := range restores {
					o.check(t, r)
				}
			})
			methods := map[string]int{}
			for range rounds(c.rounds) {
				if t.Failed() {
					break
				}
				r := o.backup(t)
				methods[r.method]++
				restores <- r
			}
			close(restores)
			checking.Wait()
			o.stop()
			t.Logf("%d transactions acknowledged; snapshots: %v", o.writers[0].acked.Load()+o.writers[1].acked.Load(), methods)
		})
	}
}

// oracleWriter runs random transactions, a number after the other, each when
// it is told to, and acknowledges it after the commit: "number position". What
// a transaction does follows from the seed, the writer and its number alone.
// Every one appends to the writer's log, changes or deletes keys of the
// writer's own, and takes the next position in the table that both share.
const oracleWriter = `
import sqlite3, sys, time
path, mode, seed, w, ballast = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
c = sqlite3.connect(path, timeout=60, isolation_level=None)
c.execute("PRAGMA journal_mode=" + mode).fetchone()
c.execute("PRAGMA wal_autocheckpoint=100")
for q in ("log%d (n INTEGER PRIMARY KEY)" % w, "kv%d (k INTEGER PRIMARY KEY, n INTEGER, v TEXT)" % w,
          "shared (position INTEGER PRIMARY KEY, w INTEGER, n INTEGER)", "ballast (v BLOB)"):
    c.execute("CREATE TABLE IF NOT EXISTS " + q)
if ballast and w == 0:
    c.execute("INSERT INTO ballast WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) SELECT zeroblob(1000000) FROM i" % ballast)
def ops(n):
    x = (seed * 7919 + w * 104729 + n * 1299709) % 2147483647
    for _ in range(1 + x % 3):
        x = x * 48271 % 2147483647
        yield x % 100, x // 100 % 4, x // 1000 % 3000
print("ready", flush=True)
n = 0
for _ in sys.stdin:
    time.sleep(0.002) # a busy service, not a benchmark
    n += 1
    c.execute("BEGIN IMMEDIATE")
    c.execute("INSERT INTO log%d VALUES (?)" % w, (n,))
    for k, what, size in ops(n):
        if what == 0:
            c.execute("DELETE FROM kv%d WHERE k = ?" % w, (k,))
        else:
            c.execute("INSERT OR REPLACE INTO kv%d VALUES (?, ?, ?)" % w, (k, n, str(n) * (size // len(str(n)))))
    at = c.execute("SELECT coalesce(max(position), 0) + 1 FROM shared").fetchone()[0]
    c.execute("INSERT INTO shared VALUES (?, ?, ?)", (at, w, n))
    c.execute("COMMIT")
    print(n, at, flush=True)
    try:
        if (n + seed + 31 * w) % 97 == 0:
            c.execute("PRAGMA wal_checkpoint(%s)" % ("PASSIVE", "FULL", "RESTART", "TRUNCATE")[n % 4])
        if (n + seed) % 401 == 0 and not ballast:
            c.execute("VACUUM")
    except sqlite3.OperationalError:
        pass # the other one, or a backup, is reading
`

// ops is what transaction n of writer w does to its keys, as oracleWriter's.
func ops(seed uint64, w, n int) (keys, what, sizes []int) {
	x := (int(seed)*7919 + w*104729 + n*1299709) % 2147483647
	for range 1 + x%3 {
		x = x * 48271 % 2147483647
		keys, what, sizes = append(keys, x%100), append(what, x/100%4), append(sizes, x/1000%3000)
	}
	return keys, what, sizes
}

type oracle struct {
	*host
	seed    uint64
	writers [2]*writer
	mu      sync.Mutex
	at      map[int][2]int // position: writer and number, as acknowledged
}

// writer is a process that runs oracleWriter. It never has more than one
// transaction that is not acknowledged.
type writer struct {
	acked atomic.Int64
	stop  func()
}

func newOracle(t *testing.T, mode string, ballast int, seed uint64) *oracle {
	t.Helper()
	o := &oracle{host: &host{t: t, dir: t.TempDir()}, seed: seed % 1e6, at: map[int][2]int{}}
	o.conf = o.path("etc/emsafe.yaml")
	o.asShipped()
	for w := range o.writers {
		o.writers[w] = o.write(mode, w, ballast)
	}
	o.must("init", "--database", o.path("app.db"), "--target", "file://"+o.path("target"), "--recovery-key-out", o.path("key"), "--state", o.path("state"))
	// A loaded machine must not fail what is not about time.
	text, err := os.ReadFile(o.conf)
	if err == nil {
		path := "path: " + o.path("app.db")
		err = os.WriteFile(o.conf, []byte(strings.Replace(string(text), path, path+"\n    max_hold: 10s", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// write starts a writer and returns when its first transaction is
// acknowledged.
func (o *oracle) write(mode string, w, ballast int) *writer {
	o.t.Helper()
	cmd := exec.Command("python3", "-c", oracleWriter, o.path("app.db"), mode, fmt.Sprint(o.seed), fmt.Sprint(w), fmt.Sprint(ballast))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		o.t.Fatal(err)
	}
	self := &writer{}
	began, ended, enough := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer in.Close()
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var n, at int
			if _, err := fmt.Sscan(lines.Text(), &n, &at); err == nil {
				o.mu.Lock()
				o.at[at] = [2]int{w, n}
				o.mu.Unlock()
				if self.acked.Store(int64(n)); n == 1 {
					close(began)
				}
			}
			select {
			case <-enough:
				return
			default:
			}
			io.WriteString(in, "go on\n") //nolint:errcheck // the next line will be missing
		}
	}()
	self.stop = sync.OnceFunc(func() {
		close(enough)
		<-ended
		if err := cmd.Wait(); err != nil {
			o.t.Errorf("writer %d: %v", w, err)
		}
	})
	o.t.Cleanup(self.stop)
	select {
	case <-began:
	case <-ended:
		o.t.Fatalf("writer %d committed nothing", w)
	}
	return self
}

func (o *oracle) stop() {
	for _, w := range o.writers {
		w.stop()
	}
}

// round is one backup, with what was acknowledged when it began and ended.
type round struct {
	id, method    string
	before, after [2]int
}

func (o *oracle) acked() (n [2]int) {
	for i, w := range o.writers {
		n[i] = int(w.acked.Load())
	}
	return n
}

func (o *oracle) backup(t *testing.T) round {
	t.Helper()
	var doc struct{ ID, Method string }
	r := round{before: o.acked()}
	out := o.must("backup", "--json")
	r.after = o.acked()
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.ID == "" {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	r.id, r.method = doc.ID, doc.Method
	return r
}

const oracleQueries = `SELECT 'integrity', integrity_check FROM pragma_integrity_check;
SELECT 'log', 0, count(*), max(n) FROM log0; SELECT 'log', 1, count(*), max(n) FROM log1;
SELECT 'kv', 0, k, n, length(v), v = replace(hex(zeroblob(length(v) / length(n))), '00', n) FROM kv0;
SELECT 'kv', 1, k, n, length(v), v = replace(hex(zeroblob(length(v) / length(n))), '00', n) FROM kv1;
SELECT 'at', position, w, n FROM shared ORDER BY position;`

// check restores a backup and replays.
func (o *oracle) check(t *testing.T, r round) {
	t.Helper()
	file := filepath.Join(o.dir, r.id+".db")
	defer os.Remove(file)
	if _, errOut, code := o.command("restore", "app", "--id", r.id, "--to", file, "--identity", o.path("key")); code != 0 {
		t.Errorf("restore %s: exit %d\n%s", r.id, code, errOut)
		return
	}
	var ends [2]int // where the prefix of each writer ends
	kv := [2]map[int]string{{}, {}}
	next, order := 0, [2]int{}
	for line := range strings.Lines(sqlite3(file, ".separator ' '", oracleQueries)) {
		var a, b, c, d, e int
		line = strings.TrimSpace(line)
		switch what, rest, _ := strings.Cut(line, " "); what {
		case "log":
			if n, _ := fmt.Sscan(rest, &a, &b, &c); n != 3 || b != c {
				t.Errorf("%s: writer %d has %d transactions up to number %d", r.id, a, b, c)
			}
			ends[a] = c
		case "kv":
			if n, _ := fmt.Sscan(rest, &a, &b, &c, &d, &e); n != 5 || e != 1 {
				t.Errorf("%s: a value that nobody wrote: %s", r.id, line)
			}
			kv[a][b] = fmt.Sprint(c, d)
		case "at":
			if n, _ := fmt.Sscan(rest, &a, &b, &c); n != 3 || a != next+1 || c != order[b]+1 {
				t.Errorf("%s: %q follows position %d, number %d", r.id, line, next, order[b])
				return
			}
			next, order[b] = a, c
			o.mu.Lock()
			acked, ok := o.at[a]
			o.mu.Unlock()
			if ok && acked != [2]int{b, c} {
				t.Errorf("%s: position %d is writer %d's number %d, and was acknowledged as %v", r.id, a, b, c, acked)
			}
		default:
			if line != "integrity ok" {
				t.Errorf("%s: %s", r.id, line)
			}
		}
	}
	if order != ends {
		t.Errorf("%s: the shared table ends at %v, the logs at %v", r.id, order, ends)
	}
	for w, end := range ends {
		if end < r.before[w] || end > r.after[w]+1 {
			t.Errorf("%s: writer %d ends at %d; acknowledged were %d before the backup and %d after it", r.id, w, end, r.before[w], r.after[w])
		}
		if want := replay(o.seed, w, end); !maps.Equal(kv[w], want) {
			t.Errorf("%s: writer %d's keys after %d transactions are %v, want %v", r.id, w, end, kv[w], want)
		}
	}
}

// replay is what a writer's keys are after its first n transactions: the
// number and the length of the value.
func replay(seed uint64, w, n int) map[int]string {
	kv := map[int]string{}
	for i := 1; i <= n; i++ {
		keys, what, sizes := ops(seed, w, i)
		for j, k := range keys {
			if digits := len(fmt.Sprint(i)); what[j] == 0 {
				delete(kv, k)
			} else {
				kv[k] = fmt.Sprint(i, sizes[j]/digits*digits)
			}
		}
	}
	return kv
}
