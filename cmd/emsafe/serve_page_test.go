package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"emsafe/drill"
	"emsafe/internal/daemon/page"
	"emsafe/internal/fault"
	"emsafe/internal/report/browsertest"
)

// TestDaemonPage: the page of a running daemon, over loopback and its socket.
func TestDaemonPage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir, err := os.MkdirTemp("", "e") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	address := freePort(t)
	h.configure("    schedule: every 1h\n    objective: {rpo: 1h}\n")
	h.overwrite(h.conf, append(h.read(h.conf), "\ndaemon: {listen: \""+address+"\", socket: "+socket+"}\n"...))
	h.must("backup")
	made := h.drilled(h.path("local"), drill.Signed{}, nil)
	p := h.start("daemon")
	over := func(network, at string) *http.Client {
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		}}}
	}
	get := func(c *http.Client, url string) (string, *http.Response) {
		resp, err := c.Get(url) //nolint:noctx // a test
		if err != nil {
			return "", nil
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body), resp
	}
	tcp, local := over("tcp", address), over("unix", socket)
	until(t, "the page", p, func() bool { _, resp := get(tcp, "http://"+address+"/"); return resp != nil })
	until(t, "the report on the page", p, func() bool {
		body, _ := get(tcp, "http://"+address+"/")
		return strings.Contains(body, "It restored.") && strings.Contains(body, "drills/"+made.Report.ID)
	})
	for url, client := range map[string]*http.Client{"http://" + address + "/": tcp, "http://daemon/page/": local} {
		for _, name := range []string{"", "databases/app", "drills", "drills/" + made.Report.ID, "overview.json"} {
			body, resp := get(client, url+name)
			if resp == nil || resp.StatusCode != http.StatusOK || !strings.Contains(body, "app") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("%s%s: %v %.200s", url, name, resp, body)
			}
		}
	}
	if _, resp := get(tcp, "http://evil.example/"); resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a name from elsewhere that leads here is answered: %v", resp)
	}
	if body, resp := get(tcp, "http://"+address+"/metrics"); resp == nil || !strings.Contains(body, "emsafe_") {
		t.Errorf("metrics: %v %.100s", resp, body)
	}
	if body := string(h.read(filepath.Join(h.path("state"), page.HistoryFile))); !strings.Contains(body, `"database":"app"`) {
		t.Errorf("the history says %q", body)
	}
	t.Run("browser", func(t *testing.T) { // which may not be here
		b := browsertest.Open(t)
		b.Go("http://"+address+"/drills/"+made.Report.ID, browsertest.Desktop)
		b.Quiet("http://" + address + "/")
		b.Go("http://"+address+"/", browsertest.Phone)
		b.Quiet("http://" + address + "/")
		b.Fits()
		var lead string
		b.Eval(`document.querySelector('h2 a').href`, &lead)
		if lead != "http://"+address+"/databases/app" {
			t.Errorf("the database is at %s", lead)
		}
	})
	p.Process.Signal(syscall.SIGTERM) //nolint:errcheck // its end tells
	if code := p.end(); code != 0 {
		t.Errorf("exit %d\n%s", code, p.err.String())
	}
}

// TestDaemonPageWithAToken: beyond loopback nothing is told without it.
func TestDaemonPageWithAToken(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	plain := string(h.read(h.conf))
	configure := func(settings string) {
		h.overwrite(h.conf, []byte(plain+"\ndaemon: {listen: \"0.0.0.0:"+port+"\""+settings+"}\n"))
	}
	configure("")
	h.fails(fault.Config, "can be reached by other machines", "config", "check")
	configure(", token: {env: PAGE_TOKEN}")
	h.env = []string{"PAGE_TOKEN=short"}
	h.fails(fault.Config, "less than 16 characters", "daemon")
	const token = "correct-horse-battery"
	h.env = []string{"PAGE_TOKEN=" + token}
	p := h.start("daemon")
	ask := func(path, password string) int {
		req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+port+path, nil) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("anybody", password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	until(t, "the page", p, func() bool { return ask("/", "") != 0 })
	for _, path := range []string{"/", "/metrics", "/databases/app", "/overview.json"} {
		if without, wrong, right := ask(path, ""), ask(path, "wrong"), ask(path, token); without != 401 || wrong != 401 || right != 200 {
			t.Errorf("%s: without the token %d, with another %d, with it %d", path, without, wrong, right)
		}
	}
	p.Process.Signal(syscall.SIGTERM) //nolint:errcheck // its end tells
	if p.end(); strings.Contains(p.err.String(), token) {
		t.Error("the log tells the token")
	}
}
