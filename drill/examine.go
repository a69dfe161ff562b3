package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/sqlite"
)

// finding is what one check found.
type finding struct {
	verdict       Verdict
	reason        string // of a failure, by name
	expected, got string
	err           error  // what stood in its way
	untested      string // why it was not tested: then it is no check of the report
}

// check runs one check and notes it.
func (a *attempt) check(ctx context.Context, name, kind string, do func(context.Context) finding) {
	if ctx.Err() != nil {
		return
	}
	began := a.Now()
	f := do(ctx)
	if f.untested != "" && ctx.Err() == nil {
		a.untested("%s", f.untested)
		return
	}
	if cause := context.Cause(ctx); cause != nil {
		f.verdict, f.reason = judge(ctx, cause)
		f.got, f.err = cause.Error(), cause
	}
	a.x.Checks = append(a.x.Checks, Check{Name: name, Kind: kind, Verdict: f.verdict, Expected: f.expected, Got: f.got, Seconds: seconds(a.Now().Sub(began))})
	if f.verdict == Pass {
		return
	}
	if f.err == nil {
		f.err = fmt.Errorf("check %s expected %s and got %s", name, f.expected, f.got)
	}
	a.because(f.verdict, f.reason, f.err)
}

// timed notes checks as a phase as well.
func (a *attempt) timed(name string, do func()) {
	began, before := a.Now(), len(a.x.Checks)
	do()
	p := Phase{Name: name, Start: seconds(began.Sub(a.report.Started)), Seconds: seconds(a.Now().Sub(began)), Verdict: Pass}
	for _, c := range a.x.Checks[before:] {
		if p.Verdict = worse(p.Verdict, c.Verdict); c.Verdict != Pass {
			p.Error = strings.TrimPrefix(p.Error+"; "+c.Name, "; ")
		}
	}
	if len(a.x.Checks) > before {
		a.x.Phases = append(a.x.Phases, p)
	}
}

// examine asks everything of the restored database. The error is what ended it
// early.
func (a *attempt) examine(ctx context.Context, t storage.Target, e *catalog.Entry) error {
	a.timed("integrity_check", func() {
		a.check(ctx, "integrity_check", "integrity", func(ctx context.Context) finding {
			return a.structure(ctx, "ok")
		})
	})
	if a.x.Verdict == Fail {
		return context.Cause(ctx) // what is damaged answers nothing
	}
	a.timed("foreign_key_check", func() {
		a.check(ctx, "foreign_key_check", "foreign-keys", a.foreignKeys)
	})
	q, err := sqlite.Inquire(ctx, a.path)
	if sqlite.NeedsApplication(err) {
		a.private("schema: " + err.Error())
		a.untested("schema, row counts and checks: this emsafe's SQLite cannot read the schema; every page matches the signed digest")
		a.timed("application", func() { a.programs(ctx) })
		return context.Cause(ctx)
	}
	if err != nil {
		return content(ctx, err)
	}
	digest, tables, err := q.Schema(ctx)
	if err != nil {
		q.Close() //nolint:errcheck // the first error counts
		return content(ctx, err)
	}
	a.fullText(ctx, q, tables)
	a.timed("schema", func() {
		a.check(ctx, "schema", "schema", func(context.Context) finding { return a.schema(digest) })
	})
	if a.first {
		a.compare(ctx, q, digest, tables, e)
		a.freshness(ctx, q)
	}
	a.timed("assertions", func() { a.queries(ctx, q) })
	a.pair(ctx, t, e, q)
	if err := q.Close(); err != nil {
		return err
	}
	a.timed("application", func() { a.programs(ctx) })
	return context.Cause(ctx)
}

// content gives SQLite's errors about a restored file their kind: the place is
// ours and in order, so that it is the content that is not.
func content(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || fault.Find(err) != nil || sqlite.NeedsApplication(err) {
		return err
	}
	return fault.New(fault.Corrupt, "SQLite cannot read what was restored: %w", err)
}

func (a *attempt) structure(ctx context.Context, want string) finding {
	f := finding{verdict: Pass, expected: want, got: want}
	report, err := sqlite.Examine(ctx, a.path, "structure")
	switch err = content(ctx, err); {
	case errors.Is(err, fault.NotSQLite), errors.Is(err, fault.Corrupt):
		a.private("integrity_check: " + err.Error())
		f.verdict, f.reason, f.got, f.err = Fail, ReasonCorrupt, "no database that SQLite can read", err
	case err != nil:
		f.verdict, f.reason, f.got, f.err = Inconclusive, ReasonSurroundings, told(err), err
	case len(report.Damage) > 0:
		a.private("integrity_check: " + strings.Join(report.Damage, "; "))
		f.verdict, f.reason, f.got = Fail, ReasonCorrupt, fmt.Sprintf("%d findings or more", len(report.Damage))
	case len(report.Unchecked) > 0:
		a.private("integrity_check: " + strings.Join(report.Unchecked, "; "))
		f.got = fmt.Sprintf("ok; %s not checked", objects(len(report.Unchecked)))
		a.untested("integrity of %s of backup %s: a collation, function, module, tokenizer or syntax of the schema is not in this emsafe's SQLite; every page matches the signed digest", objects(len(report.Unchecked)), a.x.Backup)
	}
	return f
}

// objects are counted, not named: a report lies in a bucket.
func objects(n int) string {
	if n == 1 {
		return "1 object of the schema"
	}
	return fmt.Sprintf("%d objects of the schema", n)
}

// foreignKeys counts orphans. They are no damage: many applications do not
// enforce foreign keys, and the source has them too.
func (a *attempt) foreignKeys(ctx context.Context) finding {
	f := finding{verdict: Pass, expected: "to be counted", got: "no orphans"}
	report, err := sqlite.ForeignKeys(ctx, a.path)
	switch {
	case errors.Is(err, fault.Corrupt):
		f.verdict, f.reason, f.got, f.err = Fail, ReasonCorrupt, "damage", err
	case err != nil:
		f.got = "cannot be counted"
	case len(report.Orphans) > 0:
		a.private("foreign_key_check: " + strings.Join(report.Orphans, "; "))
		f.got = fmt.Sprintf("orphans in %d tables, as the source has them", len(report.Orphans))
	case len(report.Unchecked) > 0:
		f.got = "cannot be counted without the application"
	}
	return f
}

func (a *attempt) fullText(ctx context.Context, q *sqlite.Inquiry, tables []sqlite.Table) {
	a.timed("full-text check", func() {
		for i, t := range tables {
			if !t.FTS5 {
				continue
			}
			a.check(ctx, fmt.Sprintf("full-text index %d", i+1), "fts", func(ctx context.Context) finding {
				f := finding{verdict: Pass, expected: "ok", got: "ok"}
				found, err := q.FullText(ctx, t.Name)
				switch {
				case err != nil && errors.Is(err, fault.Corrupt), len(found) > 0:
					a.private(fmt.Sprintf("full-text index %s: %s %v", t.Name, strings.Join(found, "; "), err))
					f.verdict, f.reason, f.got = Fail, ReasonCorrupt, "its entries are not those of the text"
				case err != nil:
					f.got = "needs the application, and was not checked"
				}
				return f
			})
		}
	})
}

// freshness finds the newest recovered write: from the canary, or from the
// newest row, or else it is the snapshot.
func (a *attempt) freshness(ctx context.Context, q *sqlite.Inquiry) {
	query, how := a.Newest, "newest-row"
	if a.Canary {
		query, how = sqlite.CanaryQuery, "canary"
	}
	if query == "" {
		return
	}
	a.check(ctx, how, "fresh", func(ctx context.Context) finding {
		f := finding{verdict: Pass, expected: "a time", reason: ReasonSQL}
		value, _, ok, err := ask(ctx, q, query, time.Minute)
		at, perr := parseMoment(value)
		switch {
		case q.Lacks(ctx, err):
			a.private(how + ": " + err.Error())
			f.untested = "freshness by " + how + ": its query needs what only the application has"
		case err != nil:
			a.private(how + ": " + err.Error())
			f.verdict, f.got, f.err = Fail, wrongAnswer(err), fmt.Errorf("%s: %w", how, err)
		case !ok:
			f.verdict, f.got = Fail, "nothing"
		case perr != nil:
			f.verdict, f.got = Fail, perr.Error()
		default:
			f.got = at.UTC().Format(time.RFC3339)
			a.rpoFrom, a.rpoHow = at, how
		}
		return f
	})
}

// errTooLong is why a question was given up.
var errTooLong = errors.New("no answer in its time")

// wrongAnswer is an error of SQLite's as a report tells it: its own words may
// name what is in the database.
func wrongAnswer(err error) string {
	if errors.Is(err, errTooLong) {
		return err.Error()
	}
	return "an error"
}

// ask gives one question its own time.
func ask(ctx context.Context, q *sqlite.Inquiry, query string, limit time.Duration) (value string, rows int, ok bool, err error) {
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w (%s)", errTooLong, limit))
	defer stop()
	return q.Value(ctx, query)
}
