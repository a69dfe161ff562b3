package sqlite

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestInquiry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := filepath.Join(dir, "a.db")
	shell(t, db, `PRAGMA journal_mode=wal; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
		INSERT INTO t VALUES (1, 'first value'), (2, 'second value'), (3, NULL);
		CREATE TABLE w (k TEXT PRIMARY KEY) WITHOUT ROWID; CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('hello there');
		CREATE VIEW loops AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n;`)
	before, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Inquire(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, c := range []struct {
		query, want string
		rows        int
		ok          bool
	}{
		{"SELECT count(*) FROM t", "3", 1, true},
		{"SELECT v FROM t ORDER BY id", "first value", 3, true},
		{"SELECT v FROM t WHERE id = 3", "", 1, false},
		{"SELECT v FROM t WHERE id = 4", "", 0, false},
		{"SELECT 1.5", "1.5", 1, true},
		{"SELECT count(*) FROM f WHERE f MATCH 'hello'", "1", 1, true},
	} {
		value, rows, ok, err := q.Value(t.Context(), c.query)
		if err != nil || value != c.want || rows != c.rows || ok != c.ok {
			t.Errorf("%s: %q %d %v %v", c.query, value, rows, ok, err)
		}
	}
	outside := filepath.Join(dir, "outside.db")
	for _, query := range []string{
		"INSERT INTO t VALUES (9, 'x')", "DELETE FROM t", "DROP TABLE t", "CREATE TEMP TABLE x (y)", "ATTACH '" + outside + "' AS o", "VACUUM INTO '" + outside + "'",
		"CREATE TABLE x (y)", "CREATE VIEW x AS SELECT 1", "PRAGMA journal_mode=delete", "PRAGMA writable_schema=1", "PRAGMA query_only=0", "UPDATE t SET v = 1", "INSERT INTO f(f) VALUES ('rebuild')",
		"SELECT zeroblob(100000000)", "SELECT load_extension('x')",
	} {
		if v, _, _, err := q.Value(t.Context(), query); err == nil {
			t.Errorf("%s went through: %q", query, v)
		}
	}
	stop, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("its time is over"))
	defer cancel()
	if _, _, _, err := q.Value(stop, "SELECT sum(i) FROM loops"); err == nil || !strings.Contains(err.Error(), "time is over") {
		t.Errorf("a view that loops: %v", err)
	}
	digest, tables, err := q.Schema(t.Context())
	if err != nil || len(digest) != 64 {
		t.Fatal(digest, err)
	}
	names := map[string]int64{}
	for i := range tables {
		if err := q.Count(t.Context(), &tables[i]); err != nil {
			t.Error(err)
		}
		names[tables[i].Name] = tables[i].Rows
		if tables[i].FTS5 {
			if found, err := q.FullText(t.Context(), tables[i].Name); err != nil || len(found) > 0 {
				t.Errorf("full text: %v %v", found, err)
			}
		}
	}
	if names["t"] != 3 || names["w"] != 0 || names["f"] != -1 {
		t.Errorf("tables %v", names)
	}
	var cells []string
	if err := q.Sample(t.Context(), Table{Name: "t", Rows: 3}, 2, func(_ int64, _ int, v []byte) { cells = append(cells, string(v)) }); err != nil || len(cells) != 2 {
		t.Errorf("sample %q %v", cells, err)
	}
	if err := q.Row(t.Context(), "t", 2, func(_ int, v []byte) { cells = append(cells, string(v)) }); err != nil || len(cells) != 3 || cells[2] != "second value" {
		t.Errorf("row %q %v", cells, err)
	}
	after, err := os.ReadFile(db)
	if err != nil || sha256.Sum256(before) != sha256.Sum256(after) {
		t.Error("the file has changed")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left beside it: %v", left)
	}
}

// TestInquiryFullTextDamage takes an entry out from under a full-text index.
func TestInquiryFullTextDamage(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "a.db")
	shell(t, db, `CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('hello there'), ('good bye'); DELETE FROM f_content WHERE id = 1;`)
	q, err := Inquire(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if found, err := q.FullText(t.Context(), "f"); err != nil || len(found) == 0 {
		t.Errorf("not found: %v %v", found, err)
	}
}
