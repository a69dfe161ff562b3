package main

import "context"

// first compares first backups, and their restores.
func (b *bench) first(ctx context.Context) ([]section, error) {
	l, err := b.lab(ctx, plan{name: "first", mib: b.mib, restic: true})
	if err != nil {
		return nil, err
	}
	defer l.close()
	full := l.emsafeBackup("emsafe backup --full", "--full")
	backups := []contender{full, l.shellBackup(), l.resticFirst()}
	results, err := l.measure(ctx, backups, nil)
	if err != nil {
		return nil, err
	}
	if err := expect(results[0], "full"); err != nil {
		return nil, err
	}
	text := table(backups, results)
	bars := []bar{
		atMost("wall time of the pipeline's", "", 0.6, ratio(median(results[0], wallOf), median(results[1], wallOf))),
		atMost("bytes of the pipeline's", "", 1.1, ratio(median(results[0], bytesOf), median(results[1], bytesOf))),
		atMost("peak memory", " MiB", 128, float64(median(results[0], rssOf))/1024),
	}
	restores := []contender{l.emsafeRestore("none"), l.emsafeRestore("quick"), l.shellRestore(), l.resticRestore()}
	restored, err := l.measure(ctx, restores, nil)
	if err != nil {
		return nil, err
	}
	return []section{
		{title: "First backup", text: text, bars: bars},
		{title: "Restore", text: table(restores, restored), bars: []bar{
			atMost("wall time of the pipeline's, with signature, digest and fsync", "", 1, ratio(median(restored[0], wallOf), median(restored[2], wallOf))),
		}},
	}, nil
}

func (l *lab) emsafeBackup(name, flags string) contender {
	return contender{name: name, folder: l.bucket("emsafe"), script: `exec "$EMSAFE" --config "$CFG" backup --json ` + flags}
}

func (l *lab) shellBackup() contender {
	return contender{name: ".backup | zstd -3 -T0 | age | upload", folder: l.bucket("shell"), replaces: true, base: true,
		before: `rm -f "$DIR/copy.db" "$DIR/copy.age"`, script: `
sqlite3 "$DB" ".backup '$DIR/copy.db'"
zstd -q -3 -T0 -c "$DIR/copy.db" | age -R "$DIR/recipient" > "$DIR/copy.age"
$CURL -T "$DIR/copy.age" "$S3/$NAME-shell/copy.age"`}
}

const resticScript = `sqlite3 "$DB" ".backup '$DIR/copy.db'"; restic backup -q "$DIR/copy.db"`

// resticFirst has a repository of its own each time: the first backup is what
// is compared.
func (l *lab) resticFirst() contender {
	return contender{name: ".backup, restic backup", folder: l.bucket("restic"), replaces: true,
		before: `rm -f "$DIR/copy.db"; rm -rf "$DIR/restic-cache" "$DATA/$NAME-restic"/*; restic init -q`, script: resticScript}
}

func (l *lab) resticBackup() contender {
	return contender{name: ".backup, restic backup", folder: l.bucket("restic"), before: `rm -f "$DIR/copy.db"`, script: resticScript}
}

func (l *lab) emsafeRestore(check string) contender {
	name := "emsafe restore (signature, digest, fsync"
	if check != "none" {
		name += ", " + check + "_check"
	}
	return contender{name: name + ")", before: `rm -f "$DIR/out.db"`,
		script: `exec "$EMSAFE" --config "$CFG" restore app --to "$DIR/out.db" --identity "$DIR/key" -q --check ` + check}
}

func (l *lab) shellRestore() contender {
	return contender{name: "download | age -d | zstd -d", before: `rm -f "$DIR/out.db"`, base: true,
		script: `$CURL "$S3/$NAME-shell/copy.age" | age -d -i "$DIR/key" | zstd -q -d > "$DIR/out.db"`}
}

func (l *lab) resticRestore() contender {
	return contender{name: "restic restore", before: `rm -rf "$DIR/out"`, script: `restic restore latest -q --target "$DIR/out"`}
}
