package sqlite

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// restless does to a WAL what applications do, and what they should not.
const restless = `
import sqlite3, random, sys, os
db, seed, limit, sync = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
random.seed(seed)
def conn():
    c = sqlite3.connect(db, isolation_level=None, timeout=30)
    c.execute("pragma journal_mode=wal").fetchone()
    c.execute("pragma synchronous=" + sync)
    c.execute("pragma cache_size=10")
    c.execute("pragma wal_autocheckpoint=%d" % random.choice([20, 100, 1000, 1000]))
    if limit >= 0: c.execute("pragma journal_size_limit=%d" % limit)
    return c
c = conn()
c.execute("create table if not exists t (id integer primary key, v blob)")
print("ready", flush=True)
def some(n):
    m = c.execute("select coalesce(max(id), 0) from t").fetchone()[0]
    for _ in range(n):
        c.execute("insert or replace into t values (?, randomblob(?))", (random.randint(1, m + 20), random.randint(10, 3000)))
for _ in sys.stdin:
    try:
        what = random.random()
        if what < 0.70: some(random.choice([1, 1, 2, 5]))
        elif what < 0.80:
            c.execute("begin immediate"); some(400)
            c.execute(random.choice(["commit", "commit", "rollback"]))
        elif what < 0.84: c.execute("delete from t where id > (select max(id) * ? from t)", (random.random(),))
        elif what < 0.88: c.execute("pragma incremental_vacuum(%d)" % random.randint(1, 50)).fetchall()
        elif what < 0.97: c.execute("pragma wal_checkpoint(%s)" % random.choice(["passive", "restart", "truncate", "full"]))
        elif what < 0.98: c.execute("vacuum")
        elif what < 0.99: c.close(); c = conn()
        else: os.kill(os.getpid(), 9) if random.random() < 0.3 else None
    except sqlite3.OperationalError:
        try: c.execute("rollback")
        except sqlite3.OperationalError: pass
    print("done", flush=True)
`

// naive are proofs that lose pages. Each says where it would mark a snapshot.
type naive struct {
	name  string
	mark  *position
	next  *position // for the snapshot that is being taken
	claim Image     // of this round
	lost  int
}

// lastCommit is the last commit frame of the WAL that lies there now.
func lastCommit(path string) *position {
	t := NewTail(path, nil)
	if t.Poll() != nil || len(t.marks) == 0 {
		return nil
	}
	return &t.marks[len(t.marks)-1].position
}

// TestProof holds what the WAL proves against all pages, read in the same
// transaction, while writers do their worst; and shows that proofs which look
// natural lose pages.
func TestProof(t *testing.T) {
	t.Parallel()
	rounds, seed := 40, rand.Uint64()
	if soak {
		rounds = 2000
	}
	t.Logf("seed %d", seed)
	for i, c := range []struct {
		limit int
		sync  string
	}{{-1, "normal"}, {0, "full"}, {100000, "full"}, {-1, "full"}} {
		t.Run(fmt.Sprintf("%s limit %d", c.sync, c.limit), func(t *testing.T) {
			t.Parallel()
			p := newProver(t, seed+uint64(i), c.limit, c.sync)
			for range rounds {
				p.round()
			}
			t.Logf("%d of %d snapshots proven; unsound: %q lost pages in %d, %q in %d", p.proven, rounds, p.naive[0].name, p.naive[0].lost, p.naive[1].name, p.naive[1].lost)
			if p.proven == 0 {
				t.Error("nothing was ever proven")
			}
			if soak && c.limit < 0 && p.naive[0].lost+p.naive[1].lost == 0 {
				t.Error("the unsound proofs lost nothing: the writers are too tame to prove anything")
			}
		})
	}
}

type prover struct {
	t      *testing.T
	r      *rand.Rand
	db     string
	args   []string
	ticks  []chan bool
	tail   *Tail
	last   []byte // the image that mark is of
	mark   *Mark
	naive  [2]naive
	proven int
}

func newProver(t *testing.T, seed uint64, limit int, durable string) *prover {
	p := &prover{t: t, r: rand.New(rand.NewPCG(seed, 1)), db: filepath.Join(t.TempDir(), "app.db")}
	p.naive[0].name, p.naive[1].name = "the last commit before", "the last commit after"
	shell(t, p.db, "PRAGMA page_size=1024; PRAGMA auto_vacuum=incremental; PRAGMA journal_mode=wal; CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB);")
	p.args = []string{"-c", restless, p.db, "", fmt.Sprint(limit), durable}
	p.tail = NewTail(p.db, nil)
	for range 2 {
		p.ticks = append(p.ticks, p.writer())
	}
	stop := make(chan bool)
	var polling sync.WaitGroup
	polling.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				p.tail.Poll() //nolint:errcheck // then nothing is proven
			}
		}
	})
	t.Cleanup(func() { close(stop); polling.Wait() })
	return p
}

// writer runs a process that is started again when it kills itself; every tick
// makes it do something.
func (p *prover) writer() chan bool {
	ticks, ended := make(chan bool), make(chan bool)
	seed := int(p.r.Uint32())
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			args := slices.Clone(p.args)
			args[3] = fmt.Sprint(seed + n)
			cmd := exec.Command("python3", args...)
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				p.t.Error(err)
				return
			}
			said := bufio.NewReader(out)
			said.ReadString('\n') //nolint:errcheck // the next one tells
			alive := true
			for alive {
				if _, ok := <-ticks; !ok {
					in.Close()
					cmd.Wait() //nolint:errcheck // it ends with its input
					return
				}
				io.WriteString(in, "\n") //nolint:errcheck // the answer tells
				_, err := said.ReadString('\n')
				alive = err == nil
			}
			in.Close()
			cmd.Wait() //nolint:errcheck // it was killed
		}
	}()
	p.t.Cleanup(func() { close(ticks); <-ended })
	return ticks
}

// round takes a snapshot while the writers work.
func (p *prover) round() {
	t := p.t
	t.Helper()
	busy, order := make(chan bool), make([]int, 1+p.r.IntN(12))
	for i := range order {
		order[i] = p.r.IntN(2)
	}
	go func() {
		defer close(busy)
		for _, w := range order {
			p.ticks[w] <- true
		}
	}()
	if p.r.IntN(3) > 0 {
		<-busy // between transactions, at times
	}
	p.naive[0].next = lastCommit(p.db)
	opt := Options{Since: p.mark, Tail: p.tail}
	if p.r.IntN(2) == 0 {
		opt.Tail = nil // as one who comes by now and then
	}
	var seen Image
	opt.Select = func(image Image) []int64 {
		seen = image
		p.naive[1].next = lastCommit(p.db)
		for i := range p.naive {
			if n := &p.naive[i]; n.mark != nil && p.mark != nil {
				m := *p.mark
				m.WAL = n.mark
				tail, claim := NewTail(p.db, &m), image
				claim.Proven, claim.Changed = false, nil
				if tail.Poll() == nil {
					Options{Since: &m}.prove(tail, &claim)
				}
				n.claim = claim
			}
		}
		return nil
	}
	p.naive[0].claim, p.naive[1].claim = Image{}, Image{}
	var out bytes.Buffer
	image, err := Snapshot(t.Context(), p.db, opt, func(Image) (io.Writer, error) { out.Reset(); return &out, nil })
	<-busy
	if err != nil {
		t.Fatal(err)
	}
	if seen.Proven {
		p.proven++
		if lost := lostPages(p.last, out.Bytes(), image.PageSize, seen.Changed); len(lost) > 0 {
			t.Fatalf("pages %v changed, and the proof since %+v says that only %v can have", lost, p.mark, seen.Changed)
		}
	}
	for i := range p.naive {
		n := &p.naive[i]
		if n.claim.Proven && len(lostPages(p.last, out.Bytes(), image.PageSize, n.claim.Changed)) > 0 {
			n.lost++
		}
	}
	if p.r.IntN(8) == 0 {
		return // this one is not safe: the next builds on the one before
	}
	p.last, p.mark = bytes.Clone(out.Bytes()), image.Mark
	p.tail.Advance(p.mark)
	for i := range p.naive {
		p.naive[i].mark = p.naive[i].next
	}
}

// lostPages are those that differ though they are not among changed.
func lostPages(before, after []byte, size int, changed []int64) (lost []int64) {
	may := map[int64]bool{}
	for _, p := range changed {
		may[p] = true
	}
	for at := 0; at < len(after); at += size {
		page := int64(at/size + 1)
		same := at+size <= len(before) && bytes.Equal(before[at:at+size], after[at:at+size])
		if !same && !may[page] {
			lost = append(lost, page)
		}
	}
	return lost
}

// console is a stock sqlite3 that stays connected.
type console struct {
	t    *testing.T
	in   io.WriteCloser
	said *bufio.Reader
}

func newConsole(t *testing.T, db string) *console {
	t.Helper()
	cmd := exec.Command("sqlite3", "-batch", db)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() }) //nolint:errcheck // it ends with its input
	return &console{t, in, bufio.NewReader(out)}
}

// do waits until the statements are done.
func (c *console) do(sql string) {
	c.t.Helper()
	fmt.Fprintf(c.in, "%s;\nSELECT 'done';\n", sql)
	for {
		line, err := c.said.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%s: %v", sql, err)
		}
		if line == "done\n" {
			return
		}
	}
}

// commits writes n rows, a commit each.
func (c *console) commits(n int) {
	for range n {
		c.do("INSERT INTO t (v) VALUES (randomblob(900))")
	}
}

// TestBridges shows when one restart of the WAL between two polls is bridged,
// and when it is not.
func TestBridges(t *testing.T) {
	t.Parallel()
	const restart = "PRAGMA wal_checkpoint(RESTART)"
	for name, c := range map[string]struct {
		first   int // commits in the WAL before the one that is followed
		between func(*console)
		proven  bool
	}{
		"no restart":                         {20, func(c *console) { c.commits(3) }, true},
		"one, and the old end is seen":       {20, func(c *console) { c.commits(3); c.do(restart); c.commits(2) }, true},
		"one, and the file may be cut off":   {1, func(c *console) { c.commits(9); c.do(restart); c.commits(2) }, false},
		"one, and the mark is overwritten":   {40, func(c *console) { c.do(restart); c.commits(25) }, false},
		"two":                                {20, func(c *console) { c.commits(1); c.do(restart); c.commits(1); c.do(restart); c.commits(1) }, false},
		"truncated":                          {20, func(c *console) { c.do("PRAGMA wal_checkpoint(TRUNCATE)"); c.commits(1) }, false},
		"emptied by a change of the mode":    {20, func(c *console) { c.do("PRAGMA journal_mode=delete; PRAGMA journal_mode=wal"); c.commits(1) }, false},
		"a transaction rolled back after it": {20, func(c *console) { spill(c, "ROLLBACK"); c.commits(2) }, true},
		"a large transaction":                {5, func(c *console) { spill(c, "COMMIT"); c.do(restart); c.commits(1) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "app.db")
			w := newConsole(t, db)
			w.do("PRAGMA page_size=1024; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=10; CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
			w.commits(c.first)
			w.do(restart)
			w.commits(8)
			before, first := snapshotAll(t, db, Options{})
			if first.Mark == nil {
				t.Fatal("no mark")
			}
			c.between(w)
			var seen Image
			after, _ := snapshotAll(t, db, Options{Since: first.Mark, Select: func(i Image) []int64 { seen = i; return nil }})
			if seen.Proven != c.proven {
				t.Fatalf("proven: %v", seen.Proven)
			}
			if seen.Proven {
				if lost := lostPages(before, after, 1024, seen.Changed); len(lost) > 0 {
					t.Errorf("pages %v are not among %v", lost, seen.Changed)
				}
				if len(seen.Changed) > 60 {
					t.Errorf("%d pages are said to have changed", len(seen.Changed))
				}
			}
		})
	}
}

// spill is a transaction that is larger than the cache.
func spill(c *console, end string) {
	c.do("BEGIN; INSERT INTO t (v) WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM i WHERE x<100) SELECT randomblob(900) FROM i; " + end)
}

func snapshotAll(t *testing.T, db string, opt Options) ([]byte, Image) {
	t.Helper()
	var out bytes.Buffer
	image, err := Snapshot(t.Context(), db, opt, func(Image) (io.Writer, error) { out.Reset(); return &out, nil })
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), image
}

// TestChosenPages takes only what the proof says, and lays it over the image
// before.
func TestChosenPages(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	w := newConsole(t, db)
	w.do("PRAGMA page_size=1024; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
	w.commits(30)
	image, first := snapshotAll(t, db, Options{})
	tail := NewTail(db, first.Mark)
	for round := range 20 {
		w.commits(2)
		w.do(fmt.Sprintf("DELETE FROM t WHERE id %% 7 = %d", round%7))
		if round%5 == 4 {
			w.do("VACUUM")
		}
		var pages []int64
		some, next := snapshotAll(t, db, Options{Since: first.Mark, Tail: tail, Select: func(i Image) []int64 { pages = i.Changed; return pages }})
		if !next.Proven {
			t.Fatal("not proven")
		}
		image = append(image, make([]byte, max(0, int(next.Pages)*1024-len(image)))...)[:next.Pages*1024]
		for i, p := range pages {
			copy(image[(p-1)*1024:], some[i*1024:(i+1)*1024])
		}
		if all, _ := snapshotAll(t, db, Options{}); !bytes.Equal(all, image) {
			t.Fatalf("round %d: the pages laid over the image before are not the database", round)
		}
		first = next
		tail.Advance(next.Mark)
	}
}

// TestAtRest: a file that nobody wrote is not read again.
func TestAtRest(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "app.db")
			shell(t, db, "PRAGMA journal_mode="+mode+"; CREATE TABLE t (v); INSERT INTO t VALUES (1);")
			if _, image := snapshotAll(t, db, Options{}); image.Mark != nil {
				t.Error("a file that was just written can be proven at rest")
			}
			old := time.Now().Add(-time.Hour)
			if err := os.Chtimes(db, old, old); err != nil {
				t.Fatal(err)
			}
			// The change time cannot be set back.
			var first Image
			for first.Mark == nil {
				time.Sleep(100 * time.Millisecond)
				_, first = snapshotAll(t, db, Options{})
			}
			unread := func(i Image) []int64 {
				if i.Proven {
					return i.Changed
				}
				return nil
			}
			data, image := snapshotAll(t, db, Options{Since: first.Mark, Select: unread})
			if !image.Proven || len(image.Changed) > 0 || len(data) > 0 || image.Mark == nil {
				t.Errorf("an unchanged file: %+v, %d bytes", image, len(data))
			}
			shell(t, db, "UPDATE t SET v = 2;")
			if data, image := snapshotAll(t, db, Options{Since: first.Mark, Select: unread}); image.Proven || len(data) == 0 {
				t.Errorf("a changed file: %+v, %d bytes", image, len(data))
			}
		})
	}
}
