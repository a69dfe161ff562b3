package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/internal/suggest"
)

func TestHoist(t *testing.T) {
	t.Parallel()
	app := (&program{}).app()
	for _, c := range []struct{ given, want, wrong string }{
		{"", "", ""},
		{"backup", "backup", ""},
		{"backup app shop", "backup -- app shop", ""},
		{"restore app --dry-run", "restore --dry-run -- app", ""},
		{"restore --dry-run app", "restore --dry-run -- app", ""},
		{"restore app -n --to x.db", "restore -n --to x.db -- app", ""},
		{"restore app --to=x.db -y", "restore --to=x.db -y -- app", ""},
		{"restore app -i - --to x.db", "restore -i - --to x.db -- app", ""},
		{"restore app -to x.db", "restore -to x.db -- app", ""},
		{"restore -- app --dry-run", "restore -- app --dry-run", ""},
		{"restore --to restore app", "restore --to restore -- app", ""},
		// Global flags may stand anywhere; a command's own come first where
		// both have a name.
		{"backup app --json", "--json backup -- app", ""},
		{"-c x.yaml backup --quiet", "-c x.yaml --quiet backup", ""},
		{"key verify app --config x.yaml -i key", "--config x.yaml key verify -i key -- app", ""},
		{"key --json verify", "--json key verify", ""},
		{"list list", "list -- list", ""},
		{"help restore", "help restore", ""},
		{"restore --help", "restore --help", ""},
		{"restore app -h", "restore -h -- app", ""},
		{"--version", "--version", ""},
		{"bakcup --json", "--json -- bakcup", ""},
		// Nothing unknown is passed over, and no value is taken for a flag.
		{"restore app --dryrun", "", "emsafe restore has no flag --dryrun"},
		{"backup --dry-run", "", "emsafe backup has no flag --dry-run"},
		{"--dry-run restore app", "", "emsafe has no flag --dry-run"},
		{"--scan x init", "", "emsafe has no flag --scan"},
		{"key -i x verify", "", "emsafe key has no flag -i"},
		{"restore --version", "", "emsafe restore has no flag --version"},
		{"restore app --to", "", "--to needs a value"},
		{"restore app --to --dry-run", "", "--to needs a value"},
		{"restore app --id -y", "", "--id needs a value"},
		{"restore ---dry-run=1 app -z", "", "emsafe restore has no flag -z"},
	} {
		got, err := hoist(app, append([]string{"emsafe"}, strings.Fields(c.given)...))
		switch {
		case c.wrong != "":
			if err == nil || err.Error() != c.wrong || fault.Exit(err) != fault.Usage.Exit {
				t.Errorf("%s: %q %v, want %q", c.given, got, err, c.wrong)
			}
		case err != nil:
			t.Errorf("%s: %v", c.given, err)
		case !slices.Equal(got, append([]string{"emsafe"}, strings.Fields(c.want)...)):
			t.Errorf("%s: got %q, want %s", c.given, got, c.want)
		}
	}
}

// Every flag of every command can be given behind an argument.
func TestHoistKnowsEveryFlag(t *testing.T) {
	t.Parallel()
	app, seen := (&program{}).app(), 0
	eachCommand("emsafe", app.Commands, func(name string, c *cli.Command) {
		for _, f := range c.Flags {
			for _, n := range f.Names() {
				args := append(strings.Fields(name), "argument", "--"+n)
				if takesValue(f) {
					args = append(args, "value")
				}
				if len(c.Subcommands) > 0 {
					args = slices.Delete(args, len(strings.Fields(name)), len(strings.Fields(name))+1)
				}
				got, err := hoist(app, args)
				if err != nil || !slices.Contains(got, "--"+n) || slices.Contains(got, "argument") && got[len(got)-1] != "argument" {
					t.Errorf("%q: %q %v", args, got, err)
				}
				seen++
			}
		}
	})
	if seen < 40 {
		t.Errorf("%d flags seen", seen)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	app := (&program{}).app()
	for _, c := range []struct{ given, has, hasNot string }{
		{"", "restore", "reference"},
		{"key", "verify", "restore"},
		{"restore app", "", "new"},
		{"restore --d", "--dry-run", "--to"},
		{"restore -", "--identity", "--i\n"},
		{"restore app --js", "--json", "--to"},
		{"--config x.yaml", "backup", "--json"},
		{"--config", "--config", "backup"},
		{"restore --to", "--to", "app"},
		{"restore --to x --id", "--id\n--identity", "--to"},
		{"restore --nonsense --in", "--in-place", "restore"},
		{"demo -- --d", "", "--dir"},
		{"demo", "", "writer"},
	} {
		var b strings.Builder
		complete(&b, app, strings.Fields(c.given))
		if got := b.String(); !strings.Contains(got, c.has) || c.has == "" && got != "" || strings.Contains(got, c.hasNot) {
			t.Errorf("%s: got %q, want %q and not %q", c.given, got, c.has, c.hasNot)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"backup", "restore", "list", "dry-run", "in-place", "id", "app"}
	for given, want := range map[string]string{
		"backup": "backup", "bakcup": "backup", "BACKUP": "backup", "backups": "backup", "bckup": "backup",
		"dryrun": "dry-run", "dry_run": "dry-run", "inplace": "in-place", "lits": "list", "ap": "app",
		"": "", "x": "", "frobnicate": "", "restaurant": "", "remove": "", strings.Repeat("backup", 1000): "",
	} {
		if got := suggest.Nearest(given, words); got != want {
			t.Errorf("%.20q: got %q, want %q", given, got, want)
		}
	}
	if got := suggest.Nearest("backup", nil); got != "" {
		t.Errorf("from nothing: %q", got)
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 30, 0, 500, time.UTC)
	for given, want := range map[string]string{
		"2026-11-23T10:00:00Z":          "2026-11-23T10:00:00Z",
		"2026-11-23T10:00:00.25+01:00":  "2026-11-23T09:00:00.25Z",
		"2026-11-23T10:00:00":           "2026-11-23T10:00:00Z",
		"2026-11-23 10:00:01":           "2026-11-23T10:00:01Z",
		"2026-11-23T10:00":              "2026-11-23T10:00:00Z",
		"2026-11-23 10:00":              "2026-11-23T10:00:00Z",
		"20261123T100000Z":              "2026-11-23T10:00:00Z",
		"2026-11-22":                    "2026-11-22T23:59:59.999999999Z",
		"2h":                            "2026-11-23T10:30:00.0000005Z",
		"2h ago":                        "2026-11-23T10:30:00.0000005Z",
		"-90m":                          "2026-11-23T11:00:00.0000005Z",
		"1h30m":                         "2026-11-23T11:00:00.0000005Z",
		"3d":                            "2026-11-20T12:30:00.0000005Z",
		"2w ago":                        "2026-11-09T12:30:00.0000005Z",
		"":                              "",
		"yesterday":                     "",
		"10:00":                         "",
		"2026-13-01":                    "",
		"2026-02-30":                    "",
		"23.11.2026":                    "",
		"1700000000":                    "",
		"2026-11-23T10:00:00Z\nlatest":  "",
		"99999999999h":                  "",
		"2026-11-23 10:00 Europe/Paris": "",
	} {
		got, err := parseTime(given, now)
		switch {
		case want == "" && (err == nil || fault.Exit(err) != fault.Usage.Exit):
			t.Errorf("%q: %v %v, want an error", given, got, err)
		case want != "" && (err != nil || got.UTC().Format(time.RFC3339Nano) != want):
			t.Errorf("%q: %v %v, want %s", given, got, err, want)
		}
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		id, at string
		wantID string
		wantAt time.Time
		wrong  bool
	}{
		{"", "", "", time.Time{}, false},
		{"latest", "", "", time.Time{}, false},
		{"", "latest", "", time.Time{}, false},
		{"2026", "", "2026", time.Time{}, false},
		{"#7", "", "#7", time.Time{}, false},
		{"", "1h", "", now.Add(-time.Hour), false},
		{"", "soon", "", time.Time{}, true},
		{"2026", "1h", "", time.Time{}, true},
		{"latest", "1h", "", time.Time{}, true},
	} {
		got, err := wanted(c.id, c.at, now)
		if (err != nil) != c.wrong || err == nil && (got.ID != c.wantID || !got.At.Equal(c.wantAt)) {
			t.Errorf("--id %q --at %q: %+v %v", c.id, c.at, got, err)
		}
	}
}

func TestParseHead(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("0a", 32)
	got, err := parseHead("12:" + digest)
	if err != nil || got.Sequence != 12 || got.Digest.String() != digest || got.Repository != "" {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := parseHead(""); err != nil || !got.IsZero() {
		t.Errorf("none: %+v %v", got, err)
	}
	for _, s := range []string{"12", "12:", ":" + digest, "0:" + digest, "-1:" + digest, "x:" + digest, "12:" + digest[2:], "12:" + digest + "00",
		"12:" + strings.Repeat("00", 32), "12:" + strings.Repeat("zz", 32), "18446744073709551616:" + digest, " 12:" + digest, digest} {
		if got, err := parseHead(s); err == nil || fault.Exit(err) != fault.Usage.Exit {
			t.Errorf("%q: %+v %v, want an error", s, got, err)
		}
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/srv/app/app.db": "app", "/srv/Orders 2026.dat": "orders-2026", "data": "data", "/x/.db": "database", "/x/---.sqlite3": "database",
		"/x/a.b.db": "a-b", "/x/Ünïcode.db": "n-code", "/x/" + strings.Repeat("y", 100) + ".db": strings.Repeat("y", 60),
	} {
		if got := nameOf(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
