// Package sqlitetest makes SQLite databases for tests: [Zoo] has one of every
// kind, [Sparse] one that reaches beyond the lock-byte page and costs nothing,
// and [Start] lets another process write one while a test reads it.
//
// Everything is made and written by stock SQLite (the sqlite3 shell and
// Python's module), never by the library that emsafe reads with: what is
// compared then has two sources.
package sqlitetest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Specimen is a database that no process has open.
type Specimen struct {
	Name string // for t.Run
	Path string
}

const rows = `CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<400)
	INSERT INTO t(v) SELECT hex(randomblob(60)) FROM c;
CREATE INDEX i ON t(v);
`

// FileName is the name of every database in the zoo, one that a URI could
// break.
const FileName = "a b?c#d%20é.db"

// Zoo makes one database of every kind that SQLite knows, each in a folder of
// its own below t.TempDir: page sizes, journal modes, auto-vacuum, encodings,
// FTS5, WITHOUT ROWID, STRICT, reserved bytes, free pages.
func Zoo(t testing.TB) []Specimen {
	t.Helper()
	var zoo []Specimen
	add := func(name, sql string) {
		s := Specimen{name, filepath.Join(t.TempDir(), FileName)}
		Script(t, s.Path, sql)
		zoo = append(zoo, s)
	}
	for size := 512; size <= 65536; size *= 2 {
		for _, mode := range []string{"wal", "delete"} {
			add(fmt.Sprintf("page-%d-%s", size, mode), fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=%s; %s", size, mode, rows))
		}
	}
	for _, v := range []string{"full", "incremental"} {
		add("auto-vacuum-"+v, "PRAGMA auto_vacuum="+v+"; PRAGMA journal_mode=wal; "+rows+"DELETE FROM t WHERE id%2;")
	}
	for _, m := range []string{"truncate", "persist"} {
		add("journal-"+m, "PRAGMA journal_mode="+m+";"+rows)
	}
	for _, e := range []string{"UTF-16le", "UTF-16be"} {
		add("encoding-"+e, "PRAGMA encoding='"+e+"';"+rows)
	}
	add("fts5", rows+"CREATE VIRTUAL TABLE f USING fts5(v); INSERT INTO f SELECT v FROM t;")
	add("without-rowid", "CREATE TABLE w (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID; INSERT INTO w VALUES ('a', randomblob(9000));")
	add("strict", "CREATE TABLE s (n INTEGER, v TEXT) STRICT; INSERT INTO s VALUES (1, 'x');")
	add("reserved-bytes", ".filectrl reserve_bytes 32\n"+rows+"VACUUM;")
	add("one-page", "CREATE TABLE only (x);")
	add("free-pages", rows+"DELETE FROM t;")
	return zoo
}

// Script feeds stock sqlite3 lines, dot commands among them, and returns what
// it printed.
func Script(t testing.TB, db, script string) string {
	t.Helper()
	cmd := exec.Command("sqlite3", "-bail", db)
	cmd.Stdin = strings.NewReader(script + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v\n%s\nof %.200s", err, out, script)
	}
	return strings.TrimSpace(string(out))
}

// Verify fails the test unless stock SQLite takes the file, on its own and
// left as it is, for a whole database.
func Verify(t testing.TB, file string) {
	t.Helper()
	if got := Script(t, "file:"+escape(file)+"?immutable=1", "PRAGMA integrity_check;"); got != "ok" {
		t.Fatalf("integrity_check: %s", got)
	}
}

func escape(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// Sparse makes a database in mode "wal" or "delete" that ends some pages
// behind the lock-byte page at 1 GiB and takes a few blocks of disk. Its pages
// around that one are marked, the lock-byte page itself with bytes that no
// snapshot may give. To SQLite all but the first pages are leaked ones: it
// reads the database, and integrity_check complains.
func Sparse(t testing.TB, mode string, pageSize int) Specimen {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.db")
	Script(t, path, fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=%s; CREATE TABLE t (v);", pageSize, mode))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const lockByte = 1 << 30
	pages := int64(lockByte/pageSize) + 5
	count := binary.BigEndian.AppendUint32(nil, uint32(pages))
	counter := make([]byte, 4)
	_, err = f.ReadAt(counter, 24)
	mark := func(data []byte, at int64) {
		if err == nil {
			_, err = f.WriteAt(data, at)
		}
	}
	mark(count, 28)
	mark(counter, 92) // the count counts only if these two agree
	for i := int64(-2); i <= 3; i++ {
		mark([]byte(strings.Repeat(fmt.Sprint(i+5), pageSize)), lockByte+i*int64(pageSize))
	}
	if err == nil {
		err = f.Truncate(pages * int64(pageSize))
	}
	if err != nil {
		t.Fatal(err)
	}
	return Specimen{fmt.Sprintf("sparse-%s-%d", mode, pageSize), path}
}

// Comparison is an io.Writer that holds what it is given against a file, with
// zeros for the lock-byte page. Reset before every attempt; At is how far it
// got.
type Comparison struct {
	File     io.ReaderAt
	PageSize int
	At       int64
	buf      []byte
}

// Write fails at the first byte that differs.
func (c *Comparison) Write(p []byte) (int, error) {
	c.buf = append(c.buf[:0], p...)
	n, err := c.File.ReadAt(c.buf, c.At)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if lock := int64(1<<30) - c.At; lock >= 0 && lock < int64(n) {
		clear(c.buf[lock:min(int(lock)+c.PageSize, n)])
	}
	if n != len(p) || string(c.buf) != string(p) {
		return 0, fmt.Errorf("other bytes in the %d from %d on", len(p), c.At)
	}
	c.At += int64(n)
	return n, nil
}
