package main

import (
	"os"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/storagetest"
)

// A target that belongs to another installation is refused by init, before
// anything is written, and by doctor, before the first backup: whose it is, and
// a prefix that can be pasted.
func TestAnotherInstallationsTarget(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	first := newHost(t)
	folder := "file://" + first.path("local")
	first.targets("  local:\n    url: " + folder + "\n" + first.s3("offsite", "backups", server, server.Access, server.Secret))
	first.must("backup")

	second := newHost(t)
	second.conf = second.path("other/emsafe.yaml")
	second.env = []string{"AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}
	init := func(target string, more ...string) (string, int) {
		_, errOut, code := second.command(append([]string{"init", "--database", second.path("app.db"), "--target", target,
			"--recovery-key-out", second.path("key2"), "--state", second.path("state2"), "--host", "Web2"}, more...)...)
		return errOut, code
	}
	for _, c := range []struct {
		target, own string
		more        []string
	}{
		{folder, "--target main=" + folder + "/web2.", nil},
		{"s3://backups/prefix", "--target main=s3://backups/prefix/web2.", []string{"--endpoint", server.Endpoint}},
	} {
		errOut, code := init(c.target, c.more...)
		if code != fault.Foreign.Exit || !strings.Contains(errOut, "for host ") || !strings.Contains(errOut, "signed by the key SHA256:") || !strings.Contains(errOut, c.own) {
			t.Errorf("init at %s: exit %d\n%s", c.target, code, errOut)
		}
		for _, f := range []string{"other/emsafe.yaml", "other/signing_key", "key2"} {
			if exists(second.path(f)) {
				t.Errorf("init at %s left %s", c.target, f)
			}
		}
	}
	if errOut, code := init(folder + "/web2"); code != 0 {
		t.Errorf("init with the prefix that was offered: exit %d\n%s", code, errOut)
	}

	// doctor, with a configuration that was pointed there by hand.
	second.conf = second.path("etc/emsafe.yaml")
	second.targets("  local:\n    url: " + folder + "\n")
	second.fails(fault.Foreign, "holds the repository of another installation", "doctor")

	// The other's key is pinned, so that both share a repository, and the
	// database has the same name.
	mine, err := os.ReadFile(second.path("etc/allowed_signers"))
	theirs, err2 := os.ReadFile(first.path("etc/allowed_signers"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if err := os.WriteFile(second.path("etc/allowed_signers"), append(mine, theirs...), 0o644); err != nil {
		t.Fatal(err)
	}
	second.fails(fault.Foreign, "already holds backups of a database called app by another installation", "doctor")
	first.must("doctor")
}
