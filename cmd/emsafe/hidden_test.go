package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// TestBackupAfterHiding: somebody puts delete markers over everything in a
// bucket with versions. The next backup says so and goes on with the chain that
// lies below, because a new repository over it could never be read: of every key
// the oldest version counts. That holds too where the host is told to take over,
// where it remembers nothing, and where it may only put and list.
func TestBackupAfterHiding(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		role    string
		forgets bool
		args    []string
	}{
		"all rights":     {},
		"take over":      {args: []string{"--take-over"}},
		"without memory": {forgets: true, args: []string{"--take-over"}},
		"put and list":   {role: "write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := storagetest.VersityGW(t)
			if err := errors.Join(server.MakeBucket("locked"), server.Versioning("locked"), server.AddUser("write", "write-secret")); err != nil {
				t.Fatal(err)
			}
			h := newHost(t)
			root := h.s3("offsite", "locked", server, server.Access, server.Secret)
			h.targets(root)
			h.must("backup")
			h.change()
			h.must("backup")
			for _, key := range storedKeys(t, server.Folder+"/locked") {
				if _, err := server.Delete("locked", key); err != nil {
					t.Fatal(err)
				}
			}
			if c.role != "" {
				h.as(server, c.role, "")
			}
			if c.forgets {
				h.forget()
			}
			h.change()
			_, talk, code := h.command(append([]string{"backup"}, c.args...)...)
			if code != 0 && code != fault.RolledBack.Exit {
				t.Fatalf("exit %d\n%s", code, talk)
			}
			if code == 0 {
				t.Errorf("nobody was told\n%s", talk)
			}
			h.targets(h.s3("offsite", "locked", server, server.Access, server.Secret))
			h.must("restore", "app", "--to", h.path("newest.db"), "--identity", h.path("key"))
			if got := strings.TrimSpace(sqlite3(h.path("newest.db"), "SELECT count(*) FROM changes")); got != "2" {
				t.Errorf("the newest backup has %s changes, not 2", got)
			}
			h.change()
			if _, talk, code := h.command("backup", "--full"); code != 0 && code != fault.RolledBack.Exit {
				t.Fatalf("exit %d\n%s", code, talk)
			}
			h.must("restore", "app", "--to", h.path("next.db"), "--identity", h.path("key"))
			if got := strings.TrimSpace(sqlite3(h.path("next.db"), "SELECT count(*) FROM changes")); got != "3" {
				t.Errorf("the next backup has %s changes, not 3", got)
			}
		})
	}
}

// forget takes the state folder from a host, as a disk that broke does.
func (h *host) forget() {
	h.t.Helper()
	if err := os.RemoveAll(h.path("state")); err != nil {
		h.t.Fatal(err)
	}
}

// TestStrangeObject: somebody who may write puts an object where the next
// manifest belongs. It is refused, with the way out; once its owner has deleted
// it, restores go on although a bucket with versions still has it, and backups
// as soon as the key is free.
func TestStrangeObject(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeLockedBucket("locked"); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	h.targets(h.s3("offsite", "locked", server, server.Access, server.Secret) + "    lock: {for: 1h}\n")
	h.must("backup")
	h.change()
	h.must("backup")
	const key = "prefix/databases/app/manifests/00000000000000000003"
	garbage, err := server.Overwrite("locked", key, "garbage")
	if err != nil {
		t.Fatal(err)
	}
	_, talk, code := h.command("restore", "app", "--to", h.path("refused.db"), "--identity", h.path("key"))
	_, rest, _ := strings.Cut(talk, "The newest that is signed is ")
	id, _, _ := strings.Cut(rest, " ")
	if code != fault.Forged.Exit || id == "" {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	h.must("restore", "app", "--id", id, "--allow-broken-chain", "--to", h.path("named.db"), "--identity", h.path("key"))
	h.change()
	h.fails(fault.Forged, "Delete it", "backup")
	marker, err := server.Delete("locked", key)
	if err != nil {
		t.Fatal(err)
	}
	h.must("restore", "app", "--to", h.path("newest.db"), "--identity", h.path("key"))
	if got, want := sqlite3(h.path("newest.db"), ".dump"), sqlite3(h.path("named.db"), ".dump"); got != want {
		t.Errorf("%s\n%s", got, want)
	}
	if err := errors.Join(server.Erase("locked", key, garbage), server.Erase("locked", key, marker)); err != nil {
		t.Fatal(err)
	}
	h.must("backup")
	h.must("verify")
	h.must("restore", "app", "--to", h.path("after.db"), "--identity", h.path("key"))
	if got, want := sqlite3(h.path("after.db"), ".dump"), sqlite3(h.path("app.db"), ".dump"); got != want {
		t.Errorf("%s\n%s", got, want)
	}
}
