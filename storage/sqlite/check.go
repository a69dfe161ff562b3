package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"emsafe/internal/fault"
)

// Report is what SQLite's check of a database found.
type Report struct {
	Damage    []string // the first findings; empty if it is whole
	Unchecked []string // what cannot be checked without the application, and why
	Orphans   []string // rows whose foreign key points nowhere, counted by table; only in a full check
}

// Check is Examine for callers that ask only whether the database is whole:
// the error is then a fault.Corrupt with the first findings.
func Check(ctx context.Context, path, level string) error {
	report, err := Examine(ctx, path, level)
	if err != nil {
		return err
	}
	if len(report.Damage) > 0 {
		return fault.New(fault.Corrupt, "SQLite's %s check of %s found: %s", level, path, strings.Join(report.Damage, "; "))
	}
	return nil
}

// Examine runs SQLite's own check over a database that nobody else uses:
// "quick" (structure), "structure" (and indexes) or "full" (and foreign keys).
// It leaves nothing beside it.
//
// A schema may use functions, collations and modules that only its application
// has. SQLite then refuses to check at all; so tables are checked one by one,
// and those that need the application are read through instead and reported.
func Examine(ctx context.Context, path, level string) (Report, error) {
	pragma, ok := map[string]string{"quick": "quick_check", "full": "integrity_check", "structure": "integrity_check"}[level]
	if !ok {
		return Report{}, fmt.Errorf("unknown check %q", level)
	}
	// immutable is right here and wrong on a live file: it keeps -wal and
	// -shm from being made.
	c, err := connect(ctx, path, "mode=ro&immutable=1&_defensive=1", 0)
	if err != nil {
		return Report{}, err
	}
	defer c.close()
	if level != "quick" {
		// Every entry of every index is looked up, in no order that a cache would
		// like: mapped, that takes half the time. Nobody truncates the file.
		if err := c.exec(ctx, "PRAGMA mmap_size = 2147418112"); err != nil {
			return Report{}, err
		}
	}
	e := &examination{c: c, pragma: pragma}
	if e.report.Damage, err = e.findings(ctx, "PRAGMA "+pragma+"(5)"); needsApplication(err) {
		err = e.tables(ctx)
	}
	if errors.Is(err, fault.Corrupt) {
		// So damaged that the check itself gave up.
		e.report.Damage, err = append(e.report.Damage, err.Error()), nil
	}
	if err == nil && level == "full" && len(e.report.Damage) == 0 {
		err = e.foreignKeys(ctx)
	}
	return e.report, err
}

// ForeignKeys counts the rows whose foreign key points nowhere, as Examine's
// full check does.
func ForeignKeys(ctx context.Context, path string) (Report, error) {
	c, err := connect(ctx, path, "mode=ro&immutable=1&_defensive=1", 0)
	if err != nil {
		return Report{}, err
	}
	defer c.close()
	e := &examination{c: c}
	err = e.foreignKeys(ctx)
	return e.report, err
}

type examination struct {
	c      *connection
	pragma string
	report Report
}

// findings are the lines of a check that are not "ok".
func (e *examination) findings(ctx context.Context, query string) (found []string, err error) {
	err = e.c.each(ctx, query, func(line string) {
		if line != "ok" {
			found = append(found, strings.TrimSpace(line))
		}
	})
	return found, err
}

// each calls do with the first column of every row.
func (c *connection) each(ctx context.Context, query string, do func(string)) error {
	rows, err := c.conn.QueryContext(ctx, query)
	if err != nil {
		return sqliteError(c.path, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	var first string
	into := []any{&first}
	for range len(columns) - 1 {
		into = append(into, new(any))
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return sqliteError(c.path, err)
		}
		do(first)
	}
	if err := rows.Err(); err != nil {
		return sqliteError(c.path, err)
	}
	return nil
}

// needsApplication tells SQL that cannot be compiled here from damage.
func needsApplication(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_ERROR && fault.Find(err) == nil
}

// tables checks one table after the other.
func (e *examination) tables(ctx context.Context) error {
	names := []string{"sqlite_schema"}
	collect := func(name string) { names = append(names, name) }
	if err := e.c.each(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name", collect); err != nil {
		return err
	}
	for _, name := range names {
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		found, err := e.findings(ctx, "PRAGMA "+e.pragma+"("+quoted+")")
		if needsApplication(err) {
			e.report.Unchecked = append(e.report.Unchecked, fmt.Sprintf("table %s was read, not checked: %s", name, reason(err)))
			err = e.c.each(ctx, "SELECT count(*) FROM "+quoted+" NOT INDEXED", func(string) {})
		}
		if err != nil {
			return err
		}
		if e.report.Damage = append(e.report.Damage, found...); len(e.report.Damage) >= 5 {
			return nil
		}
	}
	return nil
}

// foreignKeys reports orphans. Applications that do not enforce foreign keys
// have them: they are no damage.
func (e *examination) foreignKeys(ctx context.Context) error {
	var order []string
	count := map[string]int{}
	err := e.c.each(ctx, "PRAGMA foreign_key_check", func(table string) {
		if count[table]++; count[table] == 1 {
			order = append(order, table)
		}
	})
	if needsApplication(err) {
		e.report.Unchecked = append(e.report.Unchecked, "foreign keys: "+reason(err))
		err = nil
	}
	for _, table := range order {
		e.report.Orphans = append(e.report.Orphans, fmt.Sprintf("%s: %d rows", table, count[table]))
	}
	return err
}

// reason is SQLite's own words, without the path.
func reason(err error) string {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.Error(), "SQL logic error: ")
	}
	return err.Error()
}
