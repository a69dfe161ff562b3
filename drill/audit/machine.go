package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"emsafe/internal/finding"
)

// machine looks at the host. All of it is read below [Options.Root], or
// printed by a command that only lists.
func (a *audit) machine(ctx context.Context) {
	m := a.processes()
	a.services(ctx, m)
	a.openFiles(m)
	a.secretFiles(m)
	a.firewall(ctx)
	a.bans(ctx)
	a.jobs()
	a.disk()
	a.logFiles()
	a.known()
	a.alerts()
}

// at is a path of the host.
func (a *audit) at(path string) string { return filepath.Join(a.Root, path) }

func (a *audit) glob(pattern string) []string {
	list, _ := filepath.Glob(a.at(pattern))
	return list
}

// onHost is a path as the host knows it.
func (a *audit) onHost(path string) string {
	if rel, err := filepath.Rel(a.Root, path); err == nil {
		return "/" + rel
	}
	return path
}

const rehearse = 100 * 24 * time.Hour // a quarter, and some days

// known is what emsafe knows of the host.
func (a *audit) known() {
	if a.Facts == nil {
		for _, id := range []string{"EMS-DATA-001", "EMS-DATA-005", "EMS-PLAY-001"} {
			a.skip(id, "no configuration of emsafe was found: --config FILE")
		}
		return
	}
	a.joined("EMS-DATA-001", "nothing is open", func(f finding.Finding) bool { return !aboutBackups(f.ID) })
	a.joined("EMS-DATA-005", "nothing is open", func(f finding.Finding) bool { return aboutBackups(f.ID) })
	last := a.Facts.Rehearsed
	switch {
	case last.IsZero():
		a.fail("EMS-PLAY-001", "", "none is known here")
	case a.Now().Sub(last) > rehearse:
		a.fail("EMS-PLAY-001", "", "the last one was on "+last.Format(time.DateOnly))
	default:
		a.pass("EMS-PLAY-001", "", "the last one was on "+last.Format(time.DateOnly))
	}
}

func aboutBackups(id string) bool {
	return strings.HasPrefix(id, "EMS-BACKUP-") || strings.HasPrefix(id, "EMS-DRILL-") || strings.HasPrefix(id, "EMS-KEY-")
}

// joined lets the findings of `harden` join the list, and sums them up in one
// rule, as bad as the worst of them.
func (a *audit) joined(id, good string, mine func(finding.Finding) bool) {
	rule, _ := RuleOf(id)
	worst := finding.Info
	var lines []string
	for _, f := range a.Facts.Findings {
		if !mine(f) {
			continue
		}
		result := finding.Fail
		if f.Severity == finding.Info {
			result = finding.Warn
		} else {
			worst = max(worst, f.Severity)
			lines = append(lines, f.ID+" "+f.Title+": "+f.Subject)
		}
		a.checks = append(a.checks, finding.Check{Finding: f, Result: result, Phase: string(rule.Phase)})
	}
	if len(lines) == 0 {
		a.pass(id, "", good)
		return
	}
	a.fail(id, "", fmt.Sprintf("%d findings, each in this list by its own id", len(lines)), lines...)
	a.checks[len(a.checks)-1].Severity = worst
}

// settle takes back what a rule says in sum, where all that it sums up is
// waived.
func (r *Report) settle() {
	for i, c := range r.Checks {
		if c.ID != "EMS-DATA-001" && c.ID != "EMS-DATA-005" || c.Result != finding.Fail {
			continue
		}
		open := false
		for _, f := range r.Checks {
			_, rule := RuleOf(f.ID)
			open = open || !rule && f.Phase == c.Phase && aboutBackups(f.ID) == (c.ID == "EMS-DATA-005") && f.Failing(finding.Low)
		}
		if !open {
			r.Checks[i].Result, r.Checks[i].Found = finding.Pass, "all that was found is waived"
		}
	}
}

// logFiles looks at the logs' modes and at their rotation.
func (a *audit) logFiles() {
	var files []string
	for _, p := range a.Logs {
		list, _ := filepath.Glob(p)
		files = append(files, list...)
	}
	for _, p := range []string{"/var/log/nginx/*.log", "/var/log/caddy/*.log", "/var/log/apache2/*.log"} {
		files = append(files, a.glob(p)...)
	}
	if len(files) == 0 {
		a.skip("EMS-LOG-005", "no log of a proxy was found: --log FILE")
		a.skip("EMS-LOG-006", "no log of a proxy was found: --log FILE")
		return
	}
	var rules []string
	for _, f := range append(a.glob("/etc/logrotate.d/*"), a.at("/etc/logrotate.conf")) {
		text, err := os.ReadFile(f)
		if err == nil {
			rules = append(rules, regexp.MustCompile(`(?m)"?(/[^\s"{]+)"?`).FindAllString(uncommented(string(text)), -1)...)
		}
	}
	var open, grow []string
	for _, f := range files {
		info, err := os.Stat(f)
		dir, err2 := os.Stat(filepath.Dir(f))
		if err != nil || err2 != nil {
			continue
		}
		if info.Mode()&0o006 != 0 && dir.Mode()&0o001 != 0 {
			open = append(open, fmt.Sprintf("%s %#o", a.onHost(f), info.Mode().Perm()))
		}
		rotated := strings.Contains(f, "/caddy/") // Caddy rolls its own
		for _, r := range rules {
			ok, err := filepath.Match(strings.Trim(r, `"`), a.onHost(f))
			rotated = rotated || ok && err == nil
		}
		if !rotated {
			grow = append(grow, fmt.Sprintf("%s, %d KiB", a.onHost(f), info.Size()>>10))
		}
	}
	a.verdict("EMS-LOG-005", "they are not", "others can read or write them", open)
	a.verdict("EMS-LOG-006", "each has a rule", "no rule of logrotate names them", grow)
}

func uncommented(text string) string {
	return regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(text, "")
}

var alarming = regexp.MustCompile(`(?i)alert:.*(4xx|5xx|http|auth|login|40[13]|429|rate.?limit)`)

// alerts looks for rules that watch the door.
func (a *audit) alerts() {
	files := append(a.glob("/etc/prometheus/*.y*ml"), a.glob("/etc/prometheus/*/*.y*ml")...)
	if len(files) == 0 {
		a.skip("EMS-PLAY-003", "there is no Prometheus on this host")
		return
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && alarming.MatchString(uncommented(string(text))) {
			a.pass("EMS-PLAY-003", "", "found", a.onHost(f))
			return
		}
	}
	a.fail("EMS-PLAY-003", "", "no rule watches errors, logins or limits", "/etc/prometheus")
}
