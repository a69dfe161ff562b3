package render

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// part is a program that what is rendered is for. It is installed by `make
// parts`, not by `make test`: on a machine that somebody works at, its package
// would start a service.
func part(t *testing.T, name string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Skipf("there is no %s: make parts installs it", name)
	return ""
}

// hash is bcrypt of "secret".
const hash = "$2y$05$AqkEt7AwD9cRjLFl0OaE5etvaSmyiEzfmcfAjXd0Y.Urym/83tIjq"

// site is a proxy in front of an application.
type site struct {
	t        *testing.T
	dir      string
	domain   string
	http     int
	https    int
	roots    *x509.CertPool
	seen     chan *http.Request // by the application
	log      string
	lastHead http.Header
}

// newSite makes an application and the answers for what stands in front of it.
func newSite(t *testing.T, domain string) (*site, Answers) {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), domain: domain, http: freePort(t), https: freePort(t), seen: make(chan *http.Request, 1000)}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the test looks at the answer
		s.seen <- r
		w.Header().Set("X-Powered-By", "secret framework 1.2.3")
		w.Header().Set("Server", "uvicorn")
		switch {
		case r.URL.Path == "/missing":
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/login":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintln(w, "hello")
	}))
	t.Cleanup(app.Close)
	s.log = filepath.Join(s.dir, "emsafe-web.log")
	return s, Answers{
		Domain: domain, Upstream: strings.TrimPrefix(app.URL, "http://"), Logs: s.dir, HTTPPort: s.http, HTTPSPort: s.https, BodyLimit: 64 << 10,
		Certificate: filepath.Join(s.dir, "cert.pem"), CertificateKey: filepath.Join(s.dir, "key.pem"), GuardFile: filepath.Join(s.dir, "htpasswd"), Rate: 50, LoginRate: 10,
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port //nolint:errcheck,forcetypeassert // it is one
}

// certificate makes one for the domain, where the answers say.
func (s *site) certificate(a Answers) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: s.domain}, DNSNames: []string{s.domain}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(text)
	err = errors.Join(os.WriteFile(a.Certificate, text, 0o600), os.WriteFile(a.CertificateKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(a.GuardFile, []byte("me:"+hash+"\n"), 0o644))
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// start runs the proxy until the test ends, and waits until it answers.
func (s *site) start(env []string, argv ...string) {
	s.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &said, &said, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	s.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it may be gone
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill() //nolint:errcheck // it hangs
			<-done
		}
		if s.t.Failed() {
			s.t.Logf("%s", said.String())
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", s.https), &tls.Config{ServerName: s.domain, InsecureSkipVerify: true}) //nolint:gosec // whether it listens
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			s.t.Fatalf("%v: %v\n%s", argv, err, said.String())
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("%v does not listen: %v\n%s", argv, err, said.String())
		}
	}
}

// ask asks over TLS, by the name, and gives status and body.
func (s *site) ask(method, path string, change func(*http.Request)) (int, string) {
	s.t.Helper()
	body := io.Reader(http.NoBody)
	r, err := http.NewRequestWithContext(s.t.Context(), method, fmt.Sprintf("https://%s:%d%s", s.domain, s.https, path), body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = s.domain
	if change != nil {
		change(r)
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{ServerName: s.domain, RootCAs: s.roots, InsecureSkipVerify: s.roots == nil}, //nolint:gosec // Caddy's own authority
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprint("127.0.0.1:", s.https))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	s.lastHead = res.Header
	return res.StatusCode, string(text)
}

func (s *site) want(status int, method, path string, change func(*http.Request)) {
	s.t.Helper()
	got, body := s.ask(method, path, change)
	if got != status {
		s.t.Errorf("%s %s: %d, want %d: %.200s", method, path, got, status, body)
	}
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age=63072000", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Content-Security-Policy": "default-src 'self'", "Referrer-Policy": "strict-origin"} {
		if !strings.Contains(s.lastHead.Get(name), want) {
			s.t.Errorf("%s %s (%d): %s is %q", method, path, got, name, s.lastHead.Get(name))
		}
	}
	if server := s.lastHead.Get("Server"); strings.ContainsAny(server, "0123456789/") || strings.Contains(server, "uvicorn") || s.lastHead.Get("X-Powered-By") != "" {
		s.t.Errorf("%s %s: it says %q %q", method, path, server, s.lastHead.Get("X-Powered-By"))
	}
}

// plain asks over HTTP, as somebody who says to be host.
func (s *site) plain(host, path string) (status int, to string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", s.http, path), http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode, res.Header.Get("Location")
}

// behaves is what both proxies must do.
func (s *site) behaves() {
	t := s.t
	s.want(200, "GET", "/", func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		r.Header.Set("Forwarded", "for=203.0.113.9")
	})
	got := <-s.seen
	if got.Header.Get("X-Forwarded-For") != "127.0.0.1" || got.Header.Get("Forwarded") != "" || got.Header.Get("X-Forwarded-Proto") != "https" || got.Header.Get("X-Request-ID") == "" || got.Host == "" {
		t.Errorf("the application sees %v", got.Header)
	}
	s.want(404, "GET", "/missing", nil)
	if retry := s.lastHead.Get("Retry-After"); retry != "" {
		t.Errorf("Retry-After on an answer that is none of being turned away: %s", retry)
	}
	s.want(405, "TRACE", "/", nil)
	s.want(500, "GET", "/broken", nil)
	s.want(200, "GET", "/docs", nil) // from this machine
	s.want(200, "GET", "/health", nil)
	for _, never := range []string{"/.env", "/.git/config", "/app.db", "/app.db-wal", "/backup.sql", "/config.py.bak"} {
		s.want(404, "GET", never, nil)
	}
	// Another name over the right handshake, and a handshake for another name.
	if status, _ := s.ask("GET", "/", func(r *http.Request) { r.Host = "evil.example.org" }); status != 421 {
		t.Errorf("another name: %d", status)
	}
	if c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", s.https), &tls.Config{ServerName: "evil.example.org", InsecureSkipVerify: true}); err == nil { //nolint:gosec // that is the point
		c.Close()
		t.Error("a handshake for another name is answered")
	}
	if c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", s.https), &tls.Config{ServerName: s.domain, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil { //nolint:gosec // that is the point
		c.Close()
		t.Error("an old version of TLS is spoken")
	}
	// Plain HTTP only points to HTTPS, by the name that is configured.
	if status, to := s.plain(s.domain, "/a?b=c"); status != 308 || !strings.HasPrefix(to, "https://"+s.domain) || !strings.HasSuffix(to, "/a?b=c") {
		t.Errorf("plain: %d to %q", status, to)
	}
	if status, to := s.plain("evil.example.org", "/"); status != 421 || to != "" {
		t.Errorf("plain, another name: %d to %q", status, to)
	}
	// A body that is too large.
	status, _ := s.ask("POST", "/upload", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 1<<20))), 1<<20
	})
	if status != 413 && status != 502 && status != 0 {
		t.Errorf("a body that is too large: %d", status)
	}
	// Secrets do not come into the log.
	s.ask("GET", "/secrets?token=canary1", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer canary2")
		r.Header.Set("X-API-Key", "canary3")
		r.Header.Set("Cookie", "session=canary4")
		r.Header.Set("Referer", "https://x/?canary5")
	})
}

// logged gives the lines of the log once it holds a path.
func (s *site) logged(path string) []string {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(s.log)
		if strings.Contains(string(text), path) {
			for line := range strings.Lines(string(text)) {
				var doc map[string]any
				if err := json.Unmarshal([]byte(line), &doc); err != nil {
					s.t.Errorf("a line of the log is no JSON: %v %s", err, line)
				}
			}
			if strings.Contains(string(text), "canary") {
				s.t.Errorf("a secret is in the log:\n%s", text)
			}
			return strings.Split(strings.TrimSpace(string(text)), "\n")
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s is not in the log:\n%s", path, text)
		}
	}
}

// guessed is that the jails' filters find what is in the log, and nothing else.
func (s *site) guessed(a Answers, proxy string) {
	t := s.t
	program := part(t, "fail2ban-regex")
	a.Proxy = proxy
	m, err := Make("fail2ban", a)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(s.log)
	for i, f := range m.Files[1:] {
		filter := s.write(filepath.Base(f.Path), f.Text)
		want := 0
		for line := range strings.Lines(string(text)) {
			codes := [][]string{{`"status":401`, `"status":429`}, {`"status":400`, `"status":404`, `"status":405`, `"status":421`}}[i]
			for _, c := range codes {
				if strings.Contains(line, c) {
					want++
				}
			}
		}
		out, err := exec.CommandContext(t.Context(), program, s.log, filter).CombinedOutput()
		if want == 0 || err != nil && want == 0 || !strings.Contains(string(out), fmt.Sprintf(" %d matched", want)) || !strings.Contains(string(out), "127.0.0.1") && strings.Contains(string(out), "Addresses") {
			t.Errorf("%s: want %d matched: %v\n%s\n%s", f.Path, want, err, out, text)
		}
	}
}
