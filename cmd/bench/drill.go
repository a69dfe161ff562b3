package main

import "context"

// drill compares proving a backup: a drill with all its checks, against what
// others do to know that theirs restores.
func (b *bench) drill(ctx context.Context) ([]section, error) {
	l, err := b.lab(ctx, plan{name: "drill", mib: b.mib})
	if err != nil {
		return nil, err
	}
	defer l.close()
	shell := l.shellBackup()
	if err := l.do(ctx, `"$EMSAFE" --config "$CFG" backup -q`+"\n"+shell.before+shell.script+"\n"+`rm -f "$DIR/copy.db"`); err != nil {
		return nil, err
	}
	contenders := []contender{
		{name: "emsafe drill run (signature, digest, fsync, integrity_check, foreign keys, rows, signed report)",
			script: `exec "$EMSAFE" --config "$CFG" drill run app --select latest --identity "$DIR/key" -q >/dev/null`},
		{name: "download, age -d, zstd -d, then sqlite3 'PRAGMA integrity_check'", base: true, before: `rm -f "$DIR/out.db"`,
			script: `$CURL "$S3/$NAME-shell/copy.age" | age -d -i "$DIR/key" | zstd -q -d > "$DIR/out.db"
test "$(sqlite3 "$DIR/out.db" 'PRAGMA integrity_check')" = ok`},
	}
	text := ""
	if program, err := findLitestream(); err == nil {
		l.env = append(l.env, "LITESTREAM="+program)
		if err := l.do(ctx, `cp --reflink=auto "$SAMPLE" "$DIR/lite.db"; "$LITESTREAM" replicate -once -log-level error "$DIR/lite.db" "file://$DIR/litestream"`); err != nil {
			return nil, err
		}
		contenders = append(contenders, contender{name: "litestream restore -integrity-check full (not encrypted, from a folder)", before: `rm -f "$DIR/out.db"*`,
			script: `exec "$LITESTREAM" restore -integrity-check full -o "$DIR/out.db" "file://$DIR/litestream"`})
	} else {
		text = "\nlitestream is not installed (`go install github.com/benbjohnson/litestream/cmd/litestream@v0.5.18`).\n"
	}
	results, err := l.measure(ctx, contenders, nil)
	if err != nil {
		return nil, err
	}
	bars := []bar{atMost("wall time of the pipeline's with integrity_check", "", 1, ratio(median(results[0], wallOf), median(results[1], wallOf)))}
	if len(results) > 2 {
		bars = append(bars, atMost("wall time of litestream's", "", 1, ratio(median(results[0], wallOf), median(results[2], wallOf))))
	}
	return []section{{title: "Time to a verified restore", text: table(contenders, results) + text, bars: bars}}, nil
}
