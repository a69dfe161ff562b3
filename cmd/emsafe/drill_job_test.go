package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
	"emsafe/internal/config"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
)

// TestDrillJob: the daemon's drill is full the first time, is not tried again
// when the backup failed, and measures by the canary that backups stamp.
func TestDrillJob(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := h.conf
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(string(text), "path: "+h.path("app.db")+"\n", "path: "+h.path("app.db")+"\n    drill: {canary: true, checks: {rows: {sql: SELECT 1, expect: 1}}}\n", 1)
	more += "drill_key: " + h.path("key") + "\ndrill_scratch: " + h.dir + "\n"
	if err := os.WriteFile(file, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("backup")
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}, env: os.LookupEnv, now: time.Now}
	p.print = newPrinter(p.stdout, p.stderr, false, os.LookupEnv)
	signers, err := readSigners(cfg.AllowedSigners)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{p: p, cfg: cfg, signers: signers}
	if err := s.configured(""); err != nil {
		t.Fatal(err)
	}
	jobs, err := p.jobsOf(s, func(string, string, error) {})
	if err != nil || len(jobs) == 0 || jobs[0].Name != "drill app" || jobs[0].Kind != daemon.Drill || jobs[0].Schedule.String() != weeklyDrill {
		t.Fatalf("jobs %+v %v", jobs, err)
	}
	slot := time.Now().Add(-time.Minute)
	result, err := jobs[0].Run(t.Context(), daemon.Run{Slot: slot, Cause: daemon.OnTime})
	if err != nil || len(result.Targets) == 0 || !strings.Contains(result.Text, "every check passed") {
		t.Fatalf("%+v %v", result, err)
	}
	reports, bad := drill.Local(cfg.State, signers, "app", cfg.Host)
	if len(reports) != 1 || len(bad) > 0 || reports[0].Report.RPO.How != "canary" || reports[0].Report.Operator != "schedule" || !reports[0].Report.Slot.Equal(slot.Truncate(time.Second)) {
		t.Fatalf("%+v %v", reports, bad)
	}
	if m, err := drill.Remember(cfg.State, "app"); err != nil || m.FullAt.IsZero() {
		t.Errorf("the first was not a full one: %v", err)
	}

	d := cfg.Databases["app"]
	d.Drill.Checks["rows"] = config.Check{SQL: "SELECT 1", Expect: "2", Timeout: time.Minute}
	slot = time.Now().Truncate(time.Second)
	for _, cause := range []daemon.Cause{daemon.OnTime, daemon.Retried} {
		if _, err := jobs[0].Run(t.Context(), daemon.Run{Slot: slot, Cause: cause}); !errors.Is(err, fault.DrillFailed) {
			t.Errorf("%s: %v", cause, err)
		}
	}
	if reports, _ := drill.Local(cfg.State, signers, "app", cfg.Host); len(reports) != 2 {
		t.Errorf("%d drills were held", len(reports))
	}
	if st := s.drilling("app", time.Time{}); st.Err("app") == nil || st.Every != 7*24*time.Hour || st.Last.Verdict != drill.Fail {
		t.Errorf("%+v", st)
	}
}

// TestDrillDocument: the configuration in docs/drills.md is one, and every
// reason that the program may give is explained.
func TestDrillDocument(t *testing.T) {
	t.Parallel()
	const file = "docs/drills.md"
	text := "version: 1\nrecipients: [age1x]\ntargets: {local: {url: file:///mnt/backup}}\n" + blocks(t, file, "yaml")[0]
	cfg, problems := config.Parse("/etc/emsafe/emsafe.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 || len(cfg.Databases["app"].Drill.Checks) != 4 {
		t.Fatal(problems)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{
		drill.ReasonDamaged, drill.ReasonMissingDelta, drill.ReasonMissing, drill.ReasonBroken, drill.ReasonForged, drill.ReasonRolledBack, drill.ReasonWrongKey,
		drill.ReasonNoBackup, drill.ReasonUnsupported, drill.ReasonCorrupt, drill.ReasonLimit, drill.ReasonDropped, drill.ReasonShrunken, drill.ReasonSwapped,
		drill.ReasonStale, drill.ReasonSQL, drill.ReasonCommand, drill.ReasonService, drill.ReasonRPO, drill.ReasonRTO,
	} {
		if !strings.Contains(string(page), "`"+reason+"`") {
			t.Errorf("%s does not explain %s", file, reason)
		}
	}
}
