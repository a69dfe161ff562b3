package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// SchemaError is a schema that this SQLite cannot parse, for which damage is
// not the only explanation: an application with another or a newer SQLite may
// parse it.
type SchemaError struct {
	Object string // the table, index, view or trigger; "" for the schema as a whole
	Reason string // SQLite's message
}

func (e *SchemaError) Error() string {
	if e.Object == "" {
		return "this SQLite (" + Version() + ") cannot read the schema: " + e.Reason
	}
	return "this SQLite (" + Version() + ") cannot parse the schema of " + e.Object + ": " + e.Reason
}

func isSchema(err error) bool {
	var e *SchemaError
	return errors.As(err, &e)
}

var (
	// malformed is how SQLite reports an entry of the schema that it rejects. An
	// entry that lies about pages has no other explanation than damage; nor has
	// one without a reason, as it is no row of a schema at all.
	malformed = regexp.MustCompile(`(?s)malformed database schema \((.*?)\) - (.+?)(?: \([0-9]+\))?$`)
	lies      = regexp.MustCompile(`^(invalid rootpage|orphan index)$`)
	absent    = regexp.MustCompile(`no such (collation sequence|function|module|tokenizer)|unknown (function|tokenizer)|unsafe use of|error in tokenizer|SQL logic error \(1\)$`)
)

// schemaError is nil for an error that is not about parsing the schema.
func schemaError(e *sqlite.Error) *SchemaError {
	switch e.Code() & 0xff {
	case lib.SQLITE_CORRUPT:
		m := malformed.FindStringSubmatch(e.Error())
		if m == nil || lies.MatchString(m[2]) {
			return nil
		}
		return &SchemaError{m[1], m[2]}
	case lib.SQLITE_ERROR:
		if strings.Contains(e.Error(), "unsupported file format") {
			return &SchemaError{Reason: "unsupported file format"}
		}
	}
	return nil
}

// lenient opens a file whose schema cannot be parsed: entries that SQLite
// rejects are left out. Nothing can be written, and nobody else uses it.
func lenient(ctx context.Context, path string) (*connection, error) {
	c, err := connect(ctx, path, "mode=ro&immutable=1", 0)
	if err != nil {
		return nil, err
	}
	if err := c.exec(ctx, "PRAGMA writable_schema = ON"); err != nil && !isSchema(err) {
		c.close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return c, nil
}

func (e *examination) unchecked(what string, err error) {
	e.report.Unchecked = append(e.report.Unchecked, what+": "+reason(err))
}

func (e *examination) damaged(format string, args ...any) {
	e.report.Damage = append(e.report.Damage, fmt.Sprintf(format, args...))
}

// object is an entry of the schema.
type object struct {
	kind, name, table, text string
	root                    int64
}

func (e *examination) objects(ctx context.Context) (list []object, err error) {
	rows, err := e.c.conn.QueryContext(ctx, "SELECT ifnull(type, ''), ifnull(name, ''), ifnull(tbl_name, ''), ifnull(sql, ''), ifnull(rootpage, 0) FROM sqlite_schema ORDER BY rowid")
	if err != nil {
		return nil, sqliteError(e.c.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var o object
		if err := rows.Scan(&o.kind, &o.name, &o.table, &o.text, &o.root); err != nil {
			return nil, sqliteError(e.c.path, err)
		}
		list = append(list, o)
	}
	if err := rows.Err(); err != nil {
		return nil, sqliteError(e.c.path, err)
	}
	return list, nil
}

// unparsed examines a database whose schema SQLite rejects in part.
func (e *examination) unparsed(ctx context.Context, c *connection, first *SchemaError) error {
	e.c = c
	all, err := e.objects(ctx)
	if isSchema(err) {
		// Not even the list can be read, as with a file format of the future.
		e.unchecked("the whole schema", err)
		return nil
	}
	if err != nil {
		return err
	}
	tables := map[string]bool{}
	for _, o := range all {
		tables[strings.ToLower(o.name)] = tables[strings.ToLower(o.name)] || o.kind == "table"
	}
	for _, o := range all {
		switch {
		case o.name == first.Object && !isText(o.text):
			e.damaged("the schema of %s is no text, and SQLite cannot parse it: %s", o.name, printable(first.Reason))
			return nil
		case o.kind == "index" && !tables[strings.ToLower(o.table)]:
			e.damaged("index %s is of table %s, which the schema does not hold", o.name, o.table)
			return nil
		}
	}
	e.unchecked(strings.TrimSuffix("schema of "+first.Object, " of "), first)
	return e.each(ctx, all)
}

// isText reports whether SQL could be the application's, for a SQLite that
// understands it: rubbish has bytes in it that no SQL has.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && !unicode.IsSpace(r)
	})
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// tables checks one table after the other.
func (e *examination) tables(ctx context.Context) error {
	all, err := e.objects(ctx)
	if err != nil {
		return err
	}
	return e.each(ctx, all)
}

func (e *examination) each(ctx context.Context, all []object) error {
	found, err := e.findings(ctx, "PRAGMA "+e.pragma+"(sqlite_schema)")
	if err != nil && !needsApplication(err) {
		return err
	}
	e.report.Damage = append(e.report.Damage, found...)
	for _, o := range all {
		if o.kind != "table" {
			continue
		}
		var found []string
		err := e.parsed(ctx, o)
		if err == nil {
			found, err = e.findings(ctx, "PRAGMA "+e.pragma+"("+quoteName(o.name)+")")
		}
		if needsApplication(err) || isSchema(err) {
			what := "table "
			if o.root <= 0 {
				what, err = "virtual table ", e.sayMore(ctx, o, err)
			}
			if !e.mentions(o.name) {
				e.unchecked(what+o.name, err)
			}
			err = e.read(ctx, o, all)
		}
		if err != nil {
			return err
		}
		if e.report.Damage = append(e.report.Damage, found...); len(e.report.Damage) >= 5 {
			return nil
		}
	}
	return e.shared(ctx)
}

// parsed is why a table is not in the schema as SQLite parsed it: a check of a
// table that it does not know finds nothing, and must not pass.
func (e *examination) parsed(ctx context.Context, o object) error {
	var n int
	if err := e.c.conn.QueryRowContext(ctx, "SELECT count(*) FROM pragma_table_info(?)", o.name).Scan(&n); err != nil {
		return sqliteError(e.c.path, err)
	}
	if n == 0 && o.root > 0 {
		return &SchemaError{o.name, "this SQLite (" + Version() + ") cannot parse its schema"}
	}
	return nil
}

// read reads what can be read of a table that cannot be checked: the pages of
// its b-tree and of its indexes, as SQLite decodes them, which needs neither
// collations nor functions.
func (e *examination) read(ctx context.Context, o object, all []object) error {
	for _, part := range all {
		if part.root <= 0 || part.table != o.name {
			continue
		}
		var pages, wrong sql.NullInt64
		err := e.c.conn.QueryRowContext(ctx, "SELECT count(*), sum(pagetype = 'corrupted' OR pageno < 1 OR pageno > (SELECT page_count FROM pragma_page_count())) FROM dbstat WHERE name = ?", part.name).Scan(&pages, &wrong)
		if err != nil {
			return sqliteError(e.c.path, err)
		}
		if wrong.Int64 > 0 || pages.Int64 == 0 {
			e.damaged("%s %s: %d of %d pages cannot be decoded", part.kind, part.name, wrong.Int64, pages.Int64)
		}
	}
	if o.root <= 0 {
		return nil // its pages are those of other tables
	}
	err := e.c.each(ctx, "SELECT count(*) FROM "+quoteName(o.name)+" NOT INDEXED", func(string) {})
	if needsApplication(err) || isSchema(err) {
		return nil // the pages were read
	}
	return err
}

// sayMore asks a full-text index in a way that names what it lacks: SQLite's
// check does not.
func (e *examination) sayMore(ctx context.Context, o object, err error) error {
	if reason(err) == "SQL logic error" {
		if more := e.c.each(ctx, "SELECT 1 FROM "+quoteName(o.name)+" WHERE "+quoteName(o.name)+" MATCH 'a' LIMIT 1", func(string) {}); needsApplication(more) {
			return more
		}
	}
	return err
}

// shared finds pages that belong to two b-trees at once, or to none.
func (e *examination) shared(ctx context.Context) error {
	err := e.c.each(ctx, "SELECT pageno FROM dbstat GROUP BY pageno HAVING count(*) > 1 LIMIT 3", func(page string) {
		e.damaged("page %s is used twice", page)
	})
	if err != nil || len(e.report.Damage) > 0 {
		return err
	}
	var pages, used, free, vacuum, size int64
	for query, into := range map[string]*int64{"PRAGMA page_count": &pages, "SELECT count(*) FROM dbstat": &used, "PRAGMA freelist_count": &free, "PRAGMA auto_vacuum": &vacuum, "PRAGMA page_size": &size} {
		if *into, err = e.c.number(ctx, query); err != nil {
			return err
		}
	}
	// Pointer maps and the lock-byte page belong to nothing, by the format.
	if vacuum == 0 && pages*size < 1<<30 && pages != used+free {
		e.damaged("%d pages belong to nothing, or are free and used", max(pages-used-free, used+free-pages))
	}
	return nil
}

var virtual = regexp.MustCompile(`(?i)^\s*CREATE\s+VIRTUAL\s+TABLE`)

// declared finds what SQLite's check passes over without a word: constraints
// with a function that is not there, and virtual tables without their module.
func (e *examination) declared(ctx context.Context) error {
	all, err := e.objects(ctx)
	if isSchema(err) {
		return nil // said already
	}
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.kind != "table" || e.mentions(o.name) {
			continue
		}
		what, queries := "constraints of table "+o.name, []string{}
		if virtual.MatchString(o.text) {
			what, queries = "virtual table "+o.name, []string{"EXPLAIN SELECT * FROM " + quoteName(o.name)}
		}
		for _, expression := range constraints(o.text) {
			queries = append(queries, "EXPLAIN SELECT 1 FROM "+quoteName(o.name)+" WHERE "+expression)
		}
		for _, query := range queries {
			err := e.c.each(ctx, query, func(string) {})
			if needsApplication(err) || isSchema(err) {
				e.unchecked(what, err)
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

var token = regexp.MustCompile(`(?is)--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|` + "`(?:[^`]|``)*`" + `|\[[^\]]*\]|[a-z_][a-z0-9_$]*|[()]`)

// constraints are the CHECK expressions of a table, with their parentheses.
func constraints(text string) (list []string) {
	depth, began := 0, -1
	check := false
	for _, at := range token.FindAllStringIndex(text, -1) {
		word := text[at[0]:at[1]]
		switch {
		case word == "(":
			if check && began < 0 {
				began, depth = at[0], 0
			}
			depth++
		case word == ")":
			if depth--; began >= 0 && depth == 0 {
				list, began = append(list, text[began:at[1]]), -1
			}
		}
		if began < 0 {
			check = strings.EqualFold(word, "check")
		}
	}
	return list
}

func (e *examination) mentions(table string) bool {
	for _, line := range e.report.Unchecked {
		for _, what := range []string{"table ", "virtual table ", "schema of "} {
			if strings.HasPrefix(line, what+table+": ") {
				return true
			}
		}
	}
	return false
}
