package drill

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/report/browsertest"
)

// shots is where a person who wants to look finds the pages; "" keeps nothing.
var shots = os.Getenv("EMSAFE_SCREENSHOTS")

func keep(t *testing.T, name string, data []byte) {
	t.Helper()
	if shots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(shots, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shoot keeps the whole page as an image, if somebody wants to look.
func shoot(t *testing.T, b *browsertest.Browser, name string) {
	t.Helper()
	if shots != "" {
		keep(t, name, b.Screenshot(false))
		keep(t, "window-"+name, b.Screenshot(true))
	}
}

func rendered(t *testing.T, s Signed) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReportInABrowser(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	b := browsertest.Open(t)
	at := sampleStart.AddDate(0, 1, 0)
	s.report("app", at.AddDate(0, 0, -7), nil)
	for name, signed := range map[string]Signed{
		"pass": s.report("app", at, nil), "missed": s.missed("app", at), "fail": s.failed("app", at), "inconclusive": s.inconclusive("app", at),
	} {
		html := rendered(t, signed)
		url := b.File(name+".html", html)
		keep(t, name+".html", html)
		for look, l := range map[string]browsertest.Look{
			"desktop": browsertest.Desktop, "phone": browsertest.Phone, "dark": {Width: browsertest.Desktop.Width, Height: browsertest.Desktop.Height, Dark: true},
		} {
			b.Go(url, l)
			b.Quiet(url)
			b.Fits()
			shoot(t, b, name+"-"+look+".png")
		}
		if name == "missed" {
			continue // it prints as a pass does
		}
		pdf := b.PDF()
		keep(t, name+".pdf", pdf)
		pages := browsertest.PagesOf(t, pdf)
		whole(t, pages, map[string]string{"Objectives": "Time to recover", "Evidence and signature": "-n emsafe-report"})
		if name == "pass" {
			whole(t, pages, map[string]string{"Checks": "newest order"})
			if n := strings.Count(strings.Join(pages, ""), "rows of orders"); n != 2 {
				t.Errorf("the checks of 2 backups are printed %d times", n)
			}
		}
		if name != "inconclusive" {
			whole(t, pages, map[string]string{"Not tested": "no service check", "Where the time went": "teardown", "What was restored": "Opened with"})
		}
	}
}
