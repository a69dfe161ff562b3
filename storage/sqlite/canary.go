package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"emsafe/internal/fault"
)

// canaryBusy is how long a stamp waits for a writer.
const canaryBusy = time.Second

// Stamp writes the time into the table emsafe_canary of a live database, and
// makes that table if it is not there: by it a drill measures what was lost.
// It is the one write that emsafe ever makes into a database in use, for who
// asked for it. It forces no checkpoint, waits at most a second for another
// writer, and refuses where the opening alone would change something: where a
// journal waits for its application, or as another user than the owner.
func Stamp(ctx context.Context, path string, at time.Time) error {
	image, err := Inspect(path)
	if err != nil {
		return err
	}
	if uid := os.Getuid(); uid != 0 && uid != image.UID {
		return fault.New(fault.Permission, "the canary is stamped by the owner of %s or by root: what SQLite makes beside it would belong to somebody else", path)
	}
	if st, err := os.Stat(path + "-journal"); err == nil && st.Size() > 0 {
		return fault.New(fault.Locked, "the canary is not stamped while %s has a journal", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pathError(path, err)
	}
	c, err := connect(ctx, path, "mode=rw&_defensive=1", canaryBusy)
	if err != nil {
		return err
	}
	defer c.close() //nolint:errcheck // what was committed is committed
	for _, s := range []string{
		"PRAGMA wal_autocheckpoint = 0",
		"CREATE TABLE IF NOT EXISTS emsafe_canary (id INTEGER PRIMARY KEY CHECK (id = 1), at_ms INTEGER NOT NULL)",
		"INSERT INTO emsafe_canary (id, at_ms) VALUES (1, " + strconv.FormatInt(at.UnixMilli(), 10) + ") ON CONFLICT (id) DO UPDATE SET at_ms = excluded.at_ms",
	} {
		if err := c.exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// CanaryTable is what Stamp writes to.
const CanaryTable = "emsafe_canary"

// CanaryQuery reads the stamp, in milliseconds since 1970.
const CanaryQuery = "SELECT at_ms FROM main.emsafe_canary WHERE id = 1"
