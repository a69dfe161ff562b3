package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// TestOldState: the state folder comes back from an older copy, as from a
// snapshot of the machine, after a prune removed what it remembers as parents.
// What is backed up then must restore, and the operator is told.
func TestOldState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prune   bool
		between []string // commands between the copy and its return, beside changes
	}{
		{"pruned", true, []string{"--full", "", ""}},
		{"not pruned", false, []string{"--full", ""}},
		{"one delta", false, []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.configure("    keep: {last: 2}\n    full_share: 100%\n")
			if out := sqlite3(h.path("app.db"), "CREATE TABLE ballast AS SELECT randomblob(200000);"); out != "" {
				t.Fatal(out)
			}
			backup := func(flags ...string) {
				h.change()
				h.must(append([]string{"backup"}, flags...)...)
			}
			copied := func(from, to string) {
				if out, err := exec.Command("cp", "-a", h.path(from), h.path(to)).CombinedOutput(); err != nil {
					t.Fatalf("%v %s", err, out)
				}
			}
			backup()
			backup()
			copied("state", "old")
			for _, flag := range c.between {
				backup(strings.Fields(flag)...)
			}
			if c.prune {
				h.must("prune")
			}
			if err := os.RemoveAll(h.path("state")); err != nil {
				t.Fatal(err)
			}
			copied("old", "state")
			h.change()
			h.fails(fault.StateBehind, "knows nothing of", "backup")
			for range 2 {
				want := h.content(h.path("app.db"))
				os.Remove(h.path("back.db"))
				h.must("restore", "app", "--to", h.path("back.db"), "--identity", h.path("key"))
				if got := h.content(h.path("back.db")); got != want {
					t.Fatalf("restored %s, want %s", got, want)
				}
				h.must("verify", "--read-data", "--identity", h.path("key"))
				backup() // nobody is told twice
			}
		})
	}
}
