package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"emsafe/internal/report"
	"emsafe/internal/report/browsertest"
)

func keep(t *testing.T, name string, data []byte) {
	t.Helper()
	dir := os.Getenv("EMSAFE_SCREENSHOTS") // "" keeps nothing
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shoot keeps the page as an image, if somebody wants to look.
func shoot(t *testing.T, b *browsertest.Browser, name string) {
	t.Helper()
	if os.Getenv("EMSAFE_SCREENSHOTS") != "" {
		keep(t, name, b.Screenshot(false))
		keep(t, "window-"+name, b.Screenshot(true))
	}
}

func serve(t *testing.T, o Overview) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(Guard(Handler(func(context.Context) (Overview, error) { return o, nil }, Options{
		Report: func(_ context.Context, w io.Writer, id string) error {
			if id != o.Drills[0].ID {
				return ErrNotExist
			}
			_, err := io.WriteString(w, "<!doctype html><title>report</title>")
			return err
		},
	}), ""))
	t.Cleanup(s.Close)
	return s
}

func TestPagesInABrowser(t *testing.T) {
	t.Parallel()
	b := browsertest.Open(t)
	s := serve(t, sample())
	dark := browsertest.Look{Width: 1100, Height: 820, Dark: true}
	for name, path := range map[string]string{"overview": "/", "database": "/databases/app", "trouble": "/databases/billing", "drills": "/drills"} {
		for look, l := range map[string]browsertest.Look{"desktop": browsertest.Desktop, "phone": browsertest.Phone, "dark": dark} {
			b.Go(s.URL+path, l)
			b.Quiet(s.URL + path)
			b.Fits()
			shoot(t, b, "page-"+name+"-"+look+".png")
		}
	}
	// Everything that is linked is there, within the page's own policy.
	b.Go(s.URL+"/databases/app", browsertest.Desktop)
	var links []string
	b.Eval(`[...document.links].map(a => a.href)`, &links)
	if len(links) < 5 {
		t.Errorf("only %d links: %v", len(links), links)
	}
	for _, path := range []string{"/", "/drills"} {
		b.Go(s.URL+path, browsertest.Desktop)
		var more []string
		b.Eval(`[...document.links].map(a => a.href)`, &more)
		links = append(links, more...)
	}
	last := sample().Drills[0].ID
	for _, link := range links {
		if strings.Contains(link, "/drills/") && !strings.Contains(link, last) {
			continue // there is one report
		}
		resp, err := http.Get(link) //nolint:gosec,noctx // our own server
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", link, resp.Status)
		}
	}
	var whole bytes.Buffer
	if err := WriteOverview(&whole, sample()); err != nil {
		t.Fatal(err)
	}
	url := b.File("status.html", whole.Bytes())
	for _, l := range []browsertest.Look{browsertest.Phone, browsertest.Desktop} {
		b.Go(url, l)
		b.Quiet(url)
		b.Fits()
	}
	shoot(t, b, "status.png")
	var missing []string
	b.Eval(`[...document.links].map(a => a.getAttribute('href')).filter(h => h[0] != '#' || !document.getElementById(h.slice(1)))`, &missing)
	if len(missing) > 0 {
		t.Errorf("links of the file that lead nowhere: %v", missing)
	}
}

// TestABrowserTestCanFail shows the browser's checks failing.
func TestABrowserTestCanFail(t *testing.T) {
	t.Parallel()
	b := browsertest.Open(t)
	url := b.File("bad.html", []byte(`<!doctype html><meta name="viewport" content="width=device-width"><script>console.error("oh")</script><img src="http://127.0.0.1:9/x.png"><div style="width:900px">wide</div>`))
	b.Go(url, browsertest.Phone)
	if console, left, wide := b.Complaints(url); console == 0 || left == 0 || !wide {
		t.Errorf("console %d, requests %d, too wide %v", console, left, wide)
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	s := serve(t, sample())
	for path, want := range map[string]int{
		"/": 200, "/databases/app": 200, "/databases/none": 404, "/drills": 200, "/drills/none": 404, "/drills/" + sample().Drills[0].ID: 200, "/overview.json": 200, "/x": 404, "/databases/%2e%2e%2fx": 404,
	} {
		resp, err := http.Get(s.URL + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Cache-Control") != "no-store" || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if path == "/overview.json" {
			var o struct {
				State     string
				Databases []struct{ Name string }
			}
			if err := json.Unmarshal(body, &o); err != nil || o.State != "failed" || len(o.Databases) != 3 {
				t.Errorf("%v %+v", err, o)
			}
		}
	}
	resp, err := http.Post(s.URL+"/", "text/plain", nil) //nolint:noctx // a test
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST: %v %v", resp.Status, err)
	}
	resp.Body.Close()
}

func TestHandlerAsksSeldomAndSaysWhenItCannot(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now, asked, fail := sampleNow, 0, error(nil)
	h := Handler(func(context.Context) (Overview, error) { asked++; return sample(), fail }, Options{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	code := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w.Code
	}
	if first, second := code(), code(); first != 200 || second != 200 || asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	now, fail = now.Add(3*time.Second), errors.New("<b>no state</b>")
	if code() != http.StatusServiceUnavailable || asked != 2 {
		t.Errorf("what is old is shown as if it were now; asked %d times", asked)
	}
	fail = nil
	if code() != 200 {
		t.Error("it does not come back")
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	tcp, beyond := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	for name, c := range map[string]struct {
		token, host, authorization string
		at                         net.Addr
		want                       int
	}{
		"loopback":             {"", "127.0.0.1:9464", "", tcp, 200},
		"by name":              {"", "localhost:9464", "", tcp, 200},
		"v6":                   {"", "[::1]:9464", "", tcp, 200},
		"socket":               {"", "daemon", "", &net.UnixAddr{}, 200},
		"rebound name":         {"", "evil.example:9464", "", tcp, 403},
		"beyond":               {"", "127.0.0.1:9464", "", beyond, 403},
		"nothing known":        {"", "127.0.0.1", "", nil, 403},
		"token, none given":    {"a-long-enough-token", "host", "", beyond, 401},
		"token, bearer":        {"a-long-enough-token", "host", "Bearer a-long-enough-token", beyond, 200},
		"token, wrong":         {"a-long-enough-token", "host", "Bearer a-long-enough-tokem", beyond, 401},
		"token, empty":         {"a-long-enough-token", "host", "Bearer ", beyond, 401},
		"token, as a password": {"a-long-enough-token", "host", "Basic eDphLWxvbmctZW5vdWdoLXRva2Vu", beyond, 200},
		"token, on loopback":   {"a-long-enough-token", "localhost", "", tcp, 401},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = c.host
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if c.at != nil {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.at))
		}
		w := httptest.NewRecorder()
		Guard(ok, c.token).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
	for address, ok := range map[string]bool{"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "0.0.0.0:1": false, ":1": false, "192.0.2.1:1": false, "127.0.0.1": false} {
		if err := CheckAddress(address, ""); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	if CheckAddress(":1", "short") == nil || CheckAddress(":1", "sixteen-letters!") != nil {
		t.Error("tokens are not weighed")
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	o := sample()
	for i, want := range []report.State{report.OK, report.Failed, report.OK} {
		if s := (view{Overview: o}).Shown()[i]; s.State() != want {
			t.Errorf("%s is %s: %v", s.Name, s.State(), s.Problems())
		}
	}
	if h := (view{Overview: o}).Headline(); h != "1 of 3 databases needs attention" {
		t.Error(h)
	}
	if j := o.Judge()[1]; j.State != report.Failed || !strings.HasPrefix(j.Words, "offsite: the folder") {
		t.Errorf("%+v", j)
	}
	o.At = o.At.Add(61 * time.Second)
	if s := (view{Overview: o}).Shown()[0]; s.State() != report.Overdue {
		t.Errorf("data that is too old is %s", s.State())
	}
	o = sample()
	o.Databases[0].KeyDue = o.At.Add(-time.Hour)
	if s := (view{Overview: o}).Shown()[0]; s.State() != report.Overdue || !strings.Contains(s.Problems()[0].Words, "last proven on 2026-10-19") {
		t.Errorf("a key that nobody proved: %v", s.Problems())
	}
	if (Overview{}).State() != report.Unclear {
		t.Error("nothing at all is in order")
	}
	var empty bytes.Buffer
	if err := WriteOverview(&empty, Overview{Databases: []Database{{Name: "new"}}}); err != nil || !strings.Contains(empty.String(), "There is no backup yet.") {
		t.Error("a database without a backup is in order", err)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := OpenHistory(dir, sampleNow)
	if err != nil {
		t.Fatal(err)
	}
	record := func(days int, s report.State, size int64) {
		t.Helper()
		if err := h.Record("app", sampleNow.AddDate(0, 0, days), s, s.String(), size); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		record(-4, report.OK, 100)
	}
	record(-4, report.Failed, 0)
	record(-4, report.OK, 120)
	record(-2, report.Overdue, 0)
	record(-2, report.OK, 140)
	record(-500, report.OK, 1)
	file := filepath.Join(dir, HistoryFile)
	data, err := os.ReadFile(file)
	if err != nil || bytes.Count(data, []byte("\n")) != 5 {
		t.Errorf("%v:\n%s", err, data)
	}
	if err := os.WriteFile(file, append(data, `{"date":"2026-11-23","database":"app","sta`...), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := OpenHistory(dir, sampleNow)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Record("app", sampleNow, report.OK, "", 160); err != nil {
		t.Fatal(err)
	}
	last, err := LoadHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*History{again, last} {
		var got []string
		for _, d := range h.Days("app", sampleNow, 7, true) {
			got = append(got, d.State.Glyph())
		}
		if s := strings.Join(got, ""); s != "··✗◷◷◷✓" {
			t.Errorf("daily: %s", s)
		}
		if d := h.Days("app", sampleNow, 7, false)[3]; d.State != report.Idle {
			t.Error("a day on which nothing was due is overdue")
		}
		var sizes []int64
		for _, z := range h.Sizes("app", sampleNow, 7) {
			sizes = append(sizes, z.Bytes)
		}
		if len(sizes) != 3 || sizes[0] != 100 || sizes[2] != 160 {
			t.Errorf("sizes: %v", sizes)
		}
	}
	if data, err := os.ReadFile(file); err != nil || bytes.Count(data, []byte("\n")) != 3 {
		t.Errorf("%v: what is too old stays:\n%s", err, data)
	}
}

// poison puts hostile words into every text of a value.
func poison(v reflect.Value, words string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(words)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poison(v.Field(i), words)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), words)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), words)
		}
	}
}

// TestNothingFromOutsideBecomesMarkup: whatever a target, an error or a report
// says, it is words on the page.
func TestNothingFromOutsideBecomesMarkup(t *testing.T) {
	t.Parallel()
	for _, words := range []string{`"><script>alert(1)</script>`, "`</style><img src=x onerror=alert(1)>`", `javascript:alert(1)`, `' onmouseover='alert(1)`, "</title><svg onload=alert(1)>"} {
		o := sample()
		poison(reflect.ValueOf(&o).Elem(), words)
		var whole, first, one, list bytes.Buffer
		v := view{Overview: o}
		_, err := v.writeDatabase(&one, words)
		if err := errors.Join(err, WriteOverview(&whole, o), v.writeOverview(&first), v.writeDrills(&list)); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]string{"whole": whole.String(), "overview": first.String(), "database": one.String(), "drills": list.String()} {
			if b == "" || strings.Count(b, "</style>") != 1 {
				t.Errorf("%s with %q: empty or cut", name, words)
			}
			for _, never := range []string{"<script", "<img", "<svg onload", "href=\"javascript", "' onmouseover='"} {
				if strings.Contains(b, never) {
					t.Errorf("%s has %q from %q", name, never, words)
				}
			}
		}
	}
}

// TestFilesets: what is wrong with files is said as loudly as of databases.
func TestFilesets(t *testing.T) {
	t.Parallel()
	point := func(age time.Duration) FilesetTarget {
		return FilesetTarget{Name: "main", Point: "p", At: sampleNow.Add(-age), Files: 2, Bytes: 3}
	}
	well := Database{Name: "app", Targets: []Target{{Name: "main", Backup: "b", AsOf: sampleNow}}}
	for name, c := range map[string]struct {
		f        Fileset
		state    report.State
		headline string
		words    string
	}{
		"well":      {Fileset{RPO: 3600, Targets: []FilesetTarget{point(time.Minute)}}, report.OK, "The database is protected", ""},
		"no rpo":    {Fileset{Targets: []FilesetTarget{point(999 * time.Hour)}}, report.OK, "The database is protected", ""},
		"old":       {Fileset{RPO: 3600, Targets: []FilesetTarget{point(2 * time.Hour)}}, report.Overdue, "Every database is protected; 1 of 1 fileset needs attention", "is 2 h old, and the objective is 1 h"},
		"half":      {Fileset{RPO: 3600, Targets: []FilesetTarget{point(0), {Name: "far"}}}, report.Overdue, "Every database is protected; 1 of 1 fileset needs attention", "far holds no recovery point"},
		"never":     {Fileset{Targets: []FilesetTarget{{Name: "main"}}}, report.Overdue, "Every database is protected; 1 of 1 fileset needs attention", "There is no recovery point yet"},
		"failing":   {Fileset{Targets: []FilesetTarget{{Name: "main", Point: "p", At: sampleNow, Error: "locked"}}}, report.Failed, "Every database is protected; 1 of 1 fileset needs attention", "main: locked"},
		"run fails": {Fileset{Targets: []FilesetTarget{point(0)}, Notes: []Note{{report.Failed, "files uploads failed: no restic"}}}, report.Failed, "Every database is protected; 1 of 1 fileset needs attention", "no restic"},
	} {
		c.f.Name = "uploads"
		o := Overview{At: sampleNow, Databases: []Database{well}, Filesets: []Fileset{c.f}}
		if got := o.State(); got != c.state {
			t.Errorf("%s: %v, want %v", name, got, c.state)
		}
		var b bytes.Buffer
		if err := WriteOverview(&b, o); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), ">"+c.headline+"<") || !strings.Contains(b.String(), c.words) {
			t.Errorf("%s: the page does not say %q and %q", name, c.headline, c.words)
		}
	}
}
