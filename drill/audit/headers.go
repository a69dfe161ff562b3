package audit

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// guards are the headers that are to stand on every answer.
var guards = []string{"Strict-Transport-Security", "X-Content-Type-Options", "Content-Security-Policy", "X-Frame-Options", "Referrer-Policy"}

var (
	maxAge  = regexp.MustCompile(`(?i)max-age="?([0-9]+)`)
	version = regexp.MustCompile(`[0-9]+\.[0-9]`)
	engine  = regexp.MustCompile(`(?i)uvicorn|gunicorn|hypercorn|waitress|werkzeug|python|php|express|kestrel|tornado`)
)

const (
	halfYear = 15_552_000 // seconds; less is not worth much
	year     = 31_536_000 // what ASVS asks for
)

// headers judges what came along with the answers so far.
func (a *audit) headers() {
	page, ok := a.landmark()
	if !ok {
		page = a.home
	}
	h := page.header
	policy := strings.ToLower(strings.Join(h.Values("Content-Security-Policy"), "; "))

	if a.URL.Scheme != "https" {
		a.skip("EMS-HDR-001", "there is no TLS (EMS-TLS-001)")
	} else if m := maxAge.FindStringSubmatch(h.Get("Strict-Transport-Security")); m == nil {
		a.fail("EMS-HDR-001", "", "there is none", page.line())
	} else if n, err := strconv.Atoi(m[1]); err != nil || n < halfYear {
		a.fail("EMS-HDR-001", "", m[1]+" seconds are too short", page.line(), h.Get("Strict-Transport-Security"))
	} else if n < year {
		a.warn("EMS-HDR-001", "", m[1]+" seconds are less than the year that ASVS asks for", page.line(), h.Get("Strict-Transport-Security"))
	} else {
		a.pass("EMS-HDR-001", "", h.Get("Strict-Transport-Security"))
	}

	a.header("EMS-HDR-002", page, "X-Content-Type-Options", func(v string) bool { return strings.EqualFold(v, "nosniff") })
	if policy != "" && (strings.Contains(policy, "'unsafe-inline'") && strings.Contains(policy, "script-src") || strings.Contains(policy, "'unsafe-eval'")) {
		a.warn("EMS-HDR-003", "", "the policy allows scripts in the page itself", policy)
	} else {
		a.header("EMS-HDR-003", page, "Content-Security-Policy", func(v string) bool { return v != "" })
	}
	if strings.Contains(policy, "frame-ancestors") {
		a.pass("EMS-HDR-004", "", "frame-ancestors")
	} else {
		a.header("EMS-HDR-004", page, "X-Frame-Options", func(v string) bool { return strings.EqualFold(v, "deny") || strings.EqualFold(v, "sameorigin") })
	}
	a.header("EMS-HDR-005", page, "Referrer-Policy", func(v string) bool { return v != "" && !strings.EqualFold(v, "unsafe-url") })
	a.onErrors(page)
	a.discloses()
}

func (a *audit) header(id string, page answer, name string, good func(string) bool) {
	switch v := page.header.Get(name); {
	case good(v):
		a.pass(id, "", name+": "+v)
	case v == "":
		a.fail(id, "", "no "+name, page.line())
	default:
		a.fail(id, "", name+": "+v, page.line())
	}
}

// onErrors looks for headers that good answers have, and bad ones have not.
func (a *audit) onErrors(page answer) {
	var has []string
	for _, name := range guards {
		if page.header.Get(name) != "" {
			has = append(has, name)
		}
	}
	if len(has) == 0 {
		a.skip("EMS-HDR-006", "good answers have none either")
		return
	}
	var bare []string
	errors := 0
	for _, x := range a.seen {
		if x.status < 400 || x.host != "" || x.to != nil || x.method == http.MethodTrace {
			continue
		}
		errors++
		for _, name := range has {
			if x.header.Get(name) == "" && len(bare) < 5 {
				bare = append(bare, x.line()+" without "+name)
				break
			}
		}
	}
	if errors == 0 {
		a.skip("EMS-HDR-006", "no request was answered with an error")
		return
	}
	a.verdict("EMS-HDR-006", strconv.Itoa(errors)+" error answers have what the others have", "errors go without", bare)
}

func (a *audit) discloses() {
	var tells []string
	for _, x := range a.seen {
		for _, name := range []string{"Server", "X-Powered-By", "X-Aspnet-Version", "X-Runtime", "X-Generator", "Via"} {
			for _, v := range x.header.Values(name) {
				said := name + ": " + v
				if (version.MatchString(v) && name != "Via" && name != "X-Runtime" || engine.MatchString(v) || name == "X-Powered-By") && !slices.Contains(tells, said) {
					tells = append(tells, said)
				}
			}
		}
	}
	a.verdict("EMS-HDR-007", "nothing is told", "the answers tell what serves", tells)
}
