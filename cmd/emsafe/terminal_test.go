package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestTerminal: names that somebody else chose do not steer the terminal, nor
// whoever reads the JSON on one.
func TestTerminal(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const evil = "\x1b[2J\u009b31m\u202e\r"
	if out, err := exec.Command("python3", "-c", `import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('create table "%s" (v)' % sys.argv[2])`, h.path("app.db"), evil+"table").CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	h.must("backup")
	// A manifest that somebody put there, and a file with a name.
	if err := os.WriteFile(h.path("local/databases/app/manifests/00000000000000000002"), []byte("{\"host\": \""+evil+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, args := range [][]string{
		{"doctor", "app"}, {"doctor", "app", "--json"}, {"list"}, {"list", "--json"}, {"verify"}, {"show", evil + "id"},
		{"restore", "app", "--to", h.path(evil + ".db"), "--identity", h.path("key"), "--id", evil},
		{"drill", "run", "--identity", h.path("key")}, {"backup", evil}, {evil},
	} {
		out, talk, _ := h.command(args...)
		if strings.ContainsAny(out+talk, "\x1b\u009b\u202e\r") {
			t.Errorf("%q: %q", args, out+talk)
		}
		seen = seen || strings.Contains(out+talk, `\u001b[2J\u009b31m\u202e\u000d`)
	}
	if !seen {
		t.Error("no command showed the name: the test shows nothing")
	}
}
