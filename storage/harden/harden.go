// Package harden looks at what surrounds a database: the modes and owners of
// its files, what lies beside it, its write-ahead log, the processes that use
// it, the disk below it. [Look] reports findings; it opens nothing that SQLite
// locks, and changes nothing. [Plan.Apply] mends the modes, through descriptors
// that nobody can swap, and [Undo] takes that back.
package harden

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"emsafe/internal/fault"
	"emsafe/internal/finding"
)

// Subject is what is looked at.
type Subject struct {
	Name     string   // of the database
	Database string   // its main file
	Known    []string // databases that are under protection, which are no stray copies
	Group    string   // that may share the files; "": nobody but the owner
	Own      []Own    // emsafe's files
}

// Own is one of emsafe's files or folders.
type Own struct {
	Path   string
	Secret bool // whoever reads it has a key, or data
}

// set is the files of a database: SQLite makes the others with the mode of the
// first.
var set = []string{"", "-wal", "-shm", "-journal"}

// look collects findings, and what could be done about them.
type look struct {
	Subject
	gid      int // of Group; -1: none
	findings []finding.Finding
	changes  []Change
	now      time.Time
}

// Plan is what a look found, and what Apply would change.
type Plan struct {
	Findings []finding.Finding
	Changes  []Change
}

// Look looks at one database and what surrounds it.
func Look(s Subject, now time.Time) (*Plan, error) {
	l := &look{Subject: s, gid: -1, now: now}
	if s.Group != "" {
		g, err := user.LookupGroup(s.Group)
		if err != nil {
			return nil, fmt.Errorf("the group that may share the files: %w", err)
		}
		if l.gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, err
		}
	}
	real, err := filepath.EvalSymlinks(s.Database)
	if err != nil {
		return nil, err
	}
	l.path(s.Database, real)
	l.Database = real
	l.files()
	l.surroundings()
	l.wal()
	l.users()
	l.disk()
	for _, own := range s.Own {
		l.own(own)
	}
	finding.Sort(l.findings)
	if s.Database != real {
		// Whoever may change the link would decide whose modes are changed.
		l.changes = nil
		for i := range l.findings {
			l.findings[i].Fix = false
		}
	}
	return &Plan{l.findings, l.changes}, nil
}

func (l *look) add(f finding.Finding) { l.findings = append(l.findings, f) }

// stat is what must be known of a file.
type stat struct {
	fs.FileInfo
	uid, gid   int
	dev, ino   uint64
	links      uint64
	permission fs.FileMode // with the set-id and sticky bits
}

func lstat(path string) (stat, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return stat{}, err
	}
	return statOf(info)
}

func statOf(info fs.FileInfo) (stat, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{}, errors.New("the file system tells too little")
	}
	//nolint:unconvert,gosec // of other types elsewhere
	return stat{info, int(st.Uid), int(st.Gid), uint64(st.Dev), uint64(st.Ino), uint64(st.Nlink), info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)}, nil
}

// allowed is the widest mode of a file of the database.
func (l *look) allowed(st stat) fs.FileMode {
	if l.gid >= 0 && st.gid == l.gid {
		return 0o660
	}
	return 0o600
}

// files looks at the database's own files.
func (l *look) files() {
	var main stat
	for _, ext := range set {
		path := l.Database + ext
		st, err := lstat(path)
		if err != nil {
			continue
		}
		if ext == "" {
			main = st
		}
		l.mode(path, st, l.allowed(st), "EMS-FILE-001", "a file of the database is open to others",
			"Whoever can read it has all data; whoever can write it can put anything in, past the application.")
		if st.links > 1 && st.Mode().IsRegular() {
			l.add(finding.Finding{ID: "EMS-FILE-003", Severity: finding.Medium, Title: "a file of the database has another name", Subject: path,
				Found: fmt.Sprintf("%d hard links", st.links), Why: "Under the other name it is out of sight of permissions and of backups, and SQLite can damage a database that is opened under two names.",
				Remedy: fmt.Sprintf("Find the other: find / -xdev -inum %d; and remove it.", st.ino)})
		}
		if ext != "" && st.uid != main.uid {
			l.add(finding.Finding{ID: "EMS-FILE-008", Severity: finding.High, Title: "the files of the database have different owners", Subject: path,
				Found: fmt.Sprintf("it belongs to %s, the database to %s", owner(st.uid), owner(main.uid)), Why: "The application can lose access to its own log: somebody opened the database as another user.",
				Remedy: fmt.Sprintf("chown %d %s; and find out who opened it as %s.", main.uid, fault.Shell(path), owner(st.uid))})
		}
	}
}

// mode compares a file's mode with the widest that it should have.
func (l *look) mode(path string, st stat, allowed fs.FileMode, id, title, why string) {
	have := st.permission
	extra := have &^ allowed
	if st.IsDir() {
		extra &^= fs.ModeSticky | fs.ModeSetgid // of use on folders
	}
	if widened := acl(path); widened != "" {
		l.add(finding.Finding{ID: "EMS-FILE-007", Severity: finding.Medium, Title: "an access list widens who may use a file", Subject: path,
			Found: widened, Why: "The mode does not show it.", Remedy: "getfacl " + fault.Shell(path) + "; setfacl -b " + fault.Shell(path), Fix: true})
		l.changes = append(l.changes, change(path, st, (have&^extra)|fs.FileMode(0), true))
		return
	}
	if extra == 0 {
		return
	}
	severity := finding.Low
	switch {
	case extra&(0o006|fs.ModeSetuid) != 0:
		severity = finding.High
	case extra&(0o060|fs.ModeSetgid) != 0:
		severity = finding.Medium
	}
	if st.IsDir() && extra&0o022 == 0 {
		severity = finding.Low
	}
	want := have &^ extra
	fix := st.IsDir() || st.links == 1 // what has another name may be somebody else's
	l.add(finding.Finding{ID: id, Severity: severity, Title: title, Subject: path, Found: fmt.Sprintf("mode %04o, %s:%s; at most %04o is right", octal(have), owner(st.uid), group(st.gid), octal(allowed)),
		Why: why, Remedy: fmt.Sprintf("chmod %04o %s; and a umask of 0077 for the application.", octal(want), fault.Shell(path)), Fix: fix})
	if fix {
		l.changes = append(l.changes, change(path, st, want, false))
	}
}

// octal is a mode as chmod takes it.
func octal(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, value := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			out |= value
		}
	}
	return out
}

// path looks at the way to the database: who may change a folder on it may put
// another database there.
func (l *look) path(given, real string) {
	if given != real {
		l.add(finding.Finding{ID: "EMS-FILE-004", Severity: finding.Low, Title: "the way to the database goes through a symbolic link", Subject: given,
			Found: "it leads to " + real, Why: "Whoever may change the link decides which database is backed up, restored and hardened.", Remedy: "Configure the path without the link: " + real})
	}
	file, err := lstat(real)
	if err != nil {
		return
	}
	for dir, first := filepath.Dir(real), true; ; dir, first = filepath.Dir(dir), false {
		st, err := lstat(dir)
		if err != nil {
			return
		}
		if first {
			allowed := fs.FileMode(0o700)
			if l.gid >= 0 && st.gid == l.gid {
				allowed = 0o770
			}
			if st.permission&0o022&^allowed == 0 {
				l.mode(dir, st, allowed|0o011, "EMS-FILE-006", "the folder of the database can be listed by others", "Names and sizes tell things, and copies that somebody makes there can be opened.")
			}
		}
		writable := st.permission&0o002 != 0 || st.permission&0o020 != 0 && (l.gid < 0 || st.gid != l.gid) && st.gid != 0
		switch {
		case writable && st.permission&fs.ModeSticky == 0:
			l.add(finding.Finding{ID: "EMS-FILE-005", Severity: finding.High, Title: "others can replace the database", Subject: dir,
				Found: fmt.Sprintf("mode %04o, %s:%s", octal(st.permission), owner(st.uid), group(st.gid)), Why: "Whoever may write to a folder on the way can rename what is in it, and put a database of their own there.",
				Remedy: "chmod go-w " + fault.Shell(dir), Fix: first})
			if first {
				l.changes = append(l.changes, change(dir, st, st.permission&^0o022, false))
			}
		case st.uid != 0 && st.uid != file.uid && st.uid != os.Geteuid():
			l.add(finding.Finding{ID: "EMS-FILE-009", Severity: finding.Medium, Title: "a folder on the way belongs to somebody else", Subject: dir,
				Found: "it belongs to " + owner(st.uid) + ", the database to " + owner(file.uid), Why: "The owner of a folder can replace what is in it.", Remedy: "chown root " + fault.Shell(dir) + ", or move the database."})
		}
		if dir == filepath.Dir(dir) {
			return
		}
	}
}

// own looks at one of emsafe's own files.
func (l *look) own(o Own) {
	st, err := lstat(o.Path)
	if err != nil {
		return
	}
	allowed := fs.FileMode(0o644)
	switch {
	case st.IsDir():
		allowed = 0o700
	case o.Secret:
		allowed = 0o600
	}
	l.mode(o.Path, st, allowed, "EMS-OWN-001", "one of emsafe's own files is open to others", "Keys open or forge backups; the configuration decides to whom they are sealed.")
}

func owner(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func group(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

// span is a size for people.
func span(bytes int64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)), ".0 MiB")
}
