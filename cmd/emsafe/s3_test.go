package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// host is a machine with emsafe, a database and a configuration.
type host struct {
	t      testing.TB
	dir    string
	conf   string
	binary string   // "" is the test binary, as emsafe
	env    []string // more of it
	input  *os.File // of the next process; nil: none
	tracer []string // that starts the next process: strace with its options
}

// command runs emsafe, as a process of its own: the library for command lines
// keeps its state in variables, which tests that run in parallel would share.
func (h *host) command(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	p := h.start(args...)
	code = p.end()
	return p.out.String(), p.err.String(), code
}

func (h *host) must(args ...string) string {
	h.t.Helper()
	out, errOut, code := h.command(args...)
	if code != 0 {
		h.t.Fatalf("emsafe %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// fails runs a command that must end with a fault of kind k.
func (h *host) fails(k *fault.Kind, message string, args ...string) {
	h.t.Helper()
	out, errOut, code := h.command(args...)
	if code != k.Exit || !strings.Contains(errOut, "error "+k.ID+",") || !strings.Contains(errOut, message) {
		h.t.Errorf("emsafe %s: exit %d, want %d (%s, %q)\n%s%s", strings.Join(args, " "), code, k.Exit, k.ID, message, out, errOut)
	}
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.conf = filepath.Join(h.dir, "etc", "emsafe.yaml")
	// A rollback journal: the snapshot needs no waiting for a quiet WAL.
	out, err := exec.Command("sqlite3", h.path("app.db"), "CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('kept');").CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v %s", err, out)
	}
	if err := os.Mkdir(h.path("local"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.must("init", "--database", h.path("app.db"), "--target", "local=file://"+h.path("local"), "--recovery-key-out", h.path("key"), "--state", h.path("state"))
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// change makes the next backup of the database more than a heartbeat.
func (h *host) change() {
	h.t.Helper()
	if out := sqlite3(h.path("app.db"), ".timeout 5000", "CREATE TABLE IF NOT EXISTS changes (n); INSERT INTO changes VALUES (1);"); out != "" {
		h.t.Fatalf("sqlite3: %s", out)
	}
}

// targets replaces the configuration's targets.
func (h *host) targets(yaml string) {
	h.t.Helper()
	text, err := os.ReadFile(h.conf)
	if err != nil {
		h.t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "\ntargets:\n")
	_, after, _ := strings.Cut(rest, "\ndatabases:\n")
	if err := os.WriteFile(h.conf, []byte(before+"\ntargets:\n"+yaml+"\ndatabases:\n"+after), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// s3 is a target of the configuration on a server.
func (h *host) s3(name, bucket string, s *storagetest.Server, access, secret string) string {
	file := h.path("secret-" + name)
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("  %s:\n    url: s3://%s/prefix\n    endpoint: %s\n    access_key_id: %s\n    secret_access_key: {file: %s}\n", name, bucket, s.Endpoint, access, file)
}

func TestS3EndToEnd(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	local := "  local:\n    url: file://" + h.path("local") + "\n"
	h.targets(local + h.s3("offsite", "backups", server, server.Access, server.Secret))
	h.must("doctor")
	h.must("backup")
	h.change()
	h.must("backup")
	h.must("verify", "--read-data", "--identity", h.path("key"))
	if out := h.must("list", "--target", "offsite"); strings.Count(out, "\n") != 4 {
		t.Errorf("list: %s", out)
	}
	h.must("restore", "app", "--target", "offsite", "--to", h.path("restored.db"), "--identity", h.path("key"))
	want, _ := os.ReadFile(h.path("app.db"))
	if got, err := os.ReadFile(h.path("restored.db")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what came back from S3 is not the database: %v", err)
	}

	// A target that is down fails alone, and gets what it missed afterwards.
	h.targets(local + strings.Replace(h.s3("offsite", "backups", server, server.Access, server.Secret), server.Endpoint, "http://127.0.0.1:1", 1))
	h.change()
	h.fails(fault.Partial, "1 of 2 targets", "backup")
	h.targets(local + h.s3("offsite", "backups", server, server.Access, server.Secret))
	if out := h.must("backup"); !strings.Contains(out, "1 earlier backups shipped from the spool") {
		t.Errorf("nothing was caught up: %s", out)
	}
	if left, _ := filepath.Glob(h.path("state/spool/app/*")); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
	h.must("verify")
}

func TestS3Errors(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	h.targets(h.s3("offsite", "nowhere", server, server.Access, server.Secret))
	h.fails(fault.NoBucket, "nowhere", "backup")
	h.targets(h.s3("offsite", "backups", server, server.Access, "wrong-secret"))
	h.change()
	h.fails(fault.Credentials, "backups", "backup")
	h.targets(h.s3("offsite", "backups", server, "nobody", server.Secret))
	h.fails(fault.Credentials, "backups", "doctor")
	h.targets(strings.Replace(h.s3("offsite", "backups", server, server.Access, server.Secret), server.Endpoint, "http://127.0.0.1:1", 1))
	h.fails(fault.Storage, "127.0.0.1:1", "list")
	h.fails(fault.Storage, "127.0.0.1:1", "restore", "app", "--to", h.path("x.db"), "--identity", h.path("key"))
	if exists(h.path("x.db")) {
		t.Error("a file was placed")
	}
	// All of them waited in the spool; one good run ships them in order.
	h.change()
	h.targets(h.s3("offsite", "backups", server, server.Access, server.Secret))
	h.must("backup")
	if out := h.must("verify", "--read-data"); !strings.Contains(out, "3 manifests") {
		t.Errorf("after three backups, two of them late: %s", out)
	}
}

// TestWriteOnlyCredentials: a host whose key may only put and list backs up,
// and learns from the listing alone what is wrong.
func TestWriteOnlyCredentials(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := errors.Join(server.MakeBucket("backups"), server.AddUser("writer", "writer-secret"),
		server.Allow("backups", "writer", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket")); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	writer := func() string { return h.s3("offsite", "backups", server, "writer", "writer-secret") }
	root := func() string { return h.s3("offsite", "backups", server, server.Access, server.Secret) }
	h.targets(writer())
	for n := range 3 {
		h.change()
		if out := h.must("backup"); !strings.Contains(out, fmt.Sprintf("number %d, head %d:", n+1, n+1)) {
			t.Errorf("%s", out)
		}
	}
	h.must("backup") // a heartbeat
	h.fails(fault.Credentials, "", "list")

	h.targets(root())
	h.must("verify", "--read-data", "--identity", h.path("key"))
	h.must("restore", "app", "--to", h.path("restored.db"), "--identity", h.path("key"))
	want, _ := os.ReadFile(h.path("app.db"))
	if got, err := os.ReadFile(h.path("restored.db")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what came back is not the database: %v", err)
	}

	// Another host that knows nothing cannot go on there, and harms nothing.
	h.targets(writer())
	if err := os.RemoveAll(h.path("state")); err != nil {
		t.Fatal(err)
	}
	h.change()
	h.fails(fault.Credentials, "holds a repository that this host knows nothing of", "backup")
	h.targets(root())
	h.must("verify")
}
