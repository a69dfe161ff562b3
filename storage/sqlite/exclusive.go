package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"emsafe/internal/fault"
)

// Settle makes the database at path whole in its main file alone: it takes the
// database exclusively, rolls a hot journal back or recovers the WAL,
// checkpoints, and leaves no -wal, -shm or -journal. Its content does not
// change. It is a fault.InUse if anybody has the database open, and another
// error if SQLite cannot read it.
func Settle(ctx context.Context, path string) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	// Opened for writing, SQLite throws the -wal of a file away that it does
	// not take for a database: that would be the last of the evidence.
	if _, err := Inspect(path); err != nil {
		return err
	}
	c, err := connect(ctx, path, "mode=rw", 250*time.Millisecond)
	if err != nil {
		return inUse(err)
	}
	err = c.settle(ctx)
	if cerr := c.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return inUse(err)
	}
	return removeSidecars(path)
}

func inUse(err error) error {
	if errors.Is(err, fault.Locked) {
		return fault.New(fault.InUse, "%w", err)
	}
	return err
}

func (c *connection) settle(ctx context.Context) error {
	for _, q := range []string{"PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"} {
		if err := c.exec(ctx, q); err != nil {
			return err
		}
	}
	var busy, frames, moved int64
	row := c.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := row.Scan(&busy, &frames, &moved); err != nil {
		return sqliteError(c.path, err)
	}
	if busy != 0 {
		return fault.New(fault.Locked, "%s is locked%s", c.path, heldBy(c.path))
	}
	// The last connection to close deletes the -wal, which only a normal lock
	// lets it do by its name.
	_, err := c.number(ctx, "SELECT count(*) FROM sqlite_schema")
	return err
}

// removeSidecars removes what holds nothing any more, under an exclusive lock:
// an empty -wal, a -shm, and a journal that is not hot (persist and truncate
// modes leave one).
func removeSidecars(path string) error {
	release, err := LockExclusive(path)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // nothing was written through it
	if st, err := os.Lstat(path + "-wal"); err == nil && st.Size() > 0 {
		return fault.New(fault.InUse, "%s-wal was written after the checkpoint", path)
	}
	hot, err := journalHot(path + "-journal")
	if err != nil {
		return err
	}
	if hot {
		return fault.New(fault.InUse, "%s-journal was written after the recovery", path)
	}
	for _, ext := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Remove(path + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// journalHot reports whether a rollback journal begins with its magic number.
func journalHot(file string) (bool, error) {
	f, err := openBeside(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	var head [8]byte
	n, _ := f.ReadAt(head[:], 0)
	return n == 8 && string(head[:]) == "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", nil
}
