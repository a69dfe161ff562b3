package harden

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"emsafe/internal/fault"
	"emsafe/internal/finding"
)

// Run runs a command and returns what it printed.
type Run func(ctx context.Context, argv []string) ([]byte, error)

// unitFolders are where units lie, the one that counts first.
var unitFolders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// UnitFile finds a unit by its name; a path is taken as it is.
func UnitFile(unit string) (string, error) {
	if filepath.IsAbs(unit) {
		_, err := os.Stat(unit)
		return unit, err
	}
	for _, dir := range unitFolders {
		if file := filepath.Join(dir, unit); exists(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no unit %s in %s", unit, strings.Join(unitFolders, ", "))
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// unitSettings are the settings of a unit and its drop-ins, the last of each.
func unitSettings(file string) map[string]string {
	out := map[string]string{}
	files := []string{file}
	for _, dir := range append([]string{filepath.Dir(file)}, unitFolders...) {
		more, _ := filepath.Glob(filepath.Join(dir, filepath.Base(file)+".d", "*.conf"))
		files = append(files, more...)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
				out[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
		}
	}
	return out
}

// exposed is the score that systemd calls unsafe from 9 on and ok below 5; a
// drop-in by [DropIn] brings nearly every service below 2.
const (
	exposedMuch = 5.0
	exposedSome = 2.0
)

// Unit looks at the sandbox of an application's service.
func Unit(ctx context.Context, unit string, run Run) []finding.Finding {
	file, err := UnitFile(unit)
	if err != nil {
		return []finding.Finding{{ID: "EMS-UNIT-000", Severity: finding.Low, Title: "the application's unit cannot be looked at", Subject: unit, Found: err.Error(),
			Why: "Its sandbox is not known.", Remedy: "Correct `unit` in the configuration."}}
	}
	var list []finding.Finding
	settings := unitSettings(file)
	if user := settings["User"]; (user == "" || user == "root" || user == "0") && settings["DynamicUser"] != "yes" {
		list = append(list, finding.Finding{ID: "EMS-UNIT-001", Severity: finding.High, Title: "the application's service runs as root", Subject: unit, Found: "User=" + user,
			Why: "A fault in the application is then a fault of the whole machine.", Remedy: "`emsafe harden unit NAME` prints a drop-in with a user and a sandbox."})
	}
	if listen := regexp.MustCompile(`0\.0\.0\.0|\[::\]|--host[= ]+\*`).FindString(settings["ExecStart"]); listen != "" {
		list = append(list, finding.Finding{ID: "EMS-UNIT-003", Severity: finding.Medium, Title: "the application listens to the whole network", Subject: unit, Found: settings["ExecStart"],
			Why: "Who asks it directly goes past the proxy: its TLS, its limits, its log.", Remedy: "Listen on 127.0.0.1, or on a socket, and let the proxy in front of it do the rest."})
	}
	score, worst, err := exposure(ctx, file, run)
	switch {
	case err != nil:
		list = append(list, finding.Finding{ID: "EMS-UNIT-000", Severity: finding.Info, Title: "the application's unit cannot be scored", Subject: unit, Found: err.Error(),
			Why: "Its sandbox is not known.", Remedy: "systemd-analyze is part of systemd."})
	case score > exposedSome:
		severity := finding.Low
		if score > exposedMuch {
			severity = finding.Medium
		}
		list = append(list, finding.Finding{ID: "EMS-UNIT-002", Severity: severity, Title: "the application's service has little of a sandbox", Subject: unit,
			Found: fmt.Sprintf("exposure %.1f of 10 by systemd-analyze; most of it: %s", score, strings.Join(worst, "; ")),
			Why:   "Whoever gets into the application gets to all that its user can reach.", Remedy: "`emsafe harden unit NAME` prints a drop-in that brings it below 2.0; try it, and take out what the application needs."})
	}
	return list
}

// exposure is what systemd-analyze says of a unit file, and what weighs most.
func exposure(ctx context.Context, file string, run Run) (score float64, worst []string, err error) {
	out, err := run(ctx, []string{"systemd-analyze", "security", "--offline=true", "--no-pager", file})
	if err != nil {
		return 0, nil, err
	}
	m := regexp.MustCompile(`exposure level for .*: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		return 0, nil, fmt.Errorf("systemd-analyze says nothing of an exposure")
	}
	if score, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
		return 0, nil, err
	}
	out, err = run(ctx, []string{"systemd-analyze", "security", "--offline=true", "--json=short", file})
	var checks []struct {
		Set         bool
		Description string
		Exposure    string
	}
	if err != nil || json.Unmarshal(out, &checks) != nil {
		return score, nil, nil // an older systemd
	}
	weight := func(s string) float64 { f, _ := strconv.ParseFloat(s, 64); return f }
	slices.SortStableFunc(checks, func(a, b struct {
		Set         bool
		Description string
		Exposure    string
	}) int {
		return cmp.Compare(weight(b.Exposure), weight(a.Exposure))
	})
	for _, c := range checks[:min(4, len(checks))] {
		worst = append(worst, c.Description)
	}
	return score, worst, nil
}

// DropIn is the text of a drop-in for an application's unit: nothing of the
// machine but what a web application needs, and write access to its data alone.
func DropIn(unit, database, owner string) (text string, err error) {
	file, err := UnitFile(unit)
	if err != nil {
		return "", err
	}
	settings := unitSettings(file)
	if owner == "root" || owner == "" {
		owner = strings.TrimSuffix(filepath.Base(unit), ".service")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by emsafe harden unit, for %s.\n# Put it into /etc/systemd/system/%s.d/50-sandbox.conf, then: systemctl daemon-reload, restart, and look.\n# What the application does not bear, take out one by one.\n[Service]\n", filepath.Base(unit), filepath.Base(unit))
	if user := settings["User"]; (user == "" || user == "root") && settings["DynamicUser"] != "yes" {
		fmt.Fprintf(&b, "# Not root. Make the user (useradd --system %s) and give it the data: chown -R %s: %s\nUser=%s\n", owner, owner, fault.Shell(filepath.Dir(database)), owner)
	}
	fmt.Fprintf(&b, "# The file system is read-only, but for the data.\nProtectSystem=strict\nReadWritePaths=%s\nUMask=0077\n", quoted(filepath.Dir(database)))
	if strings.HasPrefix(database, "/home/") || strings.HasPrefix(database, "/root/") {
		b.WriteString("# The data lies in somebody's home.\nProtectHome=no\n")
	} else {
		b.WriteString("ProtectHome=yes\n")
	}
	b.WriteString(sandbox)
	return b.String(), nil
}

func quoted(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t\"'\\") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
	}
	return path
}

const sandbox = `# No privileges, now or later. A port below 1024 needs CAP_NET_BIND_SERVICE in both; better, a proxy in front.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictNamespaces=yes
# Programs that compile while they run (Node.js, Java, PyPy, YJIT) need this to be no.
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# Nothing of the machine but what it needs.
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
# A crash writes no memory to disk.
LimitCORE=0
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
`
