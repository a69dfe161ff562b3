package soak

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"emsafe/storage/storagetest"
)

// liar is a proxy before a real S3 server. It troubles a share of the requests
// while it is on.
type liar struct {
	sync.Mutex
	rng     *rand.Rand
	server  http.Handler
	trouble string // "" is none
	share   float64
	bodies  map[string][]byte // by path and query, what was read before: stale lists, other keys' bodies
}

var troubles = []string{"delay", "reset", "hang", "repeat", "lost reply", "stale list", "flip", "truncate", "other body", "503"}

// lies are the troubles in which the server's answer is not true.
var lies = map[string]bool{"stale list": true, "flip": true, "truncate": true, "other body": true}

func newLiar(t *testing.T, endpoint string, stream uint64) (*liar, string) {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{rng: rand.New(rand.NewPCG(*seed, stream)), bodies: map[string][]byte{}}
	// The Host header stays as it came: it is signed.
	l.server = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
	}
	proxy := httptest.NewServer(l)
	t.Cleanup(proxy.Close)
	return l, proxy.URL
}

func (l *liar) set(trouble string, share float64) {
	l.Lock()
	defer l.Unlock()
	l.trouble, l.share = trouble, share
}

// next is the trouble of one request, and a random number for it.
func (l *liar) next() (trouble string, n uint64) {
	l.Lock()
	defer l.Unlock()
	tally.add("S3: requests")
	if l.trouble == "" || l.rng.Float64() >= l.share {
		return "", 0
	}
	return l.trouble, l.rng.Uint64()
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trouble, n := l.next()
	if lies[trouble] && (r.Method != http.MethodGet || trouble == "stale list" && r.URL.Query().Get("list-type") == "") {
		trouble = ""
	}
	if trouble != "" {
		tally.add("S3: %s", trouble)
	}
	switch trouble {
	case "delay":
		time.Sleep(time.Duration(n % uint64(300*time.Millisecond)))
	case "reset":
		reset(w)
		return
	case "hang":
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
		reset(w)
		return
	case "503":
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case "lost reply":
		l.server.ServeHTTP(httptest.NewRecorder(), r)
		reset(w)
		return
	case "repeat":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			reset(w)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		l.server.ServeHTTP(httptest.NewRecorder(), r.Clone(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if r.Method != http.MethodGet {
		l.server.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	l.server.ServeHTTP(answer, r)
	l.answer(w, r, answer, trouble, n)
}

// answer passes on what the server said, or what was made of it.
func (l *liar) answer(w http.ResponseWriter, r *http.Request, answer *httptest.ResponseRecorder, trouble string, n uint64) {
	body := answer.Body.Bytes()
	l.Lock()
	key := r.URL.Path + "?" + r.URL.RawQuery
	before, seen := l.bodies[key]
	if !seen && answer.Code == http.StatusOK && len(body) < 1<<20 {
		l.bodies[key] = bytes.Clone(body) // the first one is the most stale
	}
	if trouble == "other body" {
		for k, b := range l.bodies {
			if k != key && len(b) > 0 && !strings.Contains(k, "list-type") {
				body = b
				break
			}
		}
	}
	l.Unlock()
	length := len(body)
	switch {
	case trouble == "stale list" && seen:
		body, length = before, len(before)
	case trouble == "flip" && len(body) > 0:
		body = bytes.Clone(body)
		body[n%uint64(len(body))] ^= 1 << (n >> 61)
	case trouble == "truncate" && len(body) > 0:
		body = body[:n%uint64(len(body))]
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(answer.Code)
	w.Write(body) //nolint:errcheck // the client may be gone
}

// reset ends the connection instead of answering.
func reset(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return // a request that was sent twice, the first time
	}
	conn, _, err := h.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// TestLyingServer: one of two targets is a real S3 server behind a proxy that
// delays, resets, hangs, repeats, loses replies and lies. What ends 0 is right,
// the other target is served, and what was broken is whole as soon as the
// server says the truth again.
func TestLyingServer(t *testing.T) {
	t.Parallel()
	server := storagetest.VersityGW(t)
	if err := server.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 5)
	l, endpoint := newLiar(t, server.Endpoint, 6)
	w.overS3(server, endpoint)
	w.change()
	w.must("backup")
	w.while(span(t), func(int) {
		trouble, share := troubles[w.rng.IntN(len(troubles))], []float64{0.05, 0.3, 1}[w.rng.IntN(3)]
		if trouble == "hang" && os.Getenv("EMSAFE_SOAK") == "" {
			return // it takes a minute to be sure that nobody answers
		}
		old := w.app()
		l.set(trouble, share)
		switch w.rng.IntN(4) {
		case 0:
			w.say = fmt.Sprintf("restore, %s of %.2f", trouble, share)
			os.Remove(w.path("out/to.db"))
			r := w.run([]string{"timeout", "-s", "QUIT", "200"}, "conf/emsafe.yaml", "restore", "app", "--target", "two", "--to", w.path("out/to.db"), "--identity", w.path("key"))
			got := w.dump(w.path("out/to.db"))
			switch {
			case r.code != 0:
				w.oneOf("the destination of a restore that failed", got, "")
			case trouble != "stale list": // a target alone cannot be caught at that, without a --head
				w.oneOf("the restored file", got, old)
			}
		case 1:
			w.say = fmt.Sprintf("prune, %s of %.2f", trouble, share)
			w.run([]string{"timeout", "-s", "QUIT", "200"}, "conf/emsafe.yaml", "prune", "--force")
		default:
			w.say = fmt.Sprintf("backup, %s of %.2f", trouble, share)
			w.change()
			r := w.run([]string{"timeout", "-s", "QUIT", "200"}, "conf/emsafe.yaml", "backup")
			l.set("", 0)
			now := w.app()
			w.oneOf("the newest backup of the other target", w.restored("one"), now)
			if r.code == 0 {
				w.oneOf("the newest backup of the server", w.restored("two"), now)
			} else {
				w.oneOf("the newest backup of the server", w.restored("two"), now, old)
			}
		}
		l.set("", 0)
		w.change()
		r := w.run(nil, "conf/emsafe.yaml", "backup")
		if r.code != 0 {
			tally.add("S3: the next backup exits %d", r.code)
			if r = w.run(nil, "conf/emsafe.yaml", "backup"); r.code != 0 {
				w.violated("the second backup after it exits %d:\n%s", r.code, r.out)
			}
		}
		now := w.app()
		w.oneOf("after the next backup, the newest of one", w.restored("one"), now)
		w.oneOf("after the next backup, the newest of two", w.restored("two"), now)
		w.must("verify", "--read-data", "--identity", w.path("key"))
		tally.add("S3: rounds")
	})
}

// overS3 replaces the second target by one on a server.
func (w *world) overS3(server *storagetest.Server, endpoint string) {
	w.Helper()
	name := w.path("conf/emsafe.yaml")
	conf, err := os.ReadFile(name)
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(w.path("conf/secret"), []byte(server.Secret+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	url := "    url: file://" + w.path("two") + "\n"
	text := strings.Replace(string(conf), url, fmt.Sprintf("    url: s3://backups/host\n    endpoint: %s\n    region: us-east-1\n    path_style: true\n    access_key_id: %s\n    secret_access_key: {file: %s}\n",
		endpoint, server.Access, w.path("conf/secret")), 1)
	if text == string(conf) {
		w.Fatalf("no second target in\n%s", conf)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.RemoveAll(w.path("state")); err != nil { // what it remembers is of the other target
		w.Fatal(err)
	}
	w.must("backup", "--take-over")
}
