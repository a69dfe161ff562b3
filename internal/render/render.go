// Package render writes configurations of well-kept parts that stand around a
// service: proxies, a unit, a firewall, jails, rotation of logs, alert rules, a
// job of CI. [Targets] are the names, [Make] makes one from [Answers].
//
// What it writes is complete and commented, and holds nothing but what the
// answers say: every answer is of a form that cannot leave its place in any of
// the languages, or is refused. What a part cannot do is told beside it, in
// [Made.Remarks].
package render

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"emsafe/internal/fault"
)

// Answers are what an operator says of the service. The zero value of a field is
// its usual value where there is one.
type Answers struct {
	Domain    string   // as app.example.org
	Upstream  string   // address and port on loopback
	Data      string   // folder that the application may write to
	User      string   // that it runs as
	Command   []string // that starts it
	Allow     []string // networks that may see documentation and health
	SSH       []string // networks that may log in; empty: all, slowed down
	Docs      []string // paths of documentation pages, and of metrics
	Login     []string // paths of logins
	Health    string   // path
	BodyLimit int64    // bytes
	Rate      int      // requests a second from one address
	LoginRate int      // requests a minute from one address to Login

	GuardUser, GuardHash string // basic auth in front of everything; the hash is bcrypt

	GuardFile string // nginx: where the guard's line lies

	Certificate, CertificateKey string // files, for nginx
	Logs                        string // folder of the proxy's log
	HTTPPort, HTTPSPort         int
	Proxy                       string // whose logs and metrics: nginx or caddy
}

// Made is what there is for one target.
type Made struct {
	Target  string   `json:"target"`
	Files   []File   `json:"files"`
	Remarks []string `json:"remarks"` // what must be done besides, and what it cannot do
	Check   string   `json:"check"`   // how the part itself checks it
}

// File is one configuration.
type File struct {
	Path   string `json:"path"` // where it belongs
	Text   string `json:"text"`
	Secret bool   `json:"secret,omitempty"` // it holds a hash
}

// Targets are what can be made.
func Targets() []string {
	return []string{"caddy", "nginx", "uvicorn-unit", "nftables", "fail2ban", "logrotate", "prometheus-rules", "ci"}
}

//go:embed templates
var sources embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"join": strings.Join, "quoted": pattern, "v4": func(n []string) []string { return family(n, true) }, "v6": func(n []string) []string { return family(n, false) },
	"max1": func(n int) int { return max(n, 1) }, "half": func(n int) int { return max(n/2, 1) },
}).ParseFS(sources, "templates/*"))

// pattern makes an alternative of a regular expression of paths.
func pattern(paths []string) string {
	var list []string
	for _, p := range paths {
		list = append(list, regexp.QuoteMeta(p))
	}
	return strings.Join(list, "|")
}

func family(networks []string, four bool) (list []string) {
	for _, n := range networks {
		if strings.Contains(n, ":") != four {
			list = append(list, n)
		}
	}
	return list
}

// view is what a template sees.
type view struct {
	Answers
	BodyMiB   string // as nginx writes it
	Port      string // of the upstream
	Host      string
	WriteRate int
	Unit      string // name of the application's unit
}

// Make makes what there is for one target.
func Make(target string, a Answers) (Made, error) {
	if !slices.Contains(Targets(), target) {
		return Made{}, fault.New(fault.Usage, "there is nothing called %q to render", target).WithRemedy("There are: %s.", strings.Join(Targets(), ", "))
	}
	a = a.complete(target)
	if err := a.check(target); err != nil {
		return Made{}, err
	}
	v := view{Answers: a, BodyMiB: fmt.Sprintf("%dk", (a.BodyLimit+1023)/1024), WriteRate: max(a.Rate/4, 1), Unit: a.User}
	if up, err := netip.ParseAddrPort(a.Upstream); err == nil {
		v.Port, v.Host = fmt.Sprint(up.Port()), up.Addr().String()
	}
	m := Made{Target: target}
	var paths [][2]string // template and place
	paths, m.Check, m.Remarks = about(target, v)
	for _, p := range paths {
		var text bytes.Buffer
		if err := templates.ExecuteTemplate(&text, p[0], v); err != nil {
			return Made{}, fmt.Errorf("render %s: %w", p[0], err)
		}
		m.Files = append(m.Files, File{Path: p[1], Text: text.String(), Secret: a.GuardHash != "" && strings.Contains(text.String(), a.GuardHash)})
	}
	return m, nil
}

func (a Answers) complete(target string) Answers {
	or := func(field *string, usual string) {
		if *field == "" {
			*field = usual
		}
	}
	if a.Proxy == "" {
		a.Proxy = "nginx"
	}
	if target == "caddy" || target == "nginx" {
		a.Proxy = target
	}
	or(&a.Upstream, "127.0.0.1:8000")
	or(&a.User, "app")
	or(&a.Health, "/health")
	or(&a.Logs, "/var/log/"+a.Proxy)
	or(&a.GuardFile, "/etc/nginx/"+a.Domain+".htpasswd")
	if a.Domain != "" {
		or(&a.Certificate, "/etc/letsencrypt/live/"+a.Domain+"/fullchain.pem")
	}
	if at := strings.LastIndexByte(a.Certificate, '/'); at > 0 {
		or(&a.CertificateKey, a.Certificate[:at]+"/privkey.pem")
	}
	if len(a.Docs) == 0 {
		a.Docs = []string{"/docs", "/redoc", "/openapi.json", "/metrics"}
	}
	if len(a.Login) == 0 {
		a.Login = []string{"/login", "/auth", "/token"}
	}
	if len(a.Command) == 0 && a.Data != "" {
		a.Command = []string{strings.TrimSuffix(a.Data, "/") + "/venv/bin/uvicorn", "app.main:app"}
	}
	for _, n := range []struct {
		field *int
		usual int
	}{{&a.Rate, 20}, {&a.LoginRate, 10}, {&a.HTTPPort, 80}, {&a.HTTPSPort, 443}} {
		if *n.field <= 0 {
			*n.field = n.usual
		}
	}
	if a.BodyLimit <= 0 {
		a.BodyLimit = 10 << 20
	}
	return a
}

// The forms of answers. None has a character that means something in any of the
// languages that are written.
var (
	domainForm   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	pathForm     = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)
	userForm     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	argumentForm = regexp.MustCompile(`^[A-Za-z0-9._:/=,@+-]+$`)
	hashForm     = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)
)

func (a Answers) check(target string) error {
	bad := func(key, format string, args ...any) *fault.Error {
		return fault.New(fault.Config, "web.%s %s", key, fmt.Sprintf(format, args...))
	}
	need := map[string][]string{"caddy": {"domain"}, "nginx": {"domain"}, "uvicorn-unit": {"data"}, "ci": {}}[target]
	for _, c := range []struct {
		key, value string
		form       *regexp.Regexp
	}{
		{"domain", a.Domain, domainForm}, {"data", a.Data, pathForm}, {"user", a.User, userForm}, {"health", a.Health, pathForm}, {"certificate", a.Certificate, pathForm},
		{"certificate_key", a.CertificateKey, pathForm}, {"logs", a.Logs, pathForm}, {"guard.file", a.GuardFile, pathForm}, {"guard.user", a.GuardUser, userForm}, {"guard.hash", a.GuardHash, hashForm},
	} {
		switch {
		case c.value == "" && slices.Contains(need, c.key):
			return bad(c.key, "is needed for %s", target).WithRemedy("Set it in the configuration.")
		case c.value != "" && !c.form.MatchString(c.value):
			if c.key == "guard.hash" {
				return bad(c.key, "is no bcrypt hash").WithRemedy("Make one with `htpasswd -nbB USER PASSWORD` or `caddy hash-password`, and keep what comes after the colon.")
			}
			return bad(c.key, "cannot be written into a configuration: %q", c.value)
		}
	}
	for key, list := range map[string][]string{"docs": a.Docs, "login": a.Login} {
		for _, p := range list {
			if !pathForm.MatchString(p) {
				return bad(key, "cannot be written into a configuration: %q", p)
			}
		}
	}
	for _, word := range a.Command {
		if !argumentForm.MatchString(word) {
			return bad("command", "cannot be written into a unit: %q", word)
		}
	}
	for key, list := range map[string][]string{"allow": a.Allow, "ssh": a.SSH} {
		for _, n := range list {
			if _, err := netip.ParsePrefix(n); err != nil {
				if addr, err := netip.ParseAddr(n); err != nil || addr.Zone() != "" {
					return bad(key, "is no network: %q", n)
				}
			}
		}
	}
	if up, err := netip.ParseAddrPort(a.Upstream); err != nil || !up.Addr().IsLoopback() {
		return bad("upstream", "is not on loopback: %q", a.Upstream)
	}
	if (a.GuardUser == "") != (a.GuardHash == "") {
		return bad("guard", "needs user and hash")
	}
	if a.Proxy != "nginx" && a.Proxy != "caddy" {
		return bad("proxy", "is nginx or caddy")
	}
	return nil
}
