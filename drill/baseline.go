package drill

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"emsafe/storage/catalog"
	"emsafe/storage/sqlite"
)

// baseline is what the last drill that passed saw of the database. It stays on
// the host: names of tables are nothing for a bucket.
type baseline struct {
	At     time.Time        `json:"at"`
	Backup string           `json:"backup"`
	Schema string           `json:"schema"`
	Tables map[string]int64 `json:"tables"` // rows; -1: not counted
	Key    string           `json:"key"`    // of the cells
	Marks  []markedRow      `json:"marks"`  // rows by which to know the database again
}

// markedRow is a row with keyed hashes of its longer values, by column.
type markedRow struct {
	Table string         `json:"table"`
	Rowid int64          `json:"rowid"`
	Cells map[int]string `json:"cells"`
}

const (
	rowsEachEnd = 8   // of a table that are marked, by rowid
	mostMarks   = 400 // in all
	fewCells    = 12  // fewer say nothing
)

// schema says whether the schema is that of the last drill. A change is told,
// and is no failure: deploys change schemas.
func (a *attempt) schema(digest string) finding {
	a.x.Schema = digest
	f := finding{verdict: Pass, expected: "to be compared", got: "the first that is known"}
	if old := a.book.baseline; old != nil {
		if f.expected, f.got = "as in the last drill", "the same"; old.Schema != digest {
			f.got = "changed since " + old.At.UTC().Format(time.DateOnly)
		}
	}
	return f
}

// compare counts rows and holds them, and the database as such, against the
// last drill that passed.
func (a *attempt) compare(ctx context.Context, q *sqlite.Inquiry, digest string, tables []sqlite.Table, e *catalog.Entry) {
	old := a.book.baseline
	now := &baseline{At: a.report.Started, Backup: e.ID, Schema: digest, Tables: map[string]int64{}, Key: a.book.key()}
	a.timed("rows", func() {
		a.check(ctx, "rows", "rows", func(ctx context.Context) finding {
			var counted, rows int64
			lacking := 0
			for i := range tables {
				if tables[i].Own || tables[i].Name == sqlite.CanaryTable {
					continue
				}
				if q.Count(ctx, &tables[i]) != nil {
					return finding{verdict: Fail, reason: ReasonLimit, expected: "to be counted", got: "not in time"}
				}
				now.Tables[tables[i].Name] = tables[i].Rows
				if q.Lacks(ctx, tables[i].Err) {
					a.private("rows of " + tables[i].Name + ": " + tables[i].Err.Error())
					lacking++
				}
				if n := tables[i].Rows; n >= 0 {
					counted, rows = counted+1, rows+n
				}
			}
			a.memorise(ctx, q, tables, now)
			if lacking > 0 {
				a.untested("rows of %d tables of backup %s: they cannot be counted without the application", lacking, a.x.Backup)
			}
			f := finding{verdict: Pass, expected: "to be counted", got: fmt.Sprintf("%d rows in %d tables", rows, counted)}
			if old != nil && a.x.Why == Latest {
				a.held(old, now, a.another(ctx, q, old), &f)
			}
			return f
		})
	})
	if a.x.Why == Latest {
		a.baseline = now
	}
}

// memorise marks rows by which the database is known again.
func (a *attempt) memorise(ctx context.Context, q *sqlite.Inquiry, tables []sqlite.Table, into *baseline) {
	for _, t := range tables {
		if t.Own || t.Name == sqlite.CanaryTable {
			continue
		}
		// What cannot be read says nothing; integrity_check has its own word.
		q.Sample(ctx, t, rowsEachEnd, func(rowid int64, column int, value []byte) { //nolint:errcheck // as said
			if n := len(into.Marks); n == 0 || into.Marks[n-1].Rowid != rowid || into.Marks[n-1].Table != t.Name {
				if n == mostMarks {
					return
				}
				into.Marks = append(into.Marks, markedRow{t.Name, rowid, map[int]string{}})
			}
			last := into.Marks[len(into.Marks)-1]
			last.Cells[column] = into.cell(t.Name, column, value)
		})
	}
}

func (b *baseline) cell(table string, column int, value []byte) string {
	key, _ := hex.DecodeString(b.Key) //nolint:errcheck // made by this program
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s\x00%d\x00", table, column)
	m.Write(value)
	return hex.EncodeToString(m.Sum(nil)[:8])
}

// another reports whether the marked rows that are still there are all others:
// rows come and go and change, but not every value of every one of them.
func (a *attempt) another(ctx context.Context, q *sqlite.Inquiry, old *baseline) bool {
	compared, same := 0, 0
	for _, m := range old.Marks {
		q.Row(ctx, m.Table, m.Rowid, func(column int, value []byte) { //nolint:errcheck // a table that is gone has no such row
			if known := m.Cells[column]; known != "" {
				if compared++; old.cell(m.Table, column, value) == known {
					same++
				}
			}
		})
	}
	return compared >= fewCells && same*20 <= compared
}

// held compares with the last drill: first whether it is the same database at
// all, then whether tables are gone, then whether they have shrunk.
func (a *attempt) held(old, now *baseline, another bool, f *finding) {
	var gone, shrunken []string
	for name, rows := range old.Tables {
		n, there := now.Tables[name]
		switch {
		case !there:
			gone = append(gone, name)
		case rows > 0 && n >= 0 && n*100 < rows*int64(a.Rows):
			shrunken = append(shrunken, fmt.Sprintf("%s: %d of %d rows", name, n, rows))
		}
	}
	since := old.At.UTC().Format(time.DateOnly)
	f.expected = fmt.Sprintf("every table of %s, with at least %d %% of its rows", since, a.Rows)
	fail := func(reason, got string) {
		if f.got = got; a.Accept {
			f.got += "; accepted"
			return
		}
		f.verdict, f.reason = Fail, reason
		f.err = errors.New("compared with the last drill that passed: " + got)
	}
	switch {
	case another, len(old.Tables) > 0 && len(gone) == len(old.Tables):
		fail(ReasonSwapped, "another database: nothing that was looked at is as on "+since)
	case len(gone) > 0:
		a.private("tables that are gone since " + since + ": " + strings.Join(gone, ", "))
		fail(ReasonDropped, fmt.Sprintf("%d of %d tables are gone", len(gone), len(old.Tables)))
	case len(shrunken) > 0:
		a.private("tables that have shrunk since " + since + ": " + strings.Join(shrunken, "; "))
		fail(ReasonShrunken, fmt.Sprintf("%d of %d tables have fewer", len(shrunken), len(old.Tables)))
	}
}
