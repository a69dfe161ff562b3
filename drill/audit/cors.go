package audit

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// cors asks as pages of other origins. Without a cookie many frameworks answer
// `*`, and with one they reflect the origin: so all ask with one.
func (a *audit) cors(ctx context.Context) {
	host := a.URL.Hostname()
	origins := []string{"https://" + foreign, "null", a.URL.Scheme + "://" + host + "." + foreign, a.URL.Scheme + "://emsafe" + host}
	paths := []string{"/"}
	if o, ok := a.api.listing(); ok {
		paths = append(paths, o.path)
	} else if mark, ok := a.landmark(); ok && mark.path != "/" {
		paths = append(paths, mark.path)
	}
	var list []request
	for _, p := range paths {
		for _, origin := range origins {
			list = append(list, request{path: p, header: map[string]string{"Origin": origin, "Cookie": a.cookie()}})
		}
		list = append(list, request{path: p, header: map[string]string{"Origin": origins[0]}})
	}
	answers := a.askAll(ctx, list)
	var reads, all []string
	for _, x := range answers {
		if x.err != nil {
			continue
		}
		origin, allowed := x.request.header["Origin"], x.header.Get("Access-Control-Allow-Origin")
		said := x.line() + ", Origin: " + origin + ", Access-Control-Allow-Origin: " + allowed
		switch {
		case allowed == "":
		case allowed == origin && strings.EqualFold(x.header.Get("Access-Control-Allow-Credentials"), "true"):
			reads = append(reads, said+", with credentials")
		case allowed == "*", allowed == origin:
			all = append(all, said)
		}
	}
	err := unanswered(answers)
	a.crossed("EMS-CORS-001", "no foreign origin may", "a foreign origin may read with credentials", reads, err)
	if len(reads) > 0 {
		all = nil // the worse of the two says it
	}
	a.crossed("EMS-CORS-002", "no foreign origin may", "every origin may read", all, err)

	var ask []request
	for _, p := range paths {
		for _, origin := range []string{origins[0], "null"} {
			ask = append(ask, request{method: http.MethodOptions, path: p, header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "DELETE"}})
		}
	}
	var may []string
	answers = a.askAll(ctx, ask)
	for _, x := range answers {
		if x.err != nil || x.status >= 400 {
			continue
		}
		allowed := x.header.Get("Access-Control-Allow-Origin")
		verbs := strings.Split(strings.ToUpper(strings.ReplaceAll(x.header.Get("Access-Control-Allow-Methods"), " ", "")), ",")
		if (allowed == "*" || allowed == x.request.header["Origin"]) && (slices.Contains(verbs, "DELETE") || slices.Contains(verbs, "*")) {
			may = append(may, x.line()+", Origin: "+x.request.header["Origin"]+", Access-Control-Allow-Methods: "+strings.Join(verbs, ", "))
		}
	}
	a.crossed("EMS-CORS-003", "refused", "a preflight for DELETE is answered", may, unanswered(answers))
}

func (a *audit) crossed(id, good, bad string, found []string, err error) {
	if err != nil && len(found) == 0 {
		a.failed(id, "", err)
		return
	}
	a.verdict(id, good, bad, found)
}

// cookie is what a browser would send along.
func (a *audit) cookie() string {
	for _, x := range a.seen {
		for _, c := range (&http.Response{Header: x.header}).Cookies() {
			return c.Name + "=" + madeUp
		}
	}
	return "session=" + madeUp
}

func (a *audit) set() (list []*http.Cookie) {
	for _, x := range a.seen {
		for _, c := range (&http.Response{Header: x.header}).Cookies() {
			if c.MaxAge >= 0 && c.Value != "" && !slices.ContainsFunc(list, func(o *http.Cookie) bool { return o.Name == c.Name }) {
				list = append(list, c)
			}
		}
	}
	return list
}

func (a *audit) setsCookies() bool { return len(a.set()) > 0 }

func (a *audit) sameSite() bool {
	return !slices.ContainsFunc(a.set(), func(c *http.Cookie) bool {
		return c.SameSite != http.SameSiteLaxMode && c.SameSite != http.SameSiteStrictMode
	})
}

// cookies judges those that were set.
func (a *audit) cookies(ctx context.Context) {
	a.askAll(ctx, []request{{path: "/login"}, {path: "/admin/"}})
	set := a.set()
	if len(set) == 0 {
		a.skip("EMS-COOKIE-001", "no cookie was set")
		return
	}
	var bad []string
	for _, c := range set {
		var lacks []string
		if !c.Secure && a.URL.Scheme == "https" {
			lacks = append(lacks, "Secure")
		}
		// Scripts must read the token that they send back against forgery.
		if !c.HttpOnly && !strings.Contains(strings.ToLower(c.Name), "csrf") && !strings.Contains(strings.ToLower(c.Name), "xsrf") {
			lacks = append(lacks, "HttpOnly")
		}
		if c.SameSite != http.SameSiteLaxMode && c.SameSite != http.SameSiteStrictMode {
			lacks = append(lacks, "SameSite")
		}
		if len(lacks) > 0 {
			bad = append(bad, "cookie "+clip(c.Name, 60)+" without "+strings.Join(lacks, ", "))
		}
	}
	a.verdict("EMS-COOKIE-001", "they are", "a cookie is for everybody's reach", bad)
}
