package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), SocketFile)
	c := Client{path}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Error(err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // of a daemon that was killed
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Error(err)
	}
	ending, err := Listen(path) // of a daemon that ends while it is asked
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, read := range []bool{true, false} {
			conn, err := ending.Accept()
			if err != nil {
				return
			}
			if read {
				conn.Read(make([]byte, 4096)) //nolint:errcheck // the rest is not of interest
			}
			conn.Close()
		}
	}()
	for range 2 {
		if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
			t.Error(err)
		}
	}
	ending.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Error(st.Mode(), err)
	}
	ran := make(chan struct{}, 1)
	s, _ := live(t, Options{})
	if err := s.Reload([]Job{{Name: "backup app", Key: "app", Objective: time.Hour, Schedule: schedule(t, "0 0 1 1 *", "UTC"), Run: func(context.Context, Run) (Result, error) {
		ran <- struct{}{}
		return Result{}, nil
	}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- Serve(ctx, l, s.Handler(Controls{Reload: func() error { return errors.New("line 3") }, Metrics: func() Metrics { return Metrics{Version: "1", Status: s.Status()} }}))
	}()
	st, err := c.Status(t.Context())
	if err != nil || len(st.Jobs) != 1 || st.Jobs[0].Name != "backup app" || st.Jobs[0].Objective != time.Hour || st.Jobs[0].Next.Year() != 2027 {
		t.Errorf("%+v %v", st, err)
	}
	if err := c.Run(t.Context(), "backup app"); err != nil {
		t.Error(err)
	}
	<-ran
	if err := c.Run(t.Context(), "x"); err == nil || err.Error() != `there is no job "x"` {
		t.Error(err)
	}
	if err := c.Reload(t.Context()); err == nil || err.Error() != "line 3" {
		t.Error(err)
	}
	if err := c.ConfirmClock(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.call(t.Context(), http.MethodGet, "/run?job=x", nil); err == nil || !strings.Contains(err.Error(), "HTTP 405") {
		t.Error(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n") //nolint:errcheck // the next line fails then
	if text, err := io.ReadAll(conn); err != nil || !strings.Contains(string(text), `emsafe_objective_seconds{name="backup app",kind="backup",database="app"} 3600`) {
		t.Errorf("%s %v", text, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Error(err)
	}
}
