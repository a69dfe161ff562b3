package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/finding"
)

// computer is the root folder of a host: files, links (with ->) and what
// commands print.
type computer struct {
	files    map[string]string
	modes    map[string]fs.FileMode
	commands map[string]string // "": there is no such program; "!…": it fails with that
	facts    *Facts
}

const (
	tcpHead  = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	rulesets = `{"nftables":[{"metainfo":{}},{"table":{"family":"inet","name":"filter"}},{"chain":{"family":"inet","table":"filter","name":"input","hook":"input","policy":"%s"}},` +
		`{"rule":{"family":"inet","table":"filter","chain":"input","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":%s}},{"accept":null}]}}]}`
)

// kept is a host that is well kept: nginx in front, an application behind it on
// loopback, in a sandbox.
func kept() *computer {
	status := func(name, uid, caps string) string {
		return "Name:\t" + name + "\nUid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid + "\nCapEff:\t" + caps + "\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	}
	return &computer{
		files: map[string]string{
			"proc/net/tcp": tcpHead + "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1\n" +
				"   1: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 200 1\n" +
				"   2: 0100007F:1F41 00000000:0000 01 00000000:00000000 00:00000000 00000000   998        0 300 1\n",
			"proc/net/tcp6":                      tcpHead,
			"proc/10/status":                     status("nginx", "0", "000001ffffffffff"),
			"proc/10/fd/3":                       "->socket:[100]",
			"proc/20/status":                     status("uvicorn", "998", "0000000000000000"),
			"proc/20/fd/3":                       "->socket:[200]",
			"proc/20/fd/4":                       "->/srv/app/app.db",
			"proc/20/cwd":                        "->/srv/app",
			"proc/20/cgroup":                     "0::/system.slice/app.service\n",
			"proc/self/mountinfo":                "1 0 254:0 / / rw - ext4 /dev/mapper/root rw\n",
			"sys/dev/block/254:0/dm/uuid":        "CRYPT-LUKS2-1",
			"etc/systemd/system/app.service":     "[Service]\nUser=app\nExecStart=/srv/app/run\nEnvironmentFile=/etc/app.env\n",
			"etc/systemd/system/backup.timer":    "[Timer]\nOnCalendar=daily\n",
			"etc/systemd/system/backup.service":  "[Service]\nExecStart=/usr/bin/emsafe backup\n",
			"usr/bin/emsafe":                     "x",
			"srv/app/app.db":                     "x",
			"srv/app/.env":                       "KEY=1",
			"etc/app.env":                        "KEY=1",
			"etc/cron.d/app":                     "PATH=/usr/bin\n# daily\n5 4 * * * root /usr/bin/emsafe verify && echo done\n",
			"var/log/nginx/access.log":           "x",
			"etc/logrotate.d/nginx":              "/var/log/nginx/*.log {\n  daily\n}\n",
			"etc/prometheus/rules/app.yml":       "groups:\n- rules:\n  - alert: Http5xx\n",
			"var/log/nginx/error.log":            "x",
			"var/spool/cron/crontabs/app":        "@daily sh /usr/bin/emsafe list\n",
			"etc/systemd/system/untouched.timer": "[Timer]\nUnit=backup.service\n",
		},
		modes: map[string]fs.FileMode{"srv/app/app.db": 0o600, "srv/app/.env": 0o600, "etc/app.env": 0o600, "var/log/nginx/access.log": 0o640, "var/log/nginx/error.log": 0o640},
		commands: map[string]string{
			"nft -j list ruleset":                        fmt.Sprintf(rulesets, "drop", `{"set":[22,80,443]}`),
			"fail2ban-client status":                     "Status\n|- Number of jail:\t2\n`- Jail list:\tnginx-auth, sshd\n",
			"fail2ban-client get nginx-auth logpath":     "Current monitored log file(s):\n`- /var/log/nginx/access.log\n",
			"fail2ban-client get sshd logpath":           "No file is currently monitored\n",
			"fail2ban-client get sshd journalmatch":      "Current match filter:\n_SYSTEMD_UNIT=ssh.service + _COMM=sshd\n",
			"systemd-analyze security --offline=true --": "→ Overall exposure level for app.service: 1.3 OK 🙂\n",
		},
		facts: &Facts{Databases: []string{"/srv/app/app.db"}, Rehearsed: today.AddDate(0, 0, -20)},
	}
}

func (c *computer) audit(t *testing.T) *Report {
	t.Helper()
	root := t.TempDir()
	for name, text := range c.files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as on a host
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(text, "->"); ok {
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mode := c.modes[name]
		if mode == 0 {
			mode = 0o644
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	run := func(_ context.Context, argv []string) ([]byte, error) {
		line := strings.Join(argv, " ")
		if argv[0] == "systemd-analyze" {
			line = "systemd-analyze security --offline=true --"
		}
		out, ok := c.commands[line]
		if !ok {
			return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, argv[0])
		}
		if why, bad := strings.CutPrefix(out, "!"); bad {
			return nil, errors.New(why)
		}
		return []byte(out), nil
	}
	return Look(t.Context(), Options{Host: true, Root: root, Run: run, Facts: c.facts, Now: func() time.Time { return today }})
}

func TestKeptHost(t *testing.T) {
	t.Parallel()
	r := kept().audit(t)
	if got := broke(r, finding.Fail, finding.Warn, finding.Error); len(got) > 0 {
		t.Errorf("%v\n%s", got, say(r))
	}
	passed := broke(r, finding.Pass)
	for _, rule := range Rules {
		if rule.Scope == inside && !slices.Contains(passed, rule.ID) {
			t.Errorf("%s did not pass", rule.ID)
		}
	}
}

// neglected are single faults of a host, and what is found of each.
var neglected = map[string]struct {
	change func(c *computer)
	found  string
}{
	"root": {func(c *computer) {
		c.files["proc/20/status"] = strings.ReplaceAll(c.files["proc/20/status"], "998", "0")
	}, "EMS-SVC-001"},
	"capabilities": {func(c *computer) {
		c.files["proc/20/status"] = strings.Replace(c.files["proc/20/status"], "CapEff:\t0000000000000000", "CapEff:\t0000000000200000", 1)
	}, "EMS-SVC-002"},
	"privileges": {func(c *computer) {
		c.files["proc/20/status"] = strings.Replace(c.files["proc/20/status"], "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1)
	}, "EMS-SVC-003"},
	"no filter": {func(c *computer) {
		c.files["proc/20/status"] = strings.Replace(c.files["proc/20/status"], "Seccomp:\t2", "Seccomp:\t0", 1)
	}, "EMS-SVC-004"},
	"listens": {func(c *computer) {
		c.files["proc/net/tcp"] = strings.Replace(c.files["proc/net/tcp"], "0100007F:1F40", "00000000:1F40", 1)
	}, "EMS-SVC-005"},
	"listens, 6": {func(c *computer) {
		c.files["proc/net/tcp6"] += "   0: 00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 200 1\n"
	}, "EMS-SVC-005"},
	"no sandbox": {func(c *computer) {
		c.commands["systemd-analyze security --offline=true --"] = "Overall exposure level for app.service: 9.6 UNSAFE\n"
	}, "EMS-SVC-006"},
	"no firewall": {func(c *computer) { delete(c.commands, "nft -j list ruleset") }, "EMS-FW-001"},
	"lets in":     {func(c *computer) { c.commands["nft -j list ruleset"] = fmt.Sprintf(rulesets, "accept", "80") }, "EMS-FW-001"},
	"a port":      {func(c *computer) { c.commands["nft -j list ruleset"] = fmt.Sprintf(rulesets, "drop", "8000") }, "EMS-FW-002"},
	"iptables port": {func(c *computer) {
		delete(c.commands, "nft -j list ruleset")
		c.commands["iptables -S"] = "-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 8000 -j ACCEPT\n"
	}, "EMS-FW-002"},
	"no fail2ban": {func(c *computer) { delete(c.commands, "fail2ban-client status") }, "EMS-BAN-001"},
	"only ssh": {func(c *computer) {
		c.commands["fail2ban-client status"] = "`- Jail list:\tsshd\n"
	}, "EMS-BAN-001"},
	"blind": {func(c *computer) {
		c.commands["fail2ban-client get nginx-auth logpath"] = "`- /var/log/nginx/old.log\n"
	}, "EMS-BAN-002"},
	"cron":          {func(c *computer) { c.files["etc/cron.d/app"] += "1 1 * * * root /usr/local/bin/gone.sh\n" }, "EMS-CRON-001"},
	"crontab":       {func(c *computer) { c.files["var/spool/cron/crontabs/app"] += "1 1 * * * sh /opt/gone.sh\n" }, "EMS-CRON-001"},
	"timer":         {func(c *computer) { delete(c.files, "etc/systemd/system/backup.service") }, "EMS-CRON-001"},
	"timer program": {func(c *computer) { c.files["etc/systemd/system/backup.service"] = "[Service]\nExecStart=-/opt/gone\n" }, "EMS-CRON-001"},
	"clear disk":    {func(c *computer) { c.files["sys/dev/block/254:0/dm/uuid"] = "LVM-1" }, "EMS-DATA-002"},
	"deleted":       {func(c *computer) { c.files["proc/20/fd/4"] = "->/srv/app/app.db (deleted)" }, "EMS-DATA-003"},
	"open database": {func(c *computer) { c.modes["srv/app/app.db"] = 0o644 }, "EMS-DATA-004"},
	"open settings": {func(c *computer) { c.modes["srv/app/.env"] = 0o644 }, "EMS-SECRET-001"},
	"open unit env": {func(c *computer) { c.modes["etc/app.env"] = 0o644 }, "EMS-SECRET-001"},
	"open log":      {func(c *computer) { c.modes["var/log/nginx/access.log"] = 0o644 }, "EMS-LOG-005"},
	"no rotation":   {func(c *computer) { c.files["etc/logrotate.d/nginx"] = "#/var/log/nginx/*.log {\n" }, "EMS-LOG-006"},
	"no alerts":     {func(c *computer) { c.files["etc/prometheus/rules/app.yml"] = "groups: []\n" }, "EMS-PLAY-003"},
	"no rehearsal":  {func(c *computer) { c.facts.Rehearsed = time.Time{} }, "EMS-PLAY-001"},
	"old rehearsal": {func(c *computer) { c.facts.Rehearsed = today.AddDate(0, 0, -101) }, "EMS-PLAY-001"},
	"harden": {func(c *computer) {
		c.facts.Findings = []finding.Finding{{ID: "EMS-FILE-001", Severity: finding.High, Subject: "/srv/app/app.db"}}
	}, "EMS-DATA-001 EMS-FILE-001"},
	"stale": {func(c *computer) {
		c.facts.Findings = []finding.Finding{{ID: "EMS-BACKUP-002", Severity: finding.High, Subject: "app"}}
	}, "EMS-BACKUP-002 EMS-DATA-005"},
}

func TestNeglectedHost(t *testing.T) {
	t.Parallel()
	failed := map[string]bool{}
	for name, n := range neglected {
		for _, id := range strings.Fields(n.found) {
			failed[id] = true
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := kept()
			n.change(c)
			r := c.audit(t)
			if got := broke(r, finding.Fail, finding.Error); !slices.Equal(got, strings.Fields(n.found)) {
				t.Errorf("found %v, want %s\n%s", got, n.found, say(r))
			}
		})
	}
	for _, rule := range Rules {
		if rule.Scope == inside && !failed[rule.ID] {
			t.Errorf("%s is not shown failing", rule.ID)
		}
	}
}

// What this user may not see is not in order: it is not known.
func TestHidden(t *testing.T) {
	t.Parallel()
	c := kept()
	maps.DeleteFunc(c.files, func(name, _ string) bool { return strings.HasPrefix(name, "proc/20/") })
	c.commands["nft -j list ruleset"] = "!Operation not permitted"
	both := kept() // one that is seen does not speak for one that is not
	both.files["proc/net/tcp"] += "   3: 0100007F:1F42 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 400 1\n"
	both.commands["nft -j list ruleset"] = "!Operation not permitted"
	r, r2 := c.audit(t), both.audit(t)
	want := strings.Fields("EMS-DATA-003 EMS-DATA-004 EMS-FW-001 EMS-FW-002 EMS-SECRET-001 EMS-SVC-001 EMS-SVC-002 EMS-SVC-003 EMS-SVC-004 EMS-SVC-006")
	if got := broke(r, finding.Error); !slices.Equal(got, want) {
		t.Errorf("%v\n%s", got, say(r))
	}
	if got := broke(r2, finding.Error); !slices.Equal(got, want) {
		t.Errorf("%v\n%s", got, say(r2))
	}
}

// A rule that sums up passes where all that it sums up is waived.
func TestWaivedSum(t *testing.T) {
	t.Parallel()
	c := kept()
	neglected["harden"].change(c)
	for _, waived := range []bool{false, true} {
		r := c.audit(t)
		var waivers []finding.Waiver
		if waived {
			waivers = []finding.Waiver{{ID: "EMS-FILE-001", Until: today.AddDate(1, 0, 0)}}
		}
		r.Conclude(waivers, nil, today)
		if got := len(r.Failing(finding.Low)); (got == 0) != waived {
			t.Errorf("waived %t: %d fail\n%s", waived, got, say(r))
		}
	}
}
