package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"emsafe/internal/fault"
)

// heard collects what is sent, to read it while it comes.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) add(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, text)
}

func (h *heard) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.list, func(s string) bool { return strings.Contains(s, text) })
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.list, "\n")
}

// TestDaemonTells: systemd, whoever waits for pings, people, Prometheus and the
// command line hear from the daemon what they must, and no secret.
func TestDaemonTells(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir, err := os.MkdirTemp("", "e") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })

	systemd := &heard{}
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := manager.Read(buf)
			if err != nil {
				return
			}
			systemd.add(string(buf[:n]))
		}
	}()
	web := &heard{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m map[string]any
		json.NewDecoder(r.Body).Decode(&m) //nolint:errcheck // pings have no JSON
		web.add(fmt.Sprint(r.URL.Path, " ", m["severity"], " ", m["title"], " ", m["text"]))
	}))
	t.Cleanup(server.Close)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := port.Addr().String()
	port.Close()

	h.env = []string{
		"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"), "WATCHDOG_USEC=3000000", "JOURNAL_STREAM=8:1",
		"PING=" + server.URL + "/secret-ping", "HOOK=" + server.URL + "/secret-hook", "BEAT=" + server.URL + "/secret-beat",
	}
	h.configure("    schedule: every 1h\n    objective: {rpo: 1h}\n    ping: {env: PING}\n    keep: {last: 2}\n")
	text, err := os.ReadFile(h.conf)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, fmt.Sprintf("\ndaemon: {listen: %q, socket: %s, ping: {env: BEAT}}\nnotify: {chat: {url: {env: HOOK}}, broken: {url: {env: NOT_THERE}}}\n", metrics, filepath.Join(dir, "s"))...)
	if err := os.WriteFile(h.conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.Stale, "", "status", "--check")
	p := h.start("daemon")
	until(t, "READY", p, func() bool { return systemd.has("READY=1") })
	until(t, "the watchdog's food", p, func() bool { return systemd.has("WATCHDOG=1") })
	until(t, "the heartbeat", p, func() bool { return web.has("/secret-beat") })
	until(t, "word of the missing secret", p, func() bool { return web.has("NOT_THERE") })

	h.must("daemon", "run", "backup", "app")
	until(t, "the ping of success", p, func() bool { return web.has("/secret-ping/start") && web.has("/secret-ping <nil>") })
	h.fails(fault.Other, "there is no job", "daemon", "run", "dance")
	if out := h.must("status", "--check"); !strings.Contains(out, "backup app") || strings.Contains(out, "no daemon is running") {
		t.Errorf("%s", out)
	}
	if out := h.must("status", "--socket", filepath.Join(dir, "s"), "--json"); !strings.Contains(out, `"daemon":true`) {
		t.Errorf("%s", out)
	}

	// The target goes away: people hear it once, the check hears /fail.
	if err := os.Rename(h.path("local"), h.path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	h.must("daemon", "run", "backup", "app")
	until(t, "the ping of failure", p, func() bool { return web.has("/secret-ping/fail") })
	if out := h.must("status"); !strings.Contains(out, "failed: ") {
		t.Errorf("%s", out)
	}
	if err := os.Rename(h.path("elsewhere"), h.path("local")); err != nil {
		t.Fatal(err)
	}

	// Prometheus, on loopback and by a file.
	resp, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	prom := h.path("emsafe.prom")
	h.must("metrics", "--textfile", prom)
	written, err := os.ReadFile(prom)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`emsafe_target_recovery_point_timestamp_seconds{name="backup app",kind="backup",database="app",target="local"} 1`, `emsafe_objective_seconds{name="backup app",kind="backup",database="app"} 3600`, `result="sent"} `} {
		if !strings.Contains(string(written), want) {
			t.Errorf("metrics lack %s\n%s", want, written)
		}
	}
	if other, err := http.Get("http://" + metrics + "/overview"); err != nil || other.StatusCode != http.StatusNotFound {
		t.Errorf("the port gives more than metrics: %v %v", other, err)
	}

	// Another configuration, by signal and by word.
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "RELOADING", p, func() bool { return systemd.has("RELOADING=1") })
	h.must("daemon", "reload")
	if err := os.WriteFile(h.conf, append(text, "\nnonsense: 1\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "word of the refused configuration", p, func() bool { return web.has("the new configuration was not taken") })
	if err := os.WriteFile(h.conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("daemon", "confirm-clock")

	p.Process.Signal(syscall.SIGTERM) //nolint:errcheck // the code tells
	if code := p.end(); code != 0 {
		t.Errorf("exit %d\n%s", code, p.err.String())
	}
	if !systemd.has("STOPPING=1") {
		t.Errorf("systemd heard\n%s", systemd)
	}
	if strings.Contains(p.err.String()+systemd.String()+string(written), "secret-") || !strings.Contains(p.err.String(), "<3>{") {
		t.Errorf("%s", p.err.String())
	}
	if out := h.must("status"); !strings.Contains(out, "no daemon is running") {
		t.Errorf("%s", out)
	}
	if out := h.must("log"); strings.Count(out, "configuration") != 1 {
		t.Errorf("%s", out)
	}
	h.fails(fault.NotFound, "no daemon", "daemon", "reload")
	h.fails(fault.Other, "1 of 2 channels", "notify", "test")
}

// TestServiceFiles: what is installed is what systemd takes, and nothing of
// somebody else's is replaced.
func TestServiceFiles(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must("service", "install", "--root", h.path("root"))
	unit := h.path("root/etc/systemd/system/emsafe.service")
	text, err := os.ReadFile(unit)
	if err != nil || string(text) != h.must("service", "print") {
		t.Errorf("%v\n%s", err, text)
	}
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil {
		if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", unit).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	h.must("service", "install", "--root", h.path("root")) // again: it is ours
	if err := os.WriteFile(unit, []byte("[Unit]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.fails(fault.Usage, "was not made by emsafe", "service", "install", "--root", h.path("root"))
	h.fails(fault.Usage, "--now is for this system", "service", "install", "--root", h.path("root"), "--now")
	h.fails(fault.Usage, "--file is unit, sysusers or tmpfiles", "service", "print", "--file", "x")
}
