package drill_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/storage"
)

// latest is a plan for the latest backup alone.
func (w *world) latest() drill.Plan {
	p := w.plan()
	p.Select = []drill.Selection{{Kind: drill.Latest}}
	return p
}

// TestDrillFinds breaks one thing at a time, after a drill that passed.
func TestDrillFinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		reason  string
		verdict drill.Verdict
		private string // that the operator is told, and the report is not
		broken  func(w *world, p *drill.Plan)
	}{
		{"flipped bit", drill.ReasonDamaged, drill.Fail, "", func(w *world, _ *drill.Plan) {
			file := w.payloads()[0]
			data, err := os.ReadFile(file)
			w.must(err)
			data[len(data)/2] ^= 1
			w.must(os.WriteFile(file, data, 0o600))
		}},
		{"missing delta", drill.ReasonMissingDelta, drill.Fail, "", func(w *world, _ *drill.Plan) {
			w.must(os.Remove(w.payloads()[1]))
		}},
		{"missing manifest", drill.ReasonMissingDelta, drill.Fail, "", func(w *world, _ *drill.Plan) {
			w.must(os.Remove(w.path("target", "databases", "app", "manifests", "00000000000000000001")))
		}},
		{"missing full", drill.ReasonMissing, drill.Fail, "", func(w *world, _ *drill.Plan) {
			w.must(os.Remove(w.payloads()[0]))
		}},
		{"forged manifest", drill.ReasonForged, drill.Fail, "", func(w *world, _ *drill.Plan) {
			file := w.path("target", "databases", "app", "manifests", "00000000000000000002")
			data, err := os.ReadFile(file)
			w.must(err)
			w.must(os.Chmod(file, 0o600))
			w.must(os.WriteFile(file, []byte(strings.Replace(string(data), `"host": "test"`, `"host": "tost"`, 1)), 0o600))
		}},
		{"dropped table", drill.ReasonDropped, drill.Fail, "customers", func(w *world, _ *drill.Plan) {
			w.sqlite(w.db, "DROP TABLE customers")
			w.backup()
		}},
		{"shrunken table", drill.ReasonShrunken, drill.Fail, "customers: 20 of 50 rows", func(w *world, _ *drill.Plan) {
			w.sqlite(w.db, "DELETE FROM customers WHERE id > 20")
			w.backup()
		}},
		{"stale data", drill.ReasonStale, drill.Fail, "", func(w *world, p *drill.Plan) {
			w.sqlite(w.db, "DELETE FROM orders WHERE id > 30")
			w.backup()
			p.Rows = 10
			p.Checks = []drill.Assertion{{Name: "recent", SQL: "SELECT max(at) FROM orders", NewerThan: time.Hour}}
		}},
		{"swapped source", drill.ReasonSwapped, drill.Fail, "", func(w *world, _ *drill.Plan) {
			w.must(os.Remove(w.db))
			w.sqlite(w.db, strings.ReplaceAll(shop, "order number", "another order number")+"UPDATE customers SET name = 'else ' || id, email = 'x' || email; UPDATE orders SET at = '2020-01-01'; DELETE FROM search; INSERT INTO search SELECT what FROM orders;")
			w.backup()
		}},
		{"another schema altogether", drill.ReasonSwapped, drill.Fail, "", func(w *world, _ *drill.Plan) {
			w.must(os.Remove(w.db))
			w.sqlite(w.db, "CREATE TABLE other (v)")
			w.backup()
		}},
		{"corrupt source", drill.ReasonCorrupt, drill.Fail, "2nd reference", func(w *world, _ *drill.Plan) {
			w.sqlite(w.db, "PRAGMA writable_schema=1; UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'customers') WHERE name = 'orders_at'; PRAGMA wal_checkpoint(truncate);")
			w.backup()
		}},
		{"application does not start", drill.ReasonService, drill.Fail, "", func(w *world, p *drill.Plan) {
			w.sqlite(w.db, "ALTER TABLE orders RENAME COLUMN what TO title")
			w.backup()
			p.Checks = []drill.Assertion{{Name: "web", Service: []string{"/usr/bin/python3", "-c", server, "{port}"}, Timeout: 30 * time.Second,
				Ask: []drill.Ask{{Name: "count", URL: "http://127.0.0.1:{port}/count"}}}}
		}},
		{"application answers with an error", drill.ReasonService, drill.Fail, "", func(w *world, p *drill.Plan) {
			p.Checks = []drill.Assertion{{Name: "web", Service: []string{"/usr/bin/python3", "-c", server, "{port}"}, Timeout: 30 * time.Second,
				Ask: []drill.Ask{{Name: "none", URL: "http://127.0.0.1:{port}/none"}}}}
		}},
		{"command says no", drill.ReasonCommand, drill.Fail, "", func(_ *world, p *drill.Plan) {
			p.Checks = []drill.Assertion{{Name: "no", Command: []string{"sh", "-c", "echo a secret >&2; exit 9"}}}
		}},
		{"wrong value", drill.ReasonSQL, drill.Fail, "", func(_ *world, p *drill.Plan) {
			p.Checks = []drill.Assertion{{Name: "many", SQL: "SELECT count(*) FROM orders", Min: "100000"}}
		}},
		{"question without an end", drill.ReasonSQL, drill.Fail, "", func(_ *world, p *drill.Plan) {
			p.Checks = []drill.Assertion{{Name: "endless", Timeout: 100 * time.Millisecond, SQL: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"}}
		}},
		{"wrong key", drill.ReasonWrongKey, drill.Fail, "", func(w *world, p *drill.Plan) {
			p.Identities, _ = identity(w.t)
		}},
		{"rolled back", drill.ReasonRolledBack, drill.Fail, "", func(w *world, p *drill.Plan) {
			p.MinSequence = 9
		}},
		{"emptied target", drill.ReasonNoBackup, drill.Fail, "", func(w *world, _ *drill.Plan) {
			w.must(os.RemoveAll(w.path("target", "databases")))
		}},
		{"missed RPO", drill.ReasonRPO, drill.Missed, "", func(w *world, p *drill.Plan) {
			p.RPO, p.Newest = time.Second, "SELECT '2026-01-01'"
		}},
		{"slow target", drill.ReasonRTO, drill.Missed, "", func(_ *world, p *drill.Plan) {
			p.RTO = 150 * time.Millisecond
			p.Targets = []storage.Target{slow(p.Targets[0], 200*time.Millisecond)}
		}},
		{"time limit", drill.ReasonLimit, drill.Fail, "", func(_ *world, p *drill.Plan) {
			p.Limit = 100 * time.Millisecond
			p.Targets = []storage.Target{slow(p.Targets[0], time.Hour)}
		}},
		{"target out of reach", drill.ReasonSurroundings, drill.Inconclusive, "", func(_ *world, p *drill.Plan) {
			p.Targets = []storage.Target{{Name: "main", Open: func(context.Context) (storage.Bucket, error) {
				return nil, fault.New(fault.Storage, "the network is down")
			}}}
		}},
		{"no scratch", drill.ReasonSurroundings, drill.Inconclusive, "", func(w *world, p *drill.Plan) {
			p.Scratch = w.path("none")
		}},
		{"no program", drill.ReasonSurroundings, drill.Inconclusive, "", func(_ *world, p *drill.Plan) {
			p.Checks = []drill.Assertion{{Name: "none", Command: []string{"/no/such/program"}}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shop)
			w.backup()
			w.sqlite(w.db, "INSERT INTO orders (at, what) VALUES (strftime('%Y-%m-%dT%H:%M:%SZ'), 'one more')")
			w.backup()
			w.expect(w.latest(), drill.Pass, "")
			w.warned = nil
			p := w.latest()
			c.broken(w, &p)
			r := w.expect(p, c.verdict, c.reason)
			if len(r.Actions) == 0 {
				t.Error("nothing is to be done")
			}
			if told := strings.Join(w.private, "\n"); c.private != "" && !strings.Contains(told, c.private) {
				t.Errorf("the operator is not told of %q: %s", c.private, told)
			}
			objects, err := os.ReadFile(filepath.Join(w.dir, "state", "drills", "app", "00000000000000000002"))
			if err != nil || c.private != "" && strings.Contains(string(objects), c.private) || strings.Contains(string(objects), "a secret") {
				t.Errorf("the report says what it should not: %v", err)
			}
			if c.reason == drill.ReasonDropped || c.reason == drill.ReasonSwapped {
				// What was found stays found: the drill that failed is no baseline.
				w.expect(p, c.verdict, c.reason)
			}
		})
	}
}

// slow is a target whose every answer takes its time.
func slow(t storage.Target, each time.Duration) storage.Target {
	return storage.Target{Name: t.Name, Open: func(ctx context.Context) (storage.Bucket, error) {
		b, err := t.Open(ctx)
		return slowBucket{b, each}, err
	}}
}

type slowBucket struct {
	storage.Bucket
	each time.Duration
}

func (b slowBucket) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.Contains(key, "/payloads/") {
		select {
		case <-time.After(b.each):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return b.Bucket.Open(ctx, key, offset, length)
}

// TestAcceptedChange: what was dropped on purpose is accepted once.
func TestAcceptedChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shop)
	w.backup()
	w.expect(w.latest(), drill.Pass, "")
	w.sqlite(w.db, "DROP TABLE customers")
	w.backup()
	w.expect(w.latest(), drill.Fail, drill.ReasonDropped)
	p := w.latest()
	p.Accept = true
	w.expect(p, drill.Pass, "")
	w.expect(w.latest(), drill.Pass, "")
}

// TestInterrupted: a drill that is stopped says nothing about the backup, and
// is recorded all the same.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shop)
	w.backup()
	ctx, stop := context.WithCancel(t.Context())
	p := w.latest()
	p.Private = nil
	p.Checks = []drill.Assertion{{Name: "stops", Command: []string{"sh", "-c", "echo started > " + filepath.Join("{database}.started") + "; exec sleep 600"}, Timeout: time.Minute}}
	go func() {
		for {
			if found, _ := filepath.Glob(filepath.Join(p.Scratch, "*", "restored", "*.started")); len(found) > 0 {
				stop()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	r, err := drill.Run(ctx, p)
	if r == nil || r.Verdict != drill.Inconclusive || !errors.Is(err, context.Canceled) || strings.Join(r.Reasons(), " ") != drill.ReasonInterrupted {
		t.Errorf("%+v %v", r, err)
	}
	if left, _ := filepath.Glob(filepath.Join(p.Scratch, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
