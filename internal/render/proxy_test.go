package render

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func (s *site) nginx(a Answers) {
	s.t.Helper()
	s.certificate(a)
	m, err := Make("nginx", a)
	if err != nil {
		s.t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	s.write("site.conf", m.Files[0].Text)
	main := s.write("nginx.conf", user+`
daemon off;
worker_processes 1;
pid `+s.dir+`/nginx.pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path `+s.dir+`/body; proxy_temp_path `+s.dir+`/proxy; fastcgi_temp_path `+s.dir+`/fastcgi; uwsgi_temp_path `+s.dir+`/uwsgi; scgi_temp_path `+s.dir+`/scgi;
	include `+s.dir+`/site.conf;
}
`)
	program := part(s.t, "nginx")
	if out, err := exec.Command(program, "-t", "-c", main).CombinedOutput(); err != nil {
		s.t.Fatalf("nginx -t: %v\n%s", err, out)
	}
	s.start(nil, program, "-c", main)
}

func TestNginx(t *testing.T) {
	t.Parallel()
	part(t, "nginx")
	s, a := newSite(t, "app.example.org")
	s.nginx(a)
	s.behaves()
	// Attempts to log in are turned away after a handful, others are not.
	limited := 0
	for range 15 {
		if status, _ := s.ask("POST", "/login", nil); status == 429 {
			if limited++; s.lastHead.Get("Retry-After") == "" {
				t.Error("who is turned away is not told when to come back")
			}
		}
	}
	if limited < 5 || limited > 12 {
		t.Errorf("%d of 15 logins were turned away", limited)
	}
	s.want(200, "GET", "/", nil)
	s.ask("GET", "/last", nil)
	s.logged(`"/last"`)
	s.guessed(a, "nginx")
}

// TestNginxSlow: a client that sends its header drip by drip is cut off.
func TestNginxSlow(t *testing.T) {
	t.Parallel()
	part(t, "nginx")
	s, a := newSite(t, "app.example.org")
	s.nginx(a)
	c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", s.https), &tls.Config{ServerName: s.domain, RootCAs: s.roots, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX-Slow: ", s.domain)
	c.SetReadDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a connection has one
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it waits for ever")
	}
}

func TestNginxGuard(t *testing.T) {
	t.Parallel()
	part(t, "nginx")
	s, a := newSite(t, "app.example.org")
	a.GuardUser, a.GuardHash = "me", hash
	s.nginx(a)
	s.guarded()
}

func (s *site) guarded() {
	s.want(401, "GET", "/", nil)
	s.want(401, "GET", "/docs", nil)
	s.want(401, "GET", "/", func(r *http.Request) { r.SetBasicAuth("me", "wrong") })
	s.want(200, "GET", "/", func(r *http.Request) { r.SetBasicAuth("me", "secret") })
	s.want(200, "GET", "/health", nil)
}

func (s *site) caddy(a Answers) {
	s.t.Helper()
	m, err := Make("caddy", a)
	if err != nil {
		s.t.Fatal(err)
	}
	program := part(s.t, "caddy")
	file := s.write("Caddyfile", m.Files[0].Text)
	env := []string{"HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir + "/data", "XDG_CONFIG_HOME=" + s.dir + "/config", "CADDY_ADMIN=127.0.0.1:" + fmt.Sprint(freePort(s.t))}
	check := exec.Command(program, "validate", "--config", file, "--adapter", "caddyfile")
	check.Env = append(os.Environ(), env...)
	if out, err := check.CombinedOutput(); err != nil {
		s.t.Fatalf("caddy validate: %v\n%s", err, out)
	}
	s.start(env, program, "run", "--config", file, "--adapter", "caddyfile")
}

// TestCaddy: names below localhost get a certificate of Caddy's own authority, so
// that nobody is asked.
func TestCaddy(t *testing.T) {
	t.Parallel()
	part(t, "caddy")
	s, a := newSite(t, "app.localhost")
	s.caddy(a)
	s.behaves()
	for range 3 {
		s.ask("POST", "/login", nil)
	}
	s.ask("GET", "/last", nil)
	s.logged(`"/last"`)
	s.guessed(a, "caddy")
	m, _ := Make("caddy", a)
	if !strings.Contains(strings.Join(m.Remarks, " "), "cannot limit rates") || !strings.Contains(m.Files[0].Text, "cannot limit rates") {
		t.Error("that it cannot limit rates is not said")
	}
}

func TestCaddyGuard(t *testing.T) {
	t.Parallel()
	part(t, "caddy")
	s, a := newSite(t, "app.localhost")
	a.GuardUser, a.GuardHash = "me", hash
	s.caddy(a)
	s.guarded()
}
