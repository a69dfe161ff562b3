package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"emsafe/internal/finding"
)

// outside probes the service. What may be mistaken for a breach is asked
// first: what this service says to a path that cannot be there.
func (a *audit) outside(ctx context.Context) {
	a.canary = newCanary()
	a.lost = a.ask(ctx, request{path: "/" + random()})
	a.home = a.ask(ctx, request{path: "/"})
	if a.lost.err != nil || a.home.err != nil {
		a.unreachable(fmt.Errorf("the service does not answer: %s", a.home.line()))
		return
	}
	a.canary.begin(a.Logs)
	a.tls(ctx)
	a.documentation(ctx)
	a.exposed(ctx)
	a.operations(ctx)
	a.input(ctx)
	a.pages(ctx)
	a.cors(ctx)
	a.hostname(ctx)
	a.direct(ctx)
	a.trace(ctx)
	a.contact(ctx)
	a.spoofed(ctx)
	a.cookies(ctx)
	a.headers()
	a.errorDetail()
	a.logs(ctx)
	if a.Intrusive {
		a.body(ctx)
		a.bursts(ctx)
		a.slow(ctx)
	}
}

func (a *audit) unreachable(err error) {
	for _, r := range Rules {
		if r.Scope == outside || r.Scope == intrusive && a.Intrusive {
			a.failed(r.ID, "", err)
		}
	}
}

// random is a name that nothing has.
func random() string {
	b := make([]byte, 9)
	rand.Read(b) //nolint:errcheck // it never fails
	return "emsafe" + hex.EncodeToString(b)
}

// shell reports whether an answer is the page that a single-page application
// gives for every path that it does not know.
func (a *audit) shell(x answer) bool {
	return a.lost.ok() && x.status == a.lost.status && same(x, a.lost)
}

// same compares two pages but for their own paths, which many reflect.
func same(x, y answer) bool {
	strip := func(z answer) []byte {
		path, _, _ := strings.Cut(z.path, "?")
		return bytes.ReplaceAll(z.body, []byte(strings.TrimPrefix(path, "/")), nil)
	}
	p, q := strip(x), strip(y)
	if x.path == "/" || y.path == "/" {
		p, q = x.body, y.body
	}
	if bytes.Equal(p, q) {
		return true
	}
	// A nonce or a time differs: the same page by its length and its beginning.
	n := min(len(p), len(q), 200)
	longer := max(len(p), len(q))
	return x.kind() == "text/html" && y.kind() == "text/html" && n > 60 && longer-min(len(p), len(q)) < longer/20 && bytes.Equal(p[:60], q[:60])
}

// landmark is a page by which this service is recognised: one that is there,
// or that is guarded.
func (a *audit) landmark() (answer, bool) {
	for _, x := range append([]answer{a.home}, a.seen...) {
		if x.method == http.MethodGet && x.host == "" && x.to == nil && (x.ok() || x.status == 401) && (x.path == "/" || !a.shell(x)) {
			return x, true
		}
	}
	return answer{}, false
}

const (
	foreign = "emsafe-audit.invalid"
	address = "203.0.113.77" // of RFC 5737: nobody's
)

// hostname asks by another name.
func (a *audit) hostname(ctx context.Context) {
	mark, ok := a.landmark()
	paths := []string{"/", "/" + random() + "/"}
	if ok {
		paths = append(paths, mark.path)
	}
	if op, found := a.api.listing(); found {
		paths = append(paths, strings.TrimSuffix(op.path, "/")+map[bool]string{true: "", false: "/"}[strings.HasSuffix(op.path, "/")])
	}
	var list []request
	for _, p := range paths {
		list = append(list, request{path: p, host: foreign}, request{path: p, header: map[string]string{"X-Forwarded-Host": foreign, "Forwarded": "host=" + foreign}})
	}
	var served, led []string
	for _, x := range a.askAll(ctx, list) {
		if x.err == errBudget {
			a.failed("EMS-HOST-001", "", x.err)
			a.failed("EMS-HOST-002", "", x.err)
			return
		}
		if ok && x.host != "" && x.path == mark.path && x.err == nil && x.status == mark.status && same(x, mark) {
			served = append(served, x.line())
		}
		// Who refuses another host may close the connection.
		if x.err == nil && (strings.Contains(x.header.Get("Location"), foreign) || strings.Contains(x.header.Get("Link"), foreign) ||
			x.status < 400 && bytes.Contains(x.body, []byte("://"+foreign))) {
			led = append(led, x.line()+", Location: "+x.header.Get("Location"))
		}
	}
	if ok {
		a.verdict("EMS-HOST-001", "not served to another host", "served to a host that is not its own", served)
	} else {
		a.skip("EMS-HOST-001", "no page is there by which the service could be recognised")
	}
	a.verdict("EMS-HOST-002", "nothing leads elsewhere", "the request chooses where a link leads", led)
}

// direct goes past the proxy.
func (a *audit) direct(ctx context.Context) {
	if a.Direct == nil {
		a.skip("EMS-NET-001", "--direct URL names the application's own port")
		return
	}
	x := a.c.do(ctx, request{path: "/", to: a.Direct})
	if x.err == errBudget {
		a.failed("EMS-NET-001", a.Direct.Host, x.err)
	} else if x.err != nil {
		a.pass("EMS-NET-001", a.Direct.Host, "does not answer", x.line())
	} else {
		a.fail("EMS-NET-001", a.Direct.Host, "the application answers past its proxy", x.line())
	}
}

func (a *audit) trace(ctx context.Context) {
	x := a.ask(ctx, request{method: http.MethodTrace, path: "/", header: map[string]string{"X-Emsafe": "trace"}})
	switch {
	case x.err == errBudget:
		a.failed("EMS-METHOD-001", "", x.err)
	case x.ok() && bytes.Contains(bytes.ToLower(x.body), []byte("x-emsafe: trace")):
		a.fail("EMS-METHOD-001", "", "gives back what was sent", x.line())
	default:
		a.pass("EMS-METHOD-001", "", "not answered", x.line())
	}
}

// contact looks for security.txt (RFC 9116).
func (a *audit) contact(ctx context.Context) {
	x := a.ask(ctx, request{path: "/.well-known/security.txt"})
	body := "\n" + string(x.body)
	switch i := strings.Index(body, "\nExpires:"); {
	case x.err != nil:
		a.failed("EMS-PLAY-002", "", x.err)
	case !x.ok() || !strings.Contains(body, "\nContact:"):
		a.fail("EMS-PLAY-002", "", "there is no security.txt", x.line())
	case i >= 0:
		line, _, _ := strings.Cut(body[i+len("\nExpires:"):], "\n")
		if until, err := time.Parse(time.RFC3339, strings.TrimSpace(line)); err == nil && until.Before(a.Now()) {
			a.fail("EMS-PLAY-002", "", "security.txt has expired", x.line(), "Expires: "+line)
			return
		}
		a.pass("EMS-PLAY-002", "", "security.txt names a contact", x.line())
	default:
		a.say("EMS-PLAY-002", finding.Warn, "", "security.txt has no Expires", "", []string{x.line()})
	}
}

// spoofed says that it comes from inside.
func (a *audit) spoofed(ctx context.Context) {
	inside := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Forwarded-User": "admin", "X-Remote-User": "admin"}
	var list []request
	tried := map[string]bool{}
	for _, x := range a.seen {
		if x.refused() && x.method == http.MethodGet && x.host == "" && x.to == nil && !tried[x.path] && len(list) < 8 && len(x.request.header) == 0 {
			tried[x.path] = true
			list = append(list, request{path: x.path, header: inside})
		}
	}
	opened := []string{}
	answers := a.askAll(ctx, list)
	for _, x := range answers {
		if x.ok() {
			opened = append(opened, x.line()+" with X-Forwarded-For: 127.0.0.1")
		}
	}
	tests := len(list)
	if op, ok := a.api.listing(); ok {
		path := strings.TrimSuffix(op.path, "/") + map[bool]string{true: "", false: "/"}[strings.HasSuffix(op.path, "/")]
		other := map[string]string{"https": "http", "http": "https"}[a.URL.Scheme]
		plain := a.ask(ctx, request{path: path})
		told := a.ask(ctx, request{path: path, header: map[string]string{"X-Forwarded-Proto": other}})
		answers = append(answers, plain, told)
		if was := plain.header.Get("Location"); was != "" {
			tests++
			if now := told.header.Get("Location"); !strings.HasPrefix(was, other+"://") && strings.HasPrefix(now, other+"://") {
				opened = append(opened, told.line()+" with X-Forwarded-Proto: "+other+", Location: "+now)
			}
		}
	}
	if len(opened) > 0 {
		a.verdict("EMS-PROXY-001", "", "what a client says of where it comes from is believed", opened)
	} else if err := unanswered(answers); err != nil {
		a.failed("EMS-PROXY-001", "", err)
	} else if tests == 0 {
		a.skip("EMS-PROXY-001", "nothing is refused here that a made-up origin could open")
	} else {
		a.pass("EMS-PROXY-001", "", fmt.Sprintf("%d pages answer as before to a client that says it is the host itself", tests))
	}
}
