package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"emsafe/internal/config"
)

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, problems := config.Parse("/etc/emsafe/emsafe.yaml", []byte(text), environment)
	if problems != nil {
		t.Fatal(problems)
	}
	return c
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestParseEverything(t *testing.T) {
	c := parse(t, read(t, "testdata/full.yaml"))
	yes := true
	want := &config.Config{
		File: "/etc/emsafe/emsafe.yaml", Version: 1, Host: "web1", State: "/var/lib/emsafe", Zone: "Europe/Berlin", Controls: []string{"SOC 2 A1.2", "ISO 27001 A.8.13"},
		SigningKey: "/etc/emsafe/signing_key", AllowedSigners: "/etc/emsafe/allowed_signers",
		Recipients: []string{"age1abc", "ssh-ed25519 AAAA me@home"}, RecipientsFiles: []string{"/etc/emsafe/recipients.txt"},
		Compression: "better", SpoolLimit: 2 << 30, DrillKey: "/etc/emsafe/drill_key", DrillScratch: "/srv/scratch", DrillUser: "app-drill", ProveKeyEvery: 90 * 24 * time.Hour,
		Targets: map[string]config.Target{
			"local": {URL: "file:///srv/back%20ups"},
			"offsite": {
				URL: "s3://acme-backups/web1", Provider: "minio", Endpoint: "https://s3.example.org", Region: "eu-1",
				PathStyle: &yes, CAFile: "/etc/ca.pem", StorageClass: "STANDARD_IA", SSE: "aws:kms", KMSKeyID: "arn:aws:kms:x",
				AccessKeyID: config.LiteralSecret("AKIAEXAMPLE"), SecretAccessKey: config.EnvSecret("SECRET"), SessionToken: config.CommandSecret("/bin/token", "$x"),
				UploadLimit: 10 << 20, UploadHours: "22:00-06:30", LockMode: "governance", LockFor: 30 * 24 * time.Hour,
			},
		},
		Databases: map[string]config.Database{
			"app": {Path: "/srv/app/app.db", Targets: []string{"local"}, MaxHold: 100 * time.Millisecond, AllowBlock: true, MaxSnapshot: time.Hour, MaxWALGrowth: 2e9,
				FullEvery: 24 * time.Hour, FullShare: 20, Unchanged: "skip", Continuous: true, Interval: time.Second, RPO: time.Hour, Group: "app", Unit: "app.service", Ping: config.EnvSecret("PING"), Schedule: "17 3 * * *", VerifySchedule: "0 5 * * 0", PruneSchedule: "every 1d", RTO: 15 * time.Minute, DrillSchedule: "every 7d",
				Drill: config.Drill{
					Select: []string{"latest", "7d"}, Limit: 30 * time.Minute, Rows: 90, Newest: "SELECT max(at) FROM orders", Canary: true,
					Checks: map[string]config.Check{
						"count": {SQL: "SELECT count(*) FROM orders", Min: "10", Max: "1e6", Timeout: time.Minute},
						"fresh": {SQL: "SELECT max(at) FROM orders", NewerThan: time.Hour, Timeout: time.Minute},
						"tool":  {Command: []string{"/bin/tool", "{database}"}, Expect: "ok", Timeout: 5 * time.Minute},
						"web": {Service: []string{"/bin/app", "{port}"}, Timeout: time.Minute, Ask: map[string]config.Ask{
							"health": {URL: "http://127.0.0.1:{port}/health", Status: 200},
							"home":   {URL: "http://localhost:{port}/", Header: "Content-Type: text/html", Content: "Welcome"},
						}},
					},
					Files: config.Pairing{Fileset: "uploads", SQL: "SELECT path FROM pictures", Root: "/srv/uploads", Sample: 50, Read: 5},
				}, Keep: config.Keep{Last: 3, Daily: 7, Within: 48 * time.Hour}},
			"blog": {Path: "/srv/$blog.db", MaxHold: 250 * time.Millisecond, MaxSnapshot: 10 * time.Minute, MaxWALGrowth: 1 << 30,
				FullEvery: 7 * 24 * time.Hour, FullShare: 50, Unchanged: "heartbeat", Interval: 10 * time.Second, Drill: config.Drill{Limit: time.Hour, Rows: 50, Files: config.Pairing{Sample: 20, Read: 1}}},
		},
	}
	want.Filesets = map[string]config.Fileset{"uploads": {
		Paths: []string{"/srv/uploads", "/srv/scans"}, Exclude: []string{"*.tmp"}, Targets: []string{"local"}, Databases: []string{"app"},
		Schedule: "47 2 * * *", ForgetSchedule: "every 1d", RPO: 24 * time.Hour, UploadLimit: 2 << 20, Before: []string{"/bin/quiesce", "app", "app"}, After: []string{"/bin/wake", "app"},
		HookTimeout: 30 * time.Second, Keep: config.Keep{Last: 2, Monthly: 12},
	}}
	want.Daemon = config.Daemon{Listen: "127.0.0.1:9464", Token: config.EnvSecret("PAGE_TOKEN"), Socket: "/run/emsafe/x.sock", Heavy: 3, Ping: config.FileSecret("/etc/ping")}
	want.Harden = config.Harden{Schedule: "0 6 * * *", FailOn: "medium", Enforce: true}
	want.Runbooks = config.Runbooks{Folder: "/etc/emsafe/runbooks", Selftest: "20 6 * * 2"}
	want.Web = config.Web{
		Domain: "app.example.org", Upstream: "[::1]:9000", Data: "/srv/app", User: "shop", Command: []string{"/srv/app/venv/bin/uvicorn", "app.main:app"}, Allow: []string{"10.0.0.0/8"},
		SSH: []string{"198.51.100.7"}, Docs: []string{"/docs"}, Health: "/up", Login: []string{"/login"}, BodyLimit: 50 << 20, Rate: 30, LoginRate: 5, GuardUser: "me",
		GuardHash: config.FileSecret("/etc/emsafe/guard.hash"), Certificate: "/etc/ssl/app/fullchain.pem", CertificateKey: "/etc/ssl/app/privkey.pem", Logs: "/var/log/web", HTTPPort: 8080, HTTPSPort: 8443,
	}
	want.Waivers = map[string]config.Waiver{"disk": {Finding: "EMS-DISK-003", Subject: "/srv", Reason: "the provider does it", Owner: "kim", Until: "2027-06-30"}}
	want.Notify = map[string]config.Channel{
		"chat":  {URL: config.EnvSecret("CHAT"), Service: "matrix", Token: config.EnvSecret("TOKEN"), Room: "!a:b", Security: "starttls"},
		"ops":   {Service: "json", SMTP: "mail.example.org:465", Security: "tls", User: "u", Password: config.FileSecret("/etc/password"), From: "emsafe@example.org", To: []string{"ops@example.org"}},
		"pager": {Service: "json", Security: "starttls", Command: []string{"/bin/page", "-a", "-a"}},
	}
	if diff := cmp.Diff(want, c, sameSources, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Error(diff)
	}
	if folder, ok := c.Targets["local"].Folder(); !ok || folder != "/srv/back ups" {
		t.Errorf("folder %q %v", folder, ok)
	}
	if bucket, prefix, ok := c.Targets["offsite"].Bucket(); !ok || bucket != "acme-backups" || prefix != "web1" {
		t.Errorf("bucket %q %q %v", bucket, prefix, ok)
	}
	if o := c.Origin("databases.app.path"); o.Line != 38 {
		t.Errorf("origin %+v", o)
	}
}

// sameSources compares secrets by where they come from: a Secret shows nothing
// else, on purpose.
var sameSources = cmp.Comparer(func(a, b config.Secret) bool { return a.IsZero() == b.IsZero() && a.Source() == b.Source() })

func TestDefaults(t *testing.T) {
	c := parse(t, "version: 1\nrecipients: [age1x]\ntargets: {a: {url: file:///x}}\n")
	if c.SigningKey != "/etc/emsafe/signing_key" || c.AllowedSigners != "/etc/emsafe/allowed_signers" || c.Host == "" || c.State == "" || c.Compression != "default" {
		t.Errorf("%+v", c)
	}
	none := func(string) (string, bool) { return "", false }
	if got := config.DefaultPaths(0, environment); got.Config != "/etc/emsafe/emsafe.yaml" || got.State != "/var/lib/emsafe" {
		t.Errorf("root: %+v", got)
	}
	if got := config.DefaultPaths(1000, environment); got.Config != "/home/operator/.config/emsafe/emsafe.yaml" || got.State != "/home/operator/.local/state/emsafe" {
		t.Errorf("user: %+v", got)
	}
	xdg := func(name string) (string, bool) {
		v, ok := map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "relative", "XDG_STATE_HOME": "/s"}[name]
		return v, ok
	}
	if got := config.DefaultPaths(1000, xdg); got.SigningKey != "/h/.config/emsafe/signing_key" || got.State != "/s/emsafe" {
		t.Errorf("xdg: %+v", got)
	}
	if got := config.DefaultPaths(123456, none); !strings.HasPrefix(got.State, "/") {
		t.Errorf("without a home: %+v", got)
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct{ hold, growth, want string }{
		{"10ms", "1MiB", "10ms 1048576"},
		{"1.5s", "1.5MiB", "1.5s 1572864"},
		{"0.5m", "1 GB", "30s 1000000000"},
		{"1s500ms", "2TiB", "1.5s 2199023255552"},
		{"9ms", "1MiB", ""}, {"61s", "1MiB", ""}, {"-1s", "1MiB", ""}, {"1", "1MiB", ""}, {"1y", "1MiB", ""}, {"99999999999999999999h", "1MiB", ""}, {"1us", "1MiB", ""},
		{"1s", "1MB", ""}, {"1s", "5", ""}, {"1s", "5G", ""}, {"1s", "-5GiB", ""}, {"1s", "8EiB", ""}, {"1s", "99999999999TiB", ""}, {"1s", "100Mbit", ""}, {"1s", "1e3MiB", ""},
	} {
		got := ""
		text := fmt.Sprintf("version: 1\nrecipients: [age1x]\ntargets: {a: {url: file:///x}}\ndatabases: {a: {path: /a, max_hold: %s, max_wal_growth: %s}}\n", c.hold, c.growth)
		if cfg, _ := config.Parse("f", []byte(text), environment); cfg != nil {
			got = fmt.Sprint(cfg.Databases["a"].MaxHold, cfg.Databases["a"].MaxWALGrowth)
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.hold, c.growth, got, c.want)
		}
	}
}

func TestShow(t *testing.T) {
	c := parse(t, read(t, "testdata/full.yaml"))
	golden(t, "testdata/full.show", c.Show())
	golden(t, "testdata/render.yaml", config.Render(*c))
	if strings.Contains(string(c.Show()), "AKIAEXAMPLE") {
		t.Error("a secret is shown")
	}
	if data, err := json.Marshal(c.Settings()); err != nil || strings.Contains(string(data), "AKIAEXAMPLE") {
		t.Error(string(data), err)
	}
}

func TestTargetFromFlags(t *testing.T) {
	for _, c := range []struct {
		target config.Target
		want   string
	}{
		{config.Target{URL: "file:///srv"}, ""},
		{config.Target{URL: "s3://bucket/x", Provider: "r2", Endpoint: "https://x"}, ""},
		{config.Target{URL: "/srv"}, "url is a path without a scheme (did you mean file:///srv?)"},
		{config.Target{URL: "file:///srv", Region: "eu"}, "region is for s3:// targets, and this one is a folder (take it out)"},
		{config.Target{URL: "s3://bucket", Provider: "r2"}, "r2 needs an endpoint, which holds your account (add: endpoint: https://ACCOUNT.r2.cloudflarestorage.com)"},
		{config.Target{URL: "s3://bucket", Endpoint: "x"}, "endpoint needs https:// or http:// and a host, not \"x\" (did you mean https://x?)"},
	} {
		got := ""
		if err := c.target.Check(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.target, got, c.want)
		}
	}
}

// TestRenderRoundTrip: whatever a configuration holds, the written file says
// the same, dollar signs, quotes, colons and all.
func TestRenderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z0-9 $"'#:{}\[\],&*!|>%@\\é🙂.-]{1,12}`)
		path := rapid.Custom(func(t *rapid.T) string { return "/" + strings.TrimLeft(word.Draw(t, "path"), ".") + "x" })
		c := config.Config{
			File: "/etc/emsafe/emsafe.yaml", Version: 1, Host: rapid.StringMatching(`[a-z0-9][a-z0-9.]{0,5}`).Draw(t, "host"), State: path.Draw(t, "state") + "/state",
			SigningKey: path.Draw(t, "key"), AllowedSigners: path.Draw(t, "signers"), Compression: rapid.SampledFrom([]string{"better", "default", "best"}).Draw(t, "level"),
			SpoolLimit: rapid.Int64Range(16<<20, 1<<50).Draw(t, "spool"), Daemon: config.Daemon{Heavy: config.Count(rapid.IntRange(2, 9).Draw(t, "heavy"))},
			Web:    config.Web{Upstream: "127.0.0.1:8000", User: "app", Health: "/health", BodyLimit: 10 << 20, Rate: 20, LoginRate: 10, HTTPPort: 80, HTTPSPort: 443},
			Harden: config.Harden{FailOn: "low"}, Waivers: map[string]config.Waiver{"w": {Finding: "EMS-A-1", Reason: word.Draw(t, "reason") + "x", Until: "2027-01-01"}},
			Notify:     map[string]config.Channel{"p": {Service: "json", Security: "starttls", Command: []string{path.Draw(t, "command"), word.Draw(t, "argument"), "a", "a"}}},
			Recipients: []string{"age1" + word.Draw(t, "recipient"), "ssh-rsa " + word.Draw(t, "ssh")},
			Targets: map[string]config.Target{"null": {URL: "file:///b"}, "123": {
				LockMode: "governance", LockFor: time.Duration(rapid.Int64Range(1, 87600).Draw(t, "lock")) * time.Hour,
				URL: "s3://bucket/p", UploadLimit: rapid.Int64Range(64<<10, 1<<50).Draw(t, "limit"),
				AccessKeyID: config.FileSecret(path.Draw(t, "file")), SecretAccessKey: config.CommandSecret(path.Draw(t, "program"), word.Draw(t, "argument")),
			}},
			Databases: map[string]config.Database{"a": {
				Path: path.Draw(t, "database"), Targets: []string{"null", "123"}, AllowBlock: rapid.Bool().Draw(t, "block"),
				MaxHold:     time.Duration(rapid.Int64Range(10, 60000).Draw(t, "hold")) * time.Millisecond,
				MaxSnapshot: time.Duration(rapid.Int64Range(1000, 86400000).Draw(t, "snapshot")) * time.Millisecond, MaxWALGrowth: rapid.Int64Range(1<<20, 1<<50).Draw(t, "growth"),
				FullEvery: time.Duration(rapid.Int64Range(1, 5256000).Draw(t, "full")) * time.Minute, FullShare: config.Percent(rapid.IntRange(0, 100).Draw(t, "share")), Drill: config.Drill{Limit: time.Hour, Rows: 50, Files: config.Pairing{Sample: 20, Read: 1}},
				Unchanged: rapid.SampledFrom([]string{"heartbeat", "skip"}).Draw(t, "unchanged"), Continuous: rapid.Bool().Draw(t, "continuous"),
				Keep:     config.Keep{Weekly: config.Count(rapid.IntRange(0, 10).Draw(t, "weekly"))},
				Interval: time.Duration(rapid.Int64Range(1000, 86400000).Draw(t, "interval")) * time.Millisecond,
			}},
			Filesets: map[string]config.Fileset{"f": {
				Paths: []string{path.Draw(t, "files")}, Exclude: []string{word.Draw(t, "pattern") + "x"}, Databases: []string{"a"},
				Before: []string{path.Draw(t, "before"), "a", "a"}, After: []string{path.Draw(t, "after")}, HookTimeout: time.Minute,
				Keep: config.Keep{Daily: config.Count(rapid.IntRange(0, 10).Draw(t, "daily"))},
			}},
		}
		text := config.Render(c)
		got, problems := config.Parse(c.File, text, environment)
		if problems != nil {
			t.Fatalf("%v\n%s", problems, text)
		}
		if diff := cmp.Diff(c, *got, sameSources, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
	})
}

// TestLargeFile: a mistake in a large file is found in a bearable time, and at
// its place.
func TestLargeFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nrecipients: [age1x]\ntargets: {a: {url: file:///x}}\ndatabases:\n")
	for i := range 400 {
		fmt.Fprintf(&b, "  d%d: {\n    path: /srv/%d.db }\n", i, i)
	}
	if c := parse(t, b.String()); len(c.Databases) != 400 {
		t.Error(len(c.Databases))
	}
	broken := strings.Replace(b.String(), "d321: {", "d321: [", 1)
	_, problems := config.Parse("f", []byte(broken), environment)
	if want := 5 + 2*321; len(problems) != 1 || problems[0].Line != want {
		t.Errorf("%v, want line %d", problems, want)
	}
}
