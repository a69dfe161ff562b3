package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Facts are what a file that nobody else uses tells of itself.
type Facts struct {
	PageSize  int64    `json:"page_size"`
	Pages     int64    `json:"pages"`
	Free      int64    `json:"free_pages"`
	Unused    int64    `json:"unused_bytes"` // within pages that are in use
	Vacuum    string   `json:"auto_vacuum"`  // none, full or incremental
	User      int64    `json:"user_version"`
	App       int64    `json:"application_id"`
	Encoding  string   `json:"encoding"`
	Tables    []Size   `json:"tables"`    // the largest first, tables and indexes
	Integrity string   `json:"integrity"` // ok, or what the examination found
	Damaged   bool     `json:"damaged,omitempty"`
	Unchecked []string `json:"not_checked,omitempty"` // what needs the application, and why
	Orphans   int64    `json:"orphans"`               // rows whose foreign key leads nowhere; -1 if they could not be counted
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
	report, err := Examine(ctx, path, "quick")
	if err != nil {
		return nil, err
	}
	f := &Facts{Integrity: "ok", Unchecked: report.Unchecked, Damaged: report.Result() == Damaged}
	switch report.Result() {
	case Damaged:
		f.Integrity = strings.Join(report.Damage, "; ")
	case NotCheckable:
		f.Integrity = NotCheckable + ": " + strings.Join(report.Unchecked, "; ")
	}
	// Entries of the schema that do not parse are left out.
	c, err := lenient(ctx, path)
	if err != nil {
		return nil, err
	}
	defer c.close() //nolint:errcheck // it was only read
	if image, err := Inspect(path); err == nil {
		f.PageSize, f.Pages = int64(image.PageSize), image.Pages // also where SQLite says nothing
	}
	for pragma, into := range map[string]*int64{"page_size": &f.PageSize, "page_count": &f.Pages, "freelist_count": &f.Free, "user_version": &f.User, "application_id": &f.App} {
		n, err := c.number(ctx, "PRAGMA "+pragma)
		if isSchema(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		*into = n
	}
	vacuum, err := c.number(ctx, "PRAGMA auto_vacuum")
	if err != nil && !isSchema(err) {
		return nil, err
	}
	f.Vacuum = []string{"none", "full", "incremental"}[vacuum%3]
	if err := c.conn.QueryRowContext(ctx, "PRAGMA encoding").Scan(&f.Encoding); err != nil && !isSchema(sqliteError(path, err)) {
		return nil, sqliteError(path, err)
	}
	if f.Damaged {
		return f, nil // what is damaged cannot be measured
	}
	if f.Unused, err = c.number(ctx, "SELECT ifnull(sum(unused), 0) FROM dbstat"); err != nil && !isSchema(err) {
		return nil, err
	}
	if f.Tables, err = c.sizes(ctx); err != nil && !isSchema(err) {
		return nil, err
	}
	f.Orphans, err = c.number(ctx, "SELECT count(*) FROM pragma_foreign_key_check")
	if err != nil {
		f.Orphans = -1 // a schema that names a table which is not there, or a collation
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
