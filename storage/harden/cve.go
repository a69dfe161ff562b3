package harden

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"emsafe/internal/finding"
)

// flaw is a published weakness of SQLite.
type flaw struct {
	id           string
	since, fixed string // versions; fixed is the first without it
	what         string
}

// flaws are those that statements or data of somebody else can reach without a
// debugger or an exotic build, by sqlite.org/cves.html and the CVE records.
var flaws = []flaw{
	{"CVE-2019-8457", "3.6.0", "3.28.0", "an R-tree table that was tampered with makes rtreenode() read out of bounds"},
	{"CVE-2020-13434", "3.8.3", "3.32.1", "a huge precision in printf() overflows"},
	{"CVE-2022-35737", "3.0.0", "3.39.2", "printf() of a string of gigabytes writes out of bounds"},
	{"CVE-2023-7104", "3.13.0", "3.43.2", "a malicious changeset makes the session extension read out of bounds"},
	{"CVE-2025-29087", "3.44.0", "3.49.1", "a long separator in concat_ws() overflows"},
	{"CVE-2025-6965", "3.7.0", "3.50.2", "a query with more aggregates than columns corrupts memory"},
}

// known tells of the published weaknesses of a library that an application has
// loaded. What a distribution ships may have the repairs without the number.
func (l *look) known(lib library, subject string) {
	version, ok := parse(lib.version)
	if !ok {
		return
	}
	var ids []string
	newest, worst := "", ""
	for _, f := range flaws {
		since, _ := parse(f.since)
		fixed, _ := parse(f.fixed)
		if version < since || version >= fixed {
			continue
		}
		ids = append(ids, f.id)
		worst = f.what
		was, _ := parse(newest)
		if fixed > was {
			newest = f.fixed
		}
	}
	if len(ids) == 0 {
		return
	}
	f := finding.Finding{ID: "EMS-PROC-005", Severity: finding.Low, Title: "the application has loaded a SQLite with published weaknesses", Subject: subject,
		Found: fmt.Sprintf("SQLite %s in %s: %s", lib.version, lib.path, strings.Join(ids, ", ")), Why: "The newest of them: " + worst + ". It takes statements or files of somebody else, as an injection or an upload brings them.",
		Remedy: "SQLite " + newest + " or newer: update the package that brings it, and restart the application."}
	if distributed(lib.path) {
		f.Severity = finding.Info
		f.Remedy = "The library belongs to the system, which may have the repairs without the number: its security tracker tells. Keep automatic security updates on, and restart the application after them."
	}
	l.add(f)
}

// distributed reports whether a library lies where the system's packages go.
func distributed(path string) bool {
	return slices.ContainsFunc([]string{"/usr/lib/", "/lib/", "/usr/lib64/", "/lib64/"}, func(dir string) bool { return strings.HasPrefix(filepath.Clean(path), dir) }) && !strings.Contains(path, "/site-packages/")
}
