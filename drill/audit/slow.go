package audit

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const crowd = 99 // stalled clients

// slow tries three kinds of slowness at once, for each is a timeout of its own,
// and then a crowd.
func (a *audit) slow(ctx context.Context) {
	select { // limits that the bursts have used up would answer in the place of timeouts
	case <-ctx.Done():
	case <-time.After(min(5*time.Second, a.Slow/4)):
	}
	host := a.URL.Host
	start := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nX-Slow: ", host, agent)
	stall := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", host, agent)
	whole := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n", host, agent)
	var wg sync.WaitGroup
	wg.Go(func() { a.patient(ctx, "EMS-SLOW-001", "a header, a byte a second", start, "x", a.Slow) })
	wg.Go(func() { a.patient(ctx, "EMS-SLOW-002", "a body that stops", stall, "", a.Slow) })
	// Browsers keep a connection for a minute or two: idle may be longer.
	wg.Go(func() { a.patient(ctx, "EMS-SLOW-003", "nothing after an answer", whole, "", 2*a.Slow+2*time.Second) })
	wg.Wait()
	a.lockout(ctx, start)
}

func (a *audit) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a.c.made.Add(1)
	raw, err := a.c.dial(ctx, "tcp", hostPort(a.URL))
	if err != nil || a.URL.Scheme != "https" {
		return raw, err
	}
	conn := tls.Client(raw, &tls.Config{ServerName: a.URL.Hostname(), InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // the certificate has a rule of its own
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// patient sends a beginning, then drips, and waits for the other side to have
// enough.
func (a *audit) patient(ctx context.Context, id, what, begin, drip string, most time.Duration) {
	conn, err := a.connect(ctx)
	if err != nil {
		a.failed(id, "", err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	started := time.Now()
	conn.SetDeadline(started.Add(most)) //nolint:errcheck // the read ends with an error, then
	if _, err := conn.Write([]byte(begin)); err != nil {
		a.failed(id, "", err)
		return
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	if drip != "" {
		wg.Go(func() {
			tick := time.NewTicker(min(time.Second, most/10))
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					if _, err := conn.Write([]byte(drip)); err != nil {
						return
					}
				}
			}
		})
	}
	status, err := untilClosed(conn)
	close(done)
	wg.Wait()
	took := time.Since(started).Round(100 * time.Millisecond)
	evidence := []string{what}
	if status > 0 {
		evidence = append(evidence, fmt.Sprintf("answered %d", status))
	}
	switch {
	case ctx.Err() != nil:
		a.failed(id, "", ctx.Err())
	case status == http.StatusTooManyRequests && id == "EMS-SLOW-002":
		a.failed(id, "", errors.New("a rate limit answered before the body was waited for"))
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.fail(id, "", fmt.Sprintf("borne for %s, and longer", most), evidence...)
	default:
		a.pass(id, "", fmt.Sprintf("cut off after %s", took), evidence...)
	}
}

// untilClosed reads answers until the other side closes, or the deadline.
func untilClosed(conn net.Conn) (status int, err error) {
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return status, err
		}
		status = resp.StatusCode
		if _, err := readBody(resp); err != nil {
			return status, err
		}
	}
}

// lockout keeps a crowd of stalled clients, and asks as one more.
func (a *audit) lockout(ctx context.Context, begin string) {
	var crowded []net.Conn
	defer func() {
		for _, c := range crowded {
			c.Close()
		}
	}()
	path := "/"
	if mark, ok := a.landmark(); ok {
		path = mark.path
	}
	before := a.c.do(ctx, request{path: path})
	for range crowd {
		conn, err := a.connect(ctx)
		if err != nil {
			break // who refuses the many has not locked out the one, yet
		}
		crowded = append(crowded, conn)
		conn.Write([]byte(begin)) //nolint:errcheck // as above
	}
	// A stalled body gets through to the application, where a header does not.
	for _, conn := range crowded[:len(crowded)/2] {
		fmt.Fprintf(conn, "x\r\nContent-Length: 100\r\n\r\n{")
	}
	a.c.http.CloseIdleConnections()
	x := a.c.do(ctx, request{path: path, once: true})
	evidence := []string{fmt.Sprintf("%d stalled clients", len(crowded)), before.line() + " before", x.line() + " meanwhile"}
	switch {
	case before.err != nil || errors.Is(x.err, errBudget):
		a.failed("EMS-SLOW-004", "", errors.Join(before.err, x.err))
	case x.err != nil || x.status >= 500 && before.status < 500:
		a.fail("EMS-SLOW-004", "", "nobody else is served", evidence...)
	case x.status == http.StatusTooManyRequests:
		a.pass("EMS-SLOW-004", "", "this address is slowed down, as it should be", evidence...)
	default:
		a.pass("EMS-SLOW-004", "", "others are served", evidence...)
	}
}
