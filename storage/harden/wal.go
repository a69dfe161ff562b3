package harden

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"emsafe/internal/fault"
	"emsafe/internal/finding"
	"emsafe/storage/sqlite"
)

const (
	largeWAL = 64 << 20
	pageSize = 4096
	mostFree = 200 // free pages that are looked at
)

// wal looks at what the database's own files say of how it is used. It reads
// bytes and opens no connection.
func (l *look) wal() {
	image, err := sqlite.Inspect(l.Database)
	if err != nil {
		l.add(finding.Finding{ID: "EMS-DB-000", Severity: finding.High, Title: "the database cannot be read", Subject: l.Database, Found: err.Error(),
			Why: "What cannot be read cannot be backed up.", Remedy: "`emsafe doctor` tells more."})
		return
	}
	if image.JournalMode != "wal" {
		l.add(finding.Finding{ID: "EMS-DB-001", Severity: finding.Low, Title: "the database is not in WAL mode", Subject: l.Database, Found: "journal mode " + image.JournalMode,
			Why:    "With a rollback journal readers and writers wait for each other, and a backup keeps writers out for up to a quarter of a second.",
			Remedy: "Once, with the application stopped: sqlite3 " + fault.Shell(l.Database) + " 'PRAGMA journal_mode=wal'. It stays in the file; not on a network file system."})
	}
	if image.PageSize < pageSize {
		l.add(finding.Finding{ID: "EMS-DB-002", Severity: finding.Info, Title: "the pages are small", Subject: l.Database, Found: fmt.Sprintf("%d bytes", image.PageSize),
			Why: "Small pages cost more reads, and more in a backup's index.", Remedy: "With the application stopped: PRAGMA journal_mode=delete; PRAGMA page_size=4096; VACUUM; PRAGMA journal_mode=wal"})
	}
	l.free(image)
	if old, looked, err := sqlite.OldContent(l.Database, mostFree); err == nil && looked >= 10 && old*2 > looked {
		l.add(finding.Finding{ID: "EMS-DB-004", Severity: finding.Low, Title: "what was deleted can still be read in the file", Subject: l.Database, Found: fmt.Sprintf("%d of %d free pages hold what was in them", old, looked),
			Why: "Deleted rows stay in free pages until these are used again, and in every backup: whoever promises deletion has to know.", Remedy: "PRAGMA secure_delete=on (or fast) on every connection, as `emsafe harden connection " + l.Name + "` shows; VACUUM once for what is there."})
	}
	if reset(image.WriterVersion) && image.JournalMode == "wal" {
		l.add(finding.Finding{ID: "EMS-DB-010", Severity: finding.Medium, Title: "the last writer's SQLite can damage a WAL database", Subject: l.Database, Found: "last written by SQLite " + image.WriterVersion,
			Why:    "From 3.7.0 to 3.51.2 a checkpoint that meets a reset of the log at the wrong moment can lose a transaction and damage the file (mended in 3.51.3, 3.50.7 and 3.44.6).",
			Remedy: "Update SQLite, or the driver that brings its own."})
	}
	l.log(image)
}

// free is space that the file keeps and does not use.
func (l *look) free(image sqlite.Image) {
	f, err := os.OpenFile(l.Database, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not hold this up
	if err != nil {
		return
	}
	defer f.Close()
	head := make([]byte, 100)
	if _, err := f.ReadAt(head, 0); err != nil {
		return
	}
	pages, free := int64(binary.BigEndian.Uint32(head[28:])), int64(binary.BigEndian.Uint32(head[36:]))
	if pages > 1000 && free > pages/4 && binary.BigEndian.Uint32(head[52:]) == 0 {
		l.add(finding.Finding{ID: "EMS-DB-003", Severity: finding.Low, Title: "a good part of the file is free", Subject: l.Database,
			Found: fmt.Sprintf("%d of %d pages (%s)", free, pages, span(free*int64(image.PageSize))), Why: "It is stored, and deleted rows can still be read in it.", Remedy: "When it is quiet: VACUUM; or PRAGMA auto_vacuum=incremental before it."})
	}
}

// log looks at the -wal.
func (l *look) log(image sqlite.Image) {
	info, err := os.Stat(l.Database + "-wal")
	if err != nil || info.Size() == 0 {
		return
	}
	frames := info.Size() / int64(image.PageSize+24)
	if info.Size() > largeWAL {
		l.add(finding.Finding{ID: "EMS-WAL-001", Severity: finding.Medium, Title: "the write-ahead log is large", Subject: l.Database + "-wal",
			Found: fmt.Sprintf("%s, about %d frames%s", span(info.Size()), frames, l.reader()), Why: "Reads get slower, the disk fills, and a crash has more to recover. A reader that never ends keeps it from being reused.",
			Remedy: "Find the reader that stays open; `emsafe harden checkpoint " + l.Name + "` copies what can be copied. PRAGMA journal_size_limit bounds what stays."})
	}
	if holders, complete, err := sqlite.Holders(l.Database); err == nil && complete && len(holders) == 0 {
		l.add(finding.Finding{ID: "EMS-WAL-002", Severity: finding.Low, Title: "a log was left behind, and nobody has the database open", Subject: l.Database + "-wal",
			Found: fmt.Sprintf("%s of log", span(info.Size())), Why: "The application ended without closing: the newest commits are in the log alone. Who copies only the main file loses them.",
			Remedy: "Start the application, which recovers it; do not delete the -wal."})
	}
}

// reader names who has the database open longest.
func (l *look) reader() string {
	holders, _, err := sqlite.Holders(l.Database)
	if err != nil || len(holders) == 0 {
		return ""
	}
	oldest, start := holders[0], uint64(1<<63)
	for _, h := range holders {
		if at, ok := started(h.PID); ok && at < start {
			oldest, start = h, at
		}
	}
	return fmt.Sprintf("; open longest: %s (process %d, user %s)", oldest.Name, oldest.PID, oldest.User)
}

// started is when a process began, in ticks since the machine did.
func started(pid int) (uint64, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, false
	}
	at, err := strconv.ParseUint(fields[19], 10, 64)
	return at, err == nil
}

// reset reports whether a version has the bug of the log's reset.
func reset(version string) bool {
	v, ok := parse(version)
	switch {
	case !ok || v < 3_007_000 || v >= 3_051_003:
		return false
	case v >= 3_050_007 && v < 3_051_000, v >= 3_044_006 && v < 3_045_000:
		return false
	}
	return true
}

// parse makes 3.40.1 into 3040001.
func parse(version string) (int, bool) {
	parts := strings.Split(version, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	total := 0
	for i := range 3 {
		n := 0
		if i < len(parts) {
			var err error
			if n, err = strconv.Atoi(parts[i]); err != nil || n > 999 {
				return 0, false
			}
		}
		total = total*1000 + n
	}
	return total, true
}
