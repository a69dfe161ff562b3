package restore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
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
}

func newWorld(t testing.TB, sql string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), bucket: storagetest.Memory()}
	w.db = filepath.Join(w.dir, "app.db")
	w.sqlite(w.db, sql)
	var err error
	if w.key, _, err = seal.NewSigningKey("test"); err != nil {
		t.Fatal(err)
	}
	if w.signers, err = seal.ParseSigners([]byte(w.key.AllowedSigners("*"))); err != nil {
		t.Fatal(err)
	}
	w.ids, w.to = w.identity()
	return w
}

func (w *world) identity() (seal.Identities, seal.Recipients) {
	secret, recipient, err := seal.NewIdentity(false)
	if err != nil {
		w.t.Fatal(err)
	}
	ids, err := seal.ParseIdentities([]byte(secret), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	to, err := seal.ParseRecipients(recipient)
	if err != nil {
		w.t.Fatal(err)
	}
	return ids, to
}

// sqlite runs the stock shell.
func (w *world) sqlite(db, sql string) string {
	w.t.Helper()
	out, err := exec.Command("sqlite3", db, sql).CombinedOutput()
	if err != nil {
		w.t.Fatalf("sqlite3 %s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func target(name string, b storage.Bucket) storage.Target {
	return storage.Target{Name: name, Open: func(context.Context) (storage.Bucket, error) { return b, nil }}
}

func (w *world) job(targets ...storage.Target) backup.Job {
	if len(targets) == 0 {
		targets = []storage.Target{target("main", w.bucket)}
	}
	return backup.Job{
		Database: "app", Path: w.db, Recipients: w.to, Key: w.key, Signers: w.signers, Host: "test",
		State: filepath.Join(w.dir, "state"), Targets: targets, Versions: map[string]string{"emsafe": "test"},
	}
}

func (w *world) backup() backup.Outcome {
	w.t.Helper()
	out, err := backup.Database(w.t.Context(), w.job())
	if err != nil {
		w.t.Fatalf("backup: %v", err)
	}
	return out
}

func (w *world) request(to string) restore.Request {
	return restore.Request{
		Database: "app", Targets: []storage.Target{target("main", w.bucket)}, Signers: w.signers, Identities: w.ids, Destination: to,
	}
}

func run(t testing.TB, req restore.Request) (*restore.Outcome, error) {
	plan, err := restore.Choose(t.Context(), req)
	if err != nil {
		return nil, err
	}
	return plan.Run(t.Context())
}

const schema = "PRAGMA journal_mode=wal; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two');"

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	if err := os.Chmod(w.db, 0o640); err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(w.db)
	if err != nil {
		t.Fatal(err)
	}
	first := w.backup()
	w.sqlite(w.db, "INSERT INTO t VALUES (3, 'three')")
	w.backup()

	to := filepath.Join(w.dir, "restored.db")
	req := w.request(to)
	req.Wanted.ID, req.Mode = first.ID, restore.ModeOriginal
	out, err := run(t, req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(got, original) {
		t.Fatalf("the first backup did not come back byte for byte: %v", err)
	}
	if st, _ := os.Stat(to); st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", st.Mode())
	}
	if out.Checked != "quick" || out.Entry.Sequence != 1 {
		t.Errorf("outcome %+v", out)
	}
	latest := filepath.Join(w.dir, "latest.db")
	if _, err := run(t, w.request(latest)); err != nil {
		t.Fatal(err)
	}
	if n := w.sqlite(latest, "SELECT count(*) FROM t"); n != "3" {
		t.Errorf("latest holds %s rows", n)
	}
	_, err = run(t, w.request(latest))
	if !errors.Is(err, fault.TargetExists) {
		t.Errorf("restoring over a file: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(w.dir, ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInPlaceAndUndo(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete", "persist"} {
		w := newWorld(t, strings.Replace(schema, "wal", mode, 1))
		w.backup()
		w.sqlite(w.db, "PRAGMA journal_mode="+mode+"; INSERT INTO t VALUES (3, 'lost in the deploy')")
		req := w.request(w.db)
		req.InPlace = true
		out, err := run(t, req)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if n := w.sqlite(w.db, "SELECT count(*) FROM t"); n != "2" {
			t.Errorf("%s: after the restore %s rows", mode, n)
		}
		if n := w.sqlite(filepath.Join(out.Aside, "app.db"), "SELECT count(*) FROM t"); n != "3" {
			t.Errorf("%s: set aside with %s rows", mode, n)
		}
		if _, err := restore.Undo(t.Context(), w.db, nil); err != nil {
			t.Fatalf("%s: undo: %v", mode, err)
		}
		if n := w.sqlite(w.db, "SELECT count(*) FROM t"); n != "3" {
			t.Errorf("%s: after undo %s rows", mode, n)
		}
		if _, err := restore.Undo(t.Context(), w.db, nil); err != nil {
			t.Fatalf("%s: undo of the undo: %v", mode, err)
		}
		if n := w.sqlite(w.db, "SELECT count(*) FROM t"); n != "2" {
			t.Errorf("%s: after the second undo %s rows", mode, n)
		}
	}
}

// A database whose application crashed has its rows in the WAL alone.
func TestInPlaceKeepsAnUncheckpointedWAL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	w.backup()
	crash(t, w.db)
	if st, err := os.Stat(w.db + "-wal"); err != nil || st.Size() == 0 {
		t.Fatalf("the crash left no WAL: %v", err)
	}
	req := w.request(w.db)
	req.InPlace = true
	out, err := run(t, req)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.sqlite(w.db, "SELECT count(*) FROM t"); n != "2" {
		t.Errorf("restored %s rows", n)
	}
	if n := w.sqlite(filepath.Join(out.Aside, "app.db"), "SELECT count(*) FROM t"); n != "102" {
		t.Errorf("the old database was set aside with %s rows", n)
	}
}

// crash commits a hundred rows into the WAL and kills the process.
func crash(t testing.TB, db string) {
	t.Helper()
	cmd := exec.Command("python3", "-c", `
import sqlite3, sys, os, signal
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=wal"); c.execute("PRAGMA wal_autocheckpoint=0")
for i in range(100):
    c.execute("INSERT INTO t (v) VALUES (?)", (str(i),))
os.kill(os.getpid(), signal.SIGKILL)`, db)
	if err := cmd.Run(); err == nil {
		t.Fatal("the process survived its own kill")
	}
}

// What SQLite cannot read is set aside as it is.
func TestInPlaceOverADamagedDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	w.backup()
	rubbish := bytes.Repeat([]byte("rubbish "), 1000)
	for _, name := range []string{w.db, w.db + "-wal"} {
		if err := os.WriteFile(name, rubbish, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	req := w.request(w.db)
	req.InPlace = true
	out, err := run(t, req)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.sqlite(w.db, "SELECT count(*) FROM t"); n != "2" {
		t.Errorf("restored %s rows", n)
	}
	if _, err := os.Stat(w.db + "-wal"); err == nil {
		t.Error("the old -wal lies beside the new database")
	}
	for _, ext := range []string{"", "-wal"} {
		if got, _ := os.ReadFile(filepath.Join(out.Aside, "app.db"+ext)); !bytes.Equal(got, rubbish) {
			t.Errorf("app.db%s was not set aside as it was", ext)
		}
	}
	if _, err := restore.Undo(t.Context(), w.db, nil); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"", "-wal"} {
		if got, _ := os.ReadFile(w.db + ext); !bytes.Equal(got, rubbish) {
			t.Errorf("app.db%s was not put back", ext)
		}
	}
}

func TestInPlaceRefusesAnOpenDatabase(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		w := newWorld(t, strings.Replace(schema, "wal", mode, 1))
		w.backup()
		cmd := exec.Command("sqlite3", w.db)
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.Write([]byte("SELECT 'open', count(*) FROM t;\n")) //nolint:errcheck
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(w.db)
		req := w.request(w.db)
		req.InPlace = true
		_, err := run(t, req)
		if !errors.Is(err, fault.InUse) || !strings.Contains(err.Error(), "sqlite3") {
			t.Errorf("%s: %v", mode, err)
		}
		in.Close()
		cmd.Wait() //nolint:errcheck
		if after, _ := os.ReadFile(w.db); !bytes.Equal(before, after) {
			t.Errorf("%s: the open database was changed", mode)
		}
	}
}

func TestWrongKeyNamesTheRightOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	w.backup()
	req := w.request(filepath.Join(w.dir, "x.db"))
	req.Identities, _ = w.identity()
	_, err := run(t, req)
	if !errors.Is(err, fault.WrongKey) || !strings.Contains(err.Error(), w.to.Names()[0]) {
		t.Errorf("%v", err)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schema)
	first := w.backup()
	second := w.backup()
	for _, c := range []struct {
		wanted catalog.Wanted
		id     string
		kind   error
	}{
		{catalog.Wanted{}, second.ID, nil},
		{catalog.Wanted{At: first.At.Add(time.Millisecond)}, first.ID, nil},
		{catalog.Wanted{At: second.At.Add(time.Hour)}, second.ID, nil},
		{catalog.Wanted{At: first.At.Add(-time.Hour)}, "", fault.NoBackupAt},
		{catalog.Wanted{ID: "#1"}, first.ID, nil},
		{catalog.Wanted{ID: second.ID[:len(second.ID)-2]}, second.ID, nil},
		{catalog.Wanted{ID: "2"}, "", fault.NotFound},
		{catalog.Wanted{ID: "nonsense"}, "", fault.NotFound},
	} {
		req := w.request(filepath.Join(w.dir, "x.db"))
		req.Wanted = c.wanted
		plan, err := restore.Choose(t.Context(), req)
		switch {
		case c.kind != nil:
			if !errors.Is(err, c.kind) {
				t.Errorf("%+v: %v", c.wanted, err)
			}
		case err != nil:
			t.Errorf("%+v: %v", c.wanted, err)
		case plan.Entry.ID != c.id:
			t.Errorf("%+v: chose %s, not %s", c.wanted, plan.Entry.ID, c.id)
		}
	}
	req := w.request(filepath.Join(w.dir, "x.db"))
	req.Wanted = catalog.Wanted{At: first.At.Add(-time.Hour)}
	if _, err := restore.Choose(t.Context(), req); err == nil || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("the nearest backup is not named: %v", err)
	}
}
