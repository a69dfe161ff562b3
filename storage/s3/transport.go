package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/time/rate"
)

var (
	errStalled = errors.New("stalled: no byte moved")
	errCutOff  = errors.New("the server's listing is cut off or is no listing")
)

// transport adds to the SDK's HTTP client what it lacks: a limit on how long
// nothing may move (rather than on how long all may take), an upload rate,
// and listings that are checked to be whole before anybody reads them.
type transport struct {
	inner aws.HTTPClient
	stall time.Duration
	limit *rate.Limiter
	holds func() bool // now; nil: always
	chunk int         // bytes between two looks at the limit
}

func newTransport(inner aws.HTTPClient, stall time.Duration, bytesPerSecond int64, holds func() bool) *transport {
	t := &transport{inner: inner, stall: stall, holds: holds}
	if bytesPerSecond > 0 {
		t.chunk = int(min(max(bytesPerSecond/8, 512), 64<<10))
		t.limit = rate.NewLimiter(rate.Limit(bytesPerSecond), t.chunk)
	}
	return t
}

// Do implements aws.HTTPClient.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	server := healthOf(req.URL.Host)
	if err := server.ask(time.Now(), t.stall); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watchdog{limit: t.stall}
	w.timer = time.AfterFunc(t.stall, func() {
		server.stalled(time.Now(), t.stall)
		cancel(fmt.Errorf("%w for %v", errStalled, t.stall))
	})
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sending{ReadCloser: req.Body, t: t, w: w, ctx: ctx}
	}
	resp, err := t.inner.Do(req)
	w.rest()
	if err != nil {
		err = stalled(ctx, err)
		cancel(nil)
		return nil, err
	}
	server.answered(time.Now())
	resp.Body = &receiving{ReadCloser: resp.Body, w: w, server: server, ctx: ctx, cancel: cancel}
	if query := req.URL.Query(); req.Method == http.MethodGet && (query.Get("list-type") == "2" || query.Has("versions")) {
		return wholeListing(resp)
	}
	return resp, nil
}

// stalled replaces the context error that a stall causes by the stall.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// wholeListing reads a listing to its end and refuses one that does not end
// as one: an XML decoder takes a document that stops early for a short one.
func wholeListing(resp *http.Response) (*http.Response, error) {
	defer resp.Body.Close()
	const most = 64 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, fmt.Errorf("read listing: %w", err)
	}
	end := bytes.TrimSpace(data)
	if resp.StatusCode/100 == 2 && !bytes.HasSuffix(end, []byte("</ListBucketResult>")) && !bytes.HasSuffix(end, []byte("</ListVersionsResult>")) && !bytes.HasSuffix(end, []byte("</Error>")) {
		return nil, fmt.Errorf("%w (%d bytes)", errCutOff, len(data))
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// watchdog fires when it was not touched for its limit; it rests while
// nothing is expected to move.
type watchdog struct {
	mu    sync.Mutex
	timer *time.Timer
	limit time.Duration
}

func (w *watchdog) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Reset(w.limit)
}

func (w *watchdog) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

// sending is a request's body. Each Read means that the one before has left.
type sending struct {
	io.ReadCloser
	t   *transport
	w   *watchdog
	ctx context.Context // of the one request that this is the body of
}

func (s *sending) Read(p []byte) (int, error) {
	s.w.touch()
	if s.t.limit == nil {
		return s.ReadCloser.Read(p)
	}
	n, err := s.ReadCloser.Read(p[:min(len(p), s.t.chunk)])
	if n > 0 && (s.t.holds == nil || s.t.holds()) {
		s.w.rest()
		if werr := s.t.limit.WaitN(s.ctx, n); werr != nil {
			return n, werr
		}
		s.w.touch()
	}
	return n, err
}

// receiving is a response's body. The watchdog runs only within Read: a
// reader that takes its time is no stall.
type receiving struct {
	io.ReadCloser
	w      *watchdog
	server *health
	ctx    context.Context // of the one request that this is the response to
	cancel context.CancelCauseFunc
}

func (r *receiving) Read(p []byte) (int, error) {
	r.w.touch()
	n, err := r.ReadCloser.Read(p)
	r.w.rest()
	if n > 0 {
		r.server.answered(time.Now())
	}
	if err != nil && err != io.EOF {
		err = stalled(r.ctx, err)
	}
	return n, err
}

func (r *receiving) Close() error {
	r.w.rest()
	err := r.ReadCloser.Close()
	r.cancel(nil)
	return err
}
