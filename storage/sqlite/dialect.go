package sqlite

import (
	"context"
	"regexp"
)

// Dialect is a way of saying things that a schema uses and other databases do not
// take as it is.
type Dialect struct {
	What    string `json:"what"`
	Objects int    `json:"objects"` // tables, indexes, views and triggers that use it
	First   string `json:"first"`   // one of them
}

// dialects are recognised by their text: comments and strings can deceive them,
// which costs somebody a look.
var dialects = []struct {
	what string
	form *regexp.Regexp
}{
	{"virtual tables (full-text search, R-trees)", regexp.MustCompile(`(?i)^\s*CREATE\s+VIRTUAL\s+TABLE`)},
	{"INSERT OR REPLACE and its kin", regexp.MustCompile(`(?i)\b(INSERT|UPDATE)\s+OR\s+(REPLACE|IGNORE|ABORT|FAIL|ROLLBACK)\b`)},
	{"ON CONFLICT in a constraint", regexp.MustCompile(`(?i)\bON\s+CONFLICT\s+(REPLACE|IGNORE|ABORT|FAIL|ROLLBACK)\b`)},
	{"AUTOINCREMENT", regexp.MustCompile(`(?i)\bAUTOINCREMENT\b`)},
	{"WITHOUT ROWID", regexp.MustCompile(`(?i)\bWITHOUT\s+ROWID\b`)},
	{"strftime(), julianday(), unixepoch()", regexp.MustCompile(`(?i)\b(strftime|julianday|unixepoch)\s*\(`)},
	{"datetime('now') and its kin", regexp.MustCompile(`(?i)\b(date|time|datetime)\s*\(\s*'`)},
	{"json_…() functions", regexp.MustCompile(`(?i)\bjsonb?_[a-z]+\s*\(`)},
	{"GLOB", regexp.MustCompile(`(?i)\bGLOB\b`)},
	{"COLLATE NOCASE", regexp.MustCompile(`(?i)\bCOLLATE\s+NOCASE\b`)},
	{"RAISE() in a trigger", regexp.MustCompile(`(?i)\bRAISE\s*\(`)},
	{"ifnull(), iif(), printf(), randomblob()", regexp.MustCompile(`(?i)\b(ifnull|iif|printf|randomblob|hex|instr|total|group_concat)\s*\(`)},
	{"names in [brackets] or `backticks`", regexp.MustCompile("[\\[`][A-Za-z_]")},
	{"columns without a type", regexp.MustCompile(`(?i)^\s*CREATE\s+TABLE[^(]*\(\s*("[^"]+"|[a-z_0-9]+)\s*[,)]`)},
}

// Dialects are the ways that only SQLite has of saying things, in the schema of a
// file that nobody else uses. The statements of the application are not in it.
func Dialects(ctx context.Context, path string) ([]Dialect, error) {
	c, err := lenient(ctx, path)
	if err != nil {
		return nil, err
	}
	defer c.close() //nolint:errcheck // it was only read
	// The shadows of virtual tables go with these.
	const from = " FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND tbl_name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow') ORDER BY rowid"
	names, err := c.texts(ctx, "SELECT type || ' ' || name"+from)
	if isSchema(err) {
		return nil, nil // Examine says so
	}
	if err != nil {
		return nil, err
	}
	texts, err := c.texts(ctx, "SELECT sql"+from)
	if err != nil {
		return nil, err
	}
	var list []Dialect
	for _, d := range dialects {
		var found Dialect
		for i, text := range texts {
			if !d.form.MatchString(text) {
				continue
			}
			if found.Objects++; found.Objects == 1 {
				found.What, found.First = d.what, names[i]
			}
		}
		if found.Objects > 0 {
			list = append(list, found)
		}
	}
	return list, nil
}
