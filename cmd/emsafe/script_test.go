package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"emsafe/storage/sqlite"
)

// The scripts in testdata/script are the command line as its users meet it, a
// topic a file. Beside testscript's own commands they use:
//
//	exits N [unprivileged] PROGRAM ARG...   run, and the exit code is exactly N
//	dialog FILE N PROGRAM ARG...            the same on a terminal, answering as FILE says
//	json FILE PATH [PATTERN | -> VARIABLE]  look into a JSON document
//	edit FILE PATTERN REPLACEMENT           change a text; the pattern must be there
//	damage FILE...                          flip one bit in the middle of each
//	hold NAME DATABASE SQL...               another process has the database open
//	hold NAME                               and now it does not any more
//	opened DATABASE                         wait until an emsafe has it open
//	disk FOLDER SIZE                        a small disk
//
// The conditions [disks] and [holders] tell whether a system can do the latter.
//
// $WORK/etc/emsafe.yaml is the configuration unless a script says otherwise.
func TestScript(t *testing.T) {
	t.Parallel()
	h := &host{t: t}
	h.asShipped()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			if h.binary != "" {
				env.Setenv("PATH", filepath.Dir(h.binary)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			}
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("LC_ALL", "C.UTF-8")
			env.Setenv("EMSAFE_CONFIG", filepath.Join(env.WorkDir, "etc", "emsafe.yaml"))
			env.Values["holders"] = holders{}
			return errors.Join(os.WriteFile(filepath.Join(env.WorkDir, ".tmp", "dialog.py"), []byte(dialogue), 0o600),
				os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700))
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "disks":
				return disks(), nil
			case "holders":
				return runtime.GOOS == "linux", nil
			}
			return false, fmt.Errorf("there is no condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "dialog": scriptDialog, "json": scriptJSON, "edit": scriptEdit,
			"damage": scriptDamage, "hold": scriptHold, "opened": scriptOpened, "disk": scriptDisk,
		},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N [unprivileged] PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	command := args[1:]
	if command[0] == "unprivileged" {
		command = unprivileged(ts, command[1:])
	}
	err = ts.Exec(command[0], command[1:]...)
	code := 0
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// nobody is the user that unprivileged commands run as, if the tests are root.
const nobody = 65534

// unprivileged gives the working folder away and runs the command as its
// owner. Who is not root is unprivileged already.
func unprivileged(ts *testscript.TestScript, command []string) []string {
	if os.Getuid() != 0 {
		return command
	}
	work := ts.Getenv("WORK")
	ts.Check(filepath.WalkDir(work, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	}))
	program, err := exec.LookPath(command[0])
	if command[0] == "emsafe" {
		program, err = exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(filepath.ListSeparator))[0], "emsafe"))
	}
	ts.Check(err)
	// The way to program and folder leads through folders of root alone.
	for _, path := range []string{program, work} {
		for dir := filepath.Dir(path); dir != filepath.Dir(dir) && dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
			st, err := os.Stat(dir)
			ts.Check(err)
			if st.Mode()&0o001 == 0 {
				ts.Check(os.Chmod(dir, st.Mode().Perm()|0o011))
			}
		}
	}
	return append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", program}, command[1:]...)
}

// dialogue runs a program on a terminal of its own. Lines of the script are
// "expect PATTERN", which waits for output, "type TEXT", which answers, and
// "secret TEXT", which answers when the terminal shows nothing of it. $1 in an
// answer is what the last pattern with brackets had in them.
const dialogue = `
import os, pty, re, select, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
text, at, kept, over = "", 0, "", False
def more():
    global text, over
    if not select.select([fd], [], [], 60)[0]:
        over = True
        return
    try:
        data = os.read(fd, 65536)
    except OSError:
        data = b""
    over = over or not data
    text += data.decode(errors="replace").replace("\r\n", "\n")
for line in open(sys.argv[1]).read().splitlines():
    what, _, rest = line.partition(" ")
    if what == "expect":
        while not (found := re.search(rest, text[at:])) and not over:
            more()
        if not found:
            sys.exit("%s\nnever came: %s" % (text, rest))
        at += found.end()
        kept = found.group(1) if found.re.groups else kept
    elif what in ("type", "secret"):
        while what == "secret" and termios.tcgetattr(fd)[3] & termios.ECHO:
            time.sleep(0.001)
        os.write(fd, rest.replace("$1", kept).encode() + b"\n")
    elif what:
        sys.exit("not a step: " + what)
while not over:
    more()
print(text, end="")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

func scriptDialog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: dialog FILE N PROGRAM ARG...")
	}
	driver := filepath.Join(ts.Getenv("WORK"), ".tmp", "dialog.py")
	scriptExits(ts, false, append([]string{args[1], "python3", driver, ts.MkAbs(args[0])}, args[2:]...))
}

// scriptJSON walks a document by names and indexes with dots between; len is
// how many there are.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 4 {
		ts.Fatalf("usage: json FILE PATH [PATTERN | -> VARIABLE]")
	}
	text := ts.ReadFile(args[0])
	var at any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	ts.Check(d.Decode(&at))
	if d.More() {
		ts.Fatalf("%s holds more than one document", args[0])
	}
	for step := range strings.SplitSeq(args[1], ".") {
		switch in := at.(type) {
		case map[string]any:
			value, ok := in[step]
			if !ok {
				ts.Fatalf("%s: there is no %q in %v", args[1], step, in)
			}
			at = value
		case []any:
			if step == "len" {
				at = len(in)
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(in) {
				ts.Fatalf("%s: there is no %s in a list of %d", args[1], step, len(in))
			}
			at = in[i]
		default:
			ts.Fatalf("%s: %q is in nothing", args[1], step)
		}
	}
	got := fmt.Sprint(at)
	switch {
	case len(args) == 4 && args[2] == "->":
		ts.Setenv(args[3], got)
	case len(args) == 3 && !regexp.MustCompile(args[2]).MatchString(got):
		ts.Fatalf("%s is %q, which does not match %s", args[1], got, args[2])
	}
}

func scriptEdit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE PATTERN REPLACEMENT")
	}
	file, text := ts.MkAbs(args[0]), ts.ReadFile(args[0])
	changed := regexp.MustCompile(`(?m)`+args[1]).ReplaceAllLiteralString(text, strings.ReplaceAll(args[2], `\n`, "\n"))
	if changed == text {
		ts.Fatalf("%s: nothing was changed", args[0])
	}
	ts.Check(os.WriteFile(file, []byte(changed), 0o600))
}

func scriptDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: damage FILE...")
	}
	for _, pattern := range args {
		files, err := filepath.Glob(ts.MkAbs(pattern))
		if err != nil || len(files) == 0 {
			ts.Fatalf("no file is %s", pattern)
		}
		for _, file := range files {
			ts.Check(flipBit(file))
		}
	}
}

// holders are the processes of hold by name; each stops when it is called.
type holders map[string]func()

func scriptHold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: hold NAME [DATABASE SQL...]")
	}
	all, name := ts.Value("holders").(holders), args[0]
	if len(args) == 1 {
		if all[name] == nil {
			ts.Fatalf("nobody is called %s", name)
		}
		all[name]()
		return
	}
	cmd := exec.Command("sqlite3", "-batch", "-bail", ts.MkAbs(args[1]))
	in, err := cmd.StdinPipe()
	ts.Check(err)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	cmd.Stderr = os.Stderr
	ts.Check(cmd.Start())
	all[name] = sync.OnceFunc(func() {
		in.Close()
		io.Copy(io.Discard, out) //nolint:errcheck // ends with the process
		cmd.Wait()               //nolint:errcheck // it was told to end
	})
	ts.Defer(all[name])
	_, err = fmt.Fprintf(in, "%s\n.print holds\n", strings.Join(args[2:], "\n"))
	ts.Check(err)
	for s := bufio.NewScanner(out); s.Scan(); {
		if s.Text() == "holds" {
			return
		}
	}
	ts.Fatalf("sqlite3 did not get hold of %s", args[1])
}

func scriptOpened(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: opened DATABASE")
	}
	for {
		found, _, err := sqlite.Holders(ts.MkAbs(args[0]))
		ts.Check(err)
		if slices.ContainsFunc(found, func(h sqlite.Process) bool { return h.Name == "emsafe" }) {
			return
		}
		time.Sleep(time.Millisecond) // Linux tells nobody that a file was opened by whom
	}
}

// disks reports whether small disks can be had here.
var disks = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "emsafe-disk-")
	if err != nil || runtime.GOOS != "linux" || os.Getuid() != 0 {
		return false
	}
	defer os.Remove(dir)
	if exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", dir).Run() != nil {
		return false
	}
	return exec.Command("umount", dir).Run() == nil
})

func scriptDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: disk FOLDER SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(exec.Command("mount", "-t", "tmpfs", "-o", "mode=700,size="+args[1], "tmpfs", dir).Run())
	ts.Defer(func() { exec.Command("umount", "-l", dir).Run() }) //nolint:errcheck // goes with the folder
}
