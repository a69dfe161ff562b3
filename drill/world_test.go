package drill_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/backup"
	"emsafe/drill"
	"emsafe/internal/command"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/dir"
	"emsafe/storage/seal"
)

// world is a host with a database, keys and a target.
type world struct {
	t       testing.TB
	dir, db string
	bucket  storage.Bucket
	key     *seal.SigningKey
	signers seal.Signers
	ids     seal.Identities
	to      seal.Recipients
	private []string
	warned  []error
	scratch string
}

const shop = `PRAGMA journal_mode=wal;
CREATE TABLE orders (id INTEGER PRIMARY KEY, at TEXT NOT NULL, what TEXT NOT NULL);
CREATE INDEX orders_at ON orders (at);
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL);
CREATE VIRTUAL TABLE search USING fts5(what);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
  INSERT INTO orders (at, what) SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-' || (100 - i) || ' minutes'), 'order number ' || i || ' of something' FROM n;
INSERT INTO customers (name, email) SELECT 'customer ' || id, 'c' || id || '@example.org' FROM orders WHERE id <= 50;
INSERT INTO search SELECT what FROM orders;`

func newWorld(t testing.TB, sql string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	if err := dir.Make(w.path("target")); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.bucket, err = dir.Open(w.path("target")); err != nil {
		t.Fatal(err)
	}
	w.db = filepath.Join(w.dir, "app.db")
	w.sqlite(w.db, sql)
	if w.key, _, err = seal.NewSigningKey("test"); err != nil {
		t.Fatal(err)
	}
	if w.signers, err = seal.ParseSigners([]byte(w.key.AllowedSigners("*"))); err != nil {
		t.Fatal(err)
	}
	w.ids, w.to = identity(t)
	return w
}

func (w *world) path(name ...string) string {
	return filepath.Join(append([]string{w.dir}, name...)...)
}

// payloads are the files of all payloads, oldest first.
func (w *world) payloads() []string {
	w.t.Helper()
	files, err := filepath.Glob(w.path("target", "databases", "app", "payloads", "*"))
	if err != nil || len(files) == 0 {
		w.t.Fatal("no payload", err)
	}
	slices.SortFunc(files, func(a, b string) int { return modified(a).Compare(modified(b)) })
	return files
}

func modified(file string) time.Time {
	st, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func identity(t testing.TB) (seal.Identities, seal.Recipients) {
	t.Helper()
	secret, recipient, err := seal.NewIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := seal.ParseIdentities([]byte(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipients(recipient)
	if err != nil {
		t.Fatal(err)
	}
	return ids, to
}

// sqlite runs the stock shell.
func (w *world) sqlite(db, sql string) string {
	w.t.Helper()
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 5000", db, sql).CombinedOutput()
	if err != nil {
		w.t.Fatalf("sqlite3 %.200s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func target(name string, b storage.Bucket) storage.Target {
	return storage.Target{Name: name, Open: func(context.Context) (storage.Bucket, error) { return b, nil }}
}

func (w *world) backup() backup.Outcome {
	w.t.Helper()
	out, err := backup.Database(w.t.Context(), backup.Job{
		Database: "app", Path: w.db, Recipients: w.to, Key: w.key, Signers: w.signers, Host: "test",
		State: filepath.Join(w.dir, "state"), Targets: []storage.Target{target("main", w.bucket)}, Versions: map[string]string{"emsafe": "test"},
		Policy: backup.Policy{FullEvery: time.Hour * 1000, FullShare: 10_000},
	})
	if err != nil {
		w.t.Fatalf("backup: %v", err)
	}
	return out
}

// plant commits bytes as a backup, for a database that no SQLite would read.
func (w *world) plant(data []byte) {
	w.t.Helper()
	var sealed bytes.Buffer
	sw, err := seal.NewWriter(&sealed, seal.Options{Recipients: w.to, PageSize: 4096})
	w.must(err)
	_, err = sw.Write(data[:len(data)/4096*4096])
	w.must(err)
	form, content, err := sw.Close()
	w.must(err)
	now := time.Now().UTC().Truncate(time.Millisecond)
	c, err := catalog.Create(w.t.Context(), w.bucket, w.key, w.signers, "planted", "test", now)
	w.must(err)
	key := catalog.PayloadKey("app", "planted")
	_, err = w.bucket.Create(w.t.Context(), key, &sealed, form.Size)
	w.must(err)
	_, err = c.Chain("app").Add(w.t.Context(), w.key, catalog.Head{}, catalog.Manifest{
		Host: "test", Lineage: "planted", ID: "planted", Kind: catalog.KindFull, SnapshotAt: now, CommittedAt: now,
		Payload: &catalog.Payload{Key: key, Sealed: form}, Content: content, Recipients: w.to.Names(), Heads: []catalog.Head{},
		Source: catalog.Source{JournalMode: "delete", UID: os.Getuid(), GID: os.Getgid(), Mode: "0600"},
	})
	w.must(err)
}

func (w *world) plan() drill.Plan {
	if w.scratch == "" {
		// Where another user may enter, as in earnest.
		dir, err := os.MkdirTemp("/var/tmp", "drill-test-")
		if err == nil {
			err = os.Chmod(dir, 0o711)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { os.RemoveAll(dir) })
		w.scratch = dir
	}
	p := drill.Plan{
		Database: "app", Host: "test", Operator: "tester", Versions: []string{"emsafe test"}, State: filepath.Join(w.dir, "state"), Scratch: w.scratch,
		Targets: []storage.Target{target("main", w.bucket)}, Signers: w.signers, Key: w.key, Identities: w.ids, Identity: "test key", Source: w.db, Rows: 50,
		Private: func(s string) { w.private = append(w.private, s) }, Warn: func(err error) { w.warned = append(w.warned, err) },
		Limit: time.Minute,
	}
	if os.Getuid() == 0 {
		p.As = &command.User{UID: 65534, GID: 65534}
	}
	return p
}

func (w *world) drill(p drill.Plan) (*drill.Report, error) {
	w.t.Helper()
	r, err := drill.Run(w.t.Context(), p)
	if r == nil {
		w.t.Fatalf("no report: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.scratch, "*")); len(left) > 0 {
		w.t.Errorf("left in scratch: %v", left)
	}
	return r, err
}

// expect is a drill that must end so.
func (w *world) expect(p drill.Plan, v drill.Verdict, reason string) *drill.Report {
	w.t.Helper()
	r, err := w.drill(p)
	if r.Verdict != v || strings.Join(r.Reasons(), " ") != reason || (err == nil) != (v == drill.Pass) {
		w.t.Errorf("verdict %s, reasons %v, error %v; want %s %q\n%s\n%s\nprivate %v", r.Verdict, r.Reasons(), err, v, reason, r.Finding, odd(r), w.private)
	}
	if r.Finding == "" || !strings.HasSuffix(r.Finding, ".") {
		w.t.Errorf("finding %q", r.Finding)
	}
	return r
}

// odd is what did not simply pass.
func odd(r *drill.Report) string {
	var b strings.Builder
	for _, x := range r.Restores {
		for _, p := range x.Phases {
			if p.Verdict != drill.Pass {
				fmt.Fprintf(&b, "  %s phase %s: %s\n", x.Why, p.Name, p.Error)
			}
		}
		for _, c := range x.Checks {
			if c.Verdict != drill.Pass {
				fmt.Fprintf(&b, "  %s check %s: expected %s, got %s\n", x.Why, c.Name, c.Expected, c.Got)
			}
		}
	}
	return b.String()
}
