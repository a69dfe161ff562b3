package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"emsafe/internal/fault"
)

// SocketFile is the name of the daemon's socket, in its runtime directory or
// beside the state.
const SocketFile = "daemon.sock"

// Listen opens the daemon's socket, for its user and group only. The caller
// holds the [Lock]: a socket that is there already is of a daemon that has
// ended.
func Listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Controls are what may be asked of a daemon besides its status.
type Controls struct {
	Metrics func() Metrics
	Reload  func() error // reads the configuration again; nil: it cannot
}

// Handler answers on the socket: GET /status and /metrics, POST /run?job=NAME,
// /confirm-clock and /reload. Errors are JSON, {"error": …}.
func (s *Scheduler) Handler(c Controls) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Status()) })
	mux.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) { done(w, s.Trigger(r.URL.Query().Get("job"))) })
	mux.HandleFunc("POST /confirm-clock", func(w http.ResponseWriter, _ *http.Request) {
		s.ConfirmClock()
		done(w, nil)
	})
	if c.Reload != nil {
		mux.HandleFunc("POST /reload", func(w http.ResponseWriter, _ *http.Request) { done(w, c.Reload()) })
	}
	if c.Metrics != nil {
		mux.Handle("GET /metrics", MetricsHandler(c.Metrics))
	}
	return mux
}

// MetricsHandler is the part for Prometheus, which may also listen on loopback.
func MetricsHandler(metrics func() Metrics) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		metrics().Write(w) //nolint:errcheck // nobody is there to be told
	})
}

func done(w http.ResponseWriter, err error) {
	if err != nil {
		reply(w, http.StatusConflict, map[string]string{"error": err.Error()})
		return
	}
	reply(w, http.StatusOK, map[string]string{})
}

// Reply answers with JSON.
func Reply(w http.ResponseWriter, v any) { reply(w, http.StatusOK, v) }

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // nobody is there to be told
}

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Client talks to a running daemon.
type Client struct{ Socket string }

// Ask gets what the daemon has at a path of its own.
func (c Client) Ask(ctx context.Context, path string, into any) error {
	return c.call(ctx, http.MethodGet, path, into)
}

// Status asks how things are.
func (c Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/status", &s)
}

// Run makes a job due now.
func (c Client) Run(ctx context.Context, job string) error {
	return c.call(ctx, http.MethodPost, "/run?job="+url.QueryEscape(job), nil)
}

// ConfirmClock says that the daemon's clock is right.
func (c Client) ConfirmClock(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/confirm-clock", nil)
}

// Reload makes it read its configuration again. The error says why it did not.
func (c Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/reload", nil)
}

// ErrNoDaemon is that nobody answers: what is known is in the state file.
var ErrNoDaemon = errors.New("no daemon is running")

func (c Client) call(ctx context.Context, method, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Permission, "no access to the daemon's socket %s", c.Socket).
			WithRemedy("Run as the daemon's user or as root, or join its group.")
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("ask the daemon: %w", err)
	case err != nil: // nobody listens, or what listened ends just now
		return fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var failed struct {
			Error string `json:"error"`
		}
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&failed); err != nil || failed.Error == "" {
			return fmt.Errorf("the daemon answers HTTP %d to %s", resp.StatusCode, path)
		}
		return errors.New(failed.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	return nil
}
