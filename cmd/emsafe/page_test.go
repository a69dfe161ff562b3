package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
	"emsafe/internal/daemon/page"
	"emsafe/internal/fault"
	"emsafe/internal/report"
	"emsafe/internal/report/browsertest"
)

// TestStatusPage: what the daemon's page shows, as a file, from a real host.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure("    schedule: every 1h\n    objective: {rpo: 1h}\n")
	file := h.path("status.html")
	look := func() string {
		t.Helper()
		h.must("status", "--html", file)
		return string(h.read(file))
	}
	if html := look(); !strings.Contains(html, "local holds no backup.") || !strings.Contains(html, "No drill was held yet.") || !strings.Contains(html, "No daemon runs") {
		t.Error("a host without a backup looks well")
	}
	h.must("backup")
	history, err := page.OpenHistory(h.path("state"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := history.Record("app", time.Now().AddDate(0, 0, -1), report.Failed, "the target did not answer", 8192); err != nil {
		t.Fatal(err)
	}
	first := h.drilled(h.path("local"), drill.Signed{}, func(r *drill.Report) {
		r.RTO = drill.Measured{Known: true, Achieved: 2.5, Objective: 300, How: "clock"}
	})
	html := look()
	for _, want := range []string{"the target did not answer", first.Report.ID[:4], "2.50 s", "objective 5 min", "emsafe restore app --in-place", "file://" + h.path("local"), "8 KiB", "app is protected"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, never := range []string{"PRIVATE KEY", "AGE-SECRET-KEY", "ZgotmplZ", "holds no backup"} {
		if strings.Contains(html, never) {
			t.Errorf("the page says %q", never)
		}
	}
	h.fails(fault.Usage, "goes without", "status", "--html", file, "--check")

	// A target that is gone is told on the page, which is written all the same.
	if err := os.Rename(h.path("local"), h.path("away")); err != nil {
		t.Fatal(err)
	}
	if html := look(); !strings.Contains(html, "target local") {
		t.Error("a target that is gone is not told")
	}
	if err := os.Rename(h.path("away"), h.path("local")); err != nil {
		t.Fatal(err)
	}
	b := browsertest.Open(t)
	url := b.File("status.html", []byte(look()))
	b.Go(url, browsertest.Phone)
	b.Quiet(url)
	b.Fits()
}
