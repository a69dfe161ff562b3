// Package sample makes databases that look like a small service's: rows of
// text that compress about threefold, indexes, WAL. The demo shows itself on
// one and the benchmark measures on one.
package sample

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"

	_ "emsafe/storage/sqlite" // registers the driver
)

var words = strings.Fields(`order shipped customer invoice pending review photo album scan roll film camera
paper note draft reply thread label archive delivered returned account street city north south harbour window
market garden winter summer monday friday quick small large silver copper amber linen cotton ticket refund`)

// open opens a database for writing.
func open(ctx context.Context, path string) (*sql.DB, *sql.Conn, error) {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, conn, nil
}

// Make makes a database of about size bytes at path, in WAL mode, checkpointed.
func Make(ctx context.Context, path string, size int64) error {
	db, conn, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer db.Close()
	defer conn.Close()
	for _, s := range []string{
		"CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, at TEXT NOT NULL, author TEXT NOT NULL, token TEXT NOT NULL, body TEXT NOT NULL)",
		"CREATE INDEX IF NOT EXISTS messages_by_author ON messages (author, at)",
		"CREATE UNIQUE INDEX IF NOT EXISTS messages_by_token ON messages (token)",
	} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for {
		var pages, pageSize int64
		if err := conn.QueryRowContext(ctx, "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size").Scan(&pages, &pageSize); err != nil {
			return err
		}
		left := size - pages*pageSize
		if left <= 0 {
			break
		}
		if err := insert(ctx, conn, r, int(min(left/600+1, 20000))); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

func insert(ctx context.Context, conn *sql.Conn, r *rand.Rand, rows int) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	stmt, err := tx.PrepareContext(ctx, "INSERT INTO messages (at, author, token, body) VALUES (?, ?, ?, ?)")
	if err != nil {
		return err
	}
	for range rows {
		if _, err := stmt.ExecContext(ctx, row(r)...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// row is one message: words, and a token that no compressor shortens.
func row(r *rand.Rand) []any {
	var body strings.Builder
	for range 20 + r.IntN(60) {
		body.WriteString(words[r.IntN(len(words))])
		body.WriteByte(' ')
	}
	return []any{
		fmt.Sprintf("2026-%02d-%02dT%02d:%02d:%02dZ", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60)),
		fmt.Sprintf("user%05d@example.org", r.IntN(20000)),
		fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()),
		body.String(),
	}
}

// Write commits small transactions to the database, one after another, until
// ctx ends. committed is called after each with how many there were; it sets
// the pace.
func Write(ctx context.Context, path string, committed func(n int) error) error {
	db, conn, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer db.Close()
	defer conn.Close()
	r := rand.New(rand.NewPCG(2, rand.Uint64()))
	for n := 1; ctx.Err() == nil; n++ {
		if err := insert(ctx, conn, r, 3); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := committed(n); err != nil {
			return err
		}
	}
	return nil
}

// Count returns how many messages a database holds.
func Count(ctx context.Context, path string) (n int, err error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&immutable=1")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return n, db.QueryRowContext(ctx, "SELECT count(*) FROM messages").Scan(&n)
}
