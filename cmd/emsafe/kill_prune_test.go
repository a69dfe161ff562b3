package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestKillPrune kills prunes. Everything that the policy keeps restores, the
// chain holds, and the next prune ends what was begun.
func TestKillPrune(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.asShipped()
	h.configure("    keep: {last: 5}\n    full_share: 100%\n")
	if out := sqlite3(h.path("app.db"), "CREATE TABLE ballast AS SELECT randomblob(200000);"); out != "" {
		t.Fatal(out)
	}
	for i := range 40 {
		h.change()
		args := []string{"backup"}
		if i%9 == 0 {
			args = append(args, "--full")
		}
		h.must(args...)
	}
	fresh := func() {
		for _, dir := range []string{"local", "state"} {
			if err := os.RemoveAll(h.path(dir)); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("cp", "-a", h.path("kept/"+dir), h.path(dir)).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
	}
	if out, err := exec.Command("sh", "-c", fmt.Sprintf("mkdir %[1]s/kept && cp -a %[1]s/local %[1]s/state %[1]s/kept", h.dir)).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	moments := h.measure(random(t, 7), []string{"local/databases/app/manifests", "local/databases/app/prunes", "state"}, fresh, "prune")
	stages := map[string]int{}
	for killed := 0; killed < rounds(30) && !t.Failed(); {
		fresh()
		p, _ := h.cut(syscall.SIGKILL, moments.next(), "prune")
		if code := p.ProcessState.ExitCode(); code == -1 {
			killed++
		} else if code != 0 {
			t.Errorf("exit %d\n%s", code, p.err.String())
		}
		recorded := len(h.names("local/databases/app")) > 2 && len(h.names("local/databases/app/prunes")) > 0
		stages[fmt.Sprintf("recorded %t, %d manifests", recorded, h.committed())]++
		h.must("verify", "--read-data", "--identity", h.path("key"))
		h.must("prune")
		if n := h.committed(); n > 20 {
			t.Errorf("%d manifests are left", n)
		}
		if out := h.must("prune"); !strings.Contains(out, "nothing to remove") {
			t.Errorf("%s", out)
		}
		h.must("verify", "--read-data", "--identity", h.path("key"))
		h.change()
		h.must("backup")
	}
	t.Logf("killed when: %v", stages)
}
