package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
)

// place is a path where something often lies, and how it is known.
type place struct {
	path string
	is   func(answer) bool
}

func contains(words ...string) func(answer) bool {
	return func(x answer) bool {
		for _, w := range words {
			if !bytes.Contains(bytes.ToLower(x.body), []byte(strings.ToLower(w))) {
				return false
			}
		}
		return true
	}
}

func begins(magic string) func(answer) bool {
	return func(x answer) bool { return bytes.HasPrefix(x.body, []byte(magic)) }
}

var settings = regexp.MustCompile(`(?m)^(export )?[A-Z][A-Z0-9_]{2,}=`)

func environment(x answer) bool { return x.kind() != "text/html" && settings.Match(x.body) }

const database = "SQLite format 3\x00"

var (
	documents = []place{
		{"/docs", contains("swagger-ui")}, {"/redoc", contains("redoc")}, {"/openapi.json", isOpenAPI},
		{"/api/docs", contains("swagger-ui")}, {"/api/openapi.json", isOpenAPI}, {"/swagger.json", isOpenAPI}, {"/swagger/index.html", contains("swagger-ui")},
	}
	leaks = []place{
		{"/.env", environment}, {"/.git/HEAD", begins("ref: ")}, {"/.git/config", contains("[core]")},
		{"/app.db", begins(database)}, {"/data.db", begins(database)}, {"/database.db", begins(database)}, {"/db.sqlite3", begins(database)},
		{"/backup.db", begins(database)}, {"/data/app.db", begins(database)}, {"/backup.sql", contains("create table")},
		{"/backup.zip", begins("PK\x03\x04")}, {"/backup.tar.gz", begins("\x1f\x8b")},
	}
	measures = []place{{"/metrics", contains("# type ")}, {"/api/metrics", contains("# type ")}}
	consoles = []place{
		{"/debug/pprof/", contains("profile", "goroutine")}, {"/debug/vars", contains(`"memstats"`)}, {"/console", contains("werkzeug")},
		{"/actuator/env", contains("propertysources")}, {"/server-status", contains("apache server status")}, {"/__debug__/", contains("debug toolbar")},
		{"/graphql?query=%7B__schema%7Btypes%7Bname%7D%7D%7D", contains(`"__schema"`, `"types"`)},
	}
	folders = []place{
		{"/", isListing}, {"/static/", isListing}, {"/assets/", isListing}, {"/media/", isListing}, {"/uploads/", isListing},
		{"/files/", isListing}, {"/data/", isListing}, {"/backup/", isListing}, {"/backups/", isListing},
	}
	healths = []string{"/health", "/healthz", "/api/health", "/status", "/ready"}
)

// listings are how nginx, Apache, lighttpd and Python, Go, and Caddy begin theirs.
var listings = regexp.MustCompile(`(?i)<title>\s*(index of|directory listing for) /|^(<!doctype html>\s*(<meta[^>]*>\s*)?)?<pre>\s*<a href=|served with\s*<a[^>]* href="https://caddyserver\.com`)

func isListing(x answer) bool { return x.kind() == "text/html" && listings.Match(x.body) }

func isOpenAPI(x answer) bool {
	if whole(x) == nil { // too large to be read, and what it is stands at its beginning
		return bytes.HasPrefix(bytes.TrimSpace(x.body), []byte("{")) && contains(`"openapi"`, `"paths"`)(x)
	}
	var doc struct {
		OpenAPI, Swagger string
		Paths            map[string]any
	}
	return json.Unmarshal(whole(x), &doc) == nil && (doc.OpenAPI != "" || doc.Swagger != "") && doc.Paths != nil
}

// whole is a body, if it was read to its end.
func whole(x answer) []byte {
	if len(x.body) >= bodyLimit {
		return nil
	}
	return x.body
}

// lies asks all places, and returns what is there by its content.
func (a *audit) lies(ctx context.Context, places []place) (there []answer, err error) {
	var list []request
	for _, p := range places {
		list = append(list, request{path: p.path})
	}
	answers := a.askAll(ctx, list)
	for i, x := range answers {
		if x.ok() && !a.shell(x) && places[i].is(x) {
			there = append(there, x)
		}
	}
	return there, unanswered(answers)
}

// reports says of a rule what lies where, or that nothing does.
func (a *audit) reports(id, good, bad string, there []answer, err error) {
	var found []string
	for _, x := range there {
		found = append(found, x.line())
	}
	if len(found) == 0 && err != nil {
		a.failed(id, "", err)
		return
	}
	a.verdict(id, good, bad, found)
}

func (a *audit) documentation(ctx context.Context) {
	there, err := a.lies(ctx, documents)
	a.reports("EMS-DOC-001", "none of the usual places has one", "everybody can read them", there, err)
	for _, x := range there {
		if isOpenAPI(x) && whole(x) != nil && a.OpenAPI == nil {
			a.OpenAPI = x.body
			a.api.public = x.path
		}
	}
}

func (a *audit) exposed(ctx context.Context) {
	there, err := a.lies(ctx, leaks)
	a.reports("EMS-EXP-001", "none lies in the usual places", "anybody can fetch it", there, err)
	there, err = a.lies(ctx, measures)
	a.reports("EMS-EXP-002", "not found", "anybody can read them", there, err)
	there, err = a.lies(ctx, consoles)
	a.reports("EMS-EXP-004", "not found", "anybody can reach it", there, err)
	there, err = a.lies(ctx, folders)
	a.reports("EMS-EXP-005", "none of the usual ones is", "anybody sees what lies there", there, err)

	var list []request
	for _, p := range healths {
		list = append(list, request{path: p})
	}
	answers := a.askAll(ctx, list)
	var tells []string
	for _, x := range answers {
		if keys := details(x); x.err == nil && !a.shell(x) && len(keys) > 0 && (x.ok() || x.status == 503) {
			tells = append(tells, x.line()+" tells "+strings.Join(keys, ", "))
		}
	}
	if err := unanswered(answers); err != nil && len(tells) == 0 {
		a.failed("EMS-EXP-003", "", err)
		return
	}
	a.verdict("EMS-EXP-003", "nothing is told", "it tells more than that it is well", tells)
}

var harmless = regexp.MustCompile(`(?i)^(status|ok|healthy|health|ready|alive|result|message|time|timestamp)$`)

// details are the keys of a health page that say more than that it is well.
func details(x answer) (keys []string) {
	var doc map[string]any
	if json.Unmarshal(whole(x), &doc) != nil {
		return nil
	}
	for k, v := range doc {
		text, _ := v.(string)
		if !harmless.MatchString(k) || strings.Contains(text, "/") || version.MatchString(text) && !strings.Contains(text, ":") {
			keys = append(keys, clip(k, 40))
		}
	}
	return keys
}
