package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/sqlite/sqlitetest"
)

// tries is how many snapshots are taken beside each writer.
func tries() int {
	if os.Getenv("EMSAFE_SOAK") != "" {
		return 1000
	}
	return 25
}

// TestLocksIgnored: a writer that does not honour SQLite's locks. Every snapshot
// is right, or is refused with the reason.
func TestLocksIgnored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, query, mode string }{
		{"dotfile", "vfs=unix-dotfile", "delete"},
		{"none", "vfs=unix-none", "delete"},
		{"nolock", "nolock=1", "delete"},
		{"nolock, persist", "nolock=1", "persist"},
		{"nolock, truncate", "nolock=1", "truncate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "app.db")
			sqlitetest.Accounts(t, db, "delete", 0)
			w := sqlitetest.Start(t, "file:"+db+"?"+c.query, c.mode, 1)
			right, refused := 0, 0
			for range tries() {
				since := []int64{w.Acknowledged()}
				image, _, err := take(t, db, Options{})
				switch {
				case err == nil:
					right++
					sqlitetest.VerifyAccounts(t, file(t, image), []*sqlitetest.Writer{w}, since)
				case errors.Is(err, fault.LockIgnored):
					refused++
				default:
					t.Errorf("refused, and not for the locks: %v", err)
				}
			}
			t.Logf("%d right, %d refused", right, refused)
			if refused == 0 {
				t.Error("no snapshot met the writer at work: the test shows nothing")
			}
		})
	}
}

// TestLocksHonoured is the control: writers that honour the locks are never
// accused.
func TestLocksHonoured(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "persist", "truncate", "memory"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "app.db")
			sqlitetest.Accounts(t, db, "delete", 0)
			w := sqlitetest.Start(t, db, mode, 1)
			for range tries() {
				since := []int64{w.Acknowledged()}
				image, _, err := take(t, db, Options{})
				if err != nil {
					t.Fatal(err)
				}
				sqlitetest.VerifyAccounts(t, file(t, image), []*sqlitetest.Writer{w}, since)
			}
		})
	}
}
