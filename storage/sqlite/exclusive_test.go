package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// Locks of other connections in this very process survive a snapshot, which
// opens and closes the file raw.
func TestOwnLocksSurvive(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	shell(t, db, rows)
	own, err := sql.Open("sqlite", db)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	conn, err := own.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := take(t, db, Options{}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sqlite3", db, "INSERT INTO t(v) VALUES ('stolen')").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "locked") {
		t.Errorf("the write lock was lost: %v %s", err, out)
	}
}

func TestLockExclusive(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "wal"} {
		db := filepath.Join(t.TempDir(), "app.db")
		shell(t, db, "PRAGMA journal_mode="+mode+";"+rows)
		release, err := LockExclusive(db)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sqlite3", db, "SELECT count(*) FROM t").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "locked") {
			t.Errorf("%s: a reader came in: %v %s", mode, err, out)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
		shell(t, db, "SELECT count(*) FROM t")
		closeShell := openShell(t, db)
		if _, err := LockExclusive(db); mode == "wal" && !errors.Is(err, fault.InUse) {
			t.Errorf("%s: with a reader: %v", mode, err)
		}
		holders, complete, err := Holders(db)
		if err != nil || len(holders) != 1 || holders[0].Name != "sqlite3" || os.Getuid() == 0 && !complete {
			t.Errorf("%s: holders %+v, %v, %v", mode, holders, complete, err)
		}
		closeShell()
	}
}

// What a crash left is taken in, and only then are the sidecars gone.
func TestSettle(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "link.db")
	inWAL := crashed(t)
	if err := os.Symlink(inWAL, link); err != nil {
		t.Fatal(err)
	}
	unindexed := crashed(t)
	if err := os.Remove(unindexed + "-shm"); err != nil {
		t.Fatal(err)
	}
	persist := filepath.Join(t.TempDir(), "app.db")
	shell(t, persist, "PRAGMA journal_mode=persist; CREATE TABLE t (v); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<50) INSERT INTO t SELECT n FROM c;")
	if missing(persist + "-journal") {
		t.Fatal("the specimen has no journal")
	}
	for path, db := range map[string]string{link: inWAL, unindexed: unindexed, persist: persist} {
		mode := shell(t, "file:"+db+"?mode=ro", "SELECT 1;") // still readable by others before
		if err := Settle(t.Context(), path); err != nil {
			t.Errorf("%s: %v", db, err)
			continue
		}
		if names := surroundings(t, db); len(names) != 1 {
			t.Errorf("beside it: %q %s", names, mode)
		}
		if got := shell(t, "file:"+db+"?immutable=1", "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != "ok\n50" {
			t.Errorf("%s: %s", db, got)
		}
	}
}

// What cannot be settled is left as it is.
func TestSettleRefuses(t *testing.T) {
	t.Parallel()
	db := crashed(t)
	if err := os.WriteFile(db, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := surroundings(t, db)
	if err := Settle(t.Context(), db); !errors.Is(err, fault.NotSQLite) {
		t.Errorf("%v", err)
	}
	if after := surroundings(t, db); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("%q, before %q", after, before)
	}
	if err := Settle(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fault.NoDatabase) {
		t.Errorf("%v", err)
	}
	held := filepath.Join(t.TempDir(), "app.db")
	shell(t, held, "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	openShell(t, held)
	if err := Settle(context.Background(), held); !errors.Is(err, fault.InUse) || !strings.Contains(err.Error(), "sqlite3 (process") {
		t.Errorf("%v", err)
	}
}
