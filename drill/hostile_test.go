package drill_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
)

// hostile makes one database that means harm, by its number: what its schema
// does when it is read, how large its rows are, or how its pages lie. The same
// number and seed give the same one.
func hostile(w *world, db string, n int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	outside := filepath.Join(w.dir, "outside")
	kinds := []func() string{
		func() string { // a view that never ends, where a table was
			return "ALTER TABLE orders RENAME TO o; CREATE VIEW orders AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS at, 'x' AS what FROM n;"
		},
		func() string { // triggers that write, everywhere
			return "CREATE TABLE log (v); CREATE TRIGGER a AFTER INSERT ON orders BEGIN INSERT INTO log SELECT randomblob(1000000) FROM orders; END; CREATE TRIGGER b AFTER DELETE ON orders BEGIN INSERT INTO orders (at, what) VALUES ('x', 'y'); END;"
		},
		func() string { // huge rows
			return fmt.Sprintf("CREATE TABLE huge (v); INSERT INTO huge VALUES (zeroblob(%d)); INSERT INTO huge VALUES (printf('%%.*c', %d, 'x'));", 20_000_000+r.IntN(20_000_000), 5_000_000)
		},
		func() string { // functions in an index that only the application, or nobody, has
			return "CREATE TABLE f (v); PRAGMA writable_schema=1; INSERT INTO sqlite_schema VALUES ('index', 'fi', 'f', 2, 'CREATE INDEX fi ON f (load_extension(v))'); "
		},
		func() string { // a generated column and a check that compute for ever
			return "CREATE TABLE g (v, w AS (length(hex(zeroblob(v * 100000)))) VIRTUAL, CHECK (v >= 0)); INSERT INTO g (v) VALUES (9), (99), (999);"
		},
		func() string { // names that try to get out of every quotation
			return `CREATE TABLE "a"" ; DROP TABLE orders; --" (v); CREATE TABLE "../../` + "x'\n" + `" (v); INSERT INTO "a"" ; DROP TABLE orders; --" VALUES (1);`
		},
		func() string { // very many tables
			return manyTables(400)
		},
		func() string { // a schema that points into itself
			return "PRAGMA writable_schema=1; UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'orders';"
		},
		func() string { // a table whose root is another's
			return "PRAGMA writable_schema=1; UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'customers') WHERE name = 'orders';"
		},
		func() string { // text that SQLite's parser refuses
			return "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql = 'CREATE TABLE orders (' || char(0) || ' oops' WHERE name = 'orders';"
		},
		func() string { // a virtual table of a module that writes files, if there were one
			return "PRAGMA writable_schema=1; INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING csv(filename=''" + outside + "'')');"
		},
		func() string { // a full-text index whose shadow tables lie
			return "UPDATE search_data SET block = randomblob(length(block)); DELETE FROM search_idx;"
		},
		func() string { // views on views on views
			b := "CREATE VIEW v0 AS SELECT * FROM orders a, orders b;"
			for i := range 12 {
				b += fmt.Sprintf("CREATE VIEW v%d AS SELECT a.id FROM v%d a, v%d b;", i+1, i, i)
			}
			return b + "ALTER TABLE customers RENAME TO c; CREATE VIEW customers AS SELECT * FROM v12;"
		},
	}
	w.sqlite(db, shop)
	w.sqlite(db, kinds[n%len(kinds)]()+" PRAGMA wal_checkpoint(truncate); PRAGMA journal_mode=delete;")
	if n%3 == 0 {
		corrupt(w, db, r)
	}
}

func manyTables(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "CREATE TABLE t%d (v); ", i)
	}
	return b.String()
}

// corrupt changes pages: bytes anywhere but in the header's magic, page types,
// cell pointers, overflow chains that lead back to themselves.
func corrupt(w *world, db string, r *rand.Rand) {
	data, err := os.ReadFile(db)
	w.must(err)
	pages := len(data) / 4096
	for range 1 + r.IntN(8) {
		page := data[r.IntN(pages)*4096:][:4096]
		at := 100 + r.IntN(3996)
		switch r.IntN(5) {
		case 0:
			page[at] ^= byte(1 << r.IntN(8))
		case 1:
			binary.BigEndian.PutUint32(page[at&^3:], uint32(r.IntN(pages+5))) //nolint:gosec // small
		case 2:
			page[at&1] = byte(r.IntN(256))
		case 3:
			binary.BigEndian.PutUint16(page[at&^1:], uint16(r.IntN(65536))) //nolint:gosec // small
		case 4:
			copy(page, data[r.IntN(pages)*4096:][:4096])
		}
	}
	copy(data, "SQLite format 3\x00\x10\x00")
	w.must(os.WriteFile(db, data, 0o600))
}

// TestHostileDatabases: whatever was backed up, a drill of it ends within its
// limit, with a verdict, and writes nothing outside scratch.
func TestHostileDatabases(t *testing.T) {
	t.Parallel()
	count, seed := 13, uint64(1)
	if os.Getenv("EMSAFE_SOAK") != "" {
		count, seed = 200, uint64(time.Now().UnixNano()) //nolint:gosec // any will do
	}
	t.Logf("seed %d", seed)
	verdicts := map[string]int{}
	for n := range count {
		w := newWorld(t, "CREATE TABLE t (v)")
		w.must(os.Remove(w.db))
		hostile(w, w.db, n, seed)
		data, err := os.ReadFile(w.db)
		w.must(err)
		w.plant(data)
		p := w.latest()
		p.Limit = 20 * time.Second
		p.Newest = "SELECT max(at) FROM orders"
		p.Checks = []drill.Assertion{
			{Name: "orders", SQL: "SELECT count(*) FROM orders", Min: "1", Timeout: 500 * time.Millisecond},
			{Name: "customers", SQL: "SELECT count(*) FROM customers", Min: "1", Timeout: 500 * time.Millisecond},
			{Name: "command", Command: []string{"true"}},
		}
		before := fingerprint(w)
		began := time.Now()
		r, _ := drill.Run(t.Context(), p)
		if r == nil {
			t.Fatalf("number %d: no report", n)
		}
		if took := time.Since(began); took > p.Limit+10*time.Second { // the limit, and the end of what was under way
			t.Errorf("number %d took %s", n, took)
		}
		if after := fingerprint(w); after != before {
			t.Errorf("number %d: something outside of scratch changed:\n%s\nwas\n%s", n, after, before)
		}
		if left, _ := filepath.Glob(filepath.Join(w.scratch, "*")); len(left) > 0 {
			t.Errorf("number %d left %v", n, left)
		}
		t.Logf("number %d: %s, %s %v", n, time.Since(began).Round(time.Millisecond), r.Verdict, r.Reasons())
		verdicts[string(r.Verdict)+" "+strings.Join(r.Reasons(), ",")]++
		if r.Verdict == drill.Inconclusive {
			t.Errorf("number %d is inconclusive:\n%s%v", n, odd(r), w.private)
		}
		os.RemoveAll(w.dir) // two hundred of them are much
	}
	t.Logf("verdicts %v", verdicts)
}

// fingerprint is everything in the world's folder but the drill's own records.
func fingerprint(w *world) string {
	var b strings.Builder
	w.must(filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(w.dir, path)
		if rel == filepath.Join("state", "drills") || rel == filepath.Join("target", "reports") {
			return fs.SkipDir
		}
		if strings.HasPrefix(rel, "state/app.drill") || d.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", rel, sha256.Sum256(data))
		return err
	}))
	return b.String()
}
