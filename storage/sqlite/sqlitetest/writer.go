package sqlitetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// Accounts makes a database whose writers keep a sum: 3,000 accounts of 100
// each. Every row has some characters that writers change, with an index on
// them, and ballast more that they leave alone.
func Accounts(t testing.TB, db, mode string, ballast int) {
	t.Helper()
	sql := fmt.Sprintf(`PRAGMA auto_vacuum=incremental; PRAGMA journal_mode=%s; PRAGMA synchronous=off;
BEGIN;
CREATE TABLE acc (id INTEGER PRIMARY KEY, bal INT, pad TEXT, ballast TEXT);
CREATE INDEX i ON acc(pad);
CREATE TABLE ack (w INTEGER PRIMARY KEY, n INT);
WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM c WHERE n<2999)
	INSERT INTO acc SELECT n, 100, hex(randomblob(200)), hex(randomblob(%d)) FROM c;
COMMIT;`, mode, ballast/2)
	Script(t, db, sql)
}

// Writer is another process that commits transfers between accounts, few and
// many at once, and does to the database what applications do: checkpoints of
// every kind, VACUUM, incremental vacuum, new connections.
type Writer struct {
	seed int
	cmd  *exec.Cmd
	in   io.Closer
	errs bytes.Buffer
	ack  atomic.Int64
	done chan struct{}
}

const program = `
import sqlite3, random, sys, threading
db, mode, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(seed)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
def conn():
    c = sqlite3.connect(db, isolation_level=None, timeout=60, uri=db.startswith("file:"))
    c.execute("pragma journal_mode=" + mode)
    c.execute("pragma synchronous=off")
    return c
c, n = conn(), 0
print("ready", flush=True)
while not stop.is_set():
    try:
        c.execute("begin immediate")
        for _ in range(random.choice([1, 1, 1, 5, 300])):
            a, b = random.randrange(3000), random.randrange(3000)
            c.execute("update acc set bal = bal - 1, pad = hex(randomblob(?)) where id = ?", (random.randrange(200), a))
            c.execute("update acc set bal = bal + 1 where id = ?", (b,))
        c.execute("insert or replace into ack values (?, ?)", (seed, n + 1))
        c.execute("commit")
        n += 1
        print(n, flush=True)
        r = random.random()
        if r < 0.03: c.execute("pragma wal_checkpoint(%s)" % random.choice(["passive", "restart", "truncate"])).fetchall()
        elif r < 0.04: c.execute("vacuum")
        elif r < 0.05: c.execute("pragma incremental_vacuum(50)").fetchall()
        elif r < 0.08: c.close(); c = conn()
    except sqlite3.OperationalError:
        if c.in_transaction: c.execute("rollback")
c.close()
`

// Start starts a writer on a database made by Accounts. Every writer of one
// database needs a seed of its own. It ends with the test, or at Stop.
func Start(t testing.TB, db, mode string, seed int) *Writer {
	t.Helper()
	w := &Writer{seed: seed, cmd: exec.Command("python3", "-c", program, db, mode, strconv.Itoa(seed)), done: make(chan struct{})}
	w.cmd.Stderr = &w.errs
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.in = in
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		w.cmd.Wait() //nolint:errcheck // the next line tells
		t.Fatalf("the writer did not start: %s", w.errs.String())
	}
	go func() {
		defer close(w.done)
		for lines.Scan() {
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				w.ack.Store(n)
			}
		}
	}()
	t.Cleanup(func() { w.Stop(t) })
	return w
}

// Acknowledged is how many commits the writer has been told are done.
func (w *Writer) Acknowledged() int64 { return w.ack.Load() }

// Stop lets the writer finish its transaction and close.
func (w *Writer) Stop(t testing.TB) {
	t.Helper()
	if w.cmd == nil {
		return
	}
	w.in.Close()
	<-w.done
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("writer %d: %v %s", w.seed, err, w.errs.String())
	}
	w.cmd = nil
}

// VerifyAccounts fails the test unless file is a whole database in which the
// sum holds, with each writer's commits up to at least what it had
// acknowledged when the image was begun, in the order of since.
func VerifyAccounts(t testing.TB, file string, writers []*Writer, since []int64) {
	t.Helper()
	got := strings.Fields(Script(t, "file:"+escape(file)+"?immutable=1",
		"PRAGMA integrity_check; SELECT sum(bal), count(*) FROM acc; SELECT w, n FROM ack;"))
	if len(got) < 2 || got[0] != "ok" || got[1] != "300000|3000" {
		t.Fatalf("not a state that was ever committed: %q", got)
	}
	commits := map[int]int64{}
	for _, line := range got[2:] {
		var w int
		var n int64
		if _, err := fmt.Sscanf(line, "%d|%d", &w, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		commits[w] = n
	}
	for i, w := range writers {
		if commits[w.seed] < since[i] {
			t.Fatalf("the image has %d commits of writer %d, which had acknowledged %d before", commits[w.seed], w.seed, since[i])
		}
	}
}
