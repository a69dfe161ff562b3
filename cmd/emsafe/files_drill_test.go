package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// TestDrillOfFiles: a drill restores the backup of the newest recovery point, and
// holds what it names against the snapshot.
func TestDrillOfFiles(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 30)
	h.asShipped()
	text := string(h.read(h.conf))
	path := "path: " + h.path("srv/app.db")
	pair := "\n    drill:\n      files: {fileset: uploads, sql: SELECT path FROM pictures, sample: 5}"
	h.write("etc/emsafe.yaml", strings.Replace(text, path, path+pair, 1))
	drill := []string{"drill", "run", "app", "--identity", h.path("key"), "--select", "latest", "--target", "one"}

	h.must("backup", "app")
	if out := h.must(drill...); !strings.Contains(out, "the files of uploads in target one: ") || !strings.Contains(out, "no recovery point") {
		t.Errorf("nothing is said of files that were not tested: %s", out)
	}
	h.must("backup")
	h.must(drill...)
	if out := h.must("drill", "show", "--json"); !strings.Contains(out, "all 30 are") || !strings.Contains(out, "5 of 30 files of point") || !strings.Contains(out, "5 compared with the live file") {
		t.Error(out)
	}
	// Rows that came since name files that no snapshot has yet: the backup of the
	// point is the one that is held against it.
	h.pictures(30, 32)
	h.must("backup", "app")
	h.must(drill...)
	if out := h.must("drill", "show", "--json"); !strings.Contains(out, "all 30 are") || !strings.Contains(out, `"why":"point"`) {
		t.Error(out)
	}
	// A file that a row names was never there. Its name is told to who drills,
	// and stands in no report.
	if err := os.Remove(h.path("srv/uploads/2026/7.jpg")); err != nil {
		t.Fatal(err)
	}
	h.must("backup")
	_, talk, code := h.command(drill...)
	out := h.must("drill", "show", "--json")
	if code != fault.DrillFailed.Exit || !strings.Contains(out, "1 of 32 are not") || !strings.Contains(talk, "2026/7.jpg") {
		t.Error(code, out, talk)
	}
	reports, err := filepath.Glob(h.path("one/reports/drills/app/*/*"))
	if err != nil || len(reports) != 4 {
		t.Errorf("%d reports %v", len(reports), err)
	}
	for _, file := range reports {
		if strings.Contains(string(h.read(file)), "7.jpg") {
			t.Errorf("%s names a file", file)
		}
	}
	// A query that is wrong is no pass.
	h.write("etc/emsafe.yaml", strings.Replace(string(h.read(h.conf)), "FROM pictures", "FROM nowhere", 1))
	if _, _, code := h.command(drill...); code != fault.DrillFailed.Exit {
		t.Error("a query that cannot be asked passes:", code)
	}
}
