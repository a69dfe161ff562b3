package audit

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/finding"
	"emsafe/internal/render"
)

// service is testdata/app.py, a process of its own with a database.
type service struct {
	t    *testing.T
	dir  string
	port string
}

func serve(t *testing.T, kind string) *service {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	s := &service{t: t, dir: t.TempDir()}
	cmd := exec.Command(python, "testdata/app.py", kind, s.dir)
	if cmd.Stderr, err = os.Create(filepath.Join(s.dir, "stderr")); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may be gone
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.port = strings.TrimSpace(line)
	return s
}

// serveFastAPI is testdata/api.py, where Debian's FastAPI and uvicorn are.
func serveFastAPI(t *testing.T) *service {
	t.Helper()
	const python = "/usr/bin/python3" // whose packages Debian's are
	if err := exec.Command(python, "-c", "import fastapi, uvicorn").Run(); err != nil {
		t.Skip("there is no FastAPI: make parts installs it")
	}
	s := &service{t: t, dir: t.TempDir(), port: fmt.Sprint(free(t))}
	s.start(exec.Command(python, "testdata/api.py", s.dir, s.port))
	return s
}

// start starts a server, and waits until it listens.
func (s *service) start(cmd *exec.Cmd) {
	s.t.Helper()
	said, err := os.Create(filepath.Join(s.dir, "stderr"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }() //nolint:errcheck // what it said is shown
	s.t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-done
		said.Close()
	})
	s.until(done, said.Name(), func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// until waits until a process is ready, and no longer than it lives.
func (s *service) until(done <-chan struct{}, said string, ready func() error) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-done:
			text, _ := os.ReadFile(said)
			s.t.Fatalf("it has ended: %s", text)
		case <-s.t.Context().Done():
			s.t.Fatal(err)
		case <-tick.C:
		}
	}
}

// audited audits an address, and insists that the service's files but its log
// are as before.
func (s *service) audited(o Options) *Report {
	s.t.Helper()
	before := s.files()
	o.Logs = append(o.Logs, filepath.Join(s.dir, "app.log"))
	o.Header = http.Header{"X-Api-Key": {"right"}}
	r := Look(s.t.Context(), o)
	for name, text := range s.files() {
		if !bytes.Equal(text, before[name]) {
			s.t.Errorf("the audit changed %s", name)
		}
	}
	took := r.Ended.Sub(r.Started)
	s.t.Logf("%d requests in %s: %v", r.Requests, took.Round(time.Millisecond), broke(r, finding.Fail, finding.Error))
	if r.Requests >= requestLimit && !o.Intrusive {
		s.t.Errorf("%d requests", r.Requests)
	}
	return r
}

func (s *service) files() map[string][]byte {
	out := map[string][]byte{}
	list, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range list {
		if f.Name() == "app.log" || f.Name() == "stderr" {
			continue
		}
		if out[f.Name()], err = os.ReadFile(filepath.Join(s.dir, f.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

func (s *service) url() *url.URL { return &url.URL{Scheme: "http", Host: "localhost:" + s.port} }

// byProxy is what a proxy can mend of what is planted; the rest is the
// application's own.
const (
	byProxy = "EMS-DOC-001 EMS-EXP-001 EMS-EXP-002 EMS-EXP-003 EMS-HDR-002 EMS-HDR-003 EMS-HDR-004 EMS-HDR-005 EMS-HDR-007 EMS-HOST-001 EMS-HOST-002 EMS-LOG-003 EMS-METHOD-001 EMS-TLS-001"
	itsOwn  = "EMS-AUTH-001 EMS-COOKIE-001 EMS-CORS-001 EMS-CORS-003 EMS-CSRF-001 EMS-ERR-001 EMS-ERR-003 EMS-LOG-001 EMS-PAGE-001 EMS-PAGE-002 EMS-PLAY-002"
)

func sorted(words ...string) []string {
	list := strings.Fields(strings.Join(words, " "))
	slices.Sort(list)
	return list
}

func (s *service) wants(r *Report, want ...string) {
	s.t.Helper()
	if got := broke(r, finding.Fail, finding.Error); !slices.Equal(got, sorted(want...)) {
		for _, id := range got {
			if !slices.Contains(sorted(want...), id) {
				s.t.Errorf("%s was found and not planted", id)
			}
		}
		for _, id := range sorted(want...) {
			if !slices.Contains(got, id) {
				s.t.Errorf("%s was not found", id)
			}
		}
		s.t.Log(say(r))
	}
}

// TestBare: each planted fault is found and nothing else, also where every
// unknown path answers with the index page.
func TestBare(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sloppy", "shell"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := serve(t, kind)
			s.wants(s.audited(Options{URL: s.url()}), byProxy, itsOwn)
		})
	}
	t.Run("sound", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "sound")
		api, err := exec.Command("python3", "-c", "import json; src = open('testdata/app.py').read(); a = src.index('number ='); b = src.index('class Handler'); exec(src[a:b]); print(json.dumps(openapi))").Output()
		if err != nil {
			t.Fatal(err)
		}
		s.wants(s.audited(Options{URL: s.url(), OpenAPI: api}), "EMS-HDR-002 EMS-HDR-003 EMS-HDR-004 EMS-HDR-005 EMS-HOST-001 EMS-LOG-003 EMS-TLS-001")
	})
}

// TestBareFastAPI: FastAPI answers TRACE with 405, and believes what a client
// says of its scheme if it is told to believe everybody.
func TestBareFastAPI(t *testing.T) {
	t.Parallel()
	s := serveFastAPI(t)
	s.wants(s.audited(Options{URL: s.url()}), strings.Replace(byProxy, "EMS-METHOD-001", "EMS-PROXY-001", 1), itsOwn)
}

// proxied is a service behind a proxy whose configuration `render` made.
type proxied struct {
	*service
	answers render.Answers
	roots   *x509.CertPool
}

func behind(t *testing.T, s *service) *proxied {
	t.Helper()
	dir := t.TempDir()
	return &proxied{service: s, answers: render.Answers{Domain: "localhost", Upstream: "127.0.0.1:" + s.port, Logs: dir, HTTPPort: free(t), HTTPSPort: free(t), BodyLimit: 1 << 20, Rate: 50, LoginRate: 10,
		Certificate: filepath.Join(dir, "cert.pem"), CertificateKey: filepath.Join(dir, "key.pem")}}
}

func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// rendered is a target's file, with the auditor, who is on loopback as those
// inside are, put outside.
func (p *proxied) rendered(target, inside, outside string) string {
	p.t.Helper()
	m, err := render.Make(target, p.answers)
	if err != nil {
		p.t.Fatal(err)
	}
	if strings.Count(m.Files[0].Text, inside) != 1 {
		p.t.Fatalf("%s does not say %q once", target, inside)
	}
	return strings.Replace(m.Files[0].Text, inside, outside, 1)
}

func (p *proxied) write(name, text string) string {
	p.t.Helper()
	file := filepath.Join(p.answers.Logs, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// run starts a proxy, and waits until it shakes hands.
func (p *proxied) run(env []string, argv ...string) {
	p.t.Helper()
	said, err := os.Create(filepath.Join(p.answers.Logs, "said"))
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), said, said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }() //nolint:errcheck // what it said is shown
	p.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it may be gone
		<-done
		said.Close()
	})
	p.until(done, said.Name(), func() error {
		conn, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", p.answers.HTTPSPort), &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) //nolint:gosec // whether it listens
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (p *proxied) audit(roots *x509.CertPool) *Report { return p.audited(p.options(roots)) }

func (p *proxied) options(roots *x509.CertPool) Options {
	return Options{
		URL: &url.URL{Scheme: "https", Host: fmt.Sprint("localhost:", p.answers.HTTPSPort)}, Plain: &url.URL{Scheme: "http", Host: fmt.Sprint("localhost:", p.answers.HTTPPort)},
		Roots: roots, Logs: []string{filepath.Join(p.answers.Logs, "emsafe-web.log")}, OpenAPI: p.openapi(),
	}
}

// openapi is the description, asked of the application itself.
func (p *proxied) openapi() []byte {
	x := newClient(Options{URL: p.url()}).do(p.t.Context(), request{path: "/openapi.json"})
	if !x.ok() {
		p.t.Fatal(x.line())
	}
	return x.body
}

func program(t *testing.T, name string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Skipf("there is no %s: make parts installs it", name)
	return ""
}

// TestBehindNginx: what remains is the application's.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	nginx := program(t, "nginx")
	each(t, func(t *testing.T, s *service) {
		t.Helper()
		p := behind(t, s)
		p.nginx(t, nginx)
		p.wants(p.audit(p.roots), itsOwn)
	})
}

// each is a test of both services.
func each(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		test(t, serve(t, "sloppy"))
	})
	t.Run("FastAPI", func(t *testing.T) {
		t.Parallel()
		test(t, serveFastAPI(t))
	})
}

func (p *proxied) nginx(t *testing.T, nginx string) {
	t.Helper()
	cert := certificate(t, "localhost", time.Now().AddDate(0, 0, 60))
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	p.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	dir, user := p.answers.Logs, ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	p.write("site.conf", p.rendered("nginx", "127.0.0.0/8 1;", "127.0.0.0/8 0;"))
	main := p.write("nginx.conf", user+" daemon off; worker_processes 1; pid "+dir+"/pid; error_log stderr; events {}\nhttp { access_log off; client_body_temp_path "+dir+"/1; proxy_temp_path "+dir+"/2; fastcgi_temp_path "+dir+
		"/3; uwsgi_temp_path "+dir+"/4; scgi_temp_path "+dir+"/5; include "+dir+"/site.conf; }\n")
	p.run(nil, nginx, "-c", main)
	p.roots = x509.NewCertPool()
	ca, _ := authority()
	p.roots.AddCert(ca)
}

// TestBehindCaddy: so is what remains here, but for TRACE, which Caddy passes on.
// For localhost it makes a certificate of an authority of its own.
func TestBehindCaddy(t *testing.T) {
	t.Parallel()
	caddy := program(t, "caddy")
	each(t, func(t *testing.T, s *service) {
		t.Helper()
		p := behind(t, s)
		p.caddy(t, caddy)
		p.wants(p.audit(p.roots), itsOwn)
	})
}

func (p *proxied) caddy(t *testing.T, caddy string) {
	t.Helper()
	dir := p.answers.Logs
	file := p.write("Caddyfile", p.rendered("caddy", "not remote_ip 127.0.0.0/8 ::1", "not remote_ip 192.0.2.1"))
	p.run([]string{"HOME=" + dir, "XDG_DATA_HOME=" + dir + "/data", "XDG_CONFIG_HOME=" + dir + "/config", "CADDY_ADMIN=127.0.0.1:" + fmt.Sprint(free(t))}, caddy, "run", "--config", file, "--adapter", "caddyfile")
	root, err := os.ReadFile(filepath.Join(dir, "data/caddy/pki/authorities/local/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(root)
}
