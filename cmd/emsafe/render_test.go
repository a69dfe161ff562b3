package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/internal/render"
)

// TestRender: it prints, compares, and replaces nothing without consent.
func TestRender(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.fails(fault.Config, "web.domain is needed", "render", "nginx")
	h.write("guard", "me:$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n")
	h.write("etc/emsafe.yaml", string(h.read(h.conf))+"web: {domain: app.example.org, data: /srv/app, guard: {user: me, hash: {file: "+h.path("guard")+"}}}\n")
	if err := os.Chmod(h.path("guard"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range render.Targets() {
		if out := h.must("render", target); !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(out, "#", "")), " "), "emsafe render "+target) {
			t.Errorf("%s: %s", target, out)
		}
	}
	_, talk, _ := h.command("render", "caddy")
	if !strings.Contains(talk, "cannot limit rates") {
		t.Errorf("what it cannot do is not said: %s", talk)
	}
	h.fails(fault.Usage, "caddy, nginx", "render", "apache")
	h.fails(fault.Usage, "needs one WHAT", "render")

	root := []string{"--root", h.path("root")}
	run := func(args ...string) []string { return append(append([]string{"render", "fail2ban"}, args...), root...) }
	h.fails(fault.NotFound, "no folder", run("--write")...)
	for _, dir := range []string{"jail.d", "filter.d"} {
		if err := os.MkdirAll(h.path("root/etc/fail2ban/"+dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.fails(fault.Findings, "3 of 3 files differ", run("--diff")...)
	h.must(run("--write")...)
	h.must(run("--diff")...)
	jail := h.path("root/etc/fail2ban/jail.d/emsafe-web.local")
	h.overwrite(jail, []byte(strings.Replace(string(h.read(jail)), "maxretry = 10", "maxretry = 3", 1)))
	out, _, code := h.command(run("--diff")...)
	if code != fault.Findings.Exit || !strings.Contains(out, "-maxretry = 3") || !strings.Contains(out, "+maxretry = 10") {
		t.Error(code, out)
	}
	h.fails(fault.Usage, "needs a yes", run("--write")...)
	if !strings.Contains(string(h.read(jail)), "maxretry = 3") {
		t.Error("it was replaced without consent")
	}
	h.must(run("--write", "--yes")...)
	kept, _ := filepath.Glob(jail + ".before-*")
	if len(kept) != 1 || !strings.Contains(string(h.read(kept[0])), "maxretry = 3") || !strings.Contains(string(h.read(jail)), "maxretry = 10") {
		t.Errorf("%v", kept)
	}
	// What holds a hash is not for everybody.
	if err := os.MkdirAll(h.path("root/etc/caddy"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.must(append([]string{"render", "caddy", "--write"}, root...)...)
	if info, err := os.Stat(h.path("root/etc/caddy/Caddyfile")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	h.write("guard", "me:not a hash; return 200;\n")
	h.fails(fault.Config, "no bcrypt hash", "render", "caddy")
}
