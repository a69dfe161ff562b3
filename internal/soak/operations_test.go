package soak

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// operation is one command of the binary, and what must be true after it was
// disturbed.
type operation struct {
	name    string
	config  string
	prepare func(w *world)
	args    func(w *world) []string
	// after gets how the command ended, what the database held before it,
	// and what the newest backups held.
	after func(w *world, r result, before, backedUp string)
	rare  int // one in so many rounds, because it is slow
}

func flags(args ...string) func(*world) []string { return func(*world) []string { return args } }

var operations = []operation{
	{name: "init", prepare: emptied, args: func(w *world) []string { return append([]string{"init"}, w.initFlags()...) }, after: begun},
	{name: "backup", prepare: (*world).change, args: flags("backup", "--full"), after: backedUp},
	{name: "delta", prepare: (*world).change, args: flags("backup"), after: backedUp},
	{name: "restore --to", args: func(w *world) []string {
		return []string{"restore", "app", "--to", w.path("out/to.db"), "--identity", w.path("key")}
	}, after: placed},
	{name: "restore --in-place", prepare: (*world).change, args: func(w *world) []string {
		return []string{"restore", "app", "--in-place", "--yes", "--identity", w.path("key")}
	}, after: exchanged},
	{name: "undo", args: flags("restore", "app", "--undo", "--yes"), after: undone},
	{name: "prune", args: flags("prune", "--force"), after: pruned},
	{name: "drill", args: flags("drill", "run", "app"), after: drilled},
	{name: "files backup", rare: 8, config: "conf/files.yaml", prepare: (*world).change, args: flags("files", "backup"), after: filed},
}

// emptied leaves the database, as on a host that has no emsafe yet.
func emptied(w *world) {
	for _, d := range []string{"conf", "state", "one", "two", "key"} {
		if err := os.RemoveAll(w.path(d)); err != nil {
			w.Fatal(err)
		}
	}
}

// begun: an init that was disturbed can be run again, and then a backup works.
func begun(w *world, r result, _, _ string) {
	if r.code != 0 {
		again := w.run(nil, "conf/emsafe.yaml", append([]string{"init"}, w.initFlags()...)...)
		if strings.Contains(again.out, "never overwritten") || strings.Contains(again.out, "exists already") {
			// A key is there, and init asks for it to be moved away.
			w.known("init, run again after a kill, asks for a key of the first to be moved away")
			emptied(w)
			again = w.run(nil, "conf/emsafe.yaml", append([]string{"init"}, w.initFlags()...)...)
		}
		if again.code != 0 {
			w.violated("init, run again, exits %d:\n%s\nthe first said:\n%s", again.code, again.out, r.out)
			return
		}
	}
	w.settings()
	w.heals()
}

func backedUp(w *world, r result, before, old string) {
	if r.code == 0 {
		w.committed("after a backup that succeeded", before)
		if n := w.newest(); n["one"] == 0 || n["one"] != n["two"] {
			w.violated("after a backup that succeeded the targets are at %v", n)
		}
	} else {
		w.committed("after a backup that failed", before, old)
	}
	w.oneOf("the database", w.app(), before)
	w.heals()
}

func placed(w *world, r result, before, old string) {
	got := w.dump(w.path("out/to.db"))
	switch {
	case r.code == 0:
		w.oneOf("the restored file", got, old)
	default:
		w.oneOf("the destination of a restore that failed", got, "", old)
	}
	if got == "" {
		w.must("restore", "app", "--to", w.path("out/to.db"), "--identity", w.path("key"))
	}
	w.only("out", "to.db", "to.db-wal", "to.db-shm", "examined.db")
	w.heals()
}

// only is that a folder holds nothing but these names.
func (w *world) only(folder string, names ...string) {
	w.Helper()
	entries, _ := os.ReadDir(w.path(folder))
next:
	for _, e := range entries {
		for _, n := range names {
			if ok, _ := filepath.Match(n, e.Name()); ok {
				continue next
			}
		}
		w.violated("%s holds %s", folder, e.Name())
	}
}

func exchanged(w *world, r result, before, old string) {
	switch got := w.app(); r.code {
	case 0:
		w.oneOf("the database after a restore in place", got, old)
	default:
		w.oneOf("the database after a restore in place that failed", got, before, old)
	}
	w.must("restore", "app", "--in-place", "--yes", "--identity", w.path("key"))
	w.oneOf("the database after a restore in place that was run again", w.app(), old)
	w.must("restore", "app", "--undo", "--yes")
	w.heals()
}

func undone(w *world, r result, before, _ string) {
	// What the restore of the template replaced had more rows.
	got := w.app()
	if got == "" || got == "broken" || r.code == 0 && got == before {
		w.violated("the database after an undo that ended %d: unchanged %v, missing %v", r.code, got == before, got == "")
	}
	w.heals()
}

func pruned(w *world, r result, before, old string) {
	w.committed("after a prune", old)
	w.must("prune", "--force")
	w.committed("after the next prune", old)
	w.must("verify", "--read-data", "--identity", w.path("key"))
	w.heals()
}

func drilled(w *world, r result, _, old string) {
	w.must("drill", "run", "app")
	w.committed("after a drill", old)
	w.heals()
}

func filed(w *world, r result, before, old string) {
	w.committed("after a backup of files", before, old)
	if again := w.run(nil, "conf/files.yaml", "files", "backup"); again.code != 0 {
		w.violated("files backup, run again, exits %d:\n%s", again.code, again.out)
	}
	w.heals()
}

// round does one operation under a trouble, and examines what is left.
func (w *world) round(op operation, trouble func(args ...string) result) {
	w.Helper()
	w.fresh()
	old := w.template()
	if op.prepare != nil {
		op.prepare(w)
	}
	before := w.app()
	r := trouble(op.args(w)...)
	op.after(w, r, before, old)
}

// template is what the newest backup of the template holds, which was restored
// in place before it was set aside.
func (w *world) template() string { return w.app() }

// while calls f until the time is over, or what was found is enough.
func (w *world) while(d time.Duration, f func(n int)) {
	for n, end := 0, time.Now().Add(d); time.Now().Before(end) && !w.enough(); n++ {
		f(n)
	}
}

// enough is a failure in a sample; a soak goes on and counts.
func (w *world) enough() bool { return w.Failed() && os.Getenv("EMSAFE_SOAK") == "" }

func (op operation) file() string {
	if op.config != "" {
		return op.config
	}
	return "conf/emsafe.yaml"
}

func (w *world) choose() operation {
	for {
		op := operations[w.rng.IntN(len(operations))]
		if op.rare == 0 || w.rng.IntN(op.rare) == 0 {
			return op
		}
	}
}
