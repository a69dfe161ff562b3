package drill_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
)

func TestDrillPasses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shop)
	w.backup()
	w.sqlite(w.db, "INSERT INTO orders (at, what) VALUES (strftime('%Y-%m-%dT%H:%M:%SZ'), 'one more')")
	w.backup()
	p := w.plan()
	p.RPO, p.RTO = time.Hour, time.Hour
	p.Newest = "SELECT max(at) FROM orders"
	p.Checks = []drill.Assertion{
		{Name: "count", SQL: "SELECT count(*) FROM orders", Min: "101", Max: "101"},
		{Name: "exactly", SQL: "SELECT what FROM orders WHERE id = 101", Expect: "one more"},
		{Name: "fresh", SQL: "SELECT max(at) FROM orders", NewerThan: time.Hour},
		{Name: "shell", Command: []string{"sh", "-c", "sqlite3 {database} 'SELECT count(*) FROM customers'; test -w . && test -z \"$HOME_OF_OURS\""}, Expect: "50"},
		{Name: "web", Service: []string{"/usr/bin/python3", "-u", "-c", server, "{port}"}, Timeout: 30 * time.Second, Ask: []drill.Ask{
			{Name: "count", URL: "http://127.0.0.1:{port}/count", Status: 200, Header: "Content-Type: text/plain", Content: "101"},
			{Name: "gone", URL: "http://localhost:{port}/none", Status: 404},
		}},
	}
	r := w.expect(p, drill.Pass, "")
	if len(r.Restores) != 2 || r.Restores[0].Why != "latest" || r.Restores[1].Why != "random" || r.Restores[0].Kind != "delta" || len(r.Restores[0].Path) != 2 {
		t.Fatalf("restores %+v", r.Restores)
	}
	if !r.RPO.Known || r.RPO.How != "newest-row" || r.RPO.Achieved > 60 || !r.RTO.Known || r.RTO.Achieved <= 0 || !r.RPO.Met() {
		t.Errorf("%+v %+v", r.RPO, r.RTO)
	}
	var phases, checks []string
	for _, f := range r.Restores[0].Phases {
		phases = append(phases, f.Name)
		if f.Verdict != drill.Pass {
			t.Errorf("phase %+v", f)
		}
	}
	for _, c := range r.Restores[0].Checks {
		checks = append(checks, c.Name)
	}
	wanted := "pick,signature and chain,fetch,decrypt, decompress and apply,page digest,write to disk,place,integrity_check,foreign_key_check,full-text check,schema,rows,assertions,application,teardown,source was not touched"
	if got := strings.Join(phases, ","); got != wanted {
		t.Errorf("phases %s", got)
	}
	if got := strings.Join(checks, ","); got != "integrity_check,foreign_key_check,full-text index 3,schema,rows,newest-row,count,exactly,fresh,shell,web" {
		t.Errorf("checks %s", got)
	}
	if f := r.Restores[0].Phases[2]; f.Bytes != r.Restores[0].Fetched {
		t.Errorf("fetched %d of %d", f.Bytes, r.Restores[0].Fetched)
	}
	// The second is compared with the first, and passes as well.
	again := w.expect(p, drill.Pass, "")
	if again.Number != 2 || again.Previous.IsZero() || again.RTO.Before == 0 {
		t.Errorf("%d %s %+v", again.Number, again.Previous, again.RTO)
	}
	if len(w.warned) > 0 {
		t.Errorf("warnings %v", w.warned)
	}
	if out, _ := exec.Command("pgrep", "-f", ""+filepath.Base(w.scratch)).Output(); len(out) > 0 {
		t.Errorf("still running: %s", out)
	}
}

// server is a small application in Python: it answers from the database.
const server = `
import http.server, os, sqlite3, sys
db = sqlite3.connect(os.environ['EMSAFE_DATABASE'])
db.execute('SELECT what FROM orders LIMIT 1')
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != '/count':
            self.send_error(404); return
        body = str(db.execute('SELECT count(*) FROM orders').fetchone()[0]).encode()
        self.send_response(200); self.send_header('Content-Type', 'text/plain; charset=utf-8'); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()
`
