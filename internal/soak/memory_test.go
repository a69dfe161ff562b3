package soak

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOldStates brings the state folder back from older copies, as a snapshot
// of a machine does, between backups and prunes. Whatever a backup says was
// committed must restore; that the state was behind may be told (13).
func TestOldStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 7)
	var copies []string
	w.while(span(t), func(n int) {
		switch w.rng.IntN(6) {
		case 0:
			copies = append(copies, filepath.Join("copies", "state"+string(rune('a'+n%26))))
			w.aside("w/state", copies[len(copies)-1])
			w.say += " copy"
		case 1:
			if len(copies) == 0 {
				return
			}
			w.aside(copies[w.rng.IntN(len(copies))], "w/state")
			tally.add("state folders from older copies")
			w.say += " back"
		case 2:
			w.say += " prune"
			w.must("prune", "--force")
		default:
			w.say += " backup"
			w.change()
			args := []string{"backup"}
			if w.rng.IntN(4) == 0 {
				args = append(args, "--full")
			}
			if r := w.run(nil, "conf/emsafe.yaml", args...); r.code != 0 && r.code != 13 {
				w.violated("backup exits %d:\n%s", r.code, r.out)
			}
			now := w.app()
			w.oneOf("the newest backup of one", w.restored("one"), now)
			w.oneOf("the newest backup of two", w.restored("two"), now)
		}
		if len(w.say) > 200 {
			w.say = w.say[len(w.say)-200:]
		}
	})
	w.must("verify", "--read-data", "--identity", w.path("key"))
	w.tidy()
}

// aside puts a copy of a folder in the place of another.
func (w *world) aside(from, to string) {
	w.Helper()
	if err := os.RemoveAll(filepath.Join(w.root, to)); err != nil {
		w.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(w.root, filepath.Dir(to)), 0o700); err != nil {
		w.Fatal(err)
	}
	w.copy(from, to)
}
