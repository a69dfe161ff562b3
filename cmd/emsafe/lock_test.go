package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// as is a host's configuration with the credentials of a role, whose policy is
// the one that is printed.
func (h *host) as(server *storagetest.Server, role, lock string) {
	h.t.Helper()
	h.targets(h.s3("offsite", "locked", server, server.Access, server.Secret) + lock)
	policy := h.must("target", "policy", "--role", role, "--principal", role)
	if err := server.Policy("locked", policy); err != nil {
		h.t.Fatalf("%v\n%s", err, policy)
	}
	h.targets(h.s3("offsite", "locked", server, role, role+"-secret") + lock)
}

// TestLockedTarget: a thief with all rights but those of time deletes and
// overwrites everything in a locked bucket. It comes back, on an empty machine
// too, and it shows. Each role can do its work with the policy that is printed
// for it, and no more.
func TestLockedTarget(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := errors.Join(server.MakeLockedBucket("locked"), server.AddUser("write", "write-secret"), server.AddUser("read", "read-secret"), server.AddUser("prune", "prune-secret")); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	const lock = "    lock: {for: 1h}\n"
	h.configure("    keep: {last: 1}\n    full_every: 1m\n    full_share: 0%\n")
	h.as(server, "write", lock)
	for range 3 {
		h.change()
		h.must("backup")
	}
	h.fails(fault.Credentials, "", "list")
	h.fails(fault.Credentials, "", "restore", "app", "--to", h.path("no.db"), "--identity", h.path("key"))
	h.fails(fault.Credentials, "", "prune")
	if out := h.must("doctor"); !strings.Contains(out, "says until when; these credentials may delete nothing") {
		t.Errorf("%s", out)
	}
	if out := h.must("status", "--json"); !strings.Contains(out, `"locked_until"`) {
		t.Errorf("%s", out)
	}
	h.as(server, "read", lock)
	h.must("verify", "--read-data", "--identity", h.path("key"))
	h.must("restore", "app", "--to", h.path("read.db"), "--identity", h.path("key"))
	h.change()
	h.fails(fault.Credentials, "", "backup")
	h.fails(fault.Credentials, "", "prune")

	h.as(server, "prune", lock)
	if out := h.must("doctor"); !strings.Contains(out, "refuses to delete them") {
		t.Errorf("%s", out)
	}
	if out := h.must("prune"); !strings.Contains(out, "locked until") || !strings.Contains(out, "nothing to remove") || !strings.Contains(out, "2 more are locked") {
		t.Errorf("%s", out)
	}

	// The thief.
	root := h.s3("offsite", "locked", server, server.Access, server.Secret) + lock
	h.targets(root)
	h.must("doctor")
	h.must("drill", "run", "app", "--identity", h.path("key"))
	table := strings.Fields(h.must("drill", "list"))
	report := table[len(table)-1]
	keys := storedKeys(t, server.Folder+"/locked")
	if len(keys) < 7 {
		t.Fatalf("%q", keys)
	}
	for _, key := range keys {
		if _, err := server.Delete("locked", key); err != nil {
			t.Fatal(err)
		}
	}
	h.fails(fault.RolledBack, "were deleted behind emsafe's back", "verify")
	h.must("restore", "app", "--to", h.path("deleted.db"), "--identity", h.path("key"))
	h.forget()
	h.must("drill", "run", "app", "--identity", h.path("key"))
	if out := h.must("drill", "list"); !strings.Contains(out, "app       2") {
		t.Errorf("the number of a report that somebody hid is taken again\n%s", out)
	}
	h.must("drill", "report", report, "--json")

	for _, key := range keys {
		if _, err := server.Overwrite("locked", key, "nothing"); err != nil {
			t.Fatal(err)
		}
	}
	h.fails(fault.RolledBack, "have several versions", "verify")
	elsewhere := &host{t: t, dir: t.TempDir(), env: []string{"AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}}
	elsewhere.conf = elsewhere.path("none.yaml")
	_, talk, code := elsewhere.bare("restore", "app", "--target", "s3://locked/prefix", "--endpoint", server.Endpoint, "--allowed-signers", h.path("etc/allowed_signers"),
		"--to", h.path("overwritten.db"), "--identity", h.path("key"))
	if code != 0 || !strings.Contains(talk, "have several versions") {
		t.Errorf("exit %d\n%s", code, talk)
	}
	want := sqlite3(h.path("deleted.db"), ".dump")
	if got := sqlite3(h.path("overwritten.db"), ".dump"); got != want || !strings.Contains(got, "kept") {
		t.Errorf("%s\n%s", want, got)
	}
}

// storedKeys are what a server's folder of a bucket shows.
func storedKeys(t *testing.T, folder string) (keys []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.Contains(name, "/.") {
			key, _ := filepath.Rel(folder, name)
			keys = append(keys, key)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// bare runs emsafe without --config.
func (h *host) bare(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	binary, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	var out, talk bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Env = append(append(os.Environ(), testAs+"=emsafe", "GORACE=atexit_sleep_ms=0", "HOME="+h.dir, "XDG_CONFIG_HOME="+h.dir), h.env...)
	cmd.Stdout, cmd.Stderr = &out, &talk
	cmd.Run() //nolint:errcheck // the state tells
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// TestPolicies: Amazon's condition against overwriting is for Amazon alone, and
// who has no policies gets words.
func TestPolicies(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	target := func(more string) { h.targets("  offsite: {url: s3://bucket/p, " + more + "}\n") }
	target("region: eu-central-1")
	aws := h.must("target", "policy")
	for _, want := range []string{"s3:if-none-match", "NeverDelete", `"arn:aws:s3:::bucket/p/*"`, `"s3:prefix"`} {
		if !strings.Contains(aws, want) {
			t.Errorf("%s lacks %s", aws, want)
		}
	}
	if strings.Contains(aws, "GetObject") || strings.Contains(aws, "Principal") {
		t.Error(aws)
	}
	target("provider: minio, endpoint: http://127.0.0.1:1, lock: {for: 30d}")
	for role, want := range map[string]string{"write": "s3:PutObjectRetention", "read": "s3:ListBucketVersions", "prune": "s3:DeleteObjectVersion"} {
		if out := h.must("target", "policy", "--role", role); !strings.Contains(out, want) || strings.Contains(out, "if-none-match") {
			t.Errorf("%s: %s", role, out)
		}
	}
	target("provider: r2, endpoint: https://x.example")
	if out := h.must("target", "policy", "offsite"); !strings.Contains(out, "bucket lock rule") {
		t.Error(out)
	}
	for _, provider := range []string{"b2", "garage", "hetzner", "scaleway"} {
		if out := h.must("target", "policy", "--provider", provider, "--json"); !strings.Contains(out, `"words"`) {
			t.Errorf("%s: %s", provider, out)
		}
	}
	if out := h.must("target", "policy", "--provider", "hetzner", "--principal", "somebody"); !strings.Contains(out, `"NeverDelete"`) {
		t.Error(out)
	}
	if out := h.must("target", "policy", "--provider", "wasabi", "offsite"); !strings.Contains(out, `"arn:aws:s3:::bucket"`) {
		t.Error(out)
	}
	h.fails(fault.Usage, "--provider is", "target", "policy", "--provider", "nobody")
	h.fails(fault.Usage, "--role is", "target", "policy", "--role", "thief")
	h.fails(fault.NotFound, "no target", "target", "policy", "nowhere")
	h.targets("  local: {url: file://" + h.path("local") + "}\n")
	h.fails(fault.Usage, "is a folder", "target", "policy", "local")
}
