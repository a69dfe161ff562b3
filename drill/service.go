package drill

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"emsafe/internal/command"
)

const (
	pollEvery  = 50 * time.Millisecond // while a service comes up
	patience   = 5 * time.Second       // for one that is asked to end
	mostAnswer = 1 << 20               // bytes of an answer that are looked at
)

// serve starts the application with the restored database, waits until it
// answers, asks it everything, and stops it, whatever happened.
func (a *attempt) serve(ctx context.Context, c Assertion) finding {
	f := finding{verdict: Pass, reason: ReasonService, expected: fmt.Sprintf("%d right answers", len(c.Ask)), got: fmt.Sprintf("%d right answers", len(c.Ask))}
	port, err := freePort()
	if err != nil {
		f.verdict, f.reason, f.got, f.err = Inconclusive, ReasonSurroundings, told(err), err
		return f
	}
	s, err := command.Start(a.words(c.Service, port), a.options(port))
	if err != nil {
		f.verdict, f.got, f.err = Inconclusive, told(err), a.cannotStart(err)
		if f.reason = ReasonSurroundings; !notStarted(err) {
			f.verdict, f.reason = Fail, ReasonService
		}
		return f
	}
	defer s.Stop(patience)
	client := a.client()
	defer client.CloseIdleConnections()
	if err := ready(ctx, client, s, c, port); err != nil {
		// What the application printed is for the operator, not for the bucket.
		f.verdict, f.got, f.err = Fail, told(err), fmt.Errorf("check %s: %w%s", c.Name, err, s.Output())
		return f
	}
	var wrong []string
	for _, q := range c.Ask {
		if err := q.ask(ctx, client, port); err != nil {
			wrong = append(wrong, q.Name+": "+err.Error())
		}
	}
	if len(wrong) > 0 {
		f.verdict, f.got = Fail, clip(strings.Join(wrong, "; "))
		f.err = fmt.Errorf("check %s: %s%s", c.Name, strings.Join(wrong, "; "), s.Output())
	}
	return f
}

// client speaks to loopback and nothing else, and takes every answer as it is.
func (a *attempt) client() *http.Client {
	return &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: nil,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if host == "localhost" {
					host = "127.0.0.1"
				}
				if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
					return nil, fmt.Errorf("%s is not on loopback", host)
				}
				return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(host, port))
			},
			// The application was started a moment ago, here, by us.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as said
		},
	}
}

// ready waits until the first question gets an answer that is not "not yet".
func ready(ctx context.Context, client *http.Client, s *command.Service, c Assertion, port string) error {
	limit := time.NewTimer(c.timeout())
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := errors.New("nothing to ask")
	for {
		if len(c.Ask) > 0 {
			resp, err := get(ctx, client, c.Ask[0].address(port))
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusBadGateway {
					return nil
				}
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
			last = err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.Done:
			how := "with exit code 0"
			if err := s.Err(); err != nil {
				how = err.Error()
			}
			return fmt.Errorf("the application ended before it answered (%s)", how)
		case <-limit.C:
			return fmt.Errorf("the application did not answer within %s (%w)", c.timeout(), last)
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

func (q Ask) address(port string) string { return strings.ReplaceAll(q.URL, "{port}", port) }

// ask is an error unless the answer is as expected.
func (q Ask) ask(ctx context.Context, client *http.Client, port string) error {
	resp, err := get(ctx, client, q.address(port))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return err
	}
	name, value, _ := strings.Cut(q.Header, ":")
	switch ok := resp.StatusCode >= 200 && resp.StatusCode < 300; {
	case q.Status == 0 && !ok, q.Status != 0 && resp.StatusCode != q.Status:
		want := "success"
		if q.Status != 0 {
			want = fmt.Sprint(q.Status)
		}
		return fmt.Errorf("status %d, not %s", resp.StatusCode, want)
	case q.Header != "" && !strings.Contains(strings.Join(resp.Header.Values(name), ", "), strings.TrimSpace(value)):
		return fmt.Errorf("the header %s is not as expected", name)
	case q.Content != "" && !strings.Contains(string(body), q.Content):
		return errors.New("the expected text is not in the answer")
	}
	return nil
}
