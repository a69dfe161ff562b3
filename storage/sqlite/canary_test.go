package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
)

func TestStamp(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		dir := t.TempDir()
		db := filepath.Join(dir, "a.db")
		shell(t, db, "PRAGMA journal_mode="+mode+"; CREATE TABLE t (v); INSERT INTO t VALUES (1);")
		for i := range 3 {
			if err := Stamp(t.Context(), db, time.UnixMilli(1_700_000_000_000+int64(i))); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.TrimSpace(shell(t, db, "SELECT count(*), max(at_ms) FROM emsafe_canary; SELECT count(*) FROM t; PRAGMA integrity_check;")); got != "1|1700000000002\n1\nok" {
			t.Errorf("%s: %q", mode, got)
		}
		if err := os.WriteFile(db+"-journal", []byte("hot"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Stamp(t.Context(), db, time.Now()); !errors.Is(err, fault.Locked) {
			t.Errorf("%s, with a journal: %v", mode, err)
		}
	}
	if err := Stamp(t.Context(), filepath.Join(t.TempDir(), "none.db"), time.Now()); !errors.Is(err, fault.NoDatabase) {
		t.Errorf("nothing there: %v", err)
	}
}
