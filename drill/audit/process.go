package audit

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// process is one that listens, or has a database open.
type process struct {
	pid    int
	name   string
	status map[string]string // of /proc/PID/status
	files  []string          // that it has open
	sock   []string          // inodes of its sockets
}

func (p process) String() string { return fmt.Sprintf("%s (process %d)", p.name, p.pid) }

// listener is a socket that waits.
type listener struct {
	ip    net.IP
	port  int
	inode string
}

func (l listener) String() string { return net.JoinHostPort(l.ip.String(), strconv.Itoa(l.port)) }

// running is what runs on the host.
type running struct {
	all       map[int]process
	listeners []listener
	holder    map[string][]int // of a socket
	hidden    int              // sockets whose process this user may not see
	apps      []process
}

// housekeeping are programs that listen on most hosts and are no application.
var housekeeping = []string{
	"sshd", "systemd", "systemd-resolve", "systemd-network", "systemd-timesyn", "nginx", "caddy", "haproxy", "apache2", "httpd", "traefik", "envoy",
	"chronyd", "ntpd", "cupsd", "dhclient", "dhcpcd", "dnsmasq", "unbound", "exim4", "master", "tailscaled", "dockerd", "containerd", "docker-proxy",
	"node_exporter", "prometheus", "alertmanager", "grafana", "emsafe", "rpcbind", "avahi-daemon", "fail2ban-server", "init",
}

func (a *audit) processes() running {
	m := running{all: map[int]process{}, holder: map[string][]int{}}
	dirs := a.glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		p := process{pid: pid, status: keyed(filepath.Join(dir, "status"))}
		p.name = p.status["Name"]
		fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
		for _, fd := range fds {
			to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil {
				continue
			}
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				inode = strings.TrimSuffix(inode, "]")
				p.sock = append(p.sock, inode)
				m.holder[inode] = append(m.holder[inode], pid)
			} else if strings.HasPrefix(to, "/") {
				p.files = append(p.files, to)
			}
		}
		m.all[pid] = p
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		m.listeners = append(m.listeners, a.listening(file)...)
	}
	m.apps = a.applications(&m)
	return m
}

// applications listen and are nobody's housekeeping, or have a database open.
func (a *audit) applications(m *running) (apps []process) {
	is := map[int]bool{}
	for _, l := range m.listeners {
		if len(m.holder[l.inode]) == 0 {
			m.hidden++
		}
		for _, pid := range m.holder[l.inode] {
			is[pid] = is[pid] || !slices.Contains(housekeeping, m.all[pid].name)
		}
	}
	for pid, p := range m.all {
		if a.Facts != nil && p.name != "emsafe" && slices.ContainsFunc(p.files, func(f string) bool { return slices.Contains(a.Facts.Databases, strings.TrimSuffix(f, " (deleted)")) }) {
			is[pid] = true
		}
	}
	for pid, yes := range is {
		if yes && pid != os.Getpid() {
			apps = append(apps, m.all[pid])
		}
	}
	slices.SortFunc(apps, func(a, b process) int { return a.pid - b.pid })
	return apps
}

// keyed reads lines of `Name: value`.
func keyed(file string) map[string]string {
	out := map[string]string{}
	text, err := os.ReadFile(file)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		out[name] = strings.TrimSpace(value)
	}
	return out
}

// listening reads the sockets of /proc/net/tcp or tcp6 that wait.
func (a *audit) listening(file string) (list []listener) {
	f, err := os.Open(a.at(file))
	if err != nil {
		return nil
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		address, port, _ := strings.Cut(fields[1], ":")
		raw, err := hex.DecodeString(address)
		n, err2 := strconv.ParseUint(port, 16, 16)
		if err != nil || err2 != nil || len(raw)%4 != 0 {
			continue
		}
		for i := 0; i+3 < len(raw); i += 4 { // words in the host's order, which is little-endian where this runs
			raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
		}
		list = append(list, listener{net.IP(raw), int(n), fields[9]})
	}
	return list
}

const bindLow = 1 << 10 // CAP_NET_BIND_SERVICE

// services judges the applications and what listens.
func (a *audit) services(ctx context.Context, m running) {
	var wide []string
	for _, l := range m.listeners {
		if l.ip.IsLoopback() || l.port == 22 || l.port == 80 || l.port == 443 {
			continue
		}
		who := "a process that is not seen from here"
		if pids := m.holder[l.inode]; len(pids) > 0 {
			p := m.all[pids[0]]
			if p.name == "dhclient" || p.name == "sshd" || p.pid == os.Getpid() {
				continue
			}
			who = p.String()
		}
		wide = append(wide, l.String()+" by "+who)
	}
	if len(m.listeners) == 0 && !a.readable("/proc/net/tcp") {
		a.failed("EMS-SVC-005", "", errors.New("/proc/net/tcp cannot be read"))
	} else {
		a.verdict("EMS-SVC-005", "nothing else does", "something else listens to the network", wide)
	}
	ids := []string{"EMS-SVC-001", "EMS-SVC-002", "EMS-SVC-003", "EMS-SVC-004", "EMS-SVC-006"}
	if len(m.apps) == 0 {
		for _, id := range ids {
			if m.hidden > 0 {
				a.failed(id, "", m.blind())
			} else {
				a.skip(id, "no application listens here, or has a database open")
			}
		}
		return
	}
	var root, caps, gain, calls []string
	for _, p := range m.apps {
		if uid := strings.Fields(p.status["Uid"]); len(uid) > 1 && uid[1] == "0" {
			root = append(root, p.String())
		}
		if n, err := strconv.ParseUint(p.status["CapEff"], 16, 64); err != nil || n&^bindLow != 0 {
			caps = append(caps, p.String()+" CapEff "+p.status["CapEff"])
		}
		if p.status["NoNewPrivs"] != "1" {
			gain = append(gain, p.String()+" NoNewPrivs "+p.status["NoNewPrivs"])
		}
		if p.status["Seccomp"] != "2" {
			calls = append(calls, p.String()+" Seccomp "+p.status["Seccomp"])
		}
	}
	a.seenAll(m, "EMS-SVC-001", "no application does", "it does", root)
	a.seenAll(m, "EMS-SVC-002", "none", "it has some", caps)
	a.seenAll(m, "EMS-SVC-003", "NoNewPrivs is set", "it can", gain)
	a.seenAll(m, "EMS-SVC-004", "a filter is set", "no filter", calls)
	a.units(ctx, m)
}

// seenAll is a verdict about all processes: where some are hidden nothing
// passes.
func (a *audit) seenAll(m running, id, good, bad string, found []string) {
	if len(found) == 0 && m.hidden > 0 {
		a.failed(id, "", m.blind())
		return
	}
	a.verdict(id, good, bad, found)
}

func (m running) blind() error {
	return fmt.Errorf("of listening sockets, %d belong to processes that are not seen from here: run it as root, and outside of containers", m.hidden)
}

func (a *audit) readable(path string) bool {
	f, err := os.Open(a.at(path))
	if err == nil {
		f.Close()
	}
	return err == nil
}

var (
	unitName    = regexp.MustCompile(`([\w@:.\\-]+\.service)(?:/|$)`)
	unitFolders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	exposure    = regexp.MustCompile(`exposure level for .*: ([0-9.]+)`)
)

// unitOf is the file of the unit that a process belongs to.
func (a *audit) unitOf(p process) (file, name string) {
	text, _ := os.ReadFile(a.at(fmt.Sprintf("/proc/%d/cgroup", p.pid)))
	all := unitName.FindAllStringSubmatch(strings.TrimSpace(string(text)), -1)
	if len(all) == 0 {
		return "", ""
	}
	name = all[len(all)-1][1]
	for _, dir := range unitFolders {
		if file := a.at(filepath.Join(dir, name)); a.readable(a.onHost(file)) {
			return file, name
		}
	}
	return "", name
}

// units scores the units of the applications.
func (a *audit) units(ctx context.Context, m running) {
	var bad, some, good []string
	for _, p := range m.apps {
		file, name := a.unitOf(p)
		if file == "" {
			some = append(some, p.String()+" belongs to no unit with a file "+name)
			continue
		}
		out, err := a.run(ctx, "systemd-analyze", "security", "--offline=true", "--no-pager", file)
		if err != nil {
			a.failed("EMS-SVC-006", name, err)
			return
		}
		mark := exposure.FindSubmatch(out)
		if mark == nil {
			a.failed("EMS-SVC-006", name, errors.New("systemd-analyze says nothing of an exposure"))
			return
		}
		score, _ := strconv.ParseFloat(string(mark[1]), 64)
		line := fmt.Sprintf("%s: exposure %.1f of 10", name, score)
		switch {
		case score > 5:
			bad = append(bad, line)
		case score > 2:
			some = append(some, line)
		default:
			good = append(good, line)
		}
	}
	switch {
	case len(bad) > 0:
		a.verdict("EMS-SVC-006", "", "little of a sandbox", slices.Compact(bad))
	case m.hidden > 0:
		a.failed("EMS-SVC-006", "", m.blind())
	case len(some) > 0:
		a.warn("EMS-SVC-006", "", "less of a sandbox than there could be", slices.Compact(some)...)
	default:
		a.pass("EMS-SVC-006", "", "it is", slices.Compact(good)...)
	}
}

var errNoRun = errors.New("commands cannot be run")

func (a *audit) run(ctx context.Context, argv ...string) ([]byte, error) {
	if a.Run == nil {
		return nil, errNoRun
	}
	return a.Run(ctx, argv)
}

// missing reports whether there is no such program.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
