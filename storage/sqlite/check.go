package sqlite

import (
	"context"
	"fmt"
	"strings"

	"emsafe/internal/fault"
)

// Check runs SQLite's own check over a database that nobody else uses: "quick"
// (structure) or "full" (structure and indexes). It leaves nothing beside it.
// The error is a fault.Corrupt with the first findings.
func Check(ctx context.Context, path, level string) error {
	pragma, ok := map[string]string{"quick": "quick_check", "full": "integrity_check"}[level]
	if !ok {
		return fmt.Errorf("unknown check %q", level)
	}
	// immutable is right here and wrong on a live file: it keeps -wal and
	// -shm from being made.
	c, err := connect(ctx, path, "mode=ro&immutable=1", 0)
	if err != nil {
		return err
	}
	defer c.close()
	rows, err := c.conn.QueryContext(ctx, "PRAGMA "+pragma+"(5)")
	if err != nil {
		return sqliteError(path, err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return sqliteError(path, err)
		}
		if line != "ok" {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if err := rows.Err(); err != nil {
		return sqliteError(path, err)
	}
	if len(found) > 0 {
		return fault.New(fault.Corrupt, "SQLite's %s of %s found: %s", pragma, path, strings.Join(found, "; "))
	}
	return nil
}
