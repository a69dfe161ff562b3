package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// Junk where the next manifest belongs, in a bucket where it cannot be removed:
// the way out that the error prints, a delete marker over it, lets backups go on
// and restore, with and without conditional writes.
func TestAMarkerOverJunkIsAWayOut(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	for _, conditional := range []bool{true, false} {
		bucket := fmt.Sprintf("backups-%v", conditional)
		if err := server.MakeBucket(bucket); err != nil {
			t.Fatal(err)
		}
		if err := server.Versioning(bucket); err != nil {
			t.Fatal(err)
		}
		h := newHost(t)
		h.targets(h.s3("offsite", bucket, server, server.Access, server.Secret) + fmt.Sprintf("    conditional_writes: %v\n", conditional))
		h.must("backup")
		junk := fmt.Sprintf("prefix/databases/app/manifests/%020d", 2)
		if _, err := os.Stat(server.Folder + "/" + bucket + "/" + fmt.Sprintf("prefix/databases/app/manifests/%020d", 1)); err != nil {
			t.Fatalf("manifests have another name: %v", err)
		}
		if _, err := server.Overwrite(bucket, junk, "junk"); err != nil {
			t.Fatal(err)
		}
		h.change()
		h.fails(fault.Forged, "somebody put an object where the next manifest belongs", "backup")
		if _, err := server.Delete(bucket, junk); err != nil {
			t.Fatal(err)
		}
		for n := 2; n <= 4; n++ { // two that waited, and a new one; what was done stays an alarm
			if n > 2 {
				h.change()
			}
			out, errOut, code := h.command("backup")
			if code != 0 && code != fault.RolledBack.Exit || !strings.Contains(out, fmt.Sprintf("number %d, head %d:", n+1, n+1)) && n > 2 {
				t.Errorf("conditional %v: exit %d\n%s%s", conditional, code, out, errOut)
			}
		}
		h.must("restore", "app", "--to", h.path("restored.db"), "--identity", h.path("key"))
		if got, want := sqlite3(h.path("restored.db"), "SELECT count(*) FROM changes;"), "3"; got != want && got != want+"\n" {
			t.Errorf("conditional %v: %q rows, want %s", conditional, got, want)
		}
	}
}

// A reader that may not list versions says that it cannot see what is hidden; one
// that may, and one in a bucket without versions, says nothing of the kind.
func TestAReaderThatMayNotListVersions(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := errors.Join(server.MakeBucket("backups"), server.Versioning("backups"), server.AddUser("reader", "reader-secret")); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	root := h.s3("offsite", "backups", server, server.Access, server.Secret)
	h.targets(root)
	h.must("backup")
	const blind = "may not list versions"
	for _, may := range []bool{true, false} {
		actions := []string{"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
		if may {
			actions = append(actions, "s3:ListBucketVersions")
		}
		if err := server.Allow("backups", "reader", actions...); err != nil {
			t.Fatal(err)
		}
		h.targets(h.s3("offsite", "backups", server, "reader", "reader-secret"))
		for _, args := range [][]string{{"list"}, {"verify"}, {"restore", "app", "--to", h.path(fmt.Sprint("restored-", may)), "--identity", h.path("key")}} {
			out, errOut, code := h.command(args...)
			if code != 0 || strings.Contains(out+errOut, blind) == may {
				t.Errorf("may list versions: %v; emsafe %v: exit %d\n%s%s", may, args, code, out, errOut)
			}
		}
	}
}
