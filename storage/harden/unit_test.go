package harden

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func run(ctx context.Context, argv []string) ([]byte, error) {
	return exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
}

// TestUnit: a service without a sandbox is found, and the drop-in that is
// printed for it brings it below 2.0 and is what systemd takes.
func TestUnit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	dir := t.TempDir()
	unit := filepath.Join(dir, "app.service")
	exe, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(unit, []byte("[Unit]\nDescription=app\n[Service]\nExecStart="+exe+" -m http.server --bind 0.0.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := func() (ids []string) {
		for _, f := range Unit(t.Context(), unit, run) {
			ids = append(ids, f.ID)
		}
		return ids
	}
	if got := ids(); !slices.Equal(got, []string{"EMS-UNIT-001", "EMS-UNIT-003", "EMS-UNIT-002"}) {
		t.Errorf("%q", got)
	}
	text, err := DropIn(unit, "/srv/my app/app.db", "daemon")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(unit+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unit+".d", "50-sandbox.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ids(); !slices.Equal(got, []string{"EMS-UNIT-003"}) {
		t.Errorf("with the drop-in: %q\n%s", got, text)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), "50-sandbox") {
		t.Errorf("%v\n%s", err, out)
	}
	if f := Unit(t.Context(), "nothing-like-it.service", run); len(f) != 1 || f[0].ID != "EMS-UNIT-000" {
		t.Errorf("%+v", f)
	}
	if _, err := DropIn("nothing-like-it.service", "/srv/app.db", ""); err == nil {
		t.Error("a drop-in for nothing")
	}
}
