package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var userForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

func userOK(s string) (why, hint string) {
	switch {
	case !userForm.MatchString(s):
		return "is no user's name: " + quoted(s), "as in nobody"
	case s == "root":
		return "cannot be root", "what runs as root can reach the real database; make a user that may do nothing else"
	}
	return "", ""
}

func selectOK(s string) (why, hint string) {
	switch s {
	case "latest", "oldest", "random":
		return "", ""
	}
	if _, err := parseDuration(s); err != nil {
		return "cannot be " + quoted(s), "latest, oldest, random, or a time ago as in 7d"
	}
	return "", ""
}

func numberOK(s string) (why, hint string) {
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		return "is no number: " + quoted(s), ""
	}
	return "", ""
}

// askOK keeps questions to the service that was just started.
func askOK(s string) (why, hint string) {
	u, err := url.Parse(strings.ReplaceAll(s, "{port}", "1"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "is no web address: " + quoted(s), "as in http://127.0.0.1:{port}/health"
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "is not on loopback: " + quoted(s), "the service that a drill starts is asked on 127.0.0.1"
	}
	return "", ""
}

func headerOK(s string) (why, hint string) {
	if name, value, ok := strings.Cut(s, ":"); !ok || strings.ContainsAny(name, " \t") || name == "" || strings.TrimSpace(value) == "" {
		return "is no header: " + quoted(s), `as in "Content-Type: text/html"`
	}
	return "", ""
}

// checkDrill looks at what a drill is to ask of a database.
func (p *parse) checkDrill(where string, d Database) {
	if _, written := p.places[where+".drill_schedule"]; written && p.config.DrillKey == "" {
		path := where + ".drill_schedule"
		p.add(p.places[path], path, "drill_schedule has no effect without drill_key", "add drill_key, or take it out: drills by hand need neither")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Drill.Checks)) {
		p.checkCheck(where+".drill.checks."+name, d.Drill.Checks[name])
	}
}

// checkCheck looks at one check: it is of one kind, and has what that takes.
func (p *parse) checkCheck(where string, c Check) {
	has := func(key string) bool { _, ok := p.places[join(where, key)]; return ok }
	var chosen []string
	for _, way := range []string{"sql", "command", "service"} {
		if has(way) {
			chosen = append(chosen, way)
		}
	}
	if len(chosen) != 1 {
		p.add(p.places[where], where, where+" needs one of sql, command and service", "as in: {sql: SELECT count(*) FROM orders, min: 1000}")
		return
	}
	takes := map[string][]string{"sql": {"expect", "min", "max", "newer_than"}, "command": {"expect"}, "service": {"ask"}}[chosen[0]]
	for _, key := range []string{"expect", "min", "max", "newer_than", "ask"} {
		if has(key) && !slices.Contains(takes, key) {
			p.add(p.places[join(where, key)], join(where, key), fmt.Sprintf("%s does not go with %s", key, chosen[0]), "take it out")
		}
	}
	switch {
	case chosen[0] == "service" && !has("ask"):
		p.add(p.places[where], where, "a service needs something to be asked", "add: ask: {health: {url: http://127.0.0.1:{port}/health}}")
	case has("expect") && (has("min") || has("max") || has("newer_than")), has("newer_than") && (has("min") || has("max")):
		p.add(p.places[where], where, where+" expects several things of one value", "one of expect, newer_than, or min and max; make several checks")
	case c.Min != "" && c.Max != "":
		low, _ := strconv.ParseFloat(c.Min, 64)  //nolint:errcheck // their form was checked
		high, _ := strconv.ParseFloat(c.Max, 64) //nolint:errcheck // their form was checked
		if low > high {
			p.add(p.places[where+".min"], where+".min", "min is more than max", "")
		}
	}
}
