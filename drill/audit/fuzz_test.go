package audit

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"emsafe/internal/finding"
)

// What a service says of its operations leads nowhere else, and nothing that it
// says makes a call that could do something.
func FuzzOpenAPI(f *testing.F) {
	f.Add([]byte(description))
	f.Add([]byte(`{"swagger":"2.0","basePath":"/api","paths":{"/a/{b}":{"delete":{"parameters":[{"$ref":"#/components/parameters/x"}]}}}}`))
	f.Add([]byte(`{"paths":{"//evil.example/":{"get":{}},"/@evil":{"post":{}},"\\evil":{"get":{}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ops, err := parseOpenAPI(data)
		if err != nil {
			return
		}
		for _, o := range ops {
			r := o.request(nil)
			if u, err := url.Parse("https://app.example:8443" + r.path); err == nil && u.Host != "app.example:8443" {
				t.Errorf("%q leads to %s", o.template, u.Host)
			}
			if r.method != "GET" && o.harmless() && !strings.Contains(r.path, nilUUID) && r.body != broken {
				t.Errorf("%s %s is called as it is", o.method, o.template)
			}
		}
	})
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte("- [x] EMS-TLS-001\n1) [ ] Phase 4\n```\n- [x] no\n"))
	f.Add([]byte("- [x] **Application lock-down**: done"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, i := range against(data, []finding.Check{result("EMS-TLS-001", finding.High, finding.Pass)}) {
			if len(i.Names) == 0 || i.State == "" || i.State != Holds && len(i.Why) == 0 {
				t.Errorf("%+v", i)
			}
		}
	})
}

func FuzzCron(f *testing.F) {
	f.Add("5 4 * * * root /usr/bin/a && sh /b | /c", true)
	f.Add("@daily VAR=1 nice -n 5 /a", false)
	f.Fuzz(func(t *testing.T, line string, system bool) {
		for _, p := range programs(cronCommand(line, system)) {
			if !strings.HasPrefix(p, "/") || !strings.Contains(line, p) {
				t.Errorf("%q of %q", p, line)
			}
		}
	})
}

// FuzzHost gives a host whatever in the places that the audit reads.
func FuzzHost(f *testing.F) {
	c := kept()
	f.Add(c.files["proc/net/tcp"], c.files["proc/20/status"], c.commands["nft -j list ruleset"], c.files["proc/self/mountinfo"])
	f.Add("0A", "Uid:", `{"nftables":[{"rule":{"expr":[{"match":{}},{"accept":null}]}}]}`, " - ")
	f.Fuzz(func(t *testing.T, tcp, status, nft, mounts string) {
		root := t.TempDir()
		files := fstest.MapFS{"proc/net/tcp": {Data: []byte(tcp)}, "proc/20/status": {Data: []byte(status)}, "proc/self/mountinfo": {Data: []byte(mounts)}}
		if err := os.CopyFS(root, files); err != nil {
			t.Fatal(err)
		}
		r := Look(t.Context(), Options{Host: true, Root: root, Run: func(context.Context, []string) ([]byte, error) { return []byte(nft), nil }})
		r.Conclude(nil, nil, today)
		for _, rule := range Rules {
			if _, _, any := outcome(r.Checks, rule.ID); !any {
				t.Errorf("%s has no result", rule.ID)
			}
		}
	})
}
