package backup

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// TestDiskReserve: a backup that would fill the spool's disk is given up before
// it does, and what waits stays.
func TestDiskReserve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skip("needs to mount a tmpfs: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) }) //nolint:errcheck // it goes with the namespace
	b := storagetest.Memory()
	j := newJob(t, in("main", storagetest.Faulty(b, storagetest.Fault{Err: fault.New(fault.Storage, "connection refused")})))
	j.State = filepath.Join(dir, "state")
	if _, err := Database(t.Context(), j); fault.Find(err) == nil || fault.Find(err).Kind != fault.Storage {
		t.Fatal(err)
	}
	waits := j.spool()
	sql(t, j.Path, "CREATE TABLE large AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 60) SELECT randomblob(1000000) FROM n;")
	_, err := Database(t.Context(), j)
	if f := fault.Find(err); f == nil || f.Kind != fault.NoSpace || !strings.Contains(err.Error(), "left to others") {
		t.Fatal(err)
	}
	if left := j.spool(); !slices.Equal(left, waits) {
		t.Errorf("the spool held %q and holds %q", waits, left)
	}
	if space, err := roomIn(dir); err != nil || space.free < space.reserve {
		t.Errorf("%+v %v", space, err)
	}
}
