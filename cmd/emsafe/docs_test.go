package main

import (
	"bytes"
	"fmt"
	"go/build"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"emsafe/internal/fault"
)

// reader is somebody who follows a document: a machine of his own, whose root
// is a temporary folder.
type reader struct {
	*host
	port string
	env  []string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.conf = h.path("etc/emsafe/emsafe.yaml")
	h.asShipped()
	for _, dir := range []string{"bin", "srv/app", "mnt/backup", "media/usb", "etc", "tmp"} {
		if err := os.MkdirAll(h.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if h.binary == "" {
		h.binary, _ = os.Executable()
	}
	// The documents leave the state's place to the default, which all tests
	// would share; and who gives --allowed-signers has no configuration.
	h.write("bin/emsafe", fmt.Sprintf(`#!/bin/sh
case "$*" in
init*) set -- "$@" --state '%s' ;;
*--allowed-signers*) unset EMSAFE_CONFIG ;;
esac
exec '%s' "$@"
`, h.path("var"), h.binary))
	h.write("bin/systemctl", "#!/bin/sh\n") // nothing to stop: the database is idle
	if out := sqlite3(h.path("srv/app/app.db"), `PRAGMA page_size=1024; CREATE TABLE t (v BLOB);
		INSERT INTO t SELECT randomblob(2000) FROM generate_series(1, 100);`); out != "" {
		t.Fatalf("sqlite3: %s", out)
	}
	path := []string{h.path("bin"), os.Getenv("PATH"), os.Getenv("GOBIN")}
	for _, dir := range filepath.SplitList(build.Default.GOPATH) {
		path = append(path, filepath.Join(dir, "bin"))
	}
	return &reader{host: h, port: freePort(t), env: append(os.Environ(), testAs+"=emsafe", "GORACE=atexit_sleep_ms=0", "EMSAFE_CONFIG="+h.conf,
		"HOME="+h.dir, "PATH="+strings.Join(path, string(filepath.ListSeparator)))}
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o700); err != nil {
		h.t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// blocks are the fenced blocks of a document whose opening line is exactly
// ``` and info.
func blocks(t testing.TB, file, info string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^```" + info + "\n(.*?)^```$")
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	if len(found) == 0 {
		t.Fatalf("%s has no ```%s block", file, info)
	}
	return found
}

// do runs commands as one script in the reader's own root, and returns what
// they print. Servers that it started end with the test.
func (r *reader) do(script string, env ...string) (string, error) {
	r.t.Helper()
	log, err := os.Create(r.path("log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	own := strings.NewReplacer("/srv/", r.path("srv")+"/", "/mnt/backup", r.path("mnt/backup"), "/media/usb", r.path("media/usb"),
		"/tmp/", r.path("tmp")+"/", "/etc/emsafe", r.path("etc/emsafe"), "127.0.0.1:7070", r.port)
	cmd := exec.Command("sh", "-eux", "-c", own.Replace(script))
	cmd.Dir, cmd.Env = r.path("tmp"), append(r.env, env...)
	cmd.Stdout, cmd.Stderr = log, log // a file: a server that stays does not hold Wait
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) //nolint:errcheck // mostly nobody is left
	err = cmd.Wait()
	out, _ := os.ReadFile(r.path("log"))
	return string(out), err
}

// follow runs all commands of a document, which must leave these files with
// the content of the database.
func (r *reader) follow(document string, leaves ...string) (out string) {
	r.t.Helper()
	want := r.content(r.path("srv/app/app.db"))
	out, err := r.do(strings.Join(blocks(r.t, document, "sh"), "\n"))
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", document, err, out)
	}
	for _, file := range append(leaves, "srv/app/app.db") {
		if got := r.content(r.path(file)); got != want || !strings.Contains(got, "\nok\n") {
			r.t.Errorf("%s: %s is %s, want %s", document, file, got, want)
		}
	}
	return out
}

func TestReadme(t *testing.T) {
	t.Parallel()
	newReader(t).follow("README.md", "tmp/app.db")
}

func TestQuickstart(t *testing.T) {
	t.Parallel()
	out := newReader(t).follow("docs/quickstart.md", "tmp/restored.db", "tmp/elsewhere.db", "tmp/from-s3.db", "tmp/from-s3-elsewhere.db")
	if strings.Count(out, "freshness is unproven") != 2 {
		t.Errorf("two restores were to know nothing of this host:\n%s", out)
	}
}

func TestKeysDocument(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.must("init", "--scan", r.path("srv"), "--target", "file://"+r.path("mnt/backup"), "--recovery-key-out", r.path("media/usb/recovery.key"), "--state", r.path("var"))
	r.must("backup")
	r.follow("docs/keys.md", "tmp/found.db")
	if out := r.must("list", "app"); strings.Count(out, "\n") != 5 {
		t.Errorf("three backups, by two keys: %s", out)
	}
	r.fails(fault.Forged, "is not in allowed_signers", "list", "app", "--allowed-signers", r.path("tmp/allowed_signers")) // the old key alone
}

// The escape hatch: what docs/format.md says under "By hand" restores a backup
// without emsafe, and refuses one that is not as it was signed.
func TestByHand(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	// More than one part, and more than one group of pages in the digest.
	if out := sqlite3(r.path("srv/app/app.db"), "INSERT INTO t SELECT randomblob(10000) FROM generate_series(1, 900);"); out != "" {
		t.Fatalf("sqlite3: %s", out)
	}
	r.must("init", "--scan", r.path("srv"), "--target", "file://"+r.path("mnt/backup"), "--recovery-key-out", r.path("media/usb/recovery.key"), "--state", r.path("var"))
	conf := text(t, r.path("etc/emsafe/emsafe.yaml"))
	r.write("etc/emsafe/emsafe.yaml", strings.Replace(conf, "srv/app/app.db", "srv/app/app.db\n    full_share: 100%", 1))
	r.must("backup")
	full, _ := os.ReadFile(r.path("srv/app/app.db"))
	// Two deltas, of which one grows and one shrinks the database, and a
	// heartbeat.
	sqlite3(r.path("srv/app/app.db"), "UPDATE t SET v = 'changed' WHERE rowid = 3; INSERT INTO t SELECT randomblob(10000) FROM generate_series(1, 30);")
	r.must("backup")
	sqlite3(r.path("srv/app/app.db"), "DELETE FROM t WHERE rowid > 850; VACUUM;")
	r.must("backup")
	r.must("backup")
	// No emsafe from here on.
	if err := os.RemoveAll(r.path("bin")); err != nil {
		t.Fatal(err)
	}
	r.write("tmp/digest.py", blocks(t, "docs/format.md", "python")[0])
	script := strings.Join(blocks(t, "docs/format.md", "sh by-hand"), "\n")
	if strings.Contains(script, "emsafe ") {
		t.Errorf("this is not by hand:\n%s", script)
	}
	env := []string{"TARGET=" + r.path("mnt/backup"), "KEY=" + r.path("media/usb/recovery.key"), "SIGNERS=" + r.path("etc/emsafe/allowed_signers")}
	out, err := r.do(script, env...)
	if err != nil || !strings.Contains(out, "\nok\n") || !strings.Contains(out, "Good \"emsafe-manifest\" signature") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := text(t, r.path("tmp/emsafe.yaml")), text(t, r.path("etc/emsafe/emsafe.yaml")); got != want {
		t.Errorf("%s\nis not\n%s", got, want)
	}
	r.write("tmp/signed.py", blocks(t, "docs/format.md", "python")[1])
	r.write("tmp/restore.py", blocks(t, "docs/format.md", "python")[2])
	newest, _ := os.ReadFile(r.path("srv/app/app.db"))
	if n := strings.Count(strings.Join(r.manifests(), ""), `"kind": "delta"`); n != 2 {
		t.Errorf("%d deltas were made", n)
	}
	if n := strings.Count(text(t, r.path("tmp/restore.py")), "\n"); n > 60 {
		t.Errorf("the reference decoder has %d lines", n)
	}
	if out, err := r.do(strings.Join(blocks(t, "docs/format.md", "sh by-hand-all"), "\n"), env...); err != nil || !strings.Contains(out, "\nok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(r.path("tmp/app.db")); err != nil || !bytes.Equal(got, newest) {
		t.Errorf("the file restored from deltas is not the database: %v, %d bytes, want %d", err, len(got), len(newest))
	}
	if out, err := r.do(script, env...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := full
	if got, err := os.ReadFile(r.path("tmp/app.db")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the restored file is not the database: %v, %d bytes, want %d", err, len(got), len(want))
	}
	if n := strings.Count(text(t, r.path("tmp/parts.signed")), "\n"); n < 2 {
		t.Errorf("%d parts; the test wants more than one", n)
	}

	for _, damage := range []struct{ name, file, step string }{
		{"manifest", "mnt/backup/databases/app/manifests/00000000000000000001", "ssh-keygen -Y verify"},
		{"payload", "mnt/backup/" + strings.TrimSpace(text(t, r.path("tmp/payload.key"))), "cmp parts.signed parts.found"},
		{"page", "tmp/app.db", "test "},
	} {
		file := r.path(damage.file)
		good := text(t, file)
		flipped := []byte(good)
		flipped[100] ^= 1
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		r.write(damage.file, string(flipped))
		run := script
		if damage.name == "page" {
			// A page that changed after all other checks.
			run = script[strings.Index(script, "python3 -c 'import json; c = "):]
		}
		out, err := r.do(run, env...)
		last := out[strings.LastIndex(out, "\n+ ")+1:]
		if err == nil || !strings.HasPrefix(last, "+ "+damage.step) {
			t.Fatalf("one bit of the %s flipped: %v, and the last step is %q, want %q", damage.name, err, last, damage.step)
		}
		r.write(damage.file, good)
	}
}

// manifests are the texts of all manifests of the database app.
func (r *reader) manifests() (texts []string) {
	files, _ := filepath.Glob(r.path("mnt/backup/databases/app/manifests/*"))
	for _, f := range files {
		texts = append(texts, text(r.t, f))
	}
	return texts
}

func text(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestOperate: the configuration of docs/operate.md is one, and its commands do
// what it says.
func TestOperate(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.must("init", "--scan", r.path("srv"), "--target", "file://"+r.path("mnt/backup"), "--recovery-key-out", r.path("media/usb/recovery.key"), "--state", r.path("var"))
	head, _, ok := strings.Cut(text(t, r.conf), "\n# The SQLite databases")
	if !ok {
		t.Fatal(text(t, r.conf))
	}
	settings := strings.ReplaceAll(blocks(t, "docs/operate.md", "yaml")[0], "/srv/", r.path("srv")+"/")
	if err := os.WriteFile(r.conf, []byte(head+"\n"+settings), 0o600); err != nil {
		t.Fatal(err)
	}
	out := r.follow("docs/operate.md")
	for _, want := range []string{"verify app", "every 15m", "no daemon is running", "nothing to remove"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if !strings.Contains(text(t, r.path("tmp/emsafe.prom")), "emsafe_target_recovery_point_timestamp_seconds") {
		t.Error("no metrics were written")
	}
}
