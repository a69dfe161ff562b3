package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

const (
	fileCount = 10_000
	fileBytes = 200 << 20 // of all
)

// files compares recovery points of files with plain restic, which does the
// work in both: what is measured is what emsafe adds.
func (b *bench) files(ctx context.Context) ([]section, error) {
	l, err := b.lab(ctx, plan{name: "files", mib: 8})
	if err != nil {
		return nil, err
	}
	defer l.close()
	if err := makeFiles(filepath.Join(l.dir, "files")); err != nil {
		return nil, err
	}
	if err := l.do(ctx, `printf 'filesets:\n  uploads: {paths: [%s]}\n' "$DIR/files" >> "$CFG"`); err != nil {
		return nil, err
	}
	ours := contender{name: "emsafe files backup", folder: l.bucket("emsafe"), script: `exec "$EMSAFE" --config "$CFG" files backup uploads -q`}
	plain := contender{name: "restic backup", folder: l.bucket("restic"), base: true, script: `exec restic backup -q "$DIR/files"`}

	// The first run makes the repository, in both.
	ourFirst, plainFirst := ours, plain
	ourFirst.replaces, plainFirst.replaces = true, true
	ourFirst.before = `rm -rf "$DIR/state/filesets" "$DATA/$NAME-emsafe/bench/filesets" "$DATA/$NAME-emsafe/bench/points" "$DATA/$NAME-emsafe/bench/passwords"`
	plainFirst.before = `rm -rf "$DIR/restic-cache" "$DATA/$NAME-restic"/*`
	plainFirst.script = `restic init -q; ` + plain.script
	first := []contender{ourFirst, plainFirst}
	results, err := l.measure(ctx, first, nil)
	if err != nil {
		return nil, err
	}
	again := []contender{ours, plain}
	unchanged, err := l.measure(ctx, again, nil)
	if err != nil {
		return nil, err
	}
	return []section{
		{title: "First run, with the repository made", text: table(first, results), bars: []bar{overhead(results)}},
		{title: "Unchanged", text: table(again, unchanged), bars: []bar{overhead(unchanged)}},
	}, nil
}

// overhead is what emsafe adds beyond the twentieth of restic's own time that it
// may.
func overhead(results [][]result) bar {
	ours, plain := median(results[0], wallOf), median(results[1], wallOf)
	return atMost("wall time beyond 1.05 of restic's", " s", 1, (ours - plain*105/100).Round(time.Millisecond).Seconds())
}

// makeFiles makes files as uploads are: of some kilobytes each, a hundred in a
// folder, and of content that does not compress.
func makeFiles(dir string) error {
	noise := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 2*fileBytes/fileCount)
	for i := range fileCount {
		folder := filepath.Join(dir, fmt.Sprintf("%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
		}
		size := fileBytes / fileCount * (50 + i%101) / 100 // half to one and a half, the mean in the middle
		noise.Read(data[:size])                            //nolint:errcheck // never fails
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%05d.jpg", i)), data[:size], 0o600); err != nil {
			return err
		}
	}
	return nil
}
