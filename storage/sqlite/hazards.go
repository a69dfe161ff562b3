package sqlite

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Hazard is a column whose values another database would refuse or change.
type Hazard struct {
	Table    string `json:"table"`
	Column   string `json:"column"`
	Declared string `json:"declared"`
	Problem  string `json:"problem"`
	Rows     int64  `json:"rows"`
}

var charLength = regexp.MustCompile(`(?i)CHAR[A-Z ]*\(([0-9]+)\)`)

// Hazards looks for values that do not fit the declared type of their column:
// SQLite keeps them, others do not. It reads all rows of a file that nobody
// else uses, and counts them. Tables that cannot be read without their
// application are left out; Examine names them.
func Hazards(ctx context.Context, path string) (list []Hazard, rows int64, err error) {
	c, err := lenient(ctx, path)
	if err != nil {
		return nil, 0, err
	}
	defer c.close() //nolint:errcheck // it was only read
	tables, err := c.texts(ctx, "SELECT name FROM pragma_table_list WHERE type = 'table' AND schema = 'main' AND name NOT LIKE 'sqlite_%' ORDER BY name")
	if isSchema(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	for _, table := range tables {
		found, n, err := c.hazards(ctx, table)
		if err != nil && !needsApplication(err) {
			return nil, 0, err
		}
		list, rows = append(list, found...), rows+n
	}
	return list, rows, nil
}

func (c *connection) hazards(ctx context.Context, table string) (list []Hazard, rows int64, err error) {
	if rows, err = c.number(ctx, "SELECT count(*) FROM "+quoteName(table)+" NOT INDEXED"); err != nil {
		return nil, 0, err
	}
	columns, err := c.texts(ctx, "SELECT name || char(31) || type FROM pragma_table_info("+literal(table)+")")
	if err != nil {
		return nil, rows, err
	}
	for _, column := range columns {
		name, declared, _ := strings.Cut(column, "\x1f")
		for problem, where := range misfits(quoteName(name), declared) {
			n, err := c.number(ctx, "SELECT count(*) FROM "+quoteName(table)+" NOT INDEXED WHERE "+where)
			if needsApplication(err) {
				continue // a column that only the application can compare
			}
			if err != nil {
				return list, rows, err
			}
			if n > 0 {
				list = append(list, Hazard{table, name, declared, problem, n})
			}
		}
	}
	return list, rows, nil
}

// misfits are conditions, by what they find, for a column of a declared type.
func misfits(column, declared string) map[string]string {
	upper := strings.ToUpper(declared)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(upper, w) {
				return true
			}
		}
		return false
	}
	out := map[string]string{}
	switch {
	case has("INT", "REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"):
		out["text in a column of numbers"] = "typeof(" + column + ") = 'text'"
		out["infinity"] = column + " = 9e999 OR " + column + " = -9e999"
	case has("BOOL"):
		out["neither true nor false"] = column + " IS NOT NULL AND " + column + " NOT IN (0, 1)"
	case has("DATE", "TIME"):
		out["no date"] = column + " IS NOT NULL AND typeof(" + column + ") = 'text' AND datetime(" + column + ") IS NULL"
	}
	if m := charLength.FindStringSubmatch(declared); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			out[fmt.Sprintf("longer than %d characters", n)] = fmt.Sprintf("length(%s) > %d", column, n)
		}
	}
	if has("CHAR", "TEXT", "CLOB") {
		out["a zero byte in text"] = "typeof(" + column + ") = 'text' AND instr(" + column + ", char(0)) > 0"
	}
	return out
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func (c *connection) texts(ctx context.Context, query string) ([]string, error) {
	rows, err := c.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, sqliteError(c.path, err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, sqliteError(c.path, err)
		}
		list = append(list, s)
	}
	return list, rows.Err()
}
