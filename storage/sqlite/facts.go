package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// Facts are what a file that nobody else uses tells of itself.
type Facts struct {
	PageSize  int64  `json:"page_size"`
	Pages     int64  `json:"pages"`
	Free      int64  `json:"free_pages"`
	Unused    int64  `json:"unused_bytes"` // within pages that are in use
	Vacuum    string `json:"auto_vacuum"`  // none, full or incremental
	User      int64  `json:"user_version"`
	App       int64  `json:"application_id"`
	Encoding  string `json:"encoding"`
	Tables    []Size `json:"tables"`    // the largest first, tables and indexes
	Integrity string `json:"integrity"` // ok, or what SQLite's quick_check says
	Orphans   int64  `json:"orphans"`   // rows whose foreign key leads nowhere
}

// Size is what one table or index takes.
type Size struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// mostSizes is how many tables and indexes Facts names.
const mostSizes = 10

// Look reads the facts of a file that nobody else uses, such as a snapshot. It
// reads all pages.
func Look(ctx context.Context, path string) (*Facts, error) {
	c, err := connect(ctx, path, "mode=ro&immutable=1&_defensive=1", 0)
	if err != nil {
		return nil, err
	}
	defer c.close() //nolint:errcheck // it was only read
	f := &Facts{}
	for pragma, into := range map[string]*int64{"page_size": &f.PageSize, "page_count": &f.Pages, "freelist_count": &f.Free, "user_version": &f.User, "application_id": &f.App} {
		if *into, err = c.number(ctx, "PRAGMA "+pragma); err != nil {
			return nil, err
		}
	}
	vacuum, err := c.number(ctx, "PRAGMA auto_vacuum")
	if err != nil {
		return nil, err
	}
	f.Vacuum = []string{"none", "full", "incremental"}[vacuum%3]
	if err := c.conn.QueryRowContext(ctx, "PRAGMA encoding").Scan(&f.Encoding); err != nil {
		return nil, sqliteError(path, err)
	}
	if err := c.conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&f.Integrity); err != nil {
		f.Integrity = err.Error()
		return f, nil // what is damaged cannot be measured
	}
	if f.Unused, err = c.number(ctx, "SELECT ifnull(sum(unused), 0) FROM dbstat"); err != nil {
		return nil, err
	}
	if f.Tables, err = c.sizes(ctx); err != nil {
		return nil, err
	}
	f.Orphans, err = c.number(ctx, "SELECT count(*) FROM pragma_foreign_key_check")
	if err != nil {
		f.Orphans = -1 // a schema that names a table which is not there
	}
	return f, nil
}

func (c *connection) sizes(ctx context.Context) ([]Size, error) {
	rows, err := c.conn.QueryContext(ctx, fmt.Sprintf("SELECT name, sum(pgsize) AS n FROM dbstat GROUP BY name ORDER BY n DESC LIMIT %d", mostSizes))
	if err != nil {
		return nil, sqliteError(c.path, err)
	}
	defer rows.Close()
	var list []Size
	for rows.Next() {
		var s Size
		var name sql.NullString
		if err := rows.Scan(&name, &s.Bytes); err != nil {
			return nil, sqliteError(c.path, err)
		}
		s.Name = name.String
		list = append(list, s)
	}
	return list, rows.Err()
}
