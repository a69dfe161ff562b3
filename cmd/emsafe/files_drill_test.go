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
	if out := h.must("drill", "show", "--json"); !strings.Contains(out, "all 30 are") || !strings.Contains(out, "5 of 30 files of point") || !strings.Contains(out, "5 compared with the live file") || !strings.Contains(out, "1% of the repository's data read") {
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

// TestFilesDocument: what docs/files.md says brings a recovery point's files back
// with age and restic alone, and its configurations are such.
func TestFilesDocument(t *testing.T) {
	t.Parallel()
	const document = "docs/files.md"
	r := newReader(t)
	if err := os.MkdirAll(r.path("srv/app/uploads/2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"2026/7.jpg", "a b.jpg", "skip.tmp"} {
		r.write("srv/app/uploads/"+name, "picture "+name)
	}
	r.must("init", "--scan", r.path("srv"), "--target", "file://"+r.path("mnt/backup"), "--recovery-key-out", r.path("media/usb/recovery.key"), "--state", r.path("var"))
	base, _, _ := strings.Cut(text(t, r.conf), "\n# The SQLite databases")
	for i, block := range blocks(t, document, "yaml") {
		block = strings.NewReplacer("/srv/", r.path("srv")+"/").Replace(block)
		if !strings.Contains(block, "\ndatabases:") && !strings.HasPrefix(block, "databases:") {
			block += "databases:\n  app: {path: " + r.path("srv/app/app.db") + "}\n"
		}
		if !strings.Contains(block, "filesets:") {
			block += "filesets:\n  uploads: {paths: [" + r.path("srv/app/uploads") + "], databases: [app]}\n"
		}
		r.write("etc/emsafe/emsafe.yaml", base+"\n"+block)
		r.must("config", "check")
		if i == 0 {
			r.must("backup")
		}
	}
	if err := os.RemoveAll(r.path("bin")); err != nil {
		t.Fatal(err)
	}
	script := strings.Join(blocks(t, document, "sh by-hand"), "\n")
	env := []string{"TARGET=" + r.path("mnt/backup"), "KEY=" + r.path("media/usb/recovery.key"), "SIGNERS=" + r.path("etc/emsafe/allowed_signers"), "FILESET=uploads"}
	out, err := r.do(script, env...)
	if err != nil || !strings.Contains(out, `Good "emsafe-point" signature`) || strings.Contains(script, "emsafe ") {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{"2026/7.jpg": "picture 2026/7.jpg", "a b.jpg": "picture a b.jpg", "skip.tmp": ""} {
		got, _ := os.ReadFile(filepath.Join(r.path("tmp/back"), r.path("srv/app/uploads"), name))
		if string(got) != want {
			t.Errorf("%s came back as %q", name, got)
		}
	}
}
