package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var databaseFile = regexp.MustCompile(`\.(db|db3|sqlite|sqlite3)( \(deleted\))?$`)

// openFiles looks at the databases that applications have open.
func (a *audit) openFiles(m running) {
	if len(m.apps) == 0 {
		for _, id := range []string{"EMS-DATA-003", "EMS-DATA-004"} {
			if m.hidden > 0 {
				a.failed(id, "", m.blind())
			} else {
				a.skip(id, "no application listens here, or has a database open")
			}
		}
		return
	}
	var gone, wide []string
	seen := 0
	for _, p := range m.apps {
		for _, f := range p.files {
			if !databaseFile.MatchString(f) {
				continue
			}
			seen++
			if name, deleted := strings.CutSuffix(f, " (deleted)"); deleted {
				gone = append(gone, p.String()+" has "+name+", which was deleted or replaced")
				continue
			}
			info, err := os.Stat(a.at(f))
			dir, err2 := os.Stat(filepath.Dir(a.at(f)))
			if err == nil && err2 == nil && info.Mode()&0o006 != 0 && dir.Mode()&0o001 != 0 {
				wide = append(wide, fmt.Sprintf("%s %#o", f, info.Mode().Perm()))
			}
		}
	}
	if seen == 0 && m.hidden == 0 {
		a.skip("EMS-DATA-003", "no application has a database open now")
		a.skip("EMS-DATA-004", "no application has a database open now")
		return
	}
	a.seenAll(m, "EMS-DATA-003", "all are where they were opened", "a deleted file is in use", slices.Compact(gone))
	a.seenAll(m, "EMS-DATA-004", "they are", "others can read or write them", slices.Compact(wide))
}

// secretFiles looks for keys and settings where applications run.
func (a *audit) secretFiles(m running) {
	dirs := map[string]bool{}
	files := map[string]bool{}
	for _, p := range m.apps {
		if cwd, err := os.Readlink(a.at(fmt.Sprintf("/proc/%d/cwd", p.pid))); err == nil && cwd != "/" {
			dirs[cwd] = true
		}
		if unit, _ := a.unitOf(p); unit != "" {
			text, _ := os.ReadFile(unit)
			for _, m := range regexp.MustCompile(`(?m)^EnvironmentFile=-?(/\S+)`).FindAllStringSubmatch(string(text), -1) {
				files[m[1]] = true
			}
		}
	}
	for dir := range dirs {
		for _, pattern := range []string{".env", ".env.*", "*.pem", "*.key", "secrets.*", "credentials*"} {
			for _, f := range a.glob(filepath.Join(dir, pattern)) {
				files[a.onHost(f)] = true
			}
		}
	}
	var wide []string
	seen := 0
	for f := range files {
		info, err := os.Stat(a.at(f))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if strings.HasSuffix(f, ".pem") {
			if text, err := os.ReadFile(a.at(f)); err == nil && !bytes.Contains(text, []byte("PRIVATE KEY")) {
				continue // a certificate is for everybody
			}
		}
		seen++
		if info.Mode()&0o006 != 0 {
			wide = append(wide, fmt.Sprintf("%s %#o", f, info.Mode().Perm()))
		}
	}
	switch {
	case len(wide) == 0 && m.hidden > 0:
		a.failed("EMS-SECRET-001", "", m.blind())
	case seen == 0:
		a.skip("EMS-SECRET-001", "no file with secrets was found where an application runs")
	default:
		a.verdict("EMS-SECRET-001", "they are", "others can read or write them", wide)
	}
}

// disk looks for dm-crypt below the data.
func (a *audit) disk() {
	paths := []string{"/"}
	if a.Facts != nil && len(a.Facts.Databases) > 0 {
		paths = a.Facts.Databases
	}
	text, err := os.ReadFile(a.at("/proc/self/mountinfo"))
	if err != nil {
		a.failed("EMS-DATA-002", "", err)
		return
	}
	var clear, crypted []string
	for _, path := range paths {
		device, point, kind := mountOf(string(text), path)
		line := path + ": " + kind + " at " + point
		switch {
		case kind == "overlay" || point == "":
			a.skip("EMS-DATA-002", "%s lies in a container's own layer: look at its host", path)
			return
		case kind == "zfs":
			a.skip("EMS-DATA-002", "%s lies on ZFS, whose own properties tell", path)
			return
		case kind == "tmpfs" || kind == "ecryptfs" || a.crypt(filepath.Join("/sys/dev/block", device), 0):
			crypted = append(crypted, line)
		default:
			clear = append(clear, line+", without dm-crypt")
		}
	}
	if len(clear) == 0 {
		a.pass("EMS-DATA-002", "", "it is", crypted...)
		return
	}
	a.verdict("EMS-DATA-002", "", "as far as can be seen from here it is not", clear)
}

func mountOf(mountinfo, path string) (device, point, kind string) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		l, r := strings.Fields(before), strings.Fields(after)
		if len(l) < 5 || len(r) < 1 {
			continue
		}
		at := strings.ReplaceAll(l[4], `\040`, " ")
		if (at == "/" || path == at || strings.HasPrefix(path, at+"/")) && len(at) >= len(point) {
			device, point, kind = l[2], at, r[0]
		}
	}
	return device, point, kind
}

// crypt looks for dm-crypt in a device, and in what it lies on.
func (a *audit) crypt(dir string, depth int) bool {
	if uuid, err := os.ReadFile(a.at(filepath.Join(dir, "dm/uuid"))); err == nil && bytes.HasPrefix(uuid, []byte("CRYPT-")) {
		return true
	}
	slaves := a.glob(filepath.Join(dir, "slaves/*"))
	if len(slaves) == 0 || depth > 8 {
		return false
	}
	return !slices.ContainsFunc(slaves, func(s string) bool { return !a.crypt(a.onHost(s), depth+1) })
}
