package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"emsafe/internal/finding"
)

const (
	operationsLimit = 70 // calls without credentials; the other half of the requests is for the rest
	madeUp          = "emsafe-audit-made-up"
)

var errNoOpenAPI = errors.New("the operations are not known: openapi.json is not public (as it should be); give it with --openapi FILE")

// operations calls every operation without credentials, and some with made-up
// ones.
func (a *audit) operations(ctx context.Context) {
	if a.OpenAPI == nil {
		a.api.err = errNoOpenAPI
	} else if a.api.ops, a.api.err = parseOpenAPI(a.OpenAPI); a.api.err == nil && len(a.api.ops) == 0 {
		a.api.err = errors.New("openapi.json names no operation")
	}
	if a.api.err != nil {
		if a.api.err == errNoOpenAPI {
			a.skip("EMS-AUTH-001", "%s", errNoOpenAPI)
			a.skip("EMS-AUTH-002", "%s", errNoOpenAPI)
			a.skip("EMS-CSRF-001", "%s", errNoOpenAPI)
		} else {
			a.failed("EMS-AUTH-001", "", a.api.err)
			a.failed("EMS-AUTH-002", "", a.api.err)
			a.failed("EMS-CSRF-001", "", a.api.err)
		}
		return
	}
	var list []request
	var left []string
	exempt := 0
	for _, o := range a.api.ops {
		switch {
		case o.open:
			exempt++
		case !o.harmless():
			left = append(left, o.method+" "+o.template+": cannot be called without doing it")
		case len(list) == operationsLimit:
			left = append(left, o.method+" "+o.template+": there are too many")
		default:
			list = append(list, o.request(nil))
		}
	}
	answers := a.askAll(ctx, list)
	var open, guarded []answer
	var lines []string
	for _, x := range answers {
		switch {
		case x.err != nil:
			left = append(left, x.line())
		case x.status == http.StatusTooManyRequests:
			left = append(left, x.line()+": slowed down")
		case x.refused(), redirectsToLogin(x):
			guarded = append(guarded, x)
		default:
			open = append(open, x)
			lines = append(lines, x.line())
		}
	}
	words := fmt.Sprintf("%d of %d operations ask who is there; %d cannot, by their name", len(guarded), len(list), exempt)
	switch {
	case len(open) > 0:
		a.fail("EMS-AUTH-001", "", words, lines...)
	case len(list) == 0:
		a.skip("EMS-AUTH-001", "no operation could be called: %s", strings.Join(left, "; "))
	case len(left) > 0:
		a.say("EMS-AUTH-001", finding.Warn, "", words+fmt.Sprintf("; %d were not called", len(left)), "", left)
	default:
		a.pass("EMS-AUTH-001", "", words)
	}
	a.madeUp(ctx, guarded)
	a.forgery(ctx)
}

func redirectsToLogin(x answer) bool {
	return x.status >= 300 && x.status < 400 && regexp.MustCompile(`(?i)login|signin|auth`).MatchString(x.header.Get("Location"))
}

// madeUp asks what was refused again, with credentials that nobody gave out.
func (a *audit) madeUp(ctx context.Context, guarded []answer) {
	if len(guarded) == 0 {
		a.skip("EMS-AUTH-002", "nothing is guarded that they could open (EMS-AUTH-001)")
		return
	}
	var list []request
	for _, x := range guarded[:min(2, len(guarded))] {
		for _, h := range []map[string]string{
			{"Authorization": "Bearer " + madeUp}, {"Authorization": "Basic ZW1zYWZlOmF1ZGl0"}, {"X-API-Key": madeUp}, {"Cookie": "session=" + madeUp + "; token=" + madeUp},
		} {
			if t := x.request.header["Content-Type"]; t != "" {
				h["Content-Type"] = t
			}
			list = append(list, request{method: x.method, path: x.path, body: x.request.body, header: h})
		}
	}
	var opened []string
	answers := a.askAll(ctx, list)
	for _, x := range answers {
		if x.err == nil && !x.refused() && x.status != http.StatusTooManyRequests && !redirectsToLogin(x) {
			for name := range x.request.header {
				if name != "Content-Type" {
					opened = append(opened, x.line()+" with a made-up "+name)
				}
			}
		}
	}
	if err := unanswered(answers); err != nil && len(opened) == 0 {
		a.failed("EMS-AUTH-002", "", err)
		return
	}
	a.verdict("EMS-AUTH-002", fmt.Sprintf("%d attempts were refused", len(list)), "credentials that nobody gave out are taken", opened)
}

// forgery sends what a form on another site could send: a cookie, the other
// site's origin, and a body that needs no preflight.
func (a *audit) forgery(ctx context.Context) {
	var list []request
	for _, o := range a.api.ops {
		if o.method == http.MethodPost && o.takesBody && !o.open && len(list) < 2 {
			list = append(list, o.request(map[string]string{"Origin": "https://" + foreign, "Sec-Fetch-Site": "cross-site", "Cookie": a.cookie(), "Content-Type": "text/plain"}))
		}
	}
	if len(list) == 0 {
		a.skip("EMS-CSRF-001", "there is no operation that takes a body")
		return
	}
	if !a.setsCookies() {
		a.skip("EMS-CSRF-001", "no cookie was set: where nothing goes along by itself nothing can be forged")
		return
	}
	answers := a.askAll(ctx, list)
	var taken []string
	for _, x := range answers {
		if x.err == nil && x.status != 401 && x.status != 403 && x.status != 415 && x.status != 429 {
			taken = append(taken, x.line()+" from another origin, as text/plain")
		}
	}
	if err := unanswered(answers); err != nil && len(taken) == 0 {
		a.failed("EMS-CSRF-001", "", err)
		return
	}
	if len(taken) > 0 && a.sameSite() {
		a.pass("EMS-CSRF-001", "", "all cookies are SameSite: they stay at home", taken...)
		return
	}
	a.verdict("EMS-CSRF-001", "refused", "writes are looked at without a question for their origin", taken)
}

// rows counts the rows of a list: the document itself, or the longest list in
// it.
func rows(x answer) (n int, ok bool) {
	var doc any
	if json.Unmarshal(whole(x), &doc) != nil {
		return 0, false
	}
	switch d := doc.(type) {
	case []any:
		return len(d), true
	case map[string]any:
		for _, v := range d {
			if list, is := v.([]any); is {
				n, ok = max(n, len(list)), true
			}
		}
	}
	return n, ok
}

// credentials are the operator's own, for what needs them.
func (a *audit) credentials() map[string]string {
	h := map[string]string{}
	for k := range a.Header {
		h[k] = a.Header.Get(k)
	}
	return h
}

// pages asks for pages that are too large, and whether a limit holds under
// search.
func (a *audit) pages(ctx context.Context) {
	var large, small []request
	for _, o := range a.api.ops {
		limit, search := o.like(limits), o.like(searches)
		if o.method != http.MethodGet || o.inPath || limit == "" {
			continue
		}
		if len(large) < 4 {
			large = append(large, request{path: o.with(limit, "100000"), header: a.credentials()})
		}
		if search != "" && len(small) < 8 {
			small = append(small, request{path: o.with(search, "a", limit, "1"), header: a.credentials()}, request{path: o.with(search, "e", limit, "1"), header: a.credentials()})
		}
	}
	a.paged(ctx, "EMS-PAGE-002", large, "is refused", "a page of 100,000 is not refused", func(x answer) bool { return x.ok() }, func(x answer) bool { return x.status >= 400 && x.status < 500 })
	a.paged(ctx, "EMS-PAGE-001", small, "one row, as asked", "more rows than the limit", func(x answer) bool { n, _ := rows(x); return x.ok() && n > 1 },
		func(x answer) bool { n, _ := rows(x); return x.ok() && n == 1 })
}

func (a *audit) paged(ctx context.Context, id string, list []request, good, bad string, breaks, holds func(answer) bool) {
	if a.api.err != nil {
		a.skip(id, "%s", a.api.err)
		return
	}
	if len(list) == 0 {
		a.skip(id, "no operation has such a parameter")
		return
	}
	answers := a.askAll(ctx, list)
	var broke []string
	held, refused := 0, 0
	for _, x := range answers {
		switch {
		case x.err != nil:
		case x.refused():
			refused++
		case breaks(x):
			n, _ := rows(x)
			broke = append(broke, fmt.Sprintf("%s, %d rows", x.line(), n))
		case holds(x):
			held++
		}
	}
	switch err := unanswered(answers); {
	case len(broke) > 0:
		a.verdict(id, "", bad, broke)
	case err != nil:
		a.failed(id, "", err)
	case refused == len(list):
		a.skip(id, "needs credentials: put a header line into $EMSAFE_AUDIT_HEADER")
	case held == 0:
		a.skip(id, "the lists are empty, or answer in a form that is not known")
	default:
		a.pass(id, "", good)
	}
}

var odd = []string{"-1", "1e400", "99999999999999999999999999", "9223372036854775808", "NaN"}

// input sends numbers that are out of range, and looks for a 500.
func (a *audit) input(ctx context.Context) {
	var list []request
	for _, o := range a.api.ops {
		if o.method != http.MethodGet || len(list) >= 24 {
			continue
		}
		for _, p := range o.query {
			if p.number && len(list) < 24 {
				for _, v := range odd {
					list = append(list, request{path: o.with(p.name, v), header: a.credentials()})
				}
			}
		}
		if o.inPath && len(list) < 24 {
			list = append(list, request{path: strings.ReplaceAll(o.path, nilUUID, "99999999999999999999"), header: a.credentials()})
		}
	}
	if len(list) == 0 {
		for _, v := range odd {
			list = append(list, request{path: "/?limit=" + v + "&offset=" + v + "&page=" + v})
		}
	}
	answers := a.askAll(ctx, list)
	var broke []string
	refused := 0
	for _, x := range a.seen {
		if x.status == http.StatusInternalServerError {
			broke = append(broke, x.line())
		}
		if x.status == http.StatusInternalServerError && len(broke) == 8 {
			break
		}
	}
	for _, x := range answers {
		if x.refused() {
			refused++
		}
	}
	if err := unanswered(answers); err != nil && len(broke) == 0 {
		a.failed("EMS-ERR-003", "", err)
	} else if len(broke) == 0 && refused == len(list) {
		a.skip("EMS-ERR-003", "needs credentials: put a header line into $EMSAFE_AUDIT_HEADER")
	} else {
		a.verdict("EMS-ERR-003", fmt.Sprintf("%d odd numbers were answered without a 500", len(list)), "what was not thought of is a 500", broke)
	}
}

var (
	traces = regexp.MustCompile(`Traceback \(most recent call last\)|goroutine [0-9]+ \[running\]|Werkzeug Debugger|You're seeing this error because you have|at [\w.$]+\([\w]+\.java:[0-9]+\)|at .{1,80}\.js:[0-9]+:[0-9]+|Stack trace:|<title>.{0,60}Exception Value`)
	detail = regexp.MustCompile(`sqlite3?\.(Operational|Integrity|Programming|Database)Error|sqlalchemy\.exc|\[SQL: |no such (table|column): |SQLITE_[A-Z]+|(?i:syntax error at or near)|(?:/home|/srv|/opt|/var/www|/usr/lib/python)[\w./-]*\.(?:py|rb|php|js|go)\b`)
)

// errorDetail looks through all that came back.
func (a *audit) errorDetail() {
	var shown, told []string
	for _, x := range a.seen {
		if m := traces.Find(x.body); m != nil && x.status >= 400 {
			shown = append(shown, x.line()+": "+string(m))
		} else if m := detail.Find(x.body); m != nil && x.status >= 400 && !bytes.HasPrefix(x.body, []byte(database)) {
			told = append(told, x.line()+": "+string(m))
		}
	}
	cut := func(list []string) []string { return list[:min(5, len(list))] }
	a.verdict("EMS-ERR-001", "none was seen", "code is shown to everybody", cut(shown))
	a.verdict("EMS-ERR-002", "none was seen", "an error tells what happened inside", cut(told))
}
