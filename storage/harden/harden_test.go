package harden

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Now()

func shell(t *testing.T, script string, args ...string) string {
	t.Helper()
	out, err := exec.Command("sh", append([]string{"-euc", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// place makes a folder that only its owner can enter, whatever the umask, with
// a database in it.
func place(t *testing.T) (dir, db string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("modes are mended on Linux")
	}
	dir = t.TempDir()
	shell(t, `chmod 700 "$1"; cd "$1"; mkdir -m 700 app; umask 077; sqlite3 app/app.db "CREATE TABLE t (v); INSERT INTO t VALUES (1); PRAGMA journal_mode=wal;" >/dev/null`, dir)
	return dir, filepath.Join(dir, "app", "app.db")
}

// found are the ids that a look finds, but for those about the machine.
func found(t *testing.T, s Subject) []string {
	t.Helper()
	p, err := Look(s, now)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range p.Findings {
		if f.Why == "" || f.Remedy == "" || f.Found == "" || f.Title == "" || f.Subject == "" {
			t.Errorf("it does not say all: %+v", f)
		}
		if !strings.HasPrefix(f.ID, "EMS-DISK") && f.ID != "EMS-DB-010" && !slices.Contains(ids, f.ID) {
			ids = append(ids, f.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// TestLook: each fault is found, and nothing is where there is none.
func TestLook(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil string
		want  []string
	}{
		"nothing":             {"", nil},
		"readable":            {"chmod 644 app/app.db", []string{"EMS-FILE-001"}},
		"set-id":              {"chmod u+s app/app.db", []string{"EMS-FILE-001"}},
		"writable by group":   {"chmod 660 app/app.db", []string{"EMS-FILE-001"}},
		"log left readable":   {"cp app/app.db app/app.db-wal; chmod 644 app/app.db-wal", []string{"EMS-FILE-001", "EMS-WAL-002"}},
		"hard link":           {"ln app/app.db other", []string{"EMS-FILE-003"}},
		"symbolic link":       {"mv app real; ln -s real app", []string{"EMS-FILE-004"}},
		"parent writable":     {"chmod 777 .", []string{"EMS-FILE-005"}},
		"folder writable":     {"chmod 777 app", []string{"EMS-FILE-005"}},
		"folder listed":       {"chmod 755 app", []string{"EMS-FILE-006"}},
		"copies":              {"cp app/app.db app/app.db.bak; cp app/app.db app/other; echo x > app/dump.sql.gz", []string{"EMS-FILE-012"}},
		"web root":            {"mkdir public; mv app public; ln -s public/app app", []string{"EMS-FILE-004", "EMS-FILE-010"}},
		"git":                 {"mkdir .git", []string{"EMS-FILE-011"}},
		"old aside":           {"mkdir app/app.db.before-1; touch -d '2020-01-01' app/app.db.before-1", []string{"EMS-FILE-013"}},
		"rollback journal":    {"sqlite3 app/app.db 'PRAGMA journal_mode=delete' >/dev/null", []string{"EMS-DB-001"}},
		"small pages":         {"sqlite3 app/app.db 'PRAGMA journal_mode=delete; PRAGMA page_size=1024; VACUUM; PRAGMA journal_mode=wal' >/dev/null", []string{"EMS-DB-002"}},
		"free pages":          {"sqlite3 app/app.db 'CREATE TABLE x AS SELECT randomblob(9000000); DROP TABLE x' >/dev/null", []string{"EMS-DB-003"}},
		"own key readable":    {"touch key; chmod 644 key", []string{"EMS-OWN-001"}},
		"other's own folders": {"mkdir state; chmod 755 state", []string{"EMS-OWN-001"}},
		"not a database":      {"echo no > app/app.db", []string{"EMS-DB-000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, db := place(t)
			shell(t, `cd "$1"; umask 077; `+c.spoil, dir)
			s := Subject{Name: "app", Database: db, Own: []Own{{Path: filepath.Join(dir, "key"), Secret: true}, {Path: filepath.Join(dir, "state")}}}
			if got := found(t, s); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// TestApply: what can be mended is, a second time there is nothing to do, and it
// can all be taken back.
func TestApply(t *testing.T) {
	t.Parallel()
	dir, db := place(t)
	shell(t, `cd "$1"; chmod 6777 app/app.db; chmod 777 app; cp app/app.db app/app.db-wal; chmod 664 app/app.db-wal`, dir)
	before := shell(t, `cd "$1"; stat -c '%a %n' app app/*`, dir)
	record := filepath.Join(dir, "record")
	apply := func() []Change {
		p, err := Look(Subject{Name: "app", Database: db}, now)
		if err != nil {
			t.Fatal(err)
		}
		done, err := p.Apply(record, now)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if done := apply(); len(done) != 3 {
		t.Errorf("%v", done)
	}
	if got := shell(t, `cd "$1"; stat -c '%a' app app/app.db app/app.db-wal`, dir); got != "755\n600\n600\n" && got != "711\n600\n600\n" {
		t.Errorf("modes: %s", got)
	}
	apply()
	if done := apply(); len(done) != 0 {
		t.Errorf("a second time: %v", done)
	}
	for {
		done, err := Undo(record, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(done) == 0 {
			break
		}
	}
	if after := shell(t, `cd "$1"; stat -c '%a %n' app app/*`, dir); after != before {
		t.Errorf("undone:\n%s\nbefore:\n%s", after, before)
	}
}

// TestApplyKeepsLocks: the application holds its locks through it.
func TestApplyKeepsLocks(t *testing.T) {
	t.Parallel()
	dir, db := place(t)
	app := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE"); c.execute("INSERT INTO t VALUES (2)")
print("locked", flush=True); sys.stdin.read(); c.execute("COMMIT")`, db)
	in, err := app.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := app.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	shell(t, `cd "$1"; chmod 666 app/app.db*`, dir)
	held := func() (lines []string) {
		text, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, fmt.Sprintf(" %d ", app.Process.Pid)) {
				_, rest, _ := strings.Cut(line, ":")
				lines = append(lines, rest)
			}
		}
		slices.Sort(lines)
		return lines
	}
	before := held()
	p, err := Look(Subject{Name: "app", Database: db}, now)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := p.Apply(filepath.Join(dir, "record"), now); err != nil || len(done) != 3 {
		t.Errorf("%v %v", done, err)
	}
	if after := held(); len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("locks before: %q, after: %q", before, after)
	}
	in.Close()
	if err := app.Wait(); err != nil {
		t.Errorf("the application: %v", err)
	}
}

// TestJournalComesAndGoes: a rollback journal that SQLite removed, or made again,
// since the look is no failure, neither when modes are set nor when they are
// taken back; the database itself is mended.
func TestJournalComesAndGoes(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]string{
		"gone":       `rm "$1"/app/app.db-journal`,
		"made again": `cd "$1"/app; echo other > new; chmod 666 new; mv new app.db-journal`,
	} {
		dir, db := place(t)
		record := filepath.Join(dir, "record")
		shell(t, `cd "$1"/app; touch app.db-journal; chmod 666 app.db app.db-journal`, dir)
		p, err := Look(Subject{Name: "app", Database: db}, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Changes) != 2 {
			t.Fatalf("planned: %v", p.Changes)
		}
		shell(t, meanwhile, dir)
		if done, err := p.Apply(record, now); err != nil || len(done) != 1 || done[0].Path != db {
			t.Errorf("%s: %v %v", name, done, err)
		}
		if done, err := Undo(record, now); err != nil || len(done) != 1 {
			t.Errorf("%s: taken back: %v %v", name, done, err)
		}
	}
}

// TestSwapped: somebody who may write to the folder puts links to a decoy in the
// place of the database while it is hardened. The decoy is never touched.
func TestSwapped(t *testing.T) {
	t.Parallel()
	dir, db := place(t)
	decoy := filepath.Join(dir, "decoy")
	shell(t, `cd "$1"; cp app/app.db decoy; chmod 644 decoy; cp app/app.db keep; chmod 666 keep app/app.db`, dir)
	rounds := 1000
	r := rand.New(rand.NewPCG(1, 2))
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			next := filepath.Join(dir, "next")
			os.Remove(next)
			switch n % 3 {
			case 0:
				os.Symlink(decoy, next) //nolint:errcheck // the next round tries again
			case 1:
				os.Link(decoy, next) //nolint:errcheck // see above
			case 2:
				data, _ := os.ReadFile(filepath.Join(dir, "keep"))
				os.WriteFile(next, data, 0o600) //nolint:errcheck // see above
				os.Chmod(next, 0o666)           //nolint:errcheck,gosec // see above
			}
			os.Rename(next, db) //nolint:errcheck // see above
		}
	})
	changed, refused := 0, 0
	for range rounds {
		p, err := Look(Subject{Name: "app", Database: db}, now)
		if err != nil {
			continue
		}
		// What a look saw of the decoy, through a link, is as good a target.
		done, err := p.Apply(filepath.Join(dir, "record"), now)
		changed += len(done)
		if err != nil {
			refused++
		}
		if st, err := os.Stat(decoy); err != nil || st.Mode().Perm() != 0o644 {
			t.Fatalf("the decoy was changed: %v %v", st.Mode(), err)
		}
		time.Sleep(time.Duration(r.IntN(50)) * time.Microsecond)
	}
	close(stop)
	group.Wait()
	t.Logf("%d changes made, %d refused", changed, refused)
}
