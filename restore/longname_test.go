package restore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/restore"
)

// A database may have a name as long as SQLite can take with its journal's; it
// is restored beside, in place and back.
func TestLongNames(t *testing.T) {
	t.Parallel()
	for _, n := range []int{200, 215, 225, 226, 229, 231, 247} {
		w := newWorld(t, schema)
		name := strings.Repeat("n", n-5) + "ö.db"
		long := filepath.Join(w.dir, "deep", name[len(name)-n:])
		if err := os.Mkdir(filepath.Dir(long), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(w.db, long); err != nil {
			t.Fatal(err)
		}
		w.db = long
		w.backup()
		w.sqlite(w.db, "INSERT INTO t (v) VALUES ('newer')")
		req := w.request(w.db)
		req.InPlace = true
		if _, err := run(t, req); err != nil {
			t.Errorf("%d letters: in place: %v", n, err)
			continue
		}
		if got := w.sqlite(w.db, "SELECT count(*) FROM t"); got != "2" {
			t.Errorf("%d letters: %s rows", n, got)
		}
		if _, err := restore.Undo(t.Context(), w.db, nil); err != nil {
			t.Errorf("%d letters: undo: %v", n, err)
			continue
		}
		if got := w.sqlite(w.db, "SELECT count(*) FROM t"); got != "3" {
			t.Errorf("%d letters: %s rows after the undo", n, got)
		}
		// Damaged, so that it takes an intent.
		if err := os.WriteFile(w.db, []byte(strings.Repeat("rubbish ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, req); err != nil {
			t.Errorf("%d letters: over a damaged one: %v", n, err)
		}
		if _, err := run(t, w.request(filepath.Join(w.dir, name[len(name)-n:]))); err != nil {
			t.Errorf("%d letters: beside: %v", n, err)
		}
	}
}
