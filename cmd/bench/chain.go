package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"emsafe/backup"
)

// chain compares the restore of the longest way that the ladder allows, a full
// backup, a differential of 1 % and 60 incrementals, with that of the full one
// alone.
func (b *bench) chain(ctx context.Context) ([]section, error) {
	l, err := b.lab(ctx, plan{name: "chain", mib: b.mib, keys: []string{"full_share: 100%"}})
	if err != nil {
		return nil, err
	}
	defer l.close()
	app, err := l.application(ctx, l.db)
	if err != nil {
		return nil, err
	}
	c := changes{lab: l, app: app, rows: int(l.mib << 20 / pageSize / 100)}
	few := max(c.rows/13, 1) // an incremental: some 100 pages of 512 MiB
	var full, last taken
	for n := range 62 {
		switch n {
		case 0:
			err = c.tell("change %d %d", n, few)
		case 1:
			err = c.tell("change %d %d", n, c.rows)
		default:
			err = c.tell("change %d %d", n, few)
		}
		if err != nil {
			return nil, err
		}
		if n > 0 {
			if err := forward(backup.IndexFile(l.dir+"/state", "app"), steps(n)-1); err != nil {
				return nil, err
			}
		}
		r, err := timed(l.shell(ctx, l.emsafeBackup("", "").script))
		if err != nil {
			return nil, fmt.Errorf("backup %d: %w", n, err)
		}
		if last, err = readTaken(r.said); err != nil {
			return nil, err
		}
		if n == 0 {
			full = last
		} else if last.Kind != "delta" {
			return nil, fmt.Errorf("backup %d is of kind %s: %s", n, last.Kind, last.Why)
		}
	}
	return l.compareChain(ctx, full, last)
}

func (l *lab) compareChain(ctx context.Context, full, last taken) ([]section, error) {
	shown, err := timed(l.shell(ctx, `exec "$EMSAFE" --config "$CFG" show `+last.ID+` --json`))
	if err != nil {
		return nil, err
	}
	var way struct {
		Fetches []struct {
			Kind  string `json:"kind"`
			Bytes int64  `json:"bytes"`
		} `json:"restore_fetches"`
	}
	if err := json.Unmarshal(shown.said, &way); err != nil {
		return nil, fmt.Errorf("show: %w", err)
	}
	alone, long := l.emsafeRestore("none"), l.emsafeRestore("none")
	alone.name, alone.script, alone.base = "the full backup alone", alone.script+" --id "+full.ID, true
	long.name, long.script = fmt.Sprintf("a way of %d payloads", len(way.Fetches)), long.script+" --id "+last.ID
	contenders := []contender{alone, long}
	results, err := l.measure(ctx, contenders, nil)
	if err != nil {
		return nil, err
	}
	var base, deltas int64
	for _, f := range way.Fetches {
		if f.Kind == "full" {
			base += f.Bytes
		} else {
			deltas += f.Bytes
		}
	}
	measured := ratio(median(results[1], wallOf), median(results[0], wallOf))
	s := section{title: "Restore from a full backup, a differential and 60 incrementals"}
	s.text = fmt.Sprintf("Full %.1f MiB, %d deltas of %.1f MiB together.\n\n", mib(base), len(way.Fetches)-1, mib(deltas)) + table(contenders, results) + "\n"
	s.bars = []bar{atMost("wall time of a restore of the full backup alone", "", 1.3, measured)}
	if len(way.Fetches) != 62 {
		s.bars = append(s.bars, bar{"payloads on the way: 62", fmt.Sprint(len(way.Fetches)), false})
	}
	return []section{s}, nil
}

// steps is the number that delta n of the case gets. The ladder's longest way
// has the numbers 0x1000, 0x2000 … 0xf000, 0xf100 … 0xffff, and before them
// a differential, which comes after 0xffff.
func steps(n int) uint32 {
	if n == 1 {
		return 0x10000
	}
	n -= 2
	digit := 3 - n/15
	high := uint32(0xffff) &^ (1<<(4*(digit+1)) - 1)
	return high | uint32(n%15+1)<<(4*digit)
}

// forward sets the number of the last delta in the page index forward. The
// longest way has grown after 65,535 backups; the benchmark takes only the 60
// of them that lie on it.
func forward(file string, step uint32) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 16<<10)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	_, text, ok := bytes.Cut(bytes.TrimRight(head, "\x00"), []byte("\n"))
	var all, ladder map[string]json.RawMessage
	if !ok || json.Unmarshal(text, &all) != nil || json.Unmarshal(all["ladder"], &ladder) != nil || ladder["step"] == nil {
		return fmt.Errorf("%s has no ladder that can be set forward", file)
	}
	ladder["step"] = json.RawMessage(fmt.Sprint(step))
	if all["ladder"], err = json.Marshal(ladder); err != nil {
		return err
	}
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	clear(head)
	if len(text)+66 > len(head) {
		return fmt.Errorf("%s: its head is too long", file)
	}
	copy(head, hex.EncodeToString(sum[:])+"\n"+string(text))
	_, err = f.WriteAt(head, 0)
	return err
}
