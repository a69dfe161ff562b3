package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// newAlbum is a host with a database of pictures, and the pictures.
func newAlbum(t testing.TB, pictures int) *host {
	t.Helper()
	return newPictures(t, pictures, true)
}

// newPictures is that, with a fileset or without.
func newPictures(t testing.TB, pictures int, fileset bool) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.conf = h.path("etc/emsafe.yaml")
	for _, dir := range []string{"srv/uploads/2026", "one", "two"} {
		if err := os.MkdirAll(h.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out := sqlite3(h.path("srv/app.db"), "CREATE TABLE pictures (path TEXT); CREATE TABLE t (v);"); out != "" {
		t.Fatal(out)
	}
	h.pictures(0, pictures)
	args := []string{
		"init", "--database", h.path("srv/app.db"), "--target", "one=file://" + h.path("one"), "--target", "two=file://" + h.path("two"),
		"--recovery-key-out", h.path("key"), "--state", h.path("state"),
	}
	if fileset {
		args = append(args, "--files", h.path("srv/uploads"))
	}
	h.must(args...)
	return h
}

// pictures adds some: the file first, then the row, as an application does.
func (h *host) pictures(from, to int) {
	h.t.Helper()
	var rows []string
	for i := from; i < to; i++ {
		name := fmt.Sprintf("2026/%d.jpg", i)
		h.write("srv/uploads/"+name, strings.Repeat(fmt.Sprint("picture ", i, " "), 100))
		rows = append(rows, "('"+name+"')")
	}
	if out := sqlite3(h.path("srv/app.db"), ".timeout 5000", "INSERT INTO pictures VALUES "+strings.Join(rows, ",")); out != "" {
		h.t.Fatal(out)
	}
}

// files adds settings to the fileset of the configuration.
func (h *host) files(settings string) {
	h.t.Helper()
	text, err := os.ReadFile(h.conf)
	if err != nil {
		h.t.Fatal(err)
	}
	at := strings.Index(string(text), "\n  uploads:\n") + len("\n  uploads:\n")
	h.write("etc/emsafe.yaml", string(text[:at])+settings+string(text[at:]))
	if err := os.Chmod(h.conf, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// points are what `files list` shows.
func (h *host) points() (list struct {
	Points []listedPoint    `json:"points"`
	Loose  []looseSnapshots `json:"snapshots_without_point"`
}) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must("files", "list", "--json", "--last", "0")), &list); err != nil {
		h.t.Fatal(err)
	}
	return list
}

// same compares restored files with the live ones.
func (h *host) same(restored string, n int) {
	h.t.Helper()
	seen := 0
	err := filepath.WalkDir(h.path("srv/uploads"), func(file string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		want, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(restored, file))
		if err != nil || string(got) != string(want) {
			h.t.Errorf("%s came back as %q %v", file, got, err)
		}
		seen++
		return nil
	})
	if err != nil || seen != n {
		h.t.Errorf("%d files, want %d: %v", seen, n, err)
	}
}

// TestRecoveryPoint makes points in a folder and on S3, and brings one back on a
// machine that has nothing but the recovery key and the pin.
func TestRecoveryPoint(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	h := newAlbum(t, 30)
	h.asShipped()
	h.targets("  one:\n    url: file://" + h.path("one") + "\n" + h.s3("two", "backups", server, server.Access, server.Secret))
	h.must("doctor")
	h.must("backup")
	h.pictures(30, 33)
	h.must("files", "backup", "uploads")
	h.files("    rpo: 1h\n")
	if out := h.must("status", "--check"); !strings.Contains(out, "33, ") || !strings.Contains(out, "1h") {
		t.Error(out)
	}
	list := h.points()
	if len(list.Points) != 4 || len(list.Loose) > 0 {
		t.Fatalf("%+v", list)
	}
	for _, p := range list.Points {
		if p.Error != nil || len(p.Lacks) > 0 || p.Point == nil || len(p.Point.Databases) != 1 || p.Point.Files.TakenAt.Before(p.Point.Databases[0].SnapshotAt) {
			t.Errorf("%+v %+v", p, p.Point)
		}
	}
	if list.Points[1].Point.ID != list.Points[3].Point.ID || list.Points[1].Point.Files.Count != 33 {
		t.Errorf("%+v", list.Points[1].Point)
	}
	if out := h.must("list"); !strings.Contains(out, list.Points[0].Point.ID) || !strings.Contains(out, "app #2") {
		t.Error(out)
	}

	// The first point, from S3, elsewhere.
	old := list.Points[2].Point
	s3 := []string{"--target", "s3://backups/prefix", "--endpoint", server.Endpoint, "--allowed-signers", h.path("etc/allowed_signers"), "--path-style"}
	h.env = []string{"AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}
	out, errOut, code := h.bare(append([]string{"restore", "--point", old.ID[:20], "--to", h.path("back"), "--identity", h.path("key")}, s3...)...)
	if code != 0 {
		t.Fatal(code, out, errOut)
	}
	if got := sqlite3(h.path("back/databases/app.db"), "SELECT count(*) FROM pictures"); got != "30\n" {
		t.Error(got)
	}
	if _, err := os.Stat(filepath.Join(h.path("back/files"), h.path("srv/uploads/2026/29.jpg"))); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.path("back/files"), h.path("srv/uploads/2026/30.jpg"))); err == nil {
		t.Error("the old point has a new file")
	}
	if out, errOut, code := h.bare(append([]string{"list", "--last", "1"}, s3...)...); code != 0 || !strings.Contains(out, list.Points[3].Point.ID) {
		t.Error(code, out, errOut)
	}
	h.env = nil

	// And here, the newest, files alone.
	h.must("files", "restore", "uploads", "--to", h.path("files"))
	h.same(h.path("files"), 33)
	h.must("files", "restore", "uploads", "--to", h.path("some"), "--only", h.path("srv/uploads/2026/3.jpg"), "--point", old.ID)
	if out := h.must("files", "check", "uploads", "--read-data-subset", "100%"); strings.Count(out, "20 of 33 files restored and compared") != 2 {
		t.Error(out)
	}
	h.fails(fault.TargetExists, "not empty", "files", "restore", "uploads", "--to", h.path("files"))
	h.fails(fault.TargetExists, "not empty", "restore", "--point", "latest", "--to", h.path("files"), "--identity", h.path("key"))
	h.fails(fault.NotFound, "nothing at", "files", "restore", "uploads", "--to", h.path("none"), "--only", "/no/such")
	h.fails(fault.NotFound, "no recovery point 1999", "restore", "--point", "1999", "--to", h.path("none"), "--identity", h.path("key"))
	h.fails(fault.TargetExists, "is a file", "files", "restore", "uploads", "--to", h.path("srv/app.db"))
	h.fails(fault.NotFound, "there is no folder", "files", "restore", "uploads", "--to", h.path("no/such/folder"))
	h.fails(fault.NotFound, "no such snapshot", "files", "restore", "uploads", "--snapshot", "zzzz", "--to", h.path("none"))
	h.fails(fault.Usage, "banana", "files", "check", "--read-data-subset", "banana")
	h.fails(fault.NotFound, "is a fileset", "restore", "uploads", "--to", h.path("none"))
	h.fails(fault.Usage, "takes no --at", "restore", "--point", "latest", "--at", "2h")
	h.fails(fault.NotFound, `Did you mean "uploads"`, "files", "list", "upload")
	for _, name := range h.names("") {
		if strings.Contains(name, "emsafe-") || name == "none" {
			t.Errorf("a failed restore left %s", name)
		}
	}
}

// TestPasswordOfAnotherHost: a host that is built anew has no password, and must
// not make another one.
func TestPasswordOfAnotherHost(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 3)
	h.must("backup")
	had, err := os.ReadFile(h.path("state/filesets/uploads.password"))
	if err != nil || len(had) != 53 {
		t.Fatalf("%q %v", had, err)
	}
	if err := os.Remove(h.path("state/filesets/uploads.password")); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.BadKey, "this host has not its password", "files", "backup")
	h.fails(fault.Usage, "--identity", "files", "check")
	if out := h.must("files", "password", "uploads", "--identity", h.path("key")); out != string(had) {
		t.Errorf("%q, want %q", out, had)
	}
	h.must("files", "check", "--identity", h.path("key"))
	h.must("files", "password", "uploads", "--identity", h.path("key"), "--save")
	h.must("files", "backup")
	h.write("state/filesets/uploads.password", "another\n")
	if err := os.Chmod(h.path("state/filesets/uploads.password"), 0o640); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.Permission, "can be read by others", "files", "check")
	if err := os.Chmod(h.path("state/filesets/uploads.password"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.WrongKey, "password", "files", "check")
	h.fails(fault.WrongKey, "password", "files", "backup")
	if list := h.points(); len(list.Points) != 4 {
		t.Errorf("%+v", list)
	}
	h.must("key", "new", "--out", h.path("stranger"))
	h.fails(fault.WrongKey, "does not open", "files", "password", "uploads", "--identity", h.path("stranger"))
}

// TestHalves: what goes wrong with one half does not take the other along, and
// makes no point.
func TestHalves(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 3)
	h.asShipped()
	h.must("backup")

	memory := string(h.read(h.path("state/filesets/uploads.json")))
	h.files("    rpo: 1h\n")
	h.overwrite(h.path("state/filesets/uploads.json"), []byte(strings.ReplaceAll(memory, `"taken_at": "20`, `"taken_at": "19`)))
	h.fails(fault.Stale, "recovery point of uploads", "status", "--check")
	h.overwrite(h.path("state/filesets/uploads.json"), []byte(memory))

	// Files that are not there.
	if err := os.Rename(h.path("srv/uploads"), h.path("srv/away")); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.NoFiles, "srv/uploads", "backup")
	if err := os.Rename(h.path("srv/away"), h.path("srv/uploads")); err != nil {
		t.Fatal(err)
	}
	// No restic.
	tools := h.path("tools")
	if err := os.Mkdir(tools, 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"PATH=" + tools}
	h.fails(fault.NoRestic, "no restic on this machine", "backup")
	h.write("tools/restic", "#!/bin/sh\necho restic 0.12.1 compiled with go1.16\n")
	h.fails(fault.NoRestic, "0.12.1 is too old", "backup")
	h.env = nil
	if n := len(h.names("one/databases/app/manifests")); n != 4 {
		t.Errorf("databases were backed up %d times, want 4", n)
	}
	// A database that is not there.
	if err := os.Rename(h.path("srv/app.db"), h.path("srv/gone.db")); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.NoDatabase, "no recovery point", "files", "backup")
	if err := os.Rename(h.path("srv/gone.db"), h.path("srv/app.db")); err != nil {
		t.Fatal(err)
	}
	list := h.points()
	if len(list.Points) != 2 || len(list.Loose) != 2 {
		t.Errorf("%+v", list)
	}
	// A file that nobody can read.
	h.files("    exclude: [\"*.tmp\"]\n    keep: {last: 1}\n")
	if err := os.Symlink("/proc/self/mem", h.path("srv/uploads/link")); err != nil {
		t.Fatal(err) // of a link the link is kept
	}
	h.must("files", "backup")
	text := h.read(h.path("etc/emsafe.yaml"))
	h.write("etc/emsafe.yaml", strings.Replace(string(text), "      - "+h.path("srv/uploads"), "      - "+h.path("srv/uploads")+fmt.Sprintf("\n      - /proc/%d/mem", os.Getpid()), 1))
	os.Chmod(h.conf, 0o600) //nolint:errcheck // config check says so
	h.fails(fault.Partial, "1 files could not be read", "files", "backup")
	list = h.points()
	if last := list.Points[len(list.Points)-1].Point; len(list.Points) != 6 || last.Files.Unread != 1 {
		t.Errorf("%d points, the last %+v", len(list.Points), last)
	}

	// Backups that points need are not pruned, whatever the database's own rules.
	database := "path: " + h.path("srv/app.db")
	h.write("etc/emsafe.yaml", strings.Replace(string(h.read(h.conf)), database, database+"\n    keep: {last: 1}", 1))
	if out := h.must("prune", "app"); !strings.Contains(out, "recovery point "+list.Points[0].Point.ID) {
		t.Error(out)
	}
	if list = h.points(); slices.ContainsFunc(list.Points, func(p listedPoint) bool { return len(p.Lacks) > 0 }) {
		t.Errorf("%+v", list.Points)
	}

	// Points go before their snapshots do.
	before := len(list.Points)
	h.must("files", "forget", "--dry-run")
	if list = h.points(); len(list.Points) != before {
		t.Error("a dry run removed something")
	}
	h.must("files", "forget")
	list = h.points()
	if len(list.Points) != 2 || len(list.Loose) > 0 || slices.ContainsFunc(list.Points, func(p listedPoint) bool { return len(p.Lacks) > 0 }) {
		t.Errorf("%+v", list)
	}
	// One whose snapshot somebody took away is not whole.
	if err := os.RemoveAll(h.path("one/filesets/uploads/snapshots/" + list.Points[0].Point.Files.Snapshot)); err != nil {
		t.Fatal(err)
	}
	if out := h.must("files", "list"); !strings.Contains(out, "INCOMPLETE: the snapshot") {
		t.Error(out)
	}
	// A repository that lost its config is no new one.
	if err := os.Remove(h.path("two/filesets/uploads/config")); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.Damaged, "no config", "files", "backup")
}

// TestForgedPoint: a point is believed by its signature, for its place.
func TestForgedPoint(t *testing.T) {
	t.Parallel()
	h := newAlbum(t, 3)
	h.must("backup")
	names := h.names("one/points/uploads")
	object := h.read(h.path("one/points/uploads/" + names[0]))
	h.overwrite(h.path("one/points/uploads/"+names[0]), []byte(strings.Replace(string(object), `"count": 3`, `"count": 4`, 1)))
	h.fails(fault.Forged, "recovery point", "files", "list")
	h.fails(fault.Forged, "recovery point", "restore", "--point", names[0], "--target", "one", "--to", h.path("x"), "--identity", h.path("key"))
	h.overwrite(h.path("one/points/uploads/"+names[0]), object)
	h.write("one/points/uploads/20991231T000000.000Z-moved000", string(object))
	h.fails(fault.Forged, "copied there", "restore", "--point", "2099", "--target", "one", "--to", h.path("x"), "--identity", h.path("key"))
	_, talk, code := h.command("restore", "--point", "latest", "--target", "one", "--to", h.path("x"), "--identity", h.path("key"))
	if code != 0 || !strings.Contains(talk, "copied there") {
		t.Error(code, talk)
	}
}

// TestFilesAsWriter: the policy for writing that is printed is enough for
// recovery points, and for no more: neither half can be deleted with it.
func TestFilesAsWriter(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := errors.Join(server.MakeLockedBucket("locked"), server.AddUser("write", "write-secret"), server.AddUser("prune", "prune-secret")); err != nil {
		t.Fatal(err)
	}
	h := newAlbum(t, 3)
	h.asShipped()
	h.files("    keep: {last: 1}\n")
	h.as(server, "write", "")
	for i := range 2 {
		h.pictures(3+i, 4+i)
		h.must("backup")
	}
	h.must("files", "check")
	h.fails(fault.Credentials, "", "files", "list")
	h.fails(fault.Credentials, "", "files", "forget")
	h.as(server, "prune", "")
	h.must("files", "forget")
	if list := h.points(); len(list.Points) != 1 || len(list.Points[0].Lacks) > 0 || list.Points[0].Point.Files.Count != 5 {
		t.Errorf("%+v", list)
	}

	// A secret that is wrong, and a bucket that is not there: at once.
	target := func(bucket, secret string) { h.targets(h.s3("offsite", bucket, server, server.Access, secret)) }
	target("locked", "wrong")
	h.fails(fault.Credentials, "", "files", "backup")
	target("nowhere", server.Secret)
	h.fails(fault.NoBucket, "nowhere", "files", "backup")
}
