package sqlite

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"emsafe/internal/fault"
)

// Report is what the examination of a database found.
type Report struct {
	Damage    []string // the first findings; empty if none was found
	Unchecked []string // what cannot be checked without the application, and why
	Orphans   []string // rows whose foreign key points nowhere, counted by table; only in a full check
}

// The results of an examination. Damage counts more than what could not be
// checked.
const (
	Sound        = "sound"
	Damaged      = "damaged"
	NotCheckable = "not checkable here"
)

// Result is one of Sound, Damaged and NotCheckable.
func (r Report) Result() string {
	switch {
	case len(r.Damage) > 0:
		return Damaged
	case len(r.Unchecked) > 0:
		return NotCheckable
	}
	return Sound
}

// Check is Examine for callers that ask only whether the database is damaged:
// the error is then a fault.Corrupt with the first findings.
func Check(ctx context.Context, path, level string) error {
	_, err := CheckReport(ctx, path, level)
	return err
}

// CheckReport is Check for callers that also report what was not checked.
func CheckReport(ctx context.Context, path, level string) (Report, error) {
	report, err := Examine(ctx, path, level)
	if err == nil && len(report.Damage) > 0 {
		err = fault.New(fault.Corrupt, "SQLite's %s check of %s found: %s", level, path, strings.Join(report.Damage, "; "))
	}
	return report, err
}

// Examine runs SQLite's own check over a database that nobody else uses:
// "quick" (structure), "structure" (and indexes) or "full" (and foreign keys).
// It leaves nothing beside it.
//
// A schema may use functions, collations, modules and tokenizers that only its
// application has, or be written for a newer SQLite. SQLite then refuses to
// check at all. Tables are then checked one by one; of those that need the
// application the pages are read instead, and Unchecked names them: they are
// not damaged for that.
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
	defer func() { c.close() }() //nolint:errcheck // it was only read
	if level != "quick" {
		// Every entry of every index is looked up, in no order that a cache would
		// like: mapped, that takes half the time. Nobody truncates the file.
		if err := c.exec(ctx, "PRAGMA mmap_size = 2147418112"); err != nil {
			return Report{}, err
		}
	}
	e := &examination{c: c, pragma: pragma}
	e.report.Damage, err = e.findings(ctx, "PRAGMA "+pragma+"(5)")
	if schema := (*SchemaError)(nil); errors.As(err, &schema) {
		c.close() //nolint:errcheck // it was only read
		if c, err = lenient(ctx, path); err != nil {
			return Report{}, err
		}
		e.c, err = c, e.unparsed(ctx, c, schema)
	} else if needsApplication(err) {
		err = e.tables(ctx)
	}
	if err == nil && len(e.report.Damage) == 0 {
		err = e.declared(ctx)
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
	if err = e.foreignKeys(ctx); needsApplication(err) || isSchema(err) {
		e.unchecked("foreign keys", err)
		err = nil
	}
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

// NeedsApplication reports whether SQL could not be compiled here, because of a
// function, collation, module or tokenizer that is not there, or because of a
// schema that this SQLite does not understand. It is no sign of damage.
func NeedsApplication(err error) bool {
	return isSchema(err) || needsApplication(err) && absent.MatchString(err.Error())
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
	if needsApplication(err) || isSchema(err) {
		e.unchecked("foreign keys", err)
		err = nil
	}
	for _, table := range order {
		e.report.Orphans = append(e.report.Orphans, fmt.Sprintf("%s: %d rows", table, count[table]))
	}
	return err
}

var code = regexp.MustCompile(` \([0-9]+\)$`)

// reason is SQLite's own message, without path and code.
func reason(err error) string {
	var schema *SchemaError
	if errors.As(err, &schema) {
		return schema.Reason
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		return code.ReplaceAllString(strings.TrimPrefix(e.Error(), "SQL logic error: "), "")
	}
	return err.Error()
}
