package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
)

// mountsOf are the places of this process's view where the file itself, not a
// folder around it, is mounted.
func mountsOf(id fileID) ([]otherName, error) {
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var names []otherName
	for _, m := range mounts {
		if m.dev != id.dev {
			continue
		}
		if st, err := os.Lstat(m.at); err == nil && st.Mode().IsRegular() && idOf(st) == id {
			names = append(names, otherName{path: m.at})
		}
	}
	return names, nil
}

// mount is one line of a mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	dev          uint64
	root, at     string
	kind         string
	upper, lower []string // of an overlay
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func readMounts(file string) ([]mount, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []mount
	for line := range strings.Lines(string(text)) {
		left, right, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		major, minor, _ := strings.Cut(f[2], ":")
		x, _ := strconv.ParseUint(major, 10, 32) //nolint:errcheck // the kernel's own
		y, _ := strconv.ParseUint(minor, 10, 32) //nolint:errcheck // the kernel's own
		m := mount{dev: unix.Mkdev(uint32(x), uint32(y)), root: unescape.Replace(f[3]), at: unescape.Replace(f[4]), kind: g[0]}
		if m.kind == "overlay" {
			for option := range strings.SplitSeq(g[2], ",") {
				name, value, _ := strings.Cut(option, "=")
				switch name {
				case "upperdir":
					m.upper = append(m.upper, unescape.Replace(value))
				case "lowerdir", "lowerdir+":
					m.lower = append(m.lower, strings.Split(unescape.Replace(value), ":")...)
				}
			}
		}
		list = append(list, m)
	}
	return list, nil
}

// looked are the overlays that were seen last.
var looked struct {
	sync.Mutex
	at       time.Time
	overlays []mount
}

// overlaysFor is how long the overlays that other mount namespaces see are
// taken to be the same: a container that starts is found by then.
const overlaysFor = 10 * time.Second

// overlays are those that any process sees.
func overlays(ctx context.Context) ([]mount, error) {
	looked.Lock()
	defer looked.Unlock()
	if age := time.Since(looked.at); !looked.at.IsZero() && age >= 0 && age < overlaysFor {
		return looked.overlays, nil
	}
	looked.at, looked.overlays = time.Now(), nil
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil //nolint:nilerr // no /proc: nothing is known
	}
	spaces := map[string]bool{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		space, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil || spaces[space] {
			continue
		}
		spaces[space] = true
		mounts, err := readMounts(filepath.Join(dir, "mountinfo"))
		if err != nil {
			continue // it has ended
		}
		for _, m := range mounts {
			if m.kind == "overlay" {
				looked.overlays = append(looked.overlays, m)
			}
		}
	}
	return looked.overlays, ctx.Err()
}

// refuseOverlay is an error if the path lies in a folder that an overlay is made
// of: whoever uses the merged path has other inodes, and so other locks.
func refuseOverlay(ctx context.Context, path string) error {
	own, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil // no /proc: nothing is known
	}
	others, err := overlays(ctx)
	if err != nil {
		return err
	}
	for _, m := range append(own, others...) {
		for _, layer := range append(m.upper, m.lower...) {
			rest, inside := strings.CutPrefix(path, strings.TrimSuffix(layer, "/")+"/")
			if inside && layer != "/" {
				return fault.New(fault.OtherName, "%s lies in %s, of which the overlay at %s is made: locks and the -wal of whoever uses %s are not seen here", path, layer, m.at, filepath.Join(m.at, rest)).
					WithRemedy("Configure %s, in the container or mount namespace where it is visible, or keep the database in a volume of its own.", filepath.Join(m.at, rest))
			}
		}
	}
	return nil
}
