package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// webKeys are about the service in front of the databases, from which `render`
// writes configurations of others.
var webKeys = []key{
	{path: "web", kind: kindGroup, computed: "none", what: "The web service that uses the databases: `emsafe render` writes the configuration of its proxy, unit, firewall and the like from it.",
		why: "A service with safe data behind an open door is not safe. Nothing is written anywhere unless you say so."},
	{path: "web.domain", kind: kindText, form: domainOK, computed: "none", example: "app.example.org",
		what:  "The name that users know it by.",
		why:   "Requests for any other name are refused.",
		field: func(a at) any { return &a.config.Web.Domain }},
	{path: "web.upstream", kind: kindText, form: upstreamOK, def: "127.0.0.1:8000", example: "127.0.0.1:8000",
		what:  "Where the application itself listens: address and port, on loopback.",
		why:   "Everybody else must come through the proxy.",
		field: func(a at) any { return &a.config.Web.Upstream }},
	{path: "web.data", kind: kindPath, form: plainPathOK, computed: "none", example: "/srv/app",
		what:  "The folder that the application may write to, and that it runs in.",
		why:   "Everything else is read-only for it. Many applications write relative to their working folder.",
		field: func(a at) any { return &a.config.Web.Data }},
	{path: "web.user", kind: kindText, form: userOK, def: "app", example: "app",
		what:  "The user that the application runs as.",
		why:   "One of its own, which owns nothing but its data.",
		field: func(a at) any { return &a.config.Web.User }},
	{path: "web.command", kind: kindWords, form: argumentOK, computed: "`[/srv/app/venv/bin/uvicorn, app.main:app]` below `data`", example: "[/srv/app/venv/bin/uvicorn, app.main:app]",
		what:  "How the application is started, without address and port.",
		why:   "For uvicorn the flags of a proxy in front are added.",
		field: func(a at) any { return &a.config.Web.Command }},
	{path: "web.allow", kind: kindTexts, form: networkOK, computed: "none: nobody but this machine", example: "[10.0.0.0/8, 2001:db8::/32]",
		what:  "Networks that may see documentation pages and the health check.",
		why:   "They tell a stranger what there is to attack.",
		field: func(a at) any { return &a.config.Web.Allow }},
	{path: "web.ssh", kind: kindTexts, form: networkOK, computed: "everybody, slowed down", example: "[198.51.100.0/24]",
		what:  "Networks that may log in over ssh.",
		why:   "The firewall lets nobody else in. Name yours before you load it.",
		field: func(a at) any { return &a.config.Web.SSH }},
	{path: "web.docs", kind: kindTexts, form: urlPathOK, computed: "`[/docs, /redoc, /openapi.json, /metrics]`", example: "[/docs, /metrics]",
		what:  "Paths of documentation pages and metrics.",
		why:   "`debug=False` does not hide them in FastAPI, and metrics tell routes, load and errors.",
		field: func(a at) any { return &a.config.Web.Docs }},
	{path: "web.health", kind: kindText, form: urlPathOK, def: "/health", example: "/health",
		what:  "The path of the health check.",
		why:   "For monitoring, and not for the world.",
		field: func(a at) any { return &a.config.Web.Health }},
	{path: "web.login", kind: kindTexts, form: urlPathOK, computed: "`[/login, /auth, /token]`", example: "[/login]",
		what:  "Paths where somebody proves who they are.",
		why:   "They get the strictest limit of requests.",
		field: func(a at) any { return &a.config.Web.Login }},
	{path: "web.body_limit", kind: kindSize, def: "10MiB", min: "1KiB", max: "10GiB", example: "50MiB",
		what:  "The largest request.",
		why:   "As large as the largest upload, and no larger.",
		field: func(a at) any { return &a.config.Web.BodyLimit }},
	{path: "web.rate", kind: kindCount, def: "20", example: "20",
		what:  "Requests a second from one address, with bursts of twice as many; writes get a quarter of it.",
		why:   "A page with its pictures is a burst; a scraper is a stream.",
		field: func(a at) any { return &a.config.Web.Rate }},
	{path: "web.login_rate", kind: kindCount, def: "10", example: "10",
		what:  "Requests a minute from one address to `login`.",
		why:   "People mistype; programs guess.",
		field: func(a at) any { return &a.config.Web.LoginRate }},
	{path: "web.guard", kind: kindGroup, computed: "none", what: "One user name and password in front of everything, for a service of one person or team.",
		why: "It keeps strangers away from the application's own login, and its faults."},
	{path: "web.guard.user", kind: kindText, form: userOK, computed: "none", example: "me",
		what:  "The user name.",
		why:   "It goes with `hash`.",
		field: func(a at) any { return &a.config.Web.GuardUser }},
	{path: "web.guard.hash", kind: kindSecret, computed: "none", example: "{file: /etc/emsafe/guard.hash}",
		what:  "Where the bcrypt hash of the password comes from, as `htpasswd -nbB` and `caddy hash-password` make it.",
		why:   "The hash, never the password. Proxies cannot compare an API key with a hash: that belongs into the application.",
		field: func(a at) any { return &a.config.Web.GuardHash }},
	{path: "web.certificate", kind: kindPath, form: plainPathOK, computed: "`/etc/letsencrypt/live/DOMAIN/fullchain.pem`", example: "/etc/ssl/app/fullchain.pem",
		what:  "nginx: the certificate with its chain.",
		why:   "Caddy gets one by itself.",
		field: func(a at) any { return &a.config.Web.Certificate }},
	{path: "web.certificate_key", kind: kindPath, form: plainPathOK, computed: "`privkey.pem` beside the certificate", example: "/etc/ssl/app/privkey.pem",
		what:  "nginx: its key.",
		why:   "Only root reads it.",
		field: func(a at) any { return &a.config.Web.CertificateKey }},
	{path: "web.logs", kind: kindPath, form: plainPathOK, computed: "`/var/log/nginx` or `/var/log/caddy`", example: "/var/log/web",
		what:  "The folder of the proxy's log.",
		why:   "It must be there: Caddy does not start without.",
		field: func(a at) any { return &a.config.Web.Logs }},
	{path: "web.http_port", kind: kindCount, def: "80", example: "80",
		what:  "The port of plain HTTP, which only redirects.",
		why:   "Another one where something else stands in front.",
		field: func(a at) any { return &a.config.Web.HTTPPort }},
	{path: "web.https_port", kind: kindCount, def: "443", example: "443",
		what:  "The port of HTTPS.",
		why:   "As above.",
		field: func(a at) any { return &a.config.Web.HTTPSPort }},
}

var (
	domainForm   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	folderForm   = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)
	urlPathForm  = regexp.MustCompile(`^/[A-Za-z0-9._/-]*$`)
	argumentForm = regexp.MustCompile(`^[A-Za-z0-9._:/=,@+-]+$`)
)

func domainOK(s string) (why, hint string) {
	if len(s) > 253 || !domainForm.MatchString(s) {
		return "is no domain: " + quoted(s), "as in app.example.org, in small letters"
	}
	return "", ""
}

func upstreamOK(s string) (why, hint string) {
	if at, err := netip.ParseAddrPort(s); err != nil || !at.Addr().IsLoopback() || at.Port() == 0 {
		return "is not on loopback: " + quoted(s), "as in 127.0.0.1:8000; an application that listens elsewhere is reached past the proxy"
	}
	return "", ""
}

func networkOK(s string) (why, hint string) {
	if _, err := netip.ParsePrefix(s); err != nil {
		if _, err := netip.ParseAddr(s); err != nil {
			return "is no network: " + quoted(s), "as in 10.0.0.0/8, or one address"
		}
	}
	return "", ""
}

func plainPathOK(s string) (why, hint string) {
	if why, hint := notRoot(s); why != "" {
		return why, hint
	}
	if !folderForm.MatchString(s) || strings.Contains(s, "/../") {
		return fmt.Sprintf("cannot be written into configurations of others: %s", quoted(s)), "letters, digits, . _ - and /"
	}
	return "", ""
}

func urlPathOK(s string) (why, hint string) {
	if !urlPathForm.MatchString(s) || s == "/" {
		return "is no path: " + quoted(s), "as in /docs"
	}
	return "", ""
}

func argumentOK(s string) (why, hint string) {
	if !argumentForm.MatchString(s) {
		return "cannot stand in a unit as it is: " + quoted(s), "letters, digits and ._:/=,@+-; put the rest into a script"
	}
	return "", ""
}
