package render

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestJails: a fail2ban of its own takes the jails, bans who guesses and who
// scans, and leaves others alone. Seen from other addresses, in a network of
// its own.
func TestJails(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"fail2ban-server", "fail2ban-client", "nft", "ip", "curl", "nsenter"} {
		part(t, tool)
	}
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("no network of its own can be had: %v %s", err, out)
	}
	dir, err := os.MkdirTemp("", "f") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	passes(t, "cp", "-r", "/etc/fail2ban", dir+"/conf")
	passes(t, "sh", "-c", "rm -f "+dir+"/conf/jail.d/*")
	m, err := Make("fail2ban", Answers{Logs: dir})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"fail2ban.local": "[Definition]\ndbfile = :memory:\nlogtarget = " + dir + "/f2b.log\n"}
	log := ""
	for _, f := range m.Files {
		files[strings.TrimPrefix(f.Path, "/etc/fail2ban/")] = f.Text
		if _, rest, ok := strings.Cut(f.Text, "logpath  = "); ok && log == "" {
			log, _, _ = strings.Cut(rest, "\n")
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "conf", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if filepath.Dir(log) != dir {
		t.Fatalf("the jails read %q", log)
	}
	script := `ip link set lo up
unshare --net sleep 120 >/dev/null 2>&1 & P=$!
until [ "$(readlink /proc/$P/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link add name va type veth peer name vb netns $P
other() { nsenter --net=/proc/$P/ns/net "$@"; }
ip address add 192.0.2.1/24 dev va
ip link set va up
for n in 2 3 4; do other ip address add 192.0.2.$n/24 dev vb; done
other ip link set vb up
mkdir ` + dir + `/www; cd ` + dir + `/www; : > ` + log + `
python3 -m http.server 80 >/dev/null 2>&1 & A=$!
f2b() { fail2ban-client -c ` + dir + `/conf -s ` + dir + `/sock -p ` + dir + `/pid "$@"; }
fail2ban-server -c ` + dir + `/conf -s ` + dir + `/sock -p ` + dir + `/pid -xf start >/dev/null 2>&1 & F=$!
trap 'f2b stop >/dev/null 2>&1; wait $F; kill $P $A' EXIT
wait_for() { n=0; until "$@" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done; }
ask() { other curl -s -o /dev/null --max-time 2 --interface "192.0.2.$1" http://192.0.2.1/; }
banned() { nft list ruleset | grep -q "192.0.2.$1"; }
wait_for f2b ping
for n in 2 3 4; do wait_for ask $n; done
line() { printf '{"time":"%s","client":"%s","method":"GET","path":"%s","status":%s}\n' "$(date +%Y-%m-%dT%H:%M:%S%z)" "192.0.2.$1" "$2" "$3"; }
for i in $(seq 11); do line 2 /login 401; done >> ` + log + `
for i in $(seq 61); do line 3 /x 404; done >> ` + log + `
for i in $(seq 200); do line 4 / 200; done >> ` + log + `
wait_for banned 2; wait_for banned 3
say() { for n in 2 3 4; do if ask $n; then printf ' open'; else printf ' closed'; fi; done; echo; }
say
f2b set emsafe-web-scan banip 192.0.2.4 >/dev/null; wait_for banned 4; say
f2b set emsafe-web-scan unbanip 192.0.2.4 >/dev/null; wait_for ask 4; say
`
	out := passes(t, "unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script)
	if out != " closed closed open\n closed closed closed\n closed closed open\n" {
		said, _ := os.ReadFile(dir + "/f2b.log")
		t.Errorf("%s\n%s", out, said)
	}
}
