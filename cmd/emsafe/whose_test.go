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

// What init found in the AWS environment or profile is in the configuration that
// it writes: a service has another environment.
func TestInitWritesTheAWSEnvironment(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]func(h *host) []string{
		"variables": func(*host) []string {
			return []string{"AWS_ENDPOINT_URL=" + server.Endpoint + "/", "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}
		},
		"service": func(*host) []string {
			return []string{"AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3=" + server.Endpoint, "AWS_DEFAULT_REGION=us-east-1", "AWS_REGION=us-east-1",
				"AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}
		},
		"profile": func(h *host) []string {
			write := func(file, text string) {
				if err := os.WriteFile(h.path(file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("aws-config", "[profile backup]\nregion = us-east-1\nendpoint_url = "+server.Endpoint+"\n")
			write("aws-credentials", "[backup]\naws_access_key_id = "+server.Access+"\naws_secret_access_key = "+server.Secret+"\n")
			return []string{"AWS_PROFILE=backup", "AWS_CONFIG_FILE=" + h.path("aws-config"), "AWS_SHARED_CREDENTIALS_FILE=" + h.path("aws-credentials")}
		},
	} {
		h := newHost(t)
		h.conf = h.path("aws/emsafe.yaml")
		h.env = env(h)
		_, errOut, code := h.command("init", "--database", h.path("app.db"), "--target", "s3://backups/"+name, "--recovery-key-out", h.path("key2"), "--state", h.path("state2"))
		if code != 0 || !strings.Contains(errOut, "the credentials are not in the configuration") || !strings.Contains(errOut, "the endpoint "+server.Endpoint+" is from") {
			t.Fatalf("%s: exit %d\n%s", name, code, errOut)
		}
		text, err := os.ReadFile(h.conf)
		if err != nil || !strings.Contains(string(text), "endpoint: "+server.Endpoint+"\n") || !strings.Contains(string(text), "region: us-east-1\n") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		// As the service runs it: with credentials, and nothing else.
		h.env = []string{"AWS_ACCESS_KEY_ID=" + server.Access, "AWS_SECRET_ACCESS_KEY=" + server.Secret}
		h.must("backup")
		h.must("verify")
	}
}
