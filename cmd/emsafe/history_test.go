package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

// TestRewrittenHistory: somebody with the host's key signed another history from
// number 3 on, longer than the one that the host remembers. A head proves the
// number that it names, however many follow.
func TestRewrittenHistory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	copied := func(from, to string) {
		t.Helper()
		if err := os.RemoveAll(h.path(to)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", h.path(from), h.path(to)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	head := ""
	more := func(n int) {
		for range n {
			h.change()
			out := h.must("backup")
			_, head, _ = strings.Cut(out, "head ")
			head, _, _ = strings.Cut(head, "\n")
		}
	}
	restore := []string{"restore", "app", "--to", h.path("back.db"), "--identity", h.path("key")}
	elsewhere := append(restore, "--target", "file://"+h.path("local"), "--allowed-signers", h.path("etc/allowed_signers"))
	more(2)
	copied("local", "fork")
	copied("state", "fork-state")
	more(2)
	honest := head
	h.must(append(restore, "--dry-run")...)
	h.must(append(elsewhere, "--dry-run", "--head", honest)...)
	number, digest, _ := strings.Cut(honest, ":")
	wrong := "1" + digest[1:]
	if digest[0] == '1' {
		wrong = "2" + digest[1:]
	}
	h.fails(fault.RolledBack, "history was rewritten", append(elsewhere, "--dry-run", "--head", number+":"+wrong)...)
	h.fails(fault.RolledBack, "history was rewritten", append(elsewhere, "--dry-run", "--head", "1:"+digest)...)

	copied("local", "true")
	copied("state", "true-state")
	copied("fork", "local")
	copied("fork-state", "state")
	more(4)
	copied("true-state", "state")
	h.fails(fault.RolledBack, "history was rewritten", append(restore, "--dry-run")...)
	h.fails(fault.RolledBack, "history was rewritten", append(elsewhere, "--dry-run", "--head", honest)...)
	h.fails(fault.RolledBack, "history was rewritten", "verify")
	h.fails(fault.RolledBack, "history was rewritten", "list")
	h.change()
	h.fails(fault.RolledBack, "history was rewritten", "backup")
	h.must(append(restore, "--dry-run", "--allow-broken-chain")...) // the way out

	copied("true", "local")
	h.must("backup")
	h.must("verify")

	// Another repository under the same name.
	copied("local", "mine")
	copied("state", "mine-state")
	if err := os.RemoveAll(h.path("state")); err != nil {
		t.Fatal(err)
	}
	for _, name := range h.names("local") {
		if strings.HasPrefix(name, "~") {
			continue // it says that the folder is a target
		}
		if err := os.RemoveAll(h.path("local/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	more(5)
	copied("mine-state", "state")
	h.fails(fault.RolledBack, "another repository", append(restore, "--dry-run")...)
	h.fails(fault.RolledBack, "another repository", "verify")
}
