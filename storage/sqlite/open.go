package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"emsafe/internal/fault"
)

// Open file description locks must be chosen before the first database is
// opened: reading a database file raw would otherwise drop this process's own
// locks on it when the descriptor is closed.
var _, ofdError = sqlite.OFDLocking(true)

// rawAllowed reports whether database files may be read raw. It is known only
// after a first lock was taken.
func rawAllowed() bool { return ofdError == nil && sqlite.OFDLockingEnabled() }

// Version is the SQLite that is built in.
func Version() string { return lib.SQLITE_VERSION }

// connection is one SQLite connection and nothing else of database/sql.
type connection struct {
	db   *sql.DB
	conn *sql.Conn
	path string
}

// connect opens one connection; query is the URI's, such as mode=ro.
func connect(ctx context.Context, path, query string, busy time.Duration) (*connection, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := refuseIrregular(path); err != nil {
		return nil, err
	}
	// An absolute path as URI: without file: the mode would be ignored, and
	// ? # % would cut the name.
	uri := "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + query +
		fmt.Sprintf("&_pragma=busy_timeout(%d)&_pragma=trusted_schema(0)", busy.Milliseconds())
	db, err := sql.Open("sqlite", uri)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, sqliteError(path, err)
	}
	return &connection{db, conn, path}, nil
}

func (c *connection) close() error { return errors.Join(c.conn.Close(), c.db.Close()) }

func (c *connection) exec(ctx context.Context, query string) error {
	if _, err := c.conn.ExecContext(ctx, query); err != nil {
		return sqliteError(c.path, err)
	}
	return nil
}

func (c *connection) number(ctx context.Context, query string) (n int64, err error) {
	if err := c.conn.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return 0, sqliteError(c.path, err)
	}
	return n, nil
}

// pin begins a read transaction and makes SQLite take its lock now. A journal
// is hot only if it still is after a while: SQLite looks for the lock of a
// writer first and at the journal after it, and takes the journal of a writer
// that came in between for one that a crash left.
func (c *connection) pin(ctx context.Context) error {
	last, _ := journalOf(c.path)
	moved := false // the journal: a crash leaves one that does not
	for tries := 1; ; tries++ {
		err := c.pinOnce(ctx)
		if !errors.Is(err, fault.HotJournal) {
			return err
		}
		now, there := journalOf(c.path)
		moved, last = moved || !there || now != last, now
		if tries == 8 {
			if moved || journalOpen(ctx, c.path) {
				return again(ignored(c.path, "its rollback journal is being written, and nobody holds the lock of a writer"))
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(tries) * time.Millisecond):
		}
	}
}

func (c *connection) pinOnce(ctx context.Context) error {
	if err := c.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	_, err := c.number(ctx, "SELECT count(*) FROM sqlite_schema")
	if isSchema(err) {
		// What this SQLite cannot parse is backed up as well, as a backup copies
		// pages: entries of the schema that do not parse are then left out. No
		// statement of emsafe writes to a schema.
		if err = c.exec(ctx, "PRAGMA writable_schema = ON"); err == nil || isSchema(err) {
			_, err = c.number(ctx, "SELECT count(*) FROM sqlite_schema")
		}
	}
	if err != nil {
		c.unpin()
		return err
	}
	return nil
}

// unpin ends the transaction, also when the caller's context has ended.
func (c *connection) unpin() { c.conn.ExecContext(context.Background(), "ROLLBACK") } //nolint:errcheck // nothing was written

// geometry asks inside the transaction: neither the file's size nor the WAL
// tells.
func (c *connection) geometry(ctx context.Context, image *Image) error {
	pages, err := c.number(ctx, "PRAGMA page_count")
	if err != nil {
		return err
	}
	size, err := c.number(ctx, "PRAGMA page_size")
	if err != nil {
		return err
	}
	image.Pages, image.PageSize = pages, int(size)
	if pages < 1 {
		return fault.New(fault.NotSQLite, "%s holds no page: no application has made its tables yet", c.path)
	}
	return nil
}

// errNoIndex says that SQLite cannot use the -shm that is there.
var errNoIndex = errors.New("the wal-index cannot be used")

// sqliteError gives SQLite's result codes their kinds.
func sqliteError(path string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	if s := schemaError(e); s != nil {
		return fmt.Errorf("%s: %w", path, s)
	}
	switch code := e.Code(); {
	case code == lib.SQLITE_READONLY_ROLLBACK:
		return fault.New(fault.HotJournal, "%s has a hot journal: a transaction of its application crashed", path)
	case code == lib.SQLITE_READONLY_CANTINIT, code == lib.SQLITE_READONLY_RECOVERY, code == lib.SQLITE_READONLY_CANTLOCK,
		code == lib.SQLITE_READONLY_DIRECTORY:
		return fmt.Errorf("%s: %w: %w", path, errNoIndex, err)
	case code&0xff == lib.SQLITE_BUSY, code&0xff == lib.SQLITE_LOCKED:
		return fault.New(fault.Locked, "%s is locked%s", path, heldBy(path))
	case code&0xff == lib.SQLITE_NOTADB:
		return fault.New(fault.NotSQLite, "%s is not a SQLite database, or it is encrypted as a whole", path)
	case code&0xff == lib.SQLITE_CORRUPT:
		return fault.New(fault.Corrupt, "%s: %w", path, err)
	case code&0xff == lib.SQLITE_CANTOPEN, code&0xff == lib.SQLITE_PERM:
		return fault.New(fault.Permission, "%s cannot be opened: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// heldBy names who has the file open, as far as can be seen.
func heldBy(path string) string {
	holders, complete, err := Holders(path)
	if err != nil || len(holders) == 0 {
		if !complete {
			return " by a process of another user"
		}
		return ""
	}
	var names []string
	for _, h := range holders {
		names = append(names, fmt.Sprintf("%s (process %d, user %s)", h.Name, h.PID, h.User))
	}
	return "; it is open in " + strings.Join(names, ", ")
}
