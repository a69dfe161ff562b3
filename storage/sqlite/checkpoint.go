package sqlite

import (
	"context"
	"fmt"
	"time"

	"emsafe/internal/fault"
)

// Checkpointed is what a checkpoint came to.
type Checkpointed struct {
	Busy   bool  // it could not copy, or not empty, all that there is
	Frames int64 // in the log, before it was emptied
	Copied int64 // of them, now in the main file
}

// Checkpoint copies what it can from the -wal into the main file. Passive waits
// for nobody and keeps nobody waiting. Truncate waits up to busy for readers
// and writers, keeps new writers out meanwhile, and empties the log.
func Checkpoint(ctx context.Context, path string, truncate bool, busy time.Duration) (Checkpointed, error) {
	var out Checkpointed
	image, err := Inspect(path)
	if err != nil {
		return out, err
	}
	if image.JournalMode != "wal" {
		return out, fault.New(fault.Usage, "%s has no write-ahead log: its journal mode is %s", path, image.JournalMode)
	}
	c, err := connect(ctx, path, "mode=rw", busy)
	if err != nil {
		return out, err
	}
	defer c.close() //nolint:errcheck // the checkpoint is done or not
	mode := "PASSIVE"
	if truncate {
		mode = "TRUNCATE"
	}
	var blocked int64
	row := c.conn.QueryRowContext(ctx, fmt.Sprintf("PRAGMA wal_checkpoint(%s)", mode))
	if err := row.Scan(&blocked, &out.Frames, &out.Copied); err != nil {
		return out, sqliteError(path, err)
	}
	out.Busy = blocked != 0 || out.Copied < out.Frames
	return out, nil
}

// SwitchToWAL puts a database into WAL mode, and says which mode it was in. It
// waits up to busy for a moment in which nobody uses it.
func SwitchToWAL(ctx context.Context, path string, busy time.Duration) (was string, err error) {
	image, err := Inspect(path)
	if err != nil {
		return "", err
	}
	c, err := connect(ctx, path, "mode=rw", busy)
	if err != nil {
		return image.JournalMode, err
	}
	defer c.close() //nolint:errcheck // the mode is told below
	var mode string
	if err := c.conn.QueryRowContext(ctx, "PRAGMA journal_mode=wal").Scan(&mode); err != nil {
		return image.JournalMode, sqliteError(path, err)
	}
	if mode != "wal" {
		return image.JournalMode, fault.New(fault.Unsupported, "SQLite keeps %s in journal mode %s", path, mode)
	}
	return image.JournalMode, nil
}
