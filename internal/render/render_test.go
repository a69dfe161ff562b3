package render

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"emsafe/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files")

var full = Answers{
	Domain: "app.example.org", Data: "/srv/app", Allow: []string{"10.0.0.0/8", "2001:db8::/32"}, SSH: []string{"198.51.100.0/24", "2001:db8:1::/48"}, GuardUser: "me", GuardHash: hash,
}

// TestGolden: what is made changes only when somebody means it to.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, target := range Targets() {
		for _, proxy := range []string{"nginx", "caddy"} {
			a := full
			a.Proxy = proxy
			m, err := Make(target, a)
			if err != nil {
				t.Fatal(target, err)
			}
			var b strings.Builder
			for _, f := range m.Files {
				fmt.Fprintf(&b, "### %s\n%s", f.Path, f.Text)
				if strings.Contains(f.Text, "{{") && target != "ci" && target != "prometheus-rules" || strings.Contains(f.Text, "<no value>") || !strings.HasSuffix(f.Text, "\n") {
					t.Errorf("%s: %s", f.Path, f.Text)
				}
				if f.Secret != strings.Contains(f.Text, hash) {
					t.Errorf("%s: whether it holds the hash is not told", f.Path)
				}
			}
			file := "testdata/" + target + "." + proxy
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if want, err := os.ReadFile(file); err != nil || string(want) != b.String() {
				t.Errorf("%s differs; if it is better now, run with -update: %v\n%s", file, err, b.String())
			}
		}
	}
}

// TestHostile: no answer leaves its place.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{"a;b", "a}b", "a{b", "a\nb", "a\"b", "a'b", "a$b", "a b", "a#b", "a\\b", "../x", "a`b", "a|b", "ä", "a%b", "\x00", "{{.}}"} {
		for name, change := range map[string]func(*Answers){
			"domain": func(a *Answers) { a.Domain = evil }, "data": func(a *Answers) { a.Data = "/" + evil }, "user": func(a *Answers) { a.User = evil }, "health": func(a *Answers) { a.Health = "/" + evil },
			"logs": func(a *Answers) { a.Logs = "/" + evil }, "docs": func(a *Answers) { a.Docs = []string{"/" + evil} }, "login": func(a *Answers) { a.Login = []string{"/" + evil} }, "allow": func(a *Answers) { a.Allow = []string{evil} },
			"ssh": func(a *Answers) { a.SSH = []string{evil} }, "command": func(a *Answers) { a.Command = []string{evil} }, "certificate": func(a *Answers) { a.Certificate = "/" + evil },
			"guard.user": func(a *Answers) { a.GuardUser = evil }, "guard.hash": func(a *Answers) { a.GuardHash = evil }, "upstream": func(a *Answers) { a.Upstream = evil },
		} {
			a := full
			change(&a)
			for _, target := range Targets() {
				_, err := Make(target, a)
				if evil == "../x" && strings.Contains("data health logs docs login certificate command", name) {
					continue // dots and slashes mean nothing in these languages
				}
				if !errors.Is(err, fault.Config) || strings.Contains(err.Error(), hash) {
					t.Errorf("%s: %s = %q: %v", target, name, evil, err)
				}
			}
		}
	}
	if _, err := Make("apache", full); !errors.Is(err, fault.Usage) {
		t.Error(err)
	}
	for target, want := range map[string]string{"nginx": "web.domain is needed", "caddy": "web.domain is needed", "uvicorn-unit": "web.data is needed"} {
		if _, err := Make(target, Answers{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// written puts what is made for a target into a folder.
func written(t *testing.T, target string, a Answers) string {
	t.Helper()
	m, err := Make(target, a)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), filepath.Base(m.Files[0].Path))
	if err := os.WriteFile(file, []byte(m.Files[0].Text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func passes(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// TestUnit: systemd itself takes it, and finds it well shut in.
func TestUnit(t *testing.T) {
	t.Parallel()
	analyze := part(t, "systemd-analyze")
	a := full
	a.Command = []string{"/bin/true", "app.main:app"}
	a.Data = t.TempDir()
	file := written(t, "uvicorn-unit", a)
	if out := passes(t, analyze, "verify", file); strings.Contains(out, "app.service") {
		t.Error(out)
	}
	passes(t, analyze, "security", "--offline=true", "--threshold=15", file)
}

// TestFirewall loads the rules in a network of their own, and tries them there.
func TestFirewall(t *testing.T) {
	t.Parallel()
	nft := part(t, "nft")
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("no network of its own can be had: %v %s", err, out)
	}
	for name, a := range map[string]Answers{"listed": full, "open": {}, "old": {SSH: []string{"192.0.2.0/24"}}, "new": {SSH: []string{"2001:db8::1"}}} {
		file := written(t, "nftables", a)
		out := passes(t, "unshare", "--user", "--map-root-user", "--net", "sh", "-ec", fmt.Sprintf("%s -c -f %s; %s -f %s; %s list ruleset", nft, file, nft, file, nft))
		for _, want := range []string{"policy drop", "tcp dport { 80, 443 } accept", "tcp dport 22"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, out)
			}
		}
	}
	// From another host: 80 answers, and the application's port does not.
	for _, tool := range []string{"ip", "curl", "nsenter"} {
		part(t, tool)
	}
	script := `ip link set lo up
unshare --net sleep 60 >/dev/null 2>&1 & P=$!
until [ "$(readlink /proc/$P/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link add name va type veth peer name vb netns $P
ip address add 192.0.2.1/24 dev va
ip link set va up
other() { nsenter --net=/proc/$P/ns/net "$@"; }
other ip address add 192.0.2.2/24 dev vb
other ip link set vb up
cd ` + t.TempDir() + `
python3 -m http.server 80 >/dev/null 2>&1 & A=$!
python3 -m http.server 8000 >/dev/null 2>&1 & B=$!
trap 'kill $P $A $B' EXIT
for port in 80 8000; do n=0; until other curl -s -o /dev/null --max-time 2 http://192.0.2.1:$port/; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.1; done; echo "before $port open"; done
` + nft + ` -f ` + written(t, "nftables", Answers{}) + `
for port in 80 8000; do if other curl -s -o /dev/null --max-time 2 http://192.0.2.1:$port/; then echo "after $port open"; else echo "after $port closed"; fi; done
`
	out := passes(t, "unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script)
	for _, want := range []string{"before 80 open", "before 8000 open", "after 80 open", "after 8000 closed"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool := part(t, "promtool")
	file := written(t, "prometheus-rules", full)
	passes(t, promtool, "check", "rules", file)
	tests := filepath.Join(filepath.Dir(file), "tests.yml")
	text := `rule_files: [` + filepath.Base(file) + `]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: caddy_http_request_duration_seconds_count{code="200"}
        values: 0+600x90
      - series: caddy_http_request_duration_seconds_count{code="500"}
        values: 0+0x30 0+60x60
      - series: caddy_http_request_duration_seconds_count{code="401"}
        values: 0+0x30 0+120x60
      - series: caddy_http_request_duration_seconds_count{code="429"}
        values: 0+0x30 0+60x60
    alert_rule_test:
      - {eval_time: 25m, alertname: WebServerErrors}
      - {eval_time: 25m, alertname: WebAuthenticationFailures}
      - eval_time: 60m
        alertname: WebServerErrors
        exp_alerts:
          - exp_labels: {severity: critical}
            exp_annotations: {summary: "More than 5 % of answers are server errors (7.143%)", description: "Look at the application's log. After a deploy, runbook restore-bad-deploy."}
      - eval_time: 60m
        alertname: WebAuthenticationFailures
        exp_alerts:
          - exp_labels: {severity: warning}
            exp_annotations: {summary: "Logins fail every other second or more (2 a second)", description: "Somebody guesses passwords. Runbooks block-addresses and revoke-sessions."}
      - eval_time: 60m
        alertname: WebRateLimitTrips
        exp_alerts:
          - exp_labels: {severity: warning}
            exp_annotations: {summary: "Requests are turned away because they come too fast", description: "A scraper, or a limit that is too low for your users. Runbook under-scan."}
      - {eval_time: 60m, alertname: WebSilent}
  - interval: 1m
    input_series:
      - series: nginx_http_response_count_total{status="200"}
        values: 0+600x20 12000x60
    alert_rule_test:
      - {eval_time: 20m, alertname: WebSilent}
      - eval_time: 75m
        alertname: WebSilent
        exp_alerts:
          - exp_labels: {severity: warning}
            exp_annotations: {summary: "The proxy has counted no request for half an hour", description: "It is down, cannot be reached, or is not being counted."}
`
	if err := os.WriteFile(tests, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	passes(t, promtool, "test", "rules", tests)
}

func TestLogrotate(t *testing.T) {
	t.Parallel()
	logrotate := part(t, "logrotate")
	for _, proxy := range []string{"nginx", "caddy"} {
		a := full
		a.Proxy = proxy
		if out := passes(t, logrotate, "-d", written(t, "logrotate", a)); strings.Contains(out, "error:") && !strings.Contains(out, "unknown user") {
			t.Error(out)
		}
	}
}

// TestCI: the job is YAML whose commands a shell can read.
func TestCI(t *testing.T) {
	t.Parallel()
	file := written(t, "ci", full)
	passes(t, "python3", "-c", `import re, subprocess, sys
text = open(sys.argv[1]).read()
assert re.search(r"(?m)^permissions:\n  contents: read", text)
for use in re.findall(r"uses: (\S+)", text):
    assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", use), use
for block in re.findall(r"(?m)^        run: \|\n((?:          .*\n)+)", text) + re.findall(r"(?m)^        run: ([^|\n].*)$", text):
    subprocess.run(["sh", "-n"], input=block, text=True, check=True)
for tool in re.findall(r"([a-z-]+)==", text): print(tool)
`, file)
	t.Run("actionlint", func(t *testing.T) {
		path, err := exec.Command("go", "env", "GOPATH").Output()
		if err != nil {
			t.Fatal(err)
		}
		lint := filepath.Join(strings.TrimSpace(string(path)), "bin", "actionlint")
		if _, err := os.Stat(lint); err != nil {
			t.Skip("make tools installs it: ", err)
		}
		passes(t, lint, "-shellcheck=", "-pyflakes=", file)
	})
	t.Run("pinned", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, block, _ := strings.Cut(string(text), "test -f requirements.txt\n")
		block, _, _ = strings.Cut(block, "- name:")
		for requirements, pinned := range map[string]bool{
			"fastapi==0.115.0 \\\n    --hash=sha256:00\nuvicorn[standard]==0.30.1\n# a comment\n-r more.txt\n": true,
			"fastapi\n": false, "fastapi>=0.1\n": false, "a==1\nuvicorn[standard]~=0.30\n": false, "x < 2\n": false, "y!=3\n": false, "z[a,b]\n": false,
		} {
			cmd := exec.Command("bash", "-e", "-c", block)
			if cmd.Dir = t.TempDir(); os.WriteFile(filepath.Join(cmd.Dir, "requirements.txt"), []byte(requirements), 0o600) != nil {
				t.Fatal("it cannot be written")
			}
			if err := cmd.Run(); (err == nil) != pinned {
				t.Errorf("%q: %v", requirements, err)
			}
		}
	})
	// Without an index pip installs nothing, but takes the command line.
	t.Run("pip", func(t *testing.T) {
		if err := exec.Command("python3", "-m", "pip", "--version").Run(); err != nil {
			t.Skip("there is no pip: ", err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := regexp.MustCompile(`python -m pip install (.*==.*)`).FindAllStringSubmatch(string(text), -1)
		if len(lines) != 1 {
			t.Fatal(lines)
		}
		out, _ := exec.Command("python3", append([]string{"-m", "pip", "install", "--no-index"}, strings.Fields(lines[0][1])...)...).CombinedOutput()
		if !strings.Contains(string(out), "No matching distribution found for pip-audit") {
			t.Errorf("%s", out)
		}
	})
}

// TestOutside: who is not on a listed network does not see documentation and
// health. In a network of its own there is an address that is not this machine's
// loopback.
func TestOutside(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "ip"} {
		part(t, tool)
	}
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("no network of its own can be had: %v %s", err, out)
	}
	program := part(t, "nginx")
	s, a := newSite(t, "app.example.org")
	a.Upstream, a.HTTPPort, a.HTTPSPort, a.Allow = "127.0.0.1:9000", 80, 443, []string{"192.0.2.8/32"}
	s.certificate(a)
	m, err := Make("nginx", a)
	if err != nil {
		t.Fatal(err)
	}
	s.write("site.conf", m.Files[0].Text)
	s.write("nginx.conf", "user root;\ndaemon off;\npid "+s.dir+"/nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\nclient_body_temp_path "+s.dir+"/b; proxy_temp_path "+s.dir+"/p; fastcgi_temp_path "+s.dir+"/f; uwsgi_temp_path "+s.dir+"/u; scgi_temp_path "+s.dir+"/s;\ninclude "+s.dir+"/site.conf;\n}\n")
	script := `cd ` + s.dir + `
ip link set lo up
ip address add 192.0.2.7/32 dev lo
ip address add 192.0.2.8/32 dev lo
mkdir -p www && touch www/docs www/health www/index.html
(cd www && exec python3 -m http.server 9000 --bind 127.0.0.1 >/dev/null 2>&1) & A=$!
` + program + ` -c ` + s.dir + `/nginx.conf & N=$!
trap 'kill $A $N; wait' EXIT
n=0
until curl -skf -o /dev/null --resolve app.example.org:443:127.0.0.1 https://app.example.org/; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done
ask() { curl -sk -o /dev/null -w "$1 $2 %{http_code}\n" --interface "$1" -H 'X-Forwarded-For: 127.0.0.1' --resolve app.example.org:443:192.0.2.7 "https://app.example.org$2"; }
for from in 192.0.2.7 192.0.2.8; do for path in / /docs /health; do ask $from $path; done; done
`
	out := passes(t, "unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script)
	for _, want := range []string{"192.0.2.7 / 200", "192.0.2.7 /docs 404", "192.0.2.7 /health 404", "192.0.2.8 /docs 200", "192.0.2.8 /health 200"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}
