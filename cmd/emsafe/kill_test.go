package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage/catalog"
)

// spoolAndTargets are the folders that a backup writes to.
var spoolAndTargets = []string{
	"state", "state/spool/app", "one/~tmp", "two/~tmp", "one/databases/app/manifests", "two/databases/app/manifests",
}

// TestKillBackup kills backups of a database that is written all the time.
// Every manifest that is there restores, and the next run succeeds and leaves
// nothing behind.
func TestKillBackup(t *testing.T) {
	t.Parallel()
	for stream, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h, _ := newService(t, mode)
			h.asShipped()
			rng := random(t, uint64(stream))
			moments := h.measure(rng, spoolAndTargets, func() {}, "backup")
			seen := &chains{host: h, ids: map[string][]string{}, last: map[string]uint64{}}
			seen.look(t)
			stages := map[string]int{}
			for killed := 0; killed < rounds(100) && !t.Failed(); {
				p, _ := h.cut(syscall.SIGKILL, moments.next(), "backup")
				switch code := p.ProcessState.ExitCode(); code {
				case -1:
					killed++
				case 0:
				default:
					t.Errorf("after a kill: exit %d\n%s", code, p.err.String())
				}
				stages[h.stage(p)+fmt.Sprintf(", committed in %d", seen.look(t))]++
				if rng.IntN(5) == 0 {
					continue // killed again before it could clean up
				}
				h.must("backup")
				h.clean(t)
			}
			h.must("verify", "--read-data", "--identity", h.path("key"))
			t.Logf("killed when: %v", stages)
		})
	}
}

// stage says how far a killed backup came, by what it left in the spool.
func (h *host) stage(p *process) string {
	if p.ProcessState.ExitCode() == 0 {
		return "over"
	}
	left := strings.Join(h.names("state/spool/app"), " ")
	switch {
	case strings.Contains(left, ".json"):
		return "spooled"
	case strings.Contains(left, ".age"):
		return "sealing"
	}
	return "nothing in the spool"
}

// clean is that a backup left nothing half-made. That its lock is free the
// next command shows: taken here, it could pass to a child for a moment.
func (h *host) clean(t *testing.T) {
	t.Helper()
	if left := h.names("state/spool/app"); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
	if left := h.names("state"); !slices.Equal(left, []string{"app.json", "app.lock", "app.pages", "configurations.json", "journal.jsonl", "segments", "spool"}) {
		t.Errorf("the state folder holds %v", left)
	}
	for _, name := range h.names("srv") {
		if !slices.Contains([]string{"app.db", "app.db-wal", "app.db-shm", "app.db-journal"}, name) {
			t.Errorf("left beside the database: %s", name)
		}
	}
}

// chains follows what is committed in the targets.
type chains struct {
	*host
	ids  map[string][]string // the targets that have it
	last map[string]uint64
}

// look holds every manifest that is new to account, restores every backup that
// is new, and returns in how many targets there are new ones.
func (c *chains) look(t *testing.T) (targets int) {
	t.Helper()
	var doc struct {
		Backups []struct {
			Target   string
			Sequence uint64
			Manifest catalog.Manifest
		}
	}
	out := c.must("list", "--json", "--last", "8")
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("list: %v\n%s", err, out)
	}
	before := maps.Clone(c.last)
	for _, b := range doc.Backups {
		last, id := c.last[b.Target], b.Manifest.ID
		if b.Sequence <= last {
			continue
		}
		if b.Sequence != last+1 && last > 0 {
			t.Errorf("target %s: manifest %d follows %d", b.Target, b.Sequence, last)
		}
		if slices.Contains(c.ids[id], b.Target) {
			t.Errorf("target %s: backup %s is there twice", b.Target, id)
		}
		c.last[b.Target] = b.Sequence
		if c.ids[id] = append(c.ids[id], b.Target); len(c.ids[id]) == 1 {
			c.restores(t, b.Target, id) // the other target's is read at the end
		}
	}
	for target, n := range c.last {
		if n > before[target] {
			targets++
		}
	}
	return targets
}

func (c *chains) restores(t *testing.T, target, id string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "restored.db")
	defer os.RemoveAll(filepath.Dir(file))
	if _, errOut, code := c.command("restore", "app", "--id", id, "--target", target, "--to", file, "--identity", c.path("key")); code != 0 {
		t.Errorf("backup %s in target %s is committed and does not restore: exit %d\n%s", id, target, code, errOut)
	} else if got := sqlite3(file, applicationCheck); got != "1\nok\n" {
		t.Errorf("backup %s in target %s is not a state that the application committed: %s", id, target, got)
	}
}

// TestKillRestore kills restores over a database. It is wholly the old one or
// wholly the new one, whatever the old one was like; the next run succeeds,
// keeps the old one, and can be undone.
func TestKillRestore(t *testing.T) {
	t.Parallel()
	for stream, old := range []string{"wal", "delete", "damaged"} {
		t.Run(old, func(t *testing.T) {
			t.Parallel()
			o := newOverwriting(t, old)
			o.asShipped()
			rng := random(t, uint64(10+stream))
			args := []string{"restore", "app", "--in-place", "--yes", "--identity", o.path("key")}
			moments := o.measure(rng, []string{"srv"}, o.prepare, args...)
			stages := map[string]int{}
			for killed := 0; killed < rounds(67) && !t.Failed(); {
				o.prepare()
				p, _ := o.cut(syscall.SIGKILL, moments.next(), args...)
				switch code := p.ProcessState.ExitCode(); code {
				case -1:
					killed++
				case 0:
				default:
					t.Errorf("exit %d\n%s", code, p.err.String())
				}
				state, stage, back := o.state(t), o.stage(), "old"
				if o.completed() {
					back = "new" // the second restore is one of its own
				}
				stages[stage+", "+state]++
				o.must(args...)
				if after := o.state(t); after != "new" {
					t.Errorf("%s: the run after the kill left %s", stage, after)
				}
				o.clean(t, stage)
				o.must("restore", "app", "--undo", "--yes")
				if undone := o.state(t); undone != back {
					t.Errorf("%s, %s: the undo after a kill and another run gave %s, not %s", stage, state, undone, back)
				}
			}
			t.Logf("killed when: %v", stages)
		})
	}
}

// overwriting is a host whose database is restored over another one.
type overwriting struct {
	*host
	template   string // the old database, with what lies beside it
	srv, db    string
	old, novel string // content
	oldMain    []byte
}

func newOverwriting(t *testing.T, old string) *overwriting {
	t.Helper()
	mode := strings.Replace(old, "damaged", "wal", 1)
	h, stop := newService(t, mode)
	o := &overwriting{host: h, template: filepath.Join(t.TempDir(), "app.db"), srv: h.path("srv"), db: h.path("srv/app.db")}
	h.must("backup")
	stop()
	h.crash(o.template, mode, 5000)
	if old == "damaged" {
		f, err := os.OpenFile(o.template, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte(strings.Repeat("no database ", 20)), 0)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if o.oldMain, err = os.ReadFile(o.template); err != nil {
		t.Fatal(err)
	}
	o.old = h.content(o.template)
	o.prepare()
	h.must("restore", "app", "--in-place", "--yes", "--identity", h.path("key"))
	if o.novel = h.content(o.db); o.novel == o.old || !strings.HasSuffix(o.novel, "ok\n") {
		t.Fatalf("old: %s\nnew: %s", o.old, o.novel)
	}
	if fine := strings.HasSuffix(o.old, "ok\n"); fine == (old == "damaged") {
		t.Logf("the old database: %s", o.old)
	}
	return o
}

// prepare puts the old database, as its application left it, at its place.
func (o *overwriting) prepare() {
	o.t.Helper()
	if err := errors.Join(os.RemoveAll(o.srv), os.Mkdir(o.srv, 0o700)); err != nil {
		o.t.Fatal(err)
	}
	o.copySet(o.template, o.db)
}

// state is what the stock shell finds at the destination: "old" or "new". A
// database that cannot be brought into one file takes more than one step to
// switch: it is "half-switched" when the intent is written that the next run
// carries out.
func (o *overwriting) state(t *testing.T) string {
	t.Helper()
	got := o.content(o.db)
	switch main, err := os.ReadFile(o.db); {
	case restore.Pending(o.db) && (got == o.novel || err == nil && slices.Equal(main, o.oldMain)):
		return "half-switched"
	case got == o.old:
		return "old"
	case got == o.novel:
		return "new"
	}
	t.Errorf("neither old nor new: %s\nin %v", got, o.names("srv"))
	return "neither"
}

func (o *overwriting) stage() string {
	names := strings.Join(o.names("srv"), " ")
	switch {
	case restore.Pending(o.db):
		return "intent"
	case strings.Contains(names, ".before-") && strings.Contains(names, ".part"):
		return "set aside"
	case strings.Contains(names, ".before-"):
		return "switched"
	case strings.Contains(names, ".part"):
		return "staged"
	}
	return "nothing written"
}

// completed reports whether a restore did all of its steps: what a kill then
// took was no more than its words.
func (o *overwriting) completed() bool {
	marks, _ := filepath.Glob(filepath.Join(o.srv, "app.db.before-*", "unfinished*")) //nolint:errcheck // the pattern is sound
	return o.stage() == "switched" && len(marks) == 0
}

// clean is that there is the database, and what was there before, and no more.
func (o *overwriting) clean(t *testing.T, stage string) {
	t.Helper()
	kept := 0
	for _, name := range o.names("srv") {
		switch {
		case name == "app.db":
		case strings.HasPrefix(name, "app.db.before-"):
			switch o.content(filepath.Join(o.srv, name, "app.db")) {
			case o.old:
				kept++
			case o.novel:
			default:
				t.Errorf("killed when %s: %s holds %v: neither old nor new", stage, name, o.names("srv/"+name))
			}
		default:
			t.Errorf("killed when %s: left beside the database: %s", stage, name)
		}
	}
	if kept != 1 {
		t.Errorf("killed when %s: the old database is kept %d times: %v", stage, kept, o.names("srv"))
	}
}

// TestSignalBackup interrupts backups: 130, or 0 when it came too late, and
// words that say what is safe.
func TestSignalBackup(t *testing.T) {
	t.Parallel()
	h, _ := newService(t, "wal")
	rng := random(t, 20)
	moments := h.measure(rng, spoolAndTargets, func() {}, "backup")
	seen := &chains{host: h, ids: map[string][]string{}, last: map[string]uint64{}}
	seen.look(t)
	codes := map[int]int{}
	for range rounds(40) {
		p, sent := h.cut(syscall.SIGINT, moments.next(), "backup")
		codes[interrupted(t, p, sent)]++
		seen.look(t)
		h.must("verify")
	}
	h.must("backup")
	h.clean(t)
	t.Logf("exit codes: %v", codes)
}

// TestSignalRestore interrupts restores beside and over a database.
func TestSignalRestore(t *testing.T) {
	t.Parallel()
	o := newOverwriting(t, "wal")
	rng := random(t, 21)
	args := []string{"restore", "app", "--in-place", "--yes", "--identity", o.path("key")}
	moments := o.measure(rng, []string{"srv"}, o.prepare, args...)
	codes := map[int]int{}
	for range rounds(30) {
		o.prepare()
		p, sent := o.cut(syscall.SIGINT, moments.next(), args...)
		code := interrupted(t, p, sent)
		codes[code]++
		if state := o.state(t); code == 130 && state != "old" || code == 0 && state != "new" {
			t.Errorf("exit %d, and the database is %s\n%s", code, state, p.err.String())
		}
		for _, name := range o.names("srv") {
			if code == 130 && !strings.HasPrefix(name, "app.db") || strings.Contains(name, ".emsafe-") || code == 130 && strings.Contains(name, ".before-") {
				t.Errorf("exit %d left %s", code, name)
			}
		}

		beside := o.path("beside.db")
		p, sent = o.cut(syscall.SIGINT, moments.next(), "restore", "app", "--to", beside, "--identity", o.path("key"))
		code = interrupted(t, p, sent)
		codes[code]++
		if there := exists(beside); there != (code == 0) {
			t.Errorf("exit %d, and the destination is there: %t\n%s", code, there, p.err.String())
		}
		if left, _ := filepath.Glob(o.path(".beside.db*")); len(left) > 0 {
			t.Errorf("exit %d left %v", code, left)
		}
		os.Remove(beside)
	}
	t.Logf("exit codes: %v", codes)
}

// interrupted is the exit code of a process that got SIGINT, as a shell would
// give it.
func interrupted(t *testing.T, p *process, sent bool) int {
	t.Helper()
	code, said := p.ProcessState.ExitCode(), p.err.String()
	if ws, ok := p.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGINT {
		return fault.Interrupted.Exit // before its first line, by the system
	}
	switch {
	case code == 0:
	case code != fault.Interrupted.Exit || !sent:
		t.Errorf("exit %d (SIGINT sent: %t)\n%s", code, sent, said)
	case !strings.Contains(said, "Still safe: ") || !strings.Contains(said, "interrupted"):
		t.Errorf("exit %d, and it does not say what is safe:\n%s", code, said)
	}
	return code
}
