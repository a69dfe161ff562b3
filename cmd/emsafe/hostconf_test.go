package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/config"
	"emsafe/internal/fault"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

// TestConfigurationFromTarget: a machine with nothing of the host but the
// address, the public keys and an identity holds the host's drill, with the
// checks that the host would ask. The host may only put and list.
func TestConfigurationFromTarget(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := errors.Join(server.MakeLockedBucket("locked"), server.AddUser("write", "write-secret")); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	h.configure("    drill: {checks: {kept: {sql: SELECT count(*) FROM t WHERE v = 'kept', expect: 1}}}\n")
	h.as(server, "write", "    lock: {for: 1h}\n")
	h.must("backup")
	stored := func() (n int) {
		for _, key := range storedKeys(t, server.Folder+"/locked/prefix/configurations") {
			if !strings.Contains(key, "/") {
				t.Errorf("%s is in no host's folder", key)
			}
			n++
		}
		return n
	}
	h.change()
	h.must("backup")
	if n := stored(); n != 1 {
		t.Fatalf("%d copies of one configuration", n)
	}
	was := text(t, h.conf)
	if err := os.WriteFile(h.conf, []byte(was+"# changed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("backup")
	if n := stored(); n != 2 {
		t.Fatalf("%d copies of two configurations", n)
	}

	b := &host{t: t, dir: t.TempDir(), env: []string{"AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}}
	from := []string{"--target", "s3://locked/prefix", "--endpoint", server.Endpoint, "--allowed-signers", b.path("allowed_signers"), "--identity", h.path("key")}
	key := h.newKey(b.path("drill_key"))
	b.write("allowed_signers", text(t, h.path("etc/allowed_signers"))+seal.Principal(config.HostName())+" namespaces=\"emsafe-report\" "+key)
	ran := func(want int, args ...string) string {
		t.Helper()
		out, talk, code := b.bare(args...)
		if code != want {
			t.Fatalf("%q: exit %d, want %d\n%s%s", args, code, want, out, talk)
		}
		return out + talk
	}
	if out, _, _ := b.bare(append([]string{"config", "fetch"}, from...)...); out != was+"# changed\n" {
		t.Errorf("%s\nis not\n%s", out, was)
	}
	run := append([]string{"drill", "run", "--config-from-target", "--signing-key", b.path("drill_key"), "--state", b.path("state")}, from...)
	before := text(t, h.path("app.db"))
	hidden := h.path("hidden.db") // the source is out of reach
	if err := os.Rename(h.path("app.db"), hidden); err != nil {
		t.Fatal(err)
	}
	said := ran(0, run...)
	if !strings.Contains(said, "from the target") || !strings.Contains(said, "drill report --target URL") {
		t.Errorf("%s", said)
	}
	if err := os.Rename(hidden, h.path("app.db")); err != nil {
		t.Fatal(err)
	}
	if text(t, h.path("app.db")) != before {
		t.Error("the source was changed")
	}
	if found, err := filepath.Glob(server.Folder + "/locked/prefix/reports/drills/app/*/*"); err != nil || len(found) != 1 {
		t.Errorf("reports %q %v", found, err)
	}
	ran(0, append(run, "app")...)
	if out := ran(0, "drill", "report", "--target", "s3://locked/prefix", "--endpoint", server.Endpoint, "--allowed-signers", b.path("allowed_signers")); !strings.Contains(out, "With the configuration of ") || !strings.Contains(out, "kept") {
		t.Errorf("%s", out)
	}

	// The check fails when the data is not what it must be.
	sqlite3(h.path("app.db"), ".timeout 5000", "UPDATE t SET v = 'lost'")
	h.must("backup")
	ran(fault.DrillFailed.Exit, run...)

	ran(fault.NotFound.Exit, append(run, "nosuch")...)
	ran(fault.NotFound.Exit, append(run, "--host", "nosuch")...)
	ran(fault.Usage.Exit, append([]string{"drill", "run", "--config-from-target"}, from...)...)
	b.write("allowed_signers", seal.Principal(config.HostName())+" namespaces=\"emsafe-report\" "+key)
	ran(fault.Forged.Exit, run...)
}

// TestTakenHostRunsNothingElsewhere: whoever has a host signs its configuration.
// On the machine that drills, which has the recovery key, its programs do not
// run, and its environment gets into nothing.
func TestTakenHostRunsNothingElsewhere(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ran := h.path("it-ran")
	h.configure("    drill: {checks: {kept: {sql: \"SELECT '${SECRET_OF_THE_DRILL_HOST}'\", expect: '${SECRET_OF_THE_DRILL_HOST}'}, evil: {command: [touch, '" + ran + "']}, server: {service: [touch, '" + ran + "'], ask: {x: {url: 'http://127.0.0.1:{port}/'}}}}}\n")
	h.env = append(h.env, "SECRET_OF_THE_DRILL_HOST=harmless")
	h.must("backup")
	h.env = append(h.env[:len(h.env)-1], "SECRET_OF_THE_DRILL_HOST=hunter2")
	h.write("drill_signers", text(t, h.path("etc/allowed_signers"))+seal.Principal(config.HostName())+" namespaces=\"emsafe-report\" "+h.newKey(h.path("drill_key")))
	args := []string{"drill", "run", "--config-from-target", "--target", "file://" + h.path("local"), "--allowed-signers", h.path("drill_signers"), "--identity", h.path("key"), "--signing-key", h.path("drill_key"), "--state", h.path("drill-state")}
	out, talk, code := h.bare(args...)
	if code != 0 || !strings.Contains(out+talk, "2 checks were not run") || !strings.Contains(talk, "--allow-commands") || !strings.Contains(talk, "evil, server") {
		t.Errorf("exit %d\n%s%s", code, out, talk)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the host ran")
	}
	report, talk, code := h.bare("drill", "report", "--json", "--target", "file://"+h.path("local"), "--allowed-signers", h.path("drill_signers"))
	if code != 0 || strings.Contains(report+talk+out, "hunter2") || !strings.Contains(report, "check evil: it runs a program") {
		t.Errorf("exit %d\n%s%s", code, report, talk)
	}
	out, talk, _ = h.bare(append(args, "--allow-commands")...)
	if !strings.Contains(talk, "touch") {
		t.Errorf("what runs was not shown: %s", talk)
	}
	if !strings.Contains(out, " evil: ") { // as a user who may not write there
		t.Errorf("with a yes it is to run: %s%s", out, talk)
	}
}

// newKey makes an Ed25519 key in a file, and gives its public line.
func (h *host) newKey(file string) string {
	h.t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		h.t.Fatalf("%v %s", err, out)
	}
	return text(h.t, file+".pub")
}

// TestNoCopyIsNoFailure: a backup is one whether or not the configuration could
// be put beside it, which is told, and tried again with the next.
func TestNoCopyIsNoFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	in := h.path("local/configurations")
	h.write("local/configurations", "in the way")
	_, talk, code := h.command("backup")
	if code != 0 || !strings.Contains(talk, "no copy of the configuration") {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	if err := os.Remove(in); err != nil {
		t.Fatal(err)
	}
	if out := h.must("backup"); strings.Contains(out, "no copy") {
		t.Errorf("%s", out)
	}
	if got := h.must("config", "fetch", "--identity", h.path("key")); !strings.Contains(got, text(t, h.conf)) {
		t.Errorf("%s", got)
	}
}
