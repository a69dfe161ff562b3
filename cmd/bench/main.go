// Command bench measures emsafe beside what a user would pick instead, in one
// run on one machine: the shell pipeline (sqlite3 .backup, zstd, age, upload)
// and restic on a .backup copy. The database is realistic, the storage a real
// S3 server on loopback, and every figure a median with its ratio; absolute
// times belong to the machine. `make bench` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"emsafe/internal/sample"
	"emsafe/storage/storagetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{}
	flag.StringVar(&b.emsafe, "emsafe", "bin/emsafe", "emsafe binary")
	flag.IntVar(&b.runs, "runs", 3, "runs of each, in turn; the median counts")
	flag.Int64Var(&b.mib, "size", 512, "size of the database in MiB")
	flag.StringVar(&b.cache, "cache", ".cache/bench", "folder where the made database is kept")
	flag.Parse()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	emsafe, cache string
	runs          int
	mib           int64

	db, dir string // source, scratch
	server  *storagetest.Server
	env     []string
}

func (b *bench) run(ctx context.Context) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer b.server.Close()
	backups := []contender{b.emsafeBackup(), b.shellBackup(), b.resticBackup()}
	restores := []contender{b.emsafeRestore("none"), b.emsafeRestore("quick"), b.shellRestore(), b.resticRestore()}
	fmt.Printf("database: %d MiB, WAL mode, text rows and indexes; storage: versitygw on loopback; %d runs each, medians\n\n", b.mib, b.runs)
	for _, part := range []struct {
		title      string
		contenders []contender
	}{{"First backup", backups}, {"Restore", restores}} {
		results, err := b.measure(ctx, part.contenders)
		if err != nil {
			return err
		}
		report(part.title, part.contenders, results)
	}
	return nil
}

// prepare makes the database once, a server, keys and configurations.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.emsafe, err = filepath.Abs(b.emsafe); err != nil {
		return err
	}
	if err := os.MkdirAll(b.cache, 0o700); err != nil {
		return err
	}
	if b.db, err = filepath.Abs(filepath.Join(b.cache, fmt.Sprintf("app-%d.db", b.mib))); err != nil {
		return err
	}
	if _, err := os.Stat(b.db); err != nil {
		fmt.Fprintf(os.Stderr, "making a database of %d MiB (kept in %s)\n", b.mib, b.cache)
		if err := sample.Make(ctx, b.db+".new", b.mib<<20); err != nil {
			return err
		}
		if err := os.Rename(b.db+".new", b.db); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp(b.cache, "run-"); err != nil {
		return err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	if b.server, err = storagetest.StartVersityGW(filepath.Join(b.dir, "s3")); err != nil {
		return err
	}
	for _, name := range []string{"emsafe", "shell", "restic"} {
		if err := b.server.MakeBucket(name); err != nil {
			return err
		}
	}
	b.env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+b.server.Access, "AWS_SECRET_ACCESS_KEY="+b.server.Secret, "AWS_DEFAULT_REGION=us-east-1",
		"RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=s3:"+b.server.Endpoint+"/restic", "RESTIC_CACHE_DIR="+filepath.Join(b.dir, "restic-cache"))
	return b.keys(ctx)
}

func (b *bench) keys(ctx context.Context) error {
	for _, script := range []string{
		`"$EMSAFE" --config "$DIR/etc/emsafe.yaml" init --database app="$DB" --target s3://emsafe/bench --endpoint "$S3" --path-style --recovery-key-out "$DIR/key" --state "$DIR/state" >/dev/null`,
		`age-keygen -y "$DIR/key" > "$DIR/recipient"`,
		`restic init -q`,
	} {
		if out, err := b.shell(ctx, script).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", script, err, out)
		}
	}
	return nil
}

// shell runs a script with the names that all scripts share.
func (b *bench) shell(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-euc", script)
	cmd.Env = append(b.env, "EMSAFE="+b.emsafe, "DIR="+b.dir, "DB="+b.db, "S3="+b.server.Endpoint,
		`CURL=curl -sSf --aws-sigv4 aws:amz:us-east-1:s3 --user `+b.server.Access+":"+b.server.Secret+` -H x-amz-content-sha256:UNSIGNED-PAYLOAD`)
	return cmd
}

// contender is one way to do the job.
type contender struct {
	name   string
	before string // not measured
	script string
	bucket string // whose growth is measured; "" for none
}

func (b *bench) emsafeBackup() contender {
	return contender{name: "emsafe backup", bucket: "emsafe", script: `exec "$EMSAFE" --config "$DIR/etc/emsafe.yaml" backup -q`}
}

func (b *bench) shellBackup() contender {
	return contender{name: ".backup | zstd -3 -T0 | age | upload", bucket: "shell", before: `rm -f "$DIR/copy.db" "$DIR/copy.age"`, script: `
sqlite3 "$DB" ".backup '$DIR/copy.db'"
zstd -q -3 -T0 -c "$DIR/copy.db" | age -R "$DIR/recipient" > "$DIR/copy.age"
$CURL -T "$DIR/copy.age" "$S3/shell/copy.age"`}
}

func (b *bench) resticBackup() contender {
	// A repository of its own each time: the first backup is what is compared.
	return contender{name: ".backup, restic backup", bucket: "restic",
		before: `rm -f "$DIR/copy.db"; rm -rf "$DIR/restic-cache" "$DIR"/s3/data/restic/*; restic init -q`,
		script: `sqlite3 "$DB" ".backup '$DIR/copy.db'"; restic backup -q "$DIR/copy.db"`}
}

func (b *bench) emsafeRestore(check string) contender {
	name := "emsafe restore (signature, digest, fsync"
	if check != "none" {
		name += ", " + check + "_check"
	}
	return contender{name: name + ")", before: `rm -f "$DIR/out.db"`,
		script: `exec "$EMSAFE" --config "$DIR/etc/emsafe.yaml" restore app --to "$DIR/out.db" --identity "$DIR/key" -q --check ` + check}
}

func (b *bench) shellRestore() contender {
	return contender{name: "download | age -d | zstd -d", before: `rm -f "$DIR/out.db"`,
		script: `$CURL "$S3/shell/copy.age" | age -d -i "$DIR/key" | zstd -q -d > "$DIR/out.db"`}
}

func (b *bench) resticRestore() contender {
	return contender{name: "restic restore", before: `rm -rf "$DIR/out"`, script: `restic restore latest -q --target "$DIR/out"`}
}

// bytes is how much a bucket holds on disk.
func (b *bench) bytes(bucket string) (n int64) {
	filepath.WalkDir(filepath.Join(b.server.Folder, bucket), func(_ string, d os.DirEntry, err error) error { //nolint:errcheck // what is gone counts nothing
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}
