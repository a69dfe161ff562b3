package harden

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"emsafe/internal/finding"
	"emsafe/storage/sqlite"
)

// users looks at the processes that have the database open.
func (l *look) users() {
	holders, _, err := sqlite.Holders(l.Database)
	if err != nil {
		return
	}
	for _, h := range holders {
		subject := fmt.Sprintf("%s (process %d)", h.Name, h.PID)
		status := processStatus(h.PID)
		if uid := strings.Fields(status["Uid"]); len(uid) > 1 && uid[1] == "0" {
			l.add(finding.Finding{ID: "EMS-PROC-001", Severity: finding.High, Title: "the application runs as root", Subject: subject, Found: "user root",
				Why: "A fault in the application is then a fault of the whole machine.", Remedy: "Give it a user of its own: User= in its unit, or `emsafe harden unit` for a whole sandbox."})
		}
		if mask, err := strconv.ParseUint(status["Umask"], 8, 32); err == nil && mask&0o007 != 0o007 {
			l.add(finding.Finding{ID: "EMS-PROC-002", Severity: finding.Low, Title: "the application makes files that others can read", Subject: subject, Found: "umask " + status["Umask"],
				Why: "What it writes beside the database (uploads, exports, logs) is open to every user of the machine.", Remedy: "UMask=0077 in its unit."})
		}
		l.dumps(h, subject)
		for _, lib := range libraries(h.PID) {
			version := lib.version
			l.known(lib, subject)
			if reset(version) {
				l.add(finding.Finding{ID: "EMS-PROC-003", Severity: finding.Medium, Title: "the application has loaded a SQLite that can damage a WAL database", Subject: subject, Found: "SQLite " + version,
					Why:    "A checkpoint that meets a reset of the log at the wrong moment can lose a transaction and damage the file (mended in 3.51.3, 3.50.7 and 3.44.6).",
					Remedy: "Update the library or the package that brings it, and restart the application."})
			}
		}
	}
}

// processStatus is /proc/PID/status.
func processStatus(pid int) map[string]string {
	out := map[string]string{}
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		out[name] = strings.TrimSpace(value)
	}
	return out
}

var (
	sqliteFile    = regexp.MustCompile(`(sqlite3?[^/]*\.so[^/]*|_sqlite3[^/]*\.so|better_sqlite3\.node)$`)
	sqliteVersion = regexp.MustCompile(`\x00(3\.[0-9]{1,2}\.[0-9]{1,2})\x00`)
)

// library is a file with SQLite in it.
type library struct{ path, version string }

// libraries are the files with SQLite that a process has mapped, with the
// version that they themselves tell.
func libraries(pid int) []library {
	maps, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "maps"))
	if err != nil {
		return nil
	}
	var found []library
	if slices.Contains(driversOf(pid), "mattn") { // linked into the program itself
		if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe")); err == nil {
			maps = append([]byte("0-0 r-xp 0 0:0 0 "+exe+"\n"), maps...)
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		linked := strings.HasPrefix(line, "0-0 ")
		if len(fields) < 6 || !linked && !sqliteFile.MatchString(fields[5]) || seen[fields[5]] {
			continue
		}
		seen[fields[5]] = true
		// By way of the process, whose file may have been replaced since.
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "root", fields[5]))
		if err != nil || len(data) > 64<<20 {
			continue
		}
		if m := sqliteVersion.FindSubmatch(data); m != nil && !slices.ContainsFunc(found, func(f library) bool { return f.version == string(m[1]) }) {
			found = append(found, library{fields[5], string(m[1])})
		}
	}
	return found
}
