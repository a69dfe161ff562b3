package restore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Undo takes the newest: also among several of one second, of which undos
// removed some, and where the clock went back.
func TestTheLastAsideIsTheNewest(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	if err := os.WriteFile(db, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	// What a person keeps under a name of that kind is not ours.
	for _, name := range []string{".before-upgrade", ".before-20261123T100000Z.old", ".before-2027"} {
		if err := os.Mkdir(db+name, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(db+name, "app.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	last := ""
	for i, at := range []time.Duration{0, 0, 0, 0, -time.Hour, time.Second, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} {
		made, err := (&staged{path: db, operation: opRestore}).setAside(db, "note", now.Add(at), []string{""})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 { // as an undo does, which puts its own aside first
			if err := os.RemoveAll(last); err != nil {
				t.Fatal(err)
			}
		}
		last = made
		if all := asides(db); all[len(all)-1].path != made {
			t.Fatalf("%d: the last is not %s: %v", i, made, all)
		}
	}
	dropStale(db) // all are links of what is there
	if _, _, err := LastAside(db); err == nil {
		t.Error("an aside that holds what is still there was kept")
	}
	for _, name := range []string{".before-upgrade", ".before-2027"} {
		if _, err := os.Stat(db + name); err != nil {
			t.Errorf("somebody's folder: %v", err)
		}
	}
}
