package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"emsafe/drill/runbook"
)

// TestFirewallRunbooks walks the runbooks that change the firewall, in a network
// of their own, and knocks from another host after each.
func TestFirewallRunbooks(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"nft", "ip", "curl", "nsenter", "python3"} {
		if !runbook.HasProgram(tool) {
			t.Skipf("there is no %s: make parts installs it", tool)
		}
	}
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("no network of its own can be had: %v %s", err, out)
	}
	h := newHost(t)
	h.fenced("nft")
	binary := h.binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	runs := 0
	run := func(id string, set ...string) string {
		r, _ := parseBuiltIn(t, id)
		runs++
		input := fmt.Sprint("answers-", runs)
		h.write(input, answers(t, r, "nft"))
		line := binary + " --config " + h.conf + " runbook run " + id
		for _, s := range set {
			line += " --set " + s
		}
		return line + " < " + h.path(input) + " > said 2>&1 || { cat said; exit 1; }\n"
	}
	undo := func(id, title string, values map[string]string) string {
		r, _ := parseBuiltIn(t, id)
		for _, s := range r.Steps {
			if s.Title == title {
				return runbook.Fill(s.Undo, values, true) + "\n"
			}
		}
		t.Fatalf("%s has no step %q", id, title)
		return ""
	}
	script := `ip link set lo up
unshare --net sleep 120 >/dev/null 2>&1 & P=$!
until [ "$(readlink /proc/$P/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link add name va type veth peer name vb netns $P
other() { nsenter --net=/proc/$P/ns/net "$@"; }
ip address add 192.0.2.1/24 dev va
ip address add 2001:db8::1/64 dev va nodad
ip link set va up
other ip address add 192.0.2.2/24 dev vb
other ip address add 2001:db8::2/64 dev vb nodad
other ip link set vb up
cd ` + t.TempDir() + `
python3 -m http.server --bind :: 80 >/dev/null 2>&1 & A=$!
python3 -m http.server --bind :: 8000 >/dev/null 2>&1 & B=$!
trap 'kill $P $A $B' EXIT
ask() { other curl -s -o /dev/null --max-time 1 "http://$1/"; }
for at in 192.0.2.1:80 192.0.2.1:8000 '[2001:db8::1]:80'; do n=0; until ask $at; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.1; done; done
knock() { printf '%s:' "$1"; for at in 192.0.2.1:80 192.0.2.1:8000 '[2001:db8::1]:80'; do if ask $at; then printf ' open'; else printf ' closed'; fi; done; echo; }
knock before
` + run("under-scan", "service=no-such-application", "backend=8000") + `knock under-scan
nft add table inet filter
nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet filter input meta l4proto '{ icmp, icmpv6 }' accept
nft add rule inet filter input iif lo accept
knock dropped
` + run("tls-renewal", "domain=localhost", "backend=8000") + `knock tls-renewal
` + run("block-addresses", "address=192.0.2.2") + `knock block4
` + run("block-addresses", "address=2001:db8::2") + `knock block6
` + run("block-addresses", "address=192.0.2.2") + `echo "rules: $(nft list chain inet emsafe_block input | grep -c drop)"
` + undo("block-addresses", "Block it with nftables", map[string]string{"address": "2001:db8::2"}) + `knock unblock6
` + undo("block-addresses", "Block it with nftables", map[string]string{"address": "192.0.2.2"}) + `knock unblock4
` + undo("tls-renewal", "Let 80 and 443 in", nil) + `knock undone
`
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script)
	cmd.Env = append(append(os.Environ(), testAs+"=emsafe", "GORACE=atexit_sleep_ms=0"), h.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const want = `before: open open open
under-scan: open closed open
dropped: closed closed closed
tls-renewal: open closed open
block4: closed closed open
block6: closed closed closed
rules: 2
unblock6: closed closed open
unblock4: open closed open
undone: closed closed closed
`
	if string(out) != want {
		t.Errorf("%s\nwant\n%s", strings.TrimSpace(string(out)), want)
	}
}
