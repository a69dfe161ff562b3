package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// CommitCount counts the commits of other processes, by what they leave in the
// files: commit frames in a -wal, the change counter in a main file. It takes no
// lock.
type CommitCount struct {
	path    string
	wal     bool
	counter uint32
	salts   [8]byte
	frames  int64 // that were seen under these salts
	begun   bool
}

// CountCommits begins to count.
func CountCommits(path string) (*CommitCount, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	image, err := Inspect(path)
	if err != nil {
		return nil, err
	}
	c := &CommitCount{path: path, wal: image.JournalMode == "wal"}
	_, err = c.Poll()
	c.begun = true
	return c, err
}

// Poll returns how many commits there were since the last call. A log that was
// begun anew twice in between hides some: poll several times a second.
func (c *CommitCount) Poll() (int, error) {
	if !c.wal {
		return c.pollMain()
	}
	f, err := openBeside(c.path + "-wal")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var head [32]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return 0, nil // nobody has written to it yet
	}
	page := int64(binary.BigEndian.Uint32(head[8:]))
	if salts := [8]byte(head[16:24]); salts != c.salts {
		c.salts, c.frames = salts, 0
	}
	commits := 0
	for {
		var frame [24]byte
		if _, err := f.ReadAt(frame[:], 32+c.frames*(page+24)); err != nil || [8]byte(frame[8:16]) != c.salts {
			return c.since(commits), nil
		}
		c.frames++
		if binary.BigEndian.Uint32(frame[4:]) != 0 {
			commits++
		}
	}
}

func (c *CommitCount) pollMain() (int, error) {
	f, err := openRegular(c.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var counter [4]byte
	if _, err := f.ReadAt(counter[:], 24); err != nil && err != io.EOF {
		return 0, err
	}
	now := binary.BigEndian.Uint32(counter[:])
	was := c.counter
	c.counter = now
	return c.since(int(now - was)), nil
}

// since leaves out what was there before counting began.
func (c *CommitCount) since(n int) int {
	if !c.begun {
		return 0
	}
	return n
}

// WriteLock takes the write lock as an application does, and gives it back at
// once. It returns how long that took; busy, if it could not be had in limit.
func WriteLock(ctx context.Context, path string, limit time.Duration) (wait time.Duration, busy bool, err error) {
	c, err := connect(ctx, path, "mode=rw", limit)
	if err != nil {
		return 0, false, err
	}
	defer c.close() //nolint:errcheck // nothing was written
	began := time.Now()
	_, err = c.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	wait = time.Since(began)
	var coded *sqlite.Error
	switch {
	case errors.As(err, &coded) && coded.Code()&0xff == lib.SQLITE_BUSY:
		return wait, true, nil
	case err != nil:
		return wait, false, sqliteError(path, err)
	}
	c.unpin()
	return wait, false, nil
}

// Rate is how fast a database takes small commits.
type Rate struct {
	Journal     string        `json:"journal_mode"`
	Synchronous string        `json:"synchronous"`
	Writers     int           `json:"writers"`
	Commits     float64       `json:"commits_per_second"`
	Worst       time.Duration `json:"worst_wait_ns"`
}

// MeasureRate has writers commit one small row after the other, for a while, to
// a file that nobody else uses; it is changed by that.
func MeasureRate(ctx context.Context, path, journal, synchronous string, writers int, d time.Duration) (Rate, error) {
	r := Rate{Journal: journal, Synchronous: synchronous, Writers: writers}
	setup, err := connect(ctx, path, "mode=rw", time.Minute)
	if err != nil {
		return r, err
	}
	defer setup.close() //nolint:errcheck // a copy that is thrown away
	var mode string
	if err := setup.conn.QueryRowContext(ctx, "PRAGMA journal_mode="+journal).Scan(&mode); err != nil || mode != journal {
		return r, fmt.Errorf("journal mode %s on %s: %q %w", journal, path, mode, err)
	}
	if err := setup.exec(ctx, "CREATE TABLE IF NOT EXISTS emsafe_rate (id INTEGER PRIMARY KEY, v TEXT)"); err != nil {
		return r, err
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	var failed error
	total := 0
	end := time.Now().Add(d)
	for range writers {
		group.Go(func() {
			n, worst, err := commitUntil(ctx, path, synchronous, end)
			mu.Lock()
			defer mu.Unlock()
			total += n
			r.Worst = max(r.Worst, worst)
			failed = errors.Join(failed, err)
		})
	}
	group.Wait()
	r.Commits = float64(total) / d.Seconds()
	return r, failed
}

func commitUntil(ctx context.Context, path, synchronous string, end time.Time) (n int, worst time.Duration, err error) {
	c, err := connect(ctx, path, "mode=rw", time.Minute)
	if err != nil {
		return 0, 0, err
	}
	defer c.close() //nolint:errcheck // a copy that is thrown away
	if err := c.exec(ctx, "PRAGMA synchronous="+synchronous); err != nil {
		return 0, 0, err
	}
	for time.Now().Before(end) && ctx.Err() == nil {
		began := time.Now()
		if err := c.exec(ctx, "INSERT INTO emsafe_rate (v) VALUES ('a row of a small service, of about a hundred bytes, as most of them have it, give or take a few')"); err != nil {
			return n, worst, err
		}
		n++
		worst = max(worst, time.Since(began))
	}
	return n, worst, ctx.Err()
}
