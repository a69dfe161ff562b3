package harden

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/finding"
)

// TestDrift: what is new since the last look and what is gone; the first look,
// and one after a memory that cannot be read, tell of nothing.
func TestDrift(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	f := func(id, subject string) finding.Finding { return finding.Finding{ID: id, Subject: subject} }
	first := []finding.Finding{f("A", "/x"), f("B", "python3 (process 12)"), f("C", "/y")}
	first[2].Waiver = &finding.Waiver{}
	before, err := Last(state, "app")
	if fresh, gone := before.Drift(first); err != nil || len(fresh)+len(gone) > 0 {
		t.Errorf("%v %v %v", fresh, gone, err)
	}
	if err := (Seen{At: at, Open: Open(first)}).Keep(state, "app"); err != nil {
		t.Fatal(err)
	}
	before, err = Last(state, "app")
	if err != nil || !before.At.Equal(at) {
		t.Fatalf("%+v %v", before, err)
	}
	fresh, gone := before.Drift([]finding.Finding{f("B", "python3 (process 99)"), f("C", "/y"), f("A", "/z")})
	if len(fresh) != 2 || fresh[0].ID != "C" || fresh[1].Subject != "/z" || !slices.Equal(gone, []Key{{"A", "/x"}}) {
		t.Errorf("%v %v", fresh, gone)
	}
	if err := os.WriteFile(filepath.Join(state, "harden", "app.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if before, err := Last(state, "app"); err != nil || !before.At.IsZero() {
		t.Errorf("%+v %v", before, err)
	}
}

func TestStarved(t *testing.T) {
	t.Parallel()
	at := time.Now()
	small := Seen{At: at, WAL: 4 << 20, Behind: 1}
	for name, c := range map[string]struct {
		before, now Seen
		want        bool
	}{
		"first look":       {Seen{}, Seen{At: at, WAL: 1 << 30, Behind: 1 << 20}, false},
		"grew":             {small, Seen{At: at, WAL: 64 << 20, Frames: 16000, Behind: 15000}, true},
		"copied meanwhile": {small, Seen{At: at, WAL: 64 << 20, Frames: 16000, Behind: 10}, false},
		"was copied then":  {Seen{At: at, WAL: 4 << 20}, Seen{At: at, WAL: 64 << 20, Behind: 15000}, false},
		"as large as then": {Seen{At: at, WAL: 64 << 20, Behind: 15000}, Seen{At: at, WAL: 64 << 20, Behind: 15000}, false},
	} {
		if f, ok := Starved("/srv/app.db", c.before, c.now, "app"); ok != c.want || ok && !strings.Contains(f.Remedy, "checkpoint app ") {
			t.Errorf("%s: %t %+v", name, ok, f)
		}
	}
}

// TestFlaws: of a library only what its version has; what the system ships is a
// remark.
func TestFlaws(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, version string
		ids           []string
		severity      finding.Severity
		fixed         string
	}{
		{"/srv/app/node_modules/better_sqlite3.so", "3.49.0", []string{"CVE-2025-29087", "CVE-2025-6965"}, finding.Low, "3.50.2"},
		{"/usr/lib/x86_64-linux-gnu/libsqlite3.so.0", "3.49.1", []string{"CVE-2025-6965"}, finding.Info, "security tracker"},
		{"/usr/lib/python3/site-packages/x.so", "3.49.1", []string{"CVE-2025-6965"}, finding.Low, "3.50.2"},
		{"/opt/x.so", "3.50.2", nil, 0, ""},
		{"/opt/x.so", "of its own", nil, 0, ""},
	} {
		var l look
		l.known(library{c.path, c.version}, "x")
		if len(c.ids) == 0 {
			if len(l.findings) > 0 {
				t.Errorf("%s: %+v", c.version, l.findings)
			}
			continue
		}
		if len(l.findings) != 1 || !strings.HasSuffix(l.findings[0].Found, ": "+strings.Join(c.ids, ", ")) || l.findings[0].Severity != c.severity || !strings.Contains(l.findings[0].Remedy, c.fixed) {
			t.Errorf("%+v: %+v", c, l.findings)
		}
	}
}
