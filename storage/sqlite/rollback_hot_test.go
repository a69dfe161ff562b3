package sqlite

import (
	"os/exec"
	"testing"
	"time"
)

// SQLite looks for a lock of a writer and then at the journal. A writer that
// comes between the two makes its fresh journal look like one that a crash
// left.
func TestWriterIsNoCrash(t *testing.T) {
	t.Parallel()
	db := t.TempDir() + "/app.db"
	shell(t, db, "PRAGMA journal_mode=persist; CREATE TABLE t (v); INSERT INTO t VALUES (0);")
	writer := exec.CommandContext(t.Context(), "python3", "-c", `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("PRAGMA journal_mode=persist")
db.execute("PRAGMA synchronous=off")
while True:
    db.execute("UPDATE t SET v = v + 1")
`, db)
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		writer.Process.Kill() //nolint:errcheck // it ends by nothing else
		writer.Wait()         //nolint:errcheck // as above
	}()
	c, err := connect(t.Context(), db, "mode=ro", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	looks := 0
	for until := time.Now().Add(time.Second); time.Now().Before(until); looks++ {
		if err := c.pin(t.Context()); err != nil {
			t.Fatalf("look %d: %v", looks, err)
		}
		c.unpin()
	}
	t.Log(looks, "looks")
}
