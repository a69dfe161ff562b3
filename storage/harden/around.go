package harden

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"emsafe/internal/fault"
	"emsafe/internal/finding"
)

// asideFor is how long an old database that a restore kept is worth keeping.
const asideFor = 30 * 24 * time.Hour

var (
	copyName = regexp.MustCompile(`(?i)(\.(bak|backup|old|orig|save|copy|dump|sql|tmp)(\.(gz|zst|xz|bz2|zip))?|~|[-_.](copy|backup|bak|old)[-_.0-9]*\.(db|sqlite3?))$`)
	webRoots = []string{"/var/www", "/srv/www", "/srv/http", "/usr/share/nginx", "/usr/share/caddy", "/var/lib/www"}
	webNames = []string{"public", "public_html", "htdocs", "wwwroot", "static", "www"}
)

// surroundings looks at what lies beside the database, and where that is.
func (l *look) surroundings() {
	dir := filepath.Dir(l.Database)
	l.copies(dir)
	for _, root := range webRoots {
		if strings.HasPrefix(l.Database, root+"/") {
			l.exposed(root)
			return
		}
	}
	for _, part := range strings.Split(strings.Trim(dir, "/"), "/") {
		if slices.Contains(webNames, part) {
			l.exposed(part)
			return
		}
	}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Lstat(filepath.Join(d, ".git")); err == nil {
			l.add(finding.Finding{ID: "EMS-FILE-011", Severity: finding.Medium, Title: "the database lies in a git work tree", Subject: l.Database,
				Found: "the work tree is " + d, Why: "One `git add .` publishes all data, and one `git clean -fdx` removes it.", Remedy: "Move it out, as to /var/lib/APP, or at least ignore it with its -wal, -shm and -journal."})
			return
		}
	}
}

func (l *look) exposed(root string) {
	l.add(finding.Finding{ID: "EMS-FILE-010", Severity: finding.High, Title: "the database lies where a web server gives out files", Subject: l.Database,
		Found: "below " + root, Why: "One wrong rule, or none, and anybody can download it.", Remedy: "Move it out, as to /var/lib/APP."})
}

// copies looks for what holds the same data without the same care.
func (l *look) copies(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		st, err := lstat(path)
		if err != nil || l.belongs(path) {
			continue
		}
		aside := strings.Contains(e.Name(), "before-") && st.IsDir()
		stray := st.Mode().IsRegular() && (copyName.MatchString(e.Name()) || isDatabase(path))
		switch {
		case aside && l.now.Sub(st.ModTime()) > asideFor:
			l.add(finding.Finding{ID: "EMS-FILE-013", Severity: finding.Low, Title: "an old database that a restore kept", Subject: path,
				Found: "from " + st.ModTime().UTC().Format(time.DateOnly), Why: "It holds data that may have been deleted since, in clear.", Remedy: "If nobody needs it any more: rm -r " + fault.Shell(path)})
		case stray:
			severity := finding.Medium
			if st.permission&0o044 != 0 {
				severity = finding.High
			}
			l.add(finding.Finding{ID: "EMS-FILE-012", Severity: severity, Title: "a copy of data lies beside the database", Subject: path,
				Found: fmt.Sprintf("%s, mode %04o, from %s", span(st.Size()), octal(st.permission), st.ModTime().UTC().Format(time.DateOnly)),
				Why:   "It is as good as the database to a thief, nobody looks after it, and `cp` of a live database may be torn.", Remedy: "Remove it: emsafe has consistent, sealed backups. If it is another database, put it under protection."})
		}
	}
}

// belongs reports whether a file is one of a database under protection.
func (l *look) belongs(path string) bool {
	for _, known := range append([]string{l.Database}, l.Known...) {
		for _, ext := range set {
			if path == known+ext {
				return true
			}
		}
	}
	return false
}

func isDatabase(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not hold this up
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 16)
	_, err = io.ReadFull(f, head)
	return err == nil && bytes.Equal(head, []byte("SQLite format 3\x00"))
}
