package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
)

// bursts asks quickly: at most sixty times a page, and sixty times with wrong
// credentials.
func (a *audit) bursts(ctx context.Context) {
	guarded := request{}
	for _, x := range a.seen {
		if x.status == 401 && x.method == http.MethodGet && x.to == nil && x.host == "" {
			guarded = request{path: x.path, header: map[string]string{"Authorization": "Bearer " + madeUp}, once: true}
			break
		}
	}
	path := "/"
	if mark, ok := a.landmark(); ok {
		path = mark.path
	}
	at, slowed := a.burst(ctx, request{path: path, once: true})
	a.limited("EMS-RATE-001", path, at, slowed)
	told := slowed
	if guarded.path == "" {
		a.skip("EMS-RATE-002", "no page answers 401, so that there is nothing to guess")
	} else {
		at, slowed = a.burst(ctx, guarded)
		a.limited("EMS-RATE-002", guarded.path, at, slowed)
		if told.status == 0 {
			told = slowed
		}
	}
	switch {
	case told.status == 0:
		a.skip("EMS-RATE-003", "nobody was slowed down (EMS-RATE-001)")
	case told.status != http.StatusTooManyRequests:
		a.fail("EMS-RATE-003", "", "limited, with another code", told.line())
	case told.header.Get("Retry-After") == "":
		a.fail("EMS-RATE-003", "", "no Retry-After", told.line())
	default:
		a.pass("EMS-RATE-003", "", "Retry-After: "+clip(told.header.Get("Retry-After"), 40))
	}
}

// burst asks until it is slowed down.
func (a *audit) burst(ctx context.Context, r request) (asked int, slowed answer) {
	list := make([]request, burst/4)
	for i := range list {
		list[i] = r
	}
	for asked < burst {
		for _, x := range a.many(ctx, list, len(list)) {
			asked++
			if x.status == http.StatusTooManyRequests || x.status == http.StatusServiceUnavailable {
				return asked, x
			}
			if x.err != nil {
				return asked, x
			}
		}
	}
	return asked, answer{}
}

func (a *audit) limited(id, path string, asked int, slowed answer) {
	switch {
	case slowed.err != nil:
		a.failed(id, path, slowed.err)
	case slowed.status == 0:
		a.fail(id, path, fmt.Sprintf("%d requests in a row were answered", asked))
	default:
		a.pass(id, path, fmt.Sprintf("slowed down after %d requests", asked), slowed.line())
	}
}

const tooLarge = 48 << 20 // bytes

// body sends one that is too large, and is never one: no parser takes it.
func (a *audit) body(ctx context.Context) {
	path, method := "/", http.MethodPost
	for _, o := range a.api.ops {
		if o.takesBody && o.method != http.MethodDelete {
			path, method = o.path, o.method
			break
		}
	}
	sent := &counted{r: io.LimitReader(filler{}, tooLarge)}
	req, err := http.NewRequestWithContext(ctx, method, a.URL.Scheme+"://"+a.URL.Host+strings.TrimSuffix(a.URL.Path, "/")+path, sent)
	if err != nil {
		a.failed("EMS-BODY-001", "", err)
		return
	}
	req.ContentLength = tooLarge
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Content-Type", "application/json")
	for k, v := range a.credentials() {
		req.Header.Set(k, v)
	}
	asked := fmt.Sprintf("%s %s with %d MiB", method, path, tooLarge>>20)
	a.c.made.Add(1)
	patient := *a.c.http
	patient.Timeout = 3 * patience
	resp, err := patient.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || sent.n.Load() == 0 {
			a.failed("EMS-BODY-001", "", err)
			return
		}
		a.warn("EMS-BODY-001", "", fmt.Sprintf("limited, with the wrong answer: the connection was cut after %d KiB", sent.n.Load()>>10), asked)
		return
	}
	defer resp.Body.Close()
	evidence := fmt.Sprintf("%s → %d after %d KiB", asked, resp.StatusCode, sent.n.Load()>>10)
	switch {
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
		a.pass("EMS-BODY-001", "", "refused", evidence)
	case resp.StatusCode == http.StatusBadGateway, sent.n.Load() < tooLarge/2 && resp.StatusCode >= 400 && resp.StatusCode != 401 && resp.StatusCode != 403:
		a.warn("EMS-BODY-001", "", "limited, with the wrong code", evidence)
	case sent.n.Load() < tooLarge/2 && resp.StatusCode >= 400:
		a.pass("EMS-BODY-001", "", "refused before it was read", evidence)
	default:
		a.fail("EMS-BODY-001", "", "read to its end", evidence)
	}
}

// filler is no JSON, for ever.
type filler struct{}

func (filler) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

// counted is read by the transport, which may go on after the answer.
type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
