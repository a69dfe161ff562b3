package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func unitOptions(t *testing.T) UnitOptions {
	exe, err := os.Executable() // verify wants a program that is there
	if err != nil {
		t.Fatal(err)
	}
	return UnitOptions{Binary: exe, Config: "/etc/emsafe/emsafe.yaml", State: "/var/lib/emsafe"}
}

// TestUnitVerifies asks systemd itself.
func TestUnitVerifies(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	full := unitOptions(t)
	full.Groups, full.Databases = []string{"www-data"}, []string{"/srv/my app/a%b.db", "/srv/app/app.db", "/srv/app/second.db"}
	full.Targets, full.Commands = []string{"/mnt/backup"}, true
	full.Credentials = map[string]string{"s3-secret": "/etc/emsafe/s3-secret", "a": "/etc/emsafe/a"}
	home := unitOptions(t)
	home.Databases, home.State = []string{"/home/joe/app.db"}, "/data/emsafe state"
	for name, o := range map[string]UnitOptions{"least": unitOptions(t), "full": full, "home": home} {
		text, err := Unit(o)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "emsafe.service")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || strings.Contains(string(out), "emsafe.service") {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
		}
		out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", file).CombinedOutput()
		t.Logf("%s: %s", name, lastLine(string(out)))
		if err != nil {
			t.Errorf("%s: exposed by more than 2.0: %v\n%s", name, err, out)
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestUnitText(t *testing.T) {
	t.Parallel()
	o := unitOptions(t)
	o.Databases = []string{"/srv/b/two.db", "/srv/a b/one.db", "/srv/b/three.db"}
	o.Targets = []string{"/mnt/50%"}
	o.Credentials = map[string]string{"key": "/etc/k%y"}
	text, err := Unit(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"StateDirectory=emsafe\n", "ReadWritePaths=\"-/srv/a b\"\nReadWritePaths=-/srv/b\n", "ReadWritePaths=-/mnt/50%%\n", "LoadCredential=key:/etc/k%%y\n",
		"User=emsafe\nGroup=emsafe\n", "ProtectHome=yes\n", "NoExecPaths=/\n", "Type=notify\n", "WatchdogSec=60\n", "the -shm file",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, break_ := range []func(*UnitOptions){
		func(o *UnitOptions) { o.Binary = "emsafe" },
		func(o *UnitOptions) { o.State = "/var/lib/x\nExecStartPre=/bin/rm" },
		func(o *UnitOptions) { o.User = "a b" },
		func(o *UnitOptions) { o.Groups = []string{""} },
		func(o *UnitOptions) { o.Credentials = map[string]string{"a:b": "/x"} },
	} {
		bad := unitOptions(t)
		break_(&bad)
		if text, err := Unit(bad); err == nil {
			t.Errorf("accepted:\n%s", text)
		}
	}
}
