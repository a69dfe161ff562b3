package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"emsafe/storage/storagetest"
)

// prepare makes scratch space and a server.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.emsafe, err = filepath.Abs(b.emsafe); err != nil {
		return err
	}
	if b.cache, err = filepath.Abs(b.cache); err != nil {
		return err
	}
	if err := os.MkdirAll(b.cache, 0o700); err != nil {
		return err
	}
	// An earlier run that was killed left its scratch space.
	old, _ := filepath.Glob(filepath.Join(b.cache, "run-*"))
	for _, dir := range old {
		var pid int
		fmt.Sscanf(filepath.Base(dir), "run-%d-", &pid) //nolint:errcheck // 0 then
		if pid == 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			os.RemoveAll(dir)
		}
	}
	if b.dir, err = os.MkdirTemp(b.cache, fmt.Sprintf("run-%d-", os.Getpid())); err != nil {
		return err
	}
	s3 := filepath.Join(b.dir, "s3")
	if err := os.Mkdir(s3, 0o700); err != nil {
		return err
	}
	b.server, err = storagetest.StartVersityGW(s3)
	return err
}

func (b *bench) close() {
	b.server.Close()
	os.RemoveAll(b.dir)
}

// database makes the database of a size once. A process of its own makes it:
// what this one ever used of memory would count as its children's peak, which
// the kernel takes over from whoever forks them.
func (b *bench) database(ctx context.Context, mib int64) (string, error) {
	db := filepath.Join(b.cache, fmt.Sprintf("app-%d.db", mib))
	if _, err := os.Stat(db); !errors.Is(err, fs.ErrNotExist) {
		return db, err
	}
	fmt.Fprintf(os.Stderr, "making a database of %d MiB (kept in %s)\n", mib, b.cache)
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, ext := range []string{"", "-wal", "-shm"} {
		os.Remove(db + ".new" + ext)
	}
	cmd := exec.CommandContext(ctx, self, "-make", db+".new", "-size", fmt.Sprint(mib))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make a database: %w\n%s", err, out)
	}
	return db, os.Rename(db+".new", db)
}

// lab is what one case works with: a database of its own, emsafe set up, and
// buckets NAME-emsafe, NAME-shell and NAME-restic.
type lab struct {
	*bench
	name, dir, db string
	mib           int64
	env           []string
	apps          []*application
}

type plan struct {
	name   string
	mib    int64
	s3     string   // endpoint; "" for the server's own
	folder bool     // a folder is the target
	keys   []string // of the database, in the configuration
	restic bool
}

const setUp = `
cp --reflink=auto "$SAMPLE" "$DB"
"$EMSAFE" --config "$CFG" init --database app="$DB" --target "$TARGET" $S3FLAGS --recovery-key-out "$DIR/key" --state "$DIR/state" >/dev/null
age-keygen -y "$DIR/key" > "$DIR/recipient"`

func (b *bench) lab(ctx context.Context, p plan) (*lab, error) {
	sample, err := b.database(ctx, p.mib)
	if err != nil {
		return nil, err
	}
	l := &lab{bench: b, name: p.name, mib: p.mib, dir: filepath.Join(b.dir, p.name)}
	l.db = filepath.Join(l.dir, "app.db")
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return nil, err
	}
	for _, who := range []string{"emsafe", "shell", "restic"} {
		if err := b.server.MakeBucket(p.name + "-" + who); err != nil {
			return nil, err
		}
	}
	s3 := b.server.Endpoint
	if p.s3 != "" {
		s3 = p.s3
	}
	target, flags := "s3://"+p.name+"-emsafe/bench", "--endpoint "+s3+" --path-style"
	if p.folder {
		target, flags = "file://"+l.dir+"/target", ""
	}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AWS_") && !strings.HasPrefix(e, "RESTIC_") { // a CA bundle is for real servers
			l.env = append(l.env, e)
		}
	}
	l.env = append(l.env, "AWS_ACCESS_KEY_ID="+b.server.Access, "AWS_SECRET_ACCESS_KEY="+b.server.Secret, "AWS_DEFAULT_REGION=us-east-1",
		"RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=s3:"+s3+"/"+p.name+"-restic", "RESTIC_CACHE_DIR="+filepath.Join(l.dir, "restic-cache"),
		"EMSAFE="+b.emsafe, "DIR="+l.dir, "DB="+l.db, "CFG="+filepath.Join(l.dir, "etc", "emsafe.yaml"), "S3="+s3, "NAME="+p.name,
		"DATA="+b.server.Folder, "TARGET="+target, "S3FLAGS="+flags, "SAMPLE="+sample,
		`CURL=curl -sSf --aws-sigv4 aws:amz:us-east-1:s3 --user `+b.server.Access+":"+b.server.Secret+` -H x-amz-content-sha256:UNSIGNED-PAYLOAD`)
	script := setUp
	for _, key := range p.keys { // init writes the database last
		script += "\nprintf '    %s\\n' '" + key + `' >> "$CFG"`
	}
	if p.restic {
		script += "\nrestic init -q"
	}
	if err := l.do(ctx, script); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// close ends what the lab started and frees its disk space.
func (l *lab) close() {
	for _, a := range l.apps {
		a.close()
	}
	os.RemoveAll(l.dir)
	for _, who := range []string{"emsafe", "shell", "restic"} {
		os.RemoveAll(filepath.Join(l.server.Folder, l.name+"-"+who))
	}
}

// shell is a script with the names that all scripts share.
func (l *lab) shell(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-euc", script)
	cmd.Env = l.env
	return cmd
}

func (l *lab) do(ctx context.Context, script string) error {
	if out, err := l.shell(ctx, script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.TrimSpace(script), err, out)
	}
	return nil
}

// bucket is where the server keeps a bucket of the lab.
func (l *lab) bucket(who string) string { return filepath.Join(l.server.Folder, l.name+"-"+who) }

// held is how many bytes a folder holds.
func held(folder string) (n int64) {
	filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error { //nolint:errcheck // what is gone counts nothing
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

//go:embed app.py
var appScript string

// application is a stock Python process that has the database open, so that
// nobody else is the last to close it, and changes it when told to.
type application struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

func (l *lab) application(ctx context.Context, db string) (*application, error) {
	a := &application{cmd: exec.CommandContext(ctx, "python3", "-c", appScript, db)}
	a.cmd.Stderr = &a.err
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.out = bufio.NewReader(out)
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	l.apps = append(l.apps, a)
	return a, a.tell("hello")
}

// tell gives an order and waits until it is carried out.
func (a *application) tell(format string, args ...any) error {
	order := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(a.in, order); err != nil {
		return fmt.Errorf("application: %s: %w", order, err)
	}
	if line, err := a.out.ReadString('\n'); err != nil || line != "ok\n" {
		a.close()
		return fmt.Errorf("application: %s: %q %w\n%s", order, line, err, a.err.Bytes())
	}
	return nil
}

func (a *application) close() {
	a.in.Close()
	a.cmd.Wait() //nolint:errcheck // its orders were answered one by one
}
