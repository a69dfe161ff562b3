package audit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var today = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// door is a small service behind a proxy, sound but for the faults that are
// planted in it.
type door struct {
	fault map[string]bool
	log   *os.File
	mu    sync.Mutex
	last  string
	row   int      // how often the same path was asked in a row
	items []string // nothing that the audit does may change them
	wrote int

	inside atomic.Int64 // requests
}

const description = `{"openapi":"3.1.0","paths":{
 "/":{"get":{}}, "/health":{"get":{}}, "/login":{"post":{"requestBody":{}}},
 "/items":{"get":{"parameters":[{"name":"limit","in":"query","schema":{"type":"integer"}},{"name":"search","in":"query","schema":{"anyOf":[{"type":"string"},{"type":"null"}]}}]},"post":{"requestBody":{}}},
 "/items/{id}":{"parameters":[{"name":"id","in":"path","required":true}],"get":{},"delete":{}}}}`

// description leaves out what is meant for everybody.
func private() []byte { return []byte(strings.Replace(description, ` "/":{"get":{}},`, "", 1)) }

func (d *door) headers(h http.Header) {
	for name, value := range map[string]string{
		"Strict-Transport-Security": "max-age=31536000; includeSubDomains", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer", "X-Request-Id": "42", "Server": "nginx",
	} {
		if !d.fault["no "+name] {
			h.Set(name, value)
		}
	}
	if d.fault["server version"] {
		h.Set("Server", "nginx/1.22.1")
	}
	if d.fault["short HSTS"] {
		h.Set("Strict-Transport-Security", "max-age=300")
	}
	if d.fault["HSTS of half a year"] {
		h.Set("Strict-Transport-Security", "max-age=15552000")
	}
	if d.fault["inline scripts"] {
		h.Set("Content-Security-Policy", "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'")
	}
	if d.fault["framed"] {
		h.Set("Content-Security-Policy", "default-src 'self'")
	}
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.headers(w.Header())
	if d.log != nil && !d.fault["no log"] {
		line := r.RemoteAddr + " " + r.URL.Path
		if d.fault["query logged"] {
			line = r.RemoteAddr + " " + r.URL.String()
		}
		if d.fault["keys logged"] {
			line += " key=" + r.Header.Get("X-API-Key")
		}
		if d.fault["forwarded logged"] {
			line = r.Header.Get("X-Forwarded-For") + " " + line
		}
		if d.fault["SQL logged"] {
			line += "\nINFO sqlalchemy.engine SELECT id FROM items WHERE name = 'kim'"
		}
		fmt.Fprintln(d.log, line)
	}
	if d.fault["takes few"] {
		defer d.inside.Add(-1)
		if d.inside.Add(1) > 20 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.Method == http.MethodGet {
			io.Copy(io.Discard, r.Body) //nolint:errcheck // as an application that takes a request whole
		}
	}
	if d.limited(r) {
		w.Header().Set("Retry-After", "1")
		if d.fault["no Retry-After"] {
			w.Header().Del("Retry-After")
		}
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	host, _, _ := net.SplitHostPort(r.Host)
	if host == "" {
		host = r.Host
	}
	if host != "localhost" && !d.fault["any host"] && !d.fault["host reflected"] {
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	if d.fault["forwarded host"] && r.Header.Get("X-Forwarded-Host") != "" {
		r.Host = r.Header.Get("X-Forwarded-Host")
	}
	if d.fault["host reflected"] || d.fault["forwarded host"] {
		if strings.HasSuffix(r.URL.Path, "/") && r.URL.Path != "/" {
			http.Redirect(w, r, "https://"+r.Host+strings.TrimSuffix(r.URL.Path, "/"), http.StatusTemporaryRedirect)
			return
		}
		if d.fault["host reflected"] && host != "localhost" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
	}
	if r.Method == http.MethodTrace && d.fault["TRACE"] {
		fmt.Fprintf(w, "TRACE / HTTP/1.1\r\nX-Emsafe: %s\r\n", r.Header.Get("X-Emsafe"))
		return
	}
	d.cors(w, r)
	d.route(w, r)
}

// limited slows down who asks for the same thing again and again.
func (d *door) limited(r *http.Request) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.URL.String() != d.last {
		d.last, d.row = r.URL.String(), 0
	}
	d.row++
	return d.row > 20 && !d.fault["no limit"]
}

func (d *door) cors(w http.ResponseWriter, r *http.Request) {
	origin, h := r.Header.Get("Origin"), w.Header()
	switch {
	case origin == "":
	case d.fault["CORS reflects"], d.fault["CORS null"] && origin == "null", d.fault["CORS prefix"] && strings.HasPrefix(origin, "https://localhost"):
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	case d.fault["CORS cookie"] && r.Header.Get("Cookie") != "":
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	case d.fault["CORS any"], d.fault["CORS cookie"], d.fault["CORS DELETE"] && r.Method == http.MethodOptions:
		h.Set("Access-Control-Allow-Origin", "*")
	}
	if d.fault["CORS DELETE"] {
		h.Set("Access-Control-Allow-Methods", "GET, DELETE")
	}
}

func (d *door) route(w http.ResponseWriter, r *http.Request) {
	say := func(code int, kind, body string) {
		w.Header().Set("Content-Type", kind)
		if d.fault["bare errors"] && code >= 400 {
			w.Header().Del("X-Content-Type-Options")
		}
		w.WriteHeader(code)
		io.WriteString(w, body) //nolint:errcheck // a test
	}
	html := func(s string) { say(200, "text/html; charset=utf-8", "<!doctype html><title>Items</title>"+s) }
	const index = "<p>The single page that holds the application. Its scripts know what is where.</p>"
	served := map[string][2]string{ // fault → path and content
		"env": {"/.env", "SECRET_KEY=1\n"}, "git": {"/.git/HEAD", "ref: refs/heads/main\n"}, "database": {"/backup.db", database + "rest"},
		"metrics": {"/metrics", "# HELP x y\n# TYPE x counter\nx 1\n"}, "pprof": {"/debug/pprof/", "<p>Types of profiles available: goroutine"},
		"listing": {"/uploads/", "<html>\n<head><title>Index of /uploads/</title></head>"}, "docs": {"/docs", "<div id=swagger-ui>"}, "openapi": {"/openapi.json", string(private())}, "health": {"/health", `{"status":"ok","version":"1.2.3","database":"/srv/app.db"}`},
	}
	for fault, s := range served {
		if d.fault[fault] && r.URL.Path == s[0] {
			say(200, http.DetectContentType([]byte(s[1])), s[1])
			return
		}
	}
	switch path := r.URL.Path; {
	case r.Method == http.MethodPost && !strings.HasPrefix(path, "/items"):
		if d.fault["no body limit"] {
			io.Copy(io.Discard, r.Body) //nolint:errcheck // a test
			say(405, "text/plain", "")
			return
		}
		d.read(w, r, say)
	case path == "/":
		if d.fault["cookie"] {
			w.Header().Add("Set-Cookie", "session=abc; Path=/")
		} else {
			w.Header().Add("Set-Cookie", "__Host-session=abc; Path=/; Secure; HttpOnly; SameSite=Lax")
		}
		html(index)
	case path == "/health":
		say(200, "application/json", `{"status":"ok"}`)
	case path == "/.well-known/security.txt" && !d.fault["no contact"]:
		say(200, "text/plain", "Contact: mailto:a@example.org\nExpires: 2027-01-01T00:00:00Z\n")
	case path == "/items" || strings.HasPrefix(path, "/items/"):
		d.resource(w, r, say)
	case d.fault["shell"]:
		html(index)
	case d.fault["trace"] && len(r.URL.Path) > 20:
		say(500, "text/plain", "Traceback (most recent call last):\n  File x\n")
	case d.fault["SQL error"] && len(r.URL.Path) > 20:
		say(404, "text/plain", "sqlite3.OperationalError: no such table: x")
	default:
		say(404, "text/plain", "not found")
	}
}

func (d *door) read(w http.ResponseWriter, r *http.Request, say func(int, string, string)) []byte {
	most := int64(1 << 20)
	if d.fault["no body limit"] {
		most = 1 << 30
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		say(413, "text/plain", "too large")
		return nil
	}
	if !json.Valid(body) {
		say(422, "text/plain", "no JSON")
		return nil
	}
	return body
}

func (d *door) resource(w http.ResponseWriter, r *http.Request, say func(int, string, string)) {
	key := r.Header.Get("X-API-Key")
	known := key == "right" || d.fault["any key"] && key != "" || d.fault["no guard"] ||
		d.fault["trusts forwarded"] && r.Header.Get("X-Forwarded-For") == "127.0.0.1"
	if d.fault["one open"] && r.Method == http.MethodDelete {
		known = true
	}
	if r.Method == http.MethodPost && (d.fault["forgeable"] || known) {
		if body := d.read(w, r, say); body != nil {
			d.wrote++
			say(201, "application/json", "{}")
		}
		return
	}
	if !known {
		w.Header().Set("WWW-Authenticate", "Basic")
		say(401, "application/json", `{"detail":"who are you?"}`)
		return
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/items/"); ok {
		if n := slices.Index(d.items, id); n >= 0 && r.Method == http.MethodDelete {
			d.wrote++
		}
		say(404, "application/json", `{"detail":"no such item"}`)
		return
	}
	q := r.URL.Query()
	limit := 10
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if d.fault["500"] && err != nil {
			say(500, "text/plain", "internal error")
			return
		}
		if err != nil || n < 1 || n > 100 && !d.fault["large pages"] {
			say(422, "application/json", `{"detail":"out of range"}`)
			return
		}
		limit = n
	}
	if q.Get("search") != "" && d.fault["unlimited search"] {
		limit = 1000
	}
	out, _ := json.Marshal(map[string]any{"items": d.items[:min(limit, len(d.items))], "total": len(d.items)})
	say(200, "application/json", string(out))
}

var authority = sync.OnceValues(func() (*x509.Certificate, *ecdsa.PrivateKey) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: today.AddDate(-1, 0, 0), NotAfter: today.AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, _ := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	c, _ := x509.ParseCertificate(der)
	return c, key
})

func certificate(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	ca, by := authority()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: until.AddDate(0, 0, -90), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// open starts the service with TLS, and says how to audit it.
func (d *door) open(t *testing.T) Options {
	t.Helper()
	d.items = []string{"a0", "a1", "a2", "e3", "e4"}
	log, err := os.OpenFile(filepath.Join(t.TempDir(), "access.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	d.log = log
	s := httptest.NewUnstartedServer(d)
	s.Config.ErrorLog = nil
	name, until := "localhost", today.AddDate(0, 0, 60)
	if d.fault["wrong name"] {
		name = "other.example"
	}
	if d.fault["expires"] {
		until = today.AddDate(0, 0, 5)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, name, until)}, MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
	if d.fault["old TLS"] {
		s.TLS.MinVersion = tls.VersionTLS10
		s.TLS.CipherSuites = append(s.TLS.CipherSuites, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA)
	}
	if d.fault["weak suites"] {
		s.TLS.CipherSuites = append(s.TLS.CipherSuites, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256)
	}
	strict := s.TLS.Clone()
	s.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.ServerName == "" && !d.fault["any name"] {
			return nil, errors.New("no name")
		}
		return strict, nil
	}
	if !d.fault["patient"] {
		s.Config.ReadHeaderTimeout, s.Config.ReadTimeout, s.Config.IdleTimeout = time.Second, time.Second, time.Second
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.fault["plain"] {
			http.Redirect(w, r, "https://localhost"+r.URL.Path, http.StatusMovedPermanently)
		}
	}))
	t.Cleanup(plain.Close)
	roots := x509.NewCertPool()
	if !d.fault["unknown authority"] {
		ca, _ := authority()
		roots.AddCert(ca)
	}
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	o := Options{URL: &url.URL{Scheme: "https", Host: "localhost:" + port}, Roots: roots, Now: func() time.Time { return today },
		OpenAPI: private(), Logs: []string{log.Name()}, Header: http.Header{"X-Api-Key": {"right"}}, Slow: 4 * time.Second}
	o.Plain, _ = url.Parse(plain.URL)
	if d.fault["direct"] {
		o.Direct = &url.URL{Scheme: "http", Host: o.Plain.Host}
	} else {
		o.Direct = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	}
	return o
}
