package audit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bodyLimit = 1 << 20 // bytes of an answer that are read
	patience  = 10 * time.Second
)

var errBudget = errors.New("the audit has made as many requests as it may")

// client asks one service, and nobody else: it dials only the addresses that
// the operator named, follows no redirect, and uses no proxy.
type client struct {
	base   *url.URL
	may    map[string]bool // host:port
	http   *http.Client
	dialer net.Dialer
	made   atomic.Int64
	limit  int64
	roots  *x509.CertPool
	pace   atomic.Int64 // between requests; 0: none
	turn   sync.Mutex
}

func newClient(o Options) *client {
	c := &client{base: o.URL, may: map[string]bool{hostPort(o.URL): true}, limit: requestLimit, roots: o.Roots, dialer: net.Dialer{Timeout: patience}}
	if o.Intrusive {
		c.limit += 2*burst + crowd + 50
	}
	for _, more := range []*url.URL{o.Plain, o.Direct} {
		if more != nil {
			c.may[hostPort(more)] = true
		}
	}
	c.http = &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// Certificates are judged by a rule of their own; the others want an answer.
		Transport: &http.Transport{DialContext: c.dial, MaxIdleConnsPerHost: workers, DisableCompression: true, ForceAttemptHTTP2: false,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}, //nolint:gosec // see above
	}
	return c
}

// hostPort is where a URL leads.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
		if port == "" {
			port = "80"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !c.may[address] {
		return nil, fmt.Errorf("%s was not named as a target", address)
	}
	return c.dialer.DialContext(ctx, network, address)
}

// request is what is asked.
type request struct {
	method, path string // the path with its query; method "" is GET
	host         string // "" is the right one
	header       map[string]string
	body         string
	to           *url.URL // nil: the service
	once         bool     // 429 and 503 are answers, and the pace is not kept
}

// answer is what came back, or why nothing did.
type answer struct {
	request
	status int
	header http.Header
	body   []byte
	err    error
}

// do asks. A 503 is asked again, once: a proxy that has just lost sight of its
// application says so for a second. Who is slowed down waits, and goes on at a
// slower pace: an audit that runs into a limit sees nothing but the limit.
func (c *client) do(ctx context.Context, r request) answer {
	for try := 0; ; try++ {
		if !r.once {
			c.wait(ctx)
		}
		a := c.once(ctx, r)
		slowed := a.status == http.StatusTooManyRequests && try < 2
		if r.once || ctx.Err() != nil || !slowed && (a.status != http.StatusServiceUnavailable || try > 0) {
			return a
		}
		if slowed {
			c.pace.Store(int64(slower))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// slower is the time between requests, once a limit was met.
const slower = 40 * time.Millisecond

// wait keeps to the pace.
func (c *client) wait(ctx context.Context) {
	pace := time.Duration(c.pace.Load())
	if pace == 0 {
		return
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(pace):
	}
}

func (c *client) once(ctx context.Context, r request) answer {
	a := answer{request: r}
	if a.method == "" {
		a.method = http.MethodGet
	}
	if c.made.Add(1) > c.limit {
		a.err = errBudget
		return a
	}
	base := c.base
	if r.to != nil {
		base = r.to
	}
	req, err := http.NewRequestWithContext(ctx, a.method, base.Scheme+"://"+base.Host+strings.TrimSuffix(base.Path, "/")+r.path, strings.NewReader(r.body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("User-Agent", agent)
	req.Host = r.host
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, a.err = readBody(resp)
	return a
}

func readBody(resp *http.Response) ([]byte, error) {
	return io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
}

// agent tells whoever reads the logs what this was.
const agent = "emsafe-audit"

func (a answer) kind() string {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return kind
}

func (a answer) ok() bool      { return a.err == nil && a.status >= 200 && a.status < 300 }
func (a answer) refused() bool { return a.err == nil && (a.status == 401 || a.status == 403) }

// line is the exchange as evidence. Secrets are in headers and bodies, and
// those it leaves out.
func (a answer) line() string {
	asked := a.method + " " + a.path
	if a.host != "" {
		asked += " (Host: " + a.host + ")"
	}
	if a.err != nil {
		return asked + " → " + a.err.Error()
	}
	if kind := a.kind(); kind != "" {
		return fmt.Sprintf("%s → %d %s", asked, a.status, kind)
	}
	return fmt.Sprintf("%s → %d", asked, a.status)
}
