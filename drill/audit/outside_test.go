package audit

import (
	"context"
	"io/fs"
	"net"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/finding"
)

// broke are the rules that came to a result.
func broke(r *Report, results ...finding.Result) (ids []string) {
	for _, c := range r.Checks {
		if slices.Contains(results, c.Result) && !slices.Contains(ids, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func say(r *Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		if c.Result != finding.Pass && c.Result != finding.Skip {
			b.WriteString(string(c.Result) + " " + c.ID + " " + c.Found + c.Reason + "\n\t" + strings.Join(c.Evidence, "\n\t") + "\n")
		}
	}
	return b.String()
}

// A sound service passes every rule that is asked from outside.
func TestSound(t *testing.T) {
	t.Parallel()
	d := &door{}
	r := Look(t.Context(), d.open(t))
	if got := broke(r, finding.Fail, finding.Warn, finding.Error); len(got) > 0 {
		t.Errorf("%v\n%s", got, say(r))
	}
	passed := broke(r, finding.Pass)
	for _, rule := range Rules {
		if rule.Scope == outside && !slices.Contains(passed, rule.ID) {
			t.Errorf("%s did not pass", rule.ID)
		}
	}
	if r.Requests >= requestLimit {
		t.Errorf("%d requests", r.Requests)
	}
	if d.wrote != 0 {
		t.Errorf("%d writes", d.wrote)
	}
	t.Logf("%d requests in %s", r.Requests, r.Ended.Sub(r.Started))
}

// planted are faults, and what is found of each: nothing else.
var planted = []struct{ fault, found string }{
	{"wrong name", "EMS-TLS-002"},
	{"unknown authority", "EMS-TLS-002"},
	{"expires", "EMS-TLS-003"},
	{"old TLS", "EMS-TLS-004"},
	{"weak suites", "EMS-TLS-005"},
	{"any name|any host", "EMS-HOST-001 EMS-TLS-006"},
	{"plain", "EMS-TLS-007"},
	{"no Strict-Transport-Security", "EMS-HDR-001"},
	{"short HSTS", "EMS-HDR-001"},
	{"no X-Content-Type-Options", "EMS-HDR-002"},
	{"no Content-Security-Policy", "EMS-HDR-003 EMS-HDR-004"},
	{"framed", "EMS-HDR-004"},
	{"no Referrer-Policy", "EMS-HDR-005"},
	{"bare errors", "EMS-HDR-006"},
	{"server version", "EMS-HDR-007"},
	{"any host", "EMS-HOST-001"},
	{"host reflected", "EMS-HOST-002"},
	{"forwarded host", "EMS-HOST-002"},
	{"direct", "EMS-NET-001"},
	{"trusts forwarded", "EMS-PROXY-001"},
	{"forwarded logged", "EMS-PROXY-001"},
	{"CORS reflects", "EMS-CORS-001"},
	{"CORS null", "EMS-CORS-001"},
	{"CORS prefix", "EMS-CORS-001"},
	{"CORS cookie", "EMS-CORS-001"},
	{"CORS any", "EMS-CORS-002"},
	{"CORS DELETE", "EMS-CORS-003"},
	{"docs", "EMS-DOC-001"},
	{"openapi", "EMS-DOC-001"},
	{"trace", "EMS-ERR-001 EMS-ERR-003"},
	{"SQL error", "EMS-ERR-002"},
	{"500", "EMS-ERR-003"},
	{"env", "EMS-EXP-001"},
	{"git", "EMS-EXP-001"},
	{"database", "EMS-EXP-001"},
	{"metrics", "EMS-EXP-002"},
	{"health", "EMS-EXP-003"},
	{"pprof", "EMS-EXP-004"},
	{"listing", "EMS-EXP-005"},
	{"TRACE", "EMS-METHOD-001"},
	{"large pages", "EMS-PAGE-002"},
	{"unlimited search", "EMS-PAGE-001"},
	{"no guard", "EMS-AUTH-001"},
	{"one open", "EMS-AUTH-001"},
	{"any key", "EMS-AUTH-002"},
	{"cookie", "EMS-COOKIE-001"},
	{"forgeable|cookie", "EMS-AUTH-001 EMS-COOKIE-001 EMS-CSRF-001"},
	{"query logged", "EMS-LOG-001"},
	{"keys logged", "EMS-LOG-001"},
	{"no log", "EMS-LOG-002"},
	{"no X-Request-Id", "EMS-LOG-003"},
	{"SQL logged", "EMS-LOG-004"},
	{"no contact", "EMS-PLAY-002"},
	{"shell", ""}, // a single-page application
}

// A warning is seen, and fails nothing.
func TestWarns(t *testing.T) {
	t.Parallel()
	d := &door{fault: map[string]bool{"inline scripts": true, "HSTS of half a year": true}}
	r := Look(t.Context(), d.open(t))
	if got := broke(r, finding.Warn); !slices.Equal(got, []string{"EMS-HDR-001", "EMS-HDR-003"}) || len(broke(r, finding.Fail, finding.Error)) > 0 {
		t.Error(say(r))
	}
}

// With --host the journal is a log too.
func TestJournal(t *testing.T) {
	t.Parallel()
	for leak, want := range map[bool]finding.Result{true: finding.Fail, false: finding.Pass} {
		d := &door{}
		o := d.open(t)
		o.Logs, o.Host, o.Root = nil, true, t.TempDir()
		o.Run = func(_ context.Context, argv []string) ([]byte, error) {
			words, ok := strings.CutPrefix(argv[len(argv)-1], "--grep=")
			if argv[0] != "journalctl" || !ok {
				return nil, fs.ErrNotExist
			}
			path, mark, _ := strings.Cut(words, "|")
			mark, _, _ = strings.Cut(mark, "|")
			if !leak {
				mark = "hidden"
			}
			return []byte("GET /" + path + "?api_key=" + mark + "\n"), nil
		}
		r := Look(t.Context(), o)
		for _, id := range []string{"EMS-LOG-001", "EMS-LOG-002"} {
			if got, _, _ := outcome(r.Checks, id); id == "EMS-LOG-001" && got != want || id == "EMS-LOG-002" && got != finding.Pass {
				t.Errorf("leak %t: %s %s\n%s", leak, id, got, say(r))
			}
		}
	}
}

// What is not served over TLS fails for that, and is not asked for more of it.
func TestInClear(t *testing.T) {
	t.Parallel()
	d := &door{}
	o := d.open(t)
	s := httptest.NewServer(d)
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	o.URL = &url.URL{Scheme: "http", Host: "localhost:" + port}
	r := Look(t.Context(), o)
	if got := broke(r, finding.Fail, finding.Error); !slices.Equal(got, []string{"EMS-TLS-001"}) {
		t.Error(say(r))
	}
}

// A service that does not answer is not in order: nothing passes.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	r := Look(t.Context(), Options{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Now: func() time.Time { return today }})
	r.Conclude(nil, nil, today)
	if len(broke(r, finding.Pass)) > 0 || len(r.Unchecked()) == 0 || r.Grade.Letter != "-" {
		t.Error(r.Grade, say(r))
	}
}

func TestPlanted(t *testing.T) {
	t.Parallel()
	failed := map[string]bool{"EMS-TLS-001": true} // TestInClear
	for _, p := range planted {
		for _, id := range strings.Fields(p.found) {
			failed[id] = true
		}
		t.Run(p.fault, func(t *testing.T) {
			t.Parallel()
			d := &door{fault: map[string]bool{}}
			for f := range strings.SplitSeq(p.fault, "|") {
				d.fault[f] = true
			}
			r := Look(t.Context(), d.open(t))
			want := strings.Fields(p.found)
			got := broke(r, finding.Fail, finding.Error)
			if !slices.Equal(got, want) && !(len(got) == 0 && len(want) == 0) {
				t.Errorf("found %v, want %v\n%s", got, want, say(r))
			}
			if d.wrote != 0 {
				t.Errorf("%d writes", d.wrote)
			}
		})
	}
	for _, rule := range Rules {
		if rule.Scope == outside && !failed[rule.ID] {
			t.Errorf("%s is not shown failing", rule.ID)
		}
	}
}
