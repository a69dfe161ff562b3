package sqlite

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/sqlite/sqlitetest"
)

// writing is another process that has a database open and has committed 100
// rows to its -wal, or, with another journal mode, to the file. before runs
// first, in the same mount namespace, which is the process's own where apart.
func writing(t *testing.T, apart bool, before, db, mode string) {
	t.Helper()
	program := `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma journal_mode=" + sys.argv[2])
c.execute("pragma wal_autocheckpoint=0")
c.execute("create table if not exists t (v)")
for i in range(100): c.execute("insert into t values (?)", (i,))
print("ready", flush=True)
sys.stdin.read()
`
	argv := []string{"sh", "-ec", before + ` exec python3 -c "$2" "$0" "$1"`, db, mode, program}
	if apart {
		argv = append([]string{"unshare", "-m"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() }) //nolint:errcheck // it was only to hold the file open
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		io.Copy(io.Discard, out) //nolint:errcheck // it has ended
		cmd.Wait()               //nolint:errcheck // as above
		if apart && strings.Contains(said.String(), "ermi") {
			t.Skipf("no mounts can be made here: %s", said.String())
		}
		t.Fatalf("the writer did not start: %q %v %s", line, err, said.String())
	}
}

// fresh forgets which overlays there were.
func fresh() {
	looked.Lock()
	defer looked.Unlock()
	looked.at = time.Time{}
}

// TestOtherNames: the -wal of the application lies beside another name of the
// same file. That is refused, and the other name is named.
func TestOtherNames(t *testing.T) {
	root := os.Getuid() == 0
	for _, c := range []struct {
		name    string
		apart   bool // in a mount namespace of the writer's own
		prepare string
		want    string // beside the folder; "" if the snapshot is right
	}{
		{"a hard link", false, `ln x/a.db y/a.db;`, "x/a.db"},
		{"a mount of the file alone", true, `touch x/a.db; rm -f x/a.db; mv y/a.db y/real.db; ln -s real.db y/a.db; touch x/a.db; mount --bind y/real.db x/a.db;`, "x/a.db"},
		{"the same name in another namespace", true, `mkdir z; mv y/a.db z/a.db; touch y/a.db; mount --bind y y; mount --bind z/a.db y/a.db;`, "y/a.db"},
		{"a mount of the folder", true, `rmdir x; mkdir x; mount --bind y x;`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.apart && !root {
				t.Skip("only root can mount")
			}
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range []string{"x", "y"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "y/a.db")
			sqlitetest.Script(t, filepath.Join(dir, map[bool]string{true: "y", false: "x"}[c.apart], "a.db"), "PRAGMA journal_mode=wal; CREATE TABLE first (v);")
			switch c.name {
			case "the same name in another namespace":
				path = filepath.Join(dir, "z/a.db")
			}
			where := "cd '" + dir + "'; "
			if !c.apart {
				if out, err := exec.Command("sh", "-ec", where+c.prepare).CombinedOutput(); err != nil {
					t.Fatalf("%v %s", err, out)
				}
				where = ""
			}
			opened := filepath.Join(dir, "x/a.db")
			if c.name == "the same name in another namespace" {
				opened = filepath.Join(dir, "y/a.db")
			}
			writing(t, c.apart, map[bool]string{true: where + c.prepare + " cd /; ", false: ""}[c.apart], opened, "wal")
			fresh()
			image, _, err := take(t, path, Options{})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := sqlitetest.Script(t, file(t, image), "SELECT count(*) FROM t"); got != "100" {
					t.Errorf("%s of 100 rows", got)
				}
				return
			}
			if !errors.Is(err, fault.OtherName) || !strings.Contains(err.Error(), filepath.Join(dir, c.want)) || !strings.Contains(err.Error(), "python3") {
				t.Fatalf("%v", err)
			}
		})
	}
}

// TestLeftOverWALUnderAnotherName: nobody has the file open any more.
func TestLeftOverWALUnderAnotherName(t *testing.T) {
	dir := t.TempDir()
	sqlitetest.Script(t, dir+"/a.db", "PRAGMA journal_mode=wal; CREATE TABLE t (v);")
	out, err := exec.Command("sh", "-c", `cd "$0"; mkdir -p deep/er; ln a.db deep/er/b.db
python3 -c 'import sqlite3, os; c = sqlite3.connect("deep/er/b.db"); c.execute("insert into t values (1)"); c.commit(); os.kill(os.getpid(), 9)'
ls deep/er`, dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "b.db-wal") {
		t.Fatalf("%v %s", err, out)
	}
	fresh()
	_, _, err = take(t, dir+"/a.db", Options{})
	if !errors.Is(err, fault.OtherName) || !strings.Contains(err.Error(), "deep/er/b.db") {
		t.Errorf("%v", err)
	}
	// With the other name gone there is nothing to ask any more.
	if out, err := exec.Command("sh", "-c", `rm -r "$0"/deep`, dir).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	if _, how, err := take(t, dir+"/a.db", Options{}); err != nil || len(how.Unestablished) > 0 && os.Getuid() == 0 {
		t.Errorf("%v %q", err, how.Unestablished)
	}
	// A link whose other end is out of reach of the search.
	far := t.TempDir()
	if err := os.MkdirAll(far+"/1/2/3/4", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/a.db", far+"/1/2/3/4/a.db"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(far+"/1/2/3/4/a.db", far+"/a.db"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := take(t, far+"/1/2/3/4/a.db", Options{}); !errors.Is(err, fault.OtherName) || !strings.Contains(err.Error(), "not all of the others were found") {
		t.Errorf("%v", err)
	}
}

// TestOverlay: the application uses the merged folder, and the configured path
// is in one of those that it is made of.
func TestOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	for _, mode := range []string{"wal", "delete"} {
		dir := t.TempDir()
		upper := filepath.Join(dir, "upper/a.db")
		if err := os.MkdirAll(filepath.Dir(upper), 0o700); err != nil {
			t.Fatal(err)
		}
		prepare := `cd '` + dir + `'; mkdir lower work merged; mount -t overlay -o lowerdir=` + dir + `/lower,upperdir=` + dir + `/upper,workdir=` + dir + `/work none merged; `
		writing(t, true, prepare+"cd /; ", filepath.Join(dir, "merged/a.db"), mode)
		fresh()
		_, _, err := take(t, upper, Options{})
		if !errors.Is(err, fault.OtherName) || !strings.Contains(err.Error(), filepath.Join(dir, "merged/a.db")) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// TestIrregular: whoever may write to the folder puts something beside the
// database that would hold up whoever opens it.
func TestIrregular(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		for _, ext := range []string{"-wal", "-shm", "-journal", ""} {
			for _, how := range []string{`mkfifo "$0"`, `ln -s /dev/zero "$0"`, `mkfifo "$0.pipe"; ln -s "$0.pipe" "$0"`} {
				db := filepath.Join(t.TempDir(), "a.db")
				sqlitetest.Script(t, db, "PRAGMA journal_mode="+mode+"; CREATE TABLE t (v);")
				if out, err := exec.Command("sh", "-ec", `rm -f "$0"; `+how, db+ext).CombinedOutput(); err != nil {
					t.Fatalf("%s", out)
				}
				ended := make(chan error, 1)
				go func() {
					_, _, err := take(t, db, Options{})
					ended <- err
				}()
				select {
				case err := <-ended:
					if f := fault.Find(err); f == nil || f.Kind != fault.NotSQLite || !strings.Contains(err.Error(), "not a regular file") {
						t.Errorf("%s, %s: %s: %v", mode, ext, how, err)
					}
				case <-time.After(time.Minute):
					t.Fatalf("%s, %s: %s: it hangs", mode, ext, how)
				}
			}
		}
	}
}

// TestReplacedWhileOpen: a deploy put another file at the path, and the
// application goes on with the old one.
func TestReplacedWhileOpen(t *testing.T) {
	t.Parallel()
	for _, how := range []string{`mv app app.old; mkdir app; cp app.old/a.db app/a.db`, `cp app/a.db new; mv new app/a.db; rm -f app/a.db-*`} {
		for _, mode := range []string{"wal", "delete"} {
			dir := t.TempDir()
			db := filepath.Join(dir, "app/a.db")
			if err := os.Mkdir(filepath.Dir(db), 0o700); err != nil {
				t.Fatal(err)
			}
			writing(t, false, "", db, mode)
			_, before, err := take(t, db, Options{})
			if err != nil {
				t.Fatal(err)
			}
			mark := &Mark{Device: before.Device, Inode: before.Inode, PageSize: before.PageSize, Pages: before.Pages}
			if _, _, err := take(t, db, Options{Since: mark}); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("sh", "-ec", "cd '"+dir+"'; "+how).CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
			if _, _, err := take(t, db, Options{Since: mark}); !errors.Is(err, fault.Replaced) || !strings.Contains(err.Error(), "python3") {
				t.Errorf("%s, %s: %v", how, mode, err)
			}
		}
	}
}
