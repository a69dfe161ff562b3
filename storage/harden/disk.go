package harden

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"emsafe/internal/finding"
	"emsafe/storage/sqlite"
)

// mount is a line of /proc/self/mountinfo.
type mount struct{ device, point, kind, source string }

// mountOf finds the file system of a path.
func mountOf(path string) (mount, bool) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mount{}, false
	}
	var best mount
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		a, b := strings.Fields(before), strings.Fields(after)
		if !ok || len(a) < 5 || len(b) < 2 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(a[4])
		if (point == "/" || path == point || strings.HasPrefix(path, point+"/")) && len(point) >= len(best.point) {
			best = mount{a[2], point, b[0], b[1]}
		}
	}
	return best, best.point != ""
}

// disk looks at the file system below the database.
func (l *look) disk() {
	m, ok := mountOf(l.Database)
	if !ok {
		return
	}
	switch {
	case m.kind == "overlay" || m.kind == "aufs":
		l.add(finding.Finding{ID: "EMS-DISK-001", Severity: finding.High, Title: "the database lies in a container's own layer", Subject: l.Database, Found: m.kind + " at " + m.point,
			Why: "It goes with the container, at the next update.", Remedy: "Put it on a volume or a bind mount."})
	case network(m.kind):
		l.add(finding.Finding{ID: "EMS-DISK-002", Severity: finding.High, Title: "the database lies on a network file system", Subject: l.Database, Found: m.kind + " at " + m.point,
			Why: "Locks there are unreliable, and WAL needs shared memory: two machines, or one after a reconnect, damage the file.", Remedy: "Move it to a local disk."})
	}
	if encrypted(m) {
		return
	}
	l.add(finding.Finding{ID: "EMS-DISK-003", Severity: finding.Medium, Title: "the disk is not encrypted", Subject: m.point, Found: m.kind + " on " + m.source + ", without dm-crypt, fscrypt, ecryptfs or ZFS encryption as far as can be seen",
		Why: "Whoever gets the disk, or the provider's snapshot of it, has all data. The backups are sealed; the original is not.", Remedy: "LUKS for the volume that holds the data (cryptsetup luksFormat), or the provider's encrypted volumes; then restore onto it."})
	l.swap()
	l.hibernation()
}

// hibernation writes all of memory to a disk.
func (l *look) hibernation() {
	text, err := os.ReadFile("/sys/power/resume")
	device := strings.TrimSpace(string(text))
	if err != nil || device == "" || device == "0:0" || crypt(filepath.Join("/sys/dev/block", device), 0) {
		return
	}
	l.add(finding.Finding{ID: "EMS-DISK-005", Severity: finding.Low, Title: "hibernation would write memory to a disk in clear", Subject: "/sys/power/resume", Found: "device " + device,
		Why: "Rows, keys and passwords that were in memory stay there.", Remedy: "A server has no use for it: take resume= from the kernel's command line, or use encrypted swap."})
}

// dumps looks whether a crash of an application would write its memory to disk.
func (l *look) dumps(h sqlite.Process, subject string) {
	limits, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(h.PID), "limits"))
	pattern, err2 := os.ReadFile("/proc/sys/kernel/core_pattern")
	to := strings.TrimSpace(string(pattern))
	if err != nil || err2 != nil || to == "" || strings.HasPrefix(to, "|/bin/false") {
		return
	}
	for line := range strings.Lines(string(limits)) {
		size, ok := strings.CutPrefix(line, "Max core file size")
		if fields := strings.Fields(size); !ok || len(fields) == 0 || fields[0] == "0" {
			continue
		}
		l.add(finding.Finding{ID: "EMS-PROC-004", Severity: finding.Low, Title: "a crash of the application would write its memory to disk", Subject: subject, Found: "core files are allowed, and go to " + to,
			Why: "A core file holds rows and keys in clear, and lies around.", Remedy: "LimitCORE=0 in its unit; `emsafe harden unit` has it."})
	}
}

// network reports whether a file system is another machine's, as far as its
// kind tells.
func network(kind string) bool {
	for _, prefix := range []string{"nfs", "cifs", "smb", "9p", "fuse", "ceph", "glusterfs", "afs"} {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}

// encrypted reports whether a file system's blocks are encrypted below it.
func encrypted(m mount) bool {
	switch m.kind {
	case "ecryptfs", "tmpfs", "ramfs":
		return true
	case "zfs":
		return false // its own properties tell; they need its tools
	}
	return crypt(filepath.Join("/sys/dev/block", m.device), 0)
}

// crypt looks for dm-crypt in a device and in what it lies on.
func crypt(dir string, depth int) bool {
	if uuid, err := os.ReadFile(filepath.Join(dir, "dm", "uuid")); err == nil && strings.HasPrefix(string(uuid), "CRYPT-") {
		return true
	}
	slaves, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if err != nil || len(slaves) == 0 || depth > 8 {
		return false
	}
	for _, s := range slaves {
		if !crypt(filepath.Join(dir, "slaves", s.Name()), depth+1) {
			return false
		}
	}
	return true
}

// swap is where memory, and so data, goes in clear.
func (l *look) swap() {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) < 2 || strings.HasPrefix(fields[0], "/dev/zram") {
			continue
		}
		if strings.HasPrefix(fields[0], "/dev/dm-") && crypt(filepath.Join("/sys/block", filepath.Base(fields[0])), 0) {
			continue
		}
		l.add(finding.Finding{ID: "EMS-DISK-004", Severity: finding.Low, Title: "memory is swapped to a disk in clear", Subject: fields[0], Found: fields[1],
			Why: "Rows, keys and passwords that were in memory stay there.", Remedy: "An encrypted swap (crypttab with /dev/urandom), zram, or none."})
	}
}
