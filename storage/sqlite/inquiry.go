package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Inquiry asks a database that nobody else uses, and that nobody need trust:
// a file that a drill restored. It is opened read-only and immutable, in
// defensive mode, without trust in its schema; only SELECT is compiled, nothing
// can be attached, and values and statements have limits. What runs too long
// ends with its context. Nothing is left beside the file.
type Inquiry struct{ c *connection }

const (
	mostValue    = 64 << 20 // bytes of a value or row that a question may touch
	mostRows     = 100_000  // rows of an answer that are read
	mostTables   = 10_000
	inquiryCache = 64 << 10 // KiB of pages that are kept in memory
)

// Inquire opens the file.
func Inquire(ctx context.Context, path string) (*Inquiry, error) {
	c, err := connect(ctx, path, "mode=ro&immutable=1&_defensive=1&_dqs=0", 0)
	if err != nil {
		return nil, err
	}
	if _, err := c.number(ctx, "SELECT count(*) FROM sqlite_schema"); isSchema(err) {
		// What does not parse is left out. The other walls remain.
		c.close() //nolint:errcheck // it was only read
		if c, err = lenient(ctx, path); err != nil {
			return nil, err
		}
		if _, err := c.number(ctx, "SELECT count(*) FROM sqlite_schema"); err != nil {
			c.close() //nolint:errcheck // the first error counts
			return nil, err
		}
	}
	for _, pragma := range []string{"query_only = 1", "cell_size_check = 1", fmt.Sprintf("cache_size = -%d", inquiryCache)} {
		if err := c.exec(ctx, "PRAGMA "+pragma); err != nil {
			c.close() //nolint:errcheck // the first error counts
			return nil, err
		}
	}
	for _, l := range [][2]int{
		{lib.SQLITE_LIMIT_LENGTH, mostValue}, {lib.SQLITE_LIMIT_SQL_LENGTH, 1 << 20}, {lib.SQLITE_LIMIT_ATTACHED, 0},
		{lib.SQLITE_LIMIT_EXPR_DEPTH, 200}, {lib.SQLITE_LIMIT_COMPOUND_SELECT, 50}, {lib.SQLITE_LIMIT_TRIGGER_DEPTH, 10}, {lib.SQLITE_LIMIT_WORKER_THREADS, 0},
	} {
		if _, err := sqlite.Limit(c.conn, l[0], l[1]); err != nil {
			c.close() //nolint:errcheck // the first error counts
			return nil, err
		}
	}
	if err := c.conn.Raw(func(conn any) error {
		r, ok := conn.(sqlite.AuthorizerRegisterer)
		if !ok {
			return errors.New("the driver has no authorizer")
		}
		return r.RegisterAuthorizer(onlyReads)
	}); err != nil {
		c.close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return &Inquiry{c}, nil
}

// onlyReads lets questions through and nothing else. It is the first of three
// walls: the file is also immutable, and the connection query_only.
func onlyReads(action sqlite.AuthorizerActionCode, what, _, _, _ string) sqlite.AuthorizerReturnCode {
	may := false
	switch int32(action) {
	case lib.SQLITE_SELECT, lib.SQLITE_READ, lib.SQLITE_FUNCTION, lib.SQLITE_RECURSIVE:
		may = true
	case lib.SQLITE_CREATE_TABLE: // how a virtual table's module declares its columns
		may = true
	case lib.SQLITE_INSERT:
		may = what == "sqlite_master" // as part of it
	case lib.SQLITE_PRAGMA:
		switch strings.ToLower(what) {
		case "foreign_key_check", "integrity_check", "page_count", "page_size", "user_version", "application_id", "table_info", "table_list", "data_version":
			may = true
		}
	}
	if may {
		return sqlite.AuthorizerReturnCode(lib.SQLITE_OK)
	}
	return sqlite.AuthorizerReturnCode(lib.SQLITE_DENY)
}

// Close ends it.
func (q *Inquiry) Close() error { return q.c.close() }

// Value is the first column of the first row, as SQLite writes it as text, and
// how many rows there are (at most 100,000 are counted). ok is false for no row or NULL.
func (q *Inquiry) Value(ctx context.Context, query string) (value string, rows int, ok bool, err error) {
	r, err := q.c.conn.QueryContext(ctx, query)
	if err != nil {
		return "", 0, false, q.wrong(ctx, err)
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		return "", 0, false, err
	}
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(sql.RawBytes)
	}
	for r.Next() && rows < mostRows {
		if rows++; rows > 1 {
			continue
		}
		if err := r.Scan(into...); err != nil {
			return "", 0, false, q.wrong(ctx, err)
		}
		if raw := *into[0].(*sql.RawBytes); raw != nil { //nolint:errcheck // it was put there above
			value, ok = string(raw[:min(len(raw), 64<<10)]), true
		}
	}
	return value, rows, ok, q.wrong(ctx, r.Err())
}

// wrong prefers the context's word over "interrupted".
func (q *Inquiry) wrong(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return sqliteError(q.c.path, err)
}

var function = regexp.MustCompile(`(?:no such|unknown) function: ([^\s()]+)`)

// Lacks reports whether a question failed because the database needs what only
// its application has. A function counts only if the schema uses it as well: one
// that is only in the question is the question's mistake.
func (q *Inquiry) Lacks(ctx context.Context, err error) bool {
	if err == nil || !NeedsApplication(err) {
		return false
	}
	m := function.FindStringSubmatch(err.Error())
	if m == nil {
		return true
	}
	n, err := q.c.number(ctx, "SELECT count(*) FROM sqlite_schema WHERE instr(lower(sql), lower("+literal(m[1])+")) > 0")
	return err == nil && n > 0
}

// Texts calls each with the first column of every row that is not NULL, as SQLite
// writes it as text.
func (q *Inquiry) Texts(ctx context.Context, query string, each func(text string)) error {
	r, err := q.c.conn.QueryContext(ctx, query)
	if err != nil {
		return q.wrong(ctx, err)
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		return err
	}
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(sql.RawBytes)
	}
	for r.Next() {
		if err := r.Scan(into...); err != nil {
			return q.wrong(ctx, err)
		}
		if raw := *into[0].(*sql.RawBytes); raw != nil { //nolint:errcheck // it was put there above
			each(string(raw))
		}
	}
	return q.wrong(ctx, r.Err())
}

// Table is one of the database's own tables.
type Table struct {
	Name string
	FTS5 bool  // a full-text index; it has no rows of its own that are counted
	Own  bool  // SQLite's own, or a virtual table's: its rows are nobody's data
	Rows int64 // -1 if they could not be counted, and Err says why
	Err  error
}

// Schema is the SHA-256 of the schema as it is stored, in hexadecimal, and its
// tables: those that hold data themselves, and full-text indexes.
func (q *Inquiry) Schema(ctx context.Context) (digest string, tables []Table, err error) {
	rows, err := q.c.conn.QueryContext(ctx, "SELECT type, name, tbl_name, coalesce(sql, ''), rootpage FROM sqlite_schema ORDER BY type, name, tbl_name")
	if err != nil {
		return "", nil, q.wrong(ctx, err)
	}
	defer rows.Close()
	h := sha256.New()
	var virtual []string
	for rows.Next() {
		var kind, name, of, text string
		var root int64
		if err := rows.Scan(&kind, &name, &of, &text, &root); err != nil {
			return "", nil, q.wrong(ctx, err)
		}
		for _, s := range []string{kind, name, of, text} {
			fmt.Fprintf(h, "%d:", len(s))
			io.WriteString(h, s) //nolint:errcheck // a hash takes everything
		}
		fts := root == 0 && strings.Contains(strings.ToLower(text), "using fts5")
		if kind == "table" && root == 0 {
			virtual = append(virtual, name+"_")
		}
		if kind == "table" && (root > 0 || fts) && len(tables) < mostTables {
			tables = append(tables, Table{Name: name, FTS5: fts, Rows: -1, Own: strings.HasPrefix(name, "sqlite_")})
		}
	}
	for i, t := range tables {
		tables[i].Own = t.Own || slices.ContainsFunc(virtual, func(v string) bool { return strings.HasPrefix(t.Name, v) })
	}
	return hex.EncodeToString(h.Sum(nil)), tables, q.wrong(ctx, rows.Err())
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Count fills in the rows of a table.
func (q *Inquiry) Count(ctx context.Context, t *Table) error {
	if t.FTS5 {
		return nil
	}
	t.Err = q.wrong(ctx, q.c.conn.QueryRowContext(ctx, "SELECT count(*) FROM main."+quoteName(t.Name)).Scan(&t.Rows))
	if t.Err != nil {
		t.Rows = -1
	}
	return context.Cause(ctx)
}

// FullText is what SQLite's check of a full-text index finds.
func (q *Inquiry) FullText(ctx context.Context, table string) (found []string, err error) {
	err = q.c.each(ctx, "PRAGMA main.integrity_check("+quoteName(table)+")", func(line string) {
		if line != "ok" {
			found = append(found, line)
		}
	})
	return found, q.wrong(ctx, err)
}

// Sample calls each with the longer values of a table's first and last rows,
// by rowid, for those who want to know it again: texts and blobs of at least 8
// bytes, and large numbers. A table without rowids has no sample.
func (q *Inquiry) Sample(ctx context.Context, t Table, rows int, each func(rowid int64, column int, value []byte)) error {
	if t.FTS5 || t.Rows < 1 {
		return nil
	}
	name := quoteName(t.Name)
	err := q.values(ctx, fmt.Sprintf("SELECT rowid, * FROM main.%s ORDER BY rowid LIMIT %d", name, rows), each)
	if err == nil && t.Rows > int64(rows) {
		err = q.values(ctx, fmt.Sprintf("SELECT rowid, * FROM main.%s ORDER BY rowid DESC LIMIT %d", name, min(int64(rows), t.Rows-int64(rows))), each)
	}
	return err
}

// Row is Sample for one row, if it is there.
func (q *Inquiry) Row(ctx context.Context, table string, rowid int64, each func(column int, value []byte)) error {
	return q.values(ctx, fmt.Sprintf("SELECT rowid, * FROM main.%s WHERE rowid = %d", quoteName(table), rowid), func(_ int64, column int, value []byte) { each(column, value) })
}

func (q *Inquiry) values(ctx context.Context, query string, each func(rowid int64, column int, value []byte)) error {
	r, err := q.c.conn.QueryContext(ctx, query)
	if err != nil {
		return q.wrong(ctx, err)
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		return err
	}
	var rowid int64
	into := []any{&rowid}
	for range len(columns) - 1 {
		into = append(into, new(sql.RawBytes))
	}
	for r.Next() {
		if err := r.Scan(into...); err != nil {
			return q.wrong(ctx, err)
		}
		for column, v := range into[1:] {
			if raw := *v.(*sql.RawBytes); len(raw) >= 8 { //nolint:errcheck // it was put there above
				each(rowid, column, raw[:min(len(raw), 4096)])
			}
		}
	}
	return q.wrong(ctx, r.Err())
}
