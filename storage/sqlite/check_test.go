package sqlite

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "PRAGMA journal_mode=wal;"+rows)
	for _, level := range []string{"quick", "full"} {
		if err := Check(t.Context(), db, level); err != nil {
			t.Error(err)
		}
	}
	if err := Check(t.Context(), db, "some"); err == nil {
		t.Error("an unknown level passes")
	}
	if got := surroundings(t, db); len(got) != 1 {
		t.Errorf("left beside it: %q", got)
	}
	data, _ := os.ReadFile(db)
	damage(t, db, func(data []byte) {
		for i := 4096; i < 3*4096; i++ {
			data[i] ^= 0x5a
		}
	})
	if err := Check(t.Context(), db, "quick"); !errors.Is(err, fault.Corrupt) {
		t.Errorf("two pages of rubbish: %v", err)
	}
	if err := os.WriteFile(db, data[:len(data)-4096], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), db, "quick"); !errors.Is(err, fault.Corrupt) {
		t.Errorf("a page short: %v", err)
	}
}

func damage(t *testing.T, db string, change func([]byte)) {
	t.Helper()
	data, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	change(data)
	if err := os.WriteFile(db, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// An index that lost an entry is what only the full check finds; orphans are
// not damage.
func TestCheckFull(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p); INSERT INTO c VALUES (1), (2);")
	report, err := Examine(t.Context(), db, "full")
	if err != nil || len(report.Damage) > 0 || strings.Join(report.Orphans, ",") != "c: 2 rows" {
		t.Errorf("%+v %v", report, err)
	}
	shell(t, db, "CREATE TABLE i (v TEXT); CREATE INDEX iv ON i(v); INSERT INTO i VALUES ('needle-in-the-index');")
	damage(t, db, func(data []byte) {
		at := bytes.LastIndex(data, []byte("needle"))
		data[at] = 'N'
	})
	if err := Check(t.Context(), db, "quick"); err != nil {
		t.Errorf("quick: %v", err)
	}
	if err := Check(t.Context(), db, "full"); !errors.Is(err, fault.Corrupt) {
		t.Errorf("full: %v", err)
	}
}

// Django and others have functions and collations of their own: their
// databases are not damaged, and damage in them is still found.
func TestCheckWithoutTheApplication(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	out, err := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.create_function("slug", 1, lambda s: (s or "").lower(), deterministic=True)
c.create_collation("ICU", lambda a, b: (a > b) - (a < b))
c.executescript("""
CREATE TABLE plain (v);
CREATE TABLE "a ""quoted"" one" (v TEXT, w TEXT COLLATE ICU, CHECK (slug(v) <> ''));
CREATE INDEX ai ON "a ""quoted"" one" (slug(v));
CREATE TABLE icu (w TEXT COLLATE ICU PRIMARY KEY, p REFERENCES icu);
CREATE TABLE g (v, s AS (slug(v)) STORED, r AS (slug(v)) VIRTUAL NOT NULL);
CREATE VIRTUAL TABLE ft USING fts5(x);
PRAGMA writable_schema=1;
INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('table', 'vec', 'vec', 0, 'CREATE VIRTUAL TABLE vec USING vec0(x)');
""")
for i in range(300):
    c.execute("INSERT INTO plain VALUES (hex(randomblob(200)))")
    c.execute("INSERT INTO \"a \"\"quoted\"\" one\" VALUES (hex(randomblob(200)), ?)", (str(i),))
    c.execute("INSERT INTO icu VALUES (?, NULL)", (str(i),))
    c.execute("INSERT INTO g(v) VALUES (?)", (str(i),))
c.commit()`, db).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for _, level := range []string{"quick", "full"} {
		report, err := Examine(t.Context(), db, level)
		if err != nil || len(report.Damage) > 0 || !strings.Contains(strings.Join(report.Unchecked, "\n"), "slug") {
			t.Errorf("%s: %+v %v", level, report, err)
		}
		t.Logf("%s: %q", level, report)
	}
	if _, _, err := take(t, db, Options{}); err != nil {
		t.Errorf("snapshot: %v", err)
	}
	for _, table := range []string{"plain", "a \"quoted\" one", "g"} {
		root := shell(t, db, "SELECT rootpage FROM sqlite_schema WHERE name = '"+table+"' AND type = 'table';")
		var page int
		for _, r := range root {
			page = page*10 + int(r-'0')
		}
		damaged := filepath.Join(t.TempDir(), "damaged.db")
		data, _ := os.ReadFile(db)
		clear(data[(page-1)*4096 : page*4096])
		if err := os.WriteFile(damaged, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), damaged, "quick"); !errors.Is(err, fault.Corrupt) {
			t.Errorf("the root page of %s is zeros: %v", table, err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, d := range []string{"data", "node_modules/x"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, filepath.Join(root, "data", "app.db"), "PRAGMA journal_mode=wal;"+rows)
	shell(t, filepath.Join(root, "node_modules", "x", "sample.sqlite"), rows)
	os.WriteFile(filepath.Join(root, "data", "notes.db"), bytes.Repeat([]byte("text"), 100), 0o600) //nolint:errcheck // absence shows below
	os.Symlink(filepath.Join(root, "data", "app.db"), filepath.Join(root, "link.db"))               //nolint:errcheck // likewise
	found, err := Find(t.Context(), root)
	if err != nil || len(found) != 2 || filepath.Base(found[0].Path) != "app.db" || found[0].Vendor || !found[1].Vendor {
		t.Errorf("%+v %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(append([]byte(magic), make([]byte, 84)...))
	f.Fuzz(func(t *testing.T, head []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, head, 0o600); err != nil {
			t.Fatal(err)
		}
		Inspect(path) //nolint:errcheck // must not panic
		if w, err := openWAL(strings.TrimSuffix(path, "-wal")); err == nil && w != nil {
			w.committed() //nolint:errcheck // likewise
			w.close()
		}
	})
}
