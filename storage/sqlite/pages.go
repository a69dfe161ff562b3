package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// pageQuery reads single pages through SQLite, as the transaction sees them.
type pageQuery struct {
	*sql.Stmt
	path string
}

func (c *connection) pages(ctx context.Context) (*pageQuery, error) {
	stmt, err := c.conn.PrepareContext(ctx, "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?")
	if err != nil {
		return nil, sqliteError(c.path, err)
	}
	return &pageQuery{stmt, c.path}, nil
}

// read fills buf with one page.
func (q *pageQuery) read(ctx context.Context, number int64, buf []byte) error {
	rows, err := q.QueryContext(ctx, number)
	if err != nil {
		return sqliteError(q.path, err)
	}
	defer rows.Close()
	var data sql.RawBytes
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return sqliteError(q.path, err)
		}
		return fmt.Errorf("%s: SQLite has no page %d", q.path, number)
	}
	if err := rows.Scan(&data); err != nil {
		return sqliteError(q.path, err)
	}
	if len(data) != len(buf) {
		return fmt.Errorf("%s: page %d has %d bytes, not %d", q.path, number, len(data), len(buf))
	}
	copy(buf, data)
	return nil
}
