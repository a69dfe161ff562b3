package drill

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
		page := rendered(t, signed)
		url := b.File(name+".html", page)
		keep(t, name+".html", page)
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

// TestTheReportVerifiesItself: the original inside the page, and the commands
// that the page shows, are all that is needed beside the pinned keys.
func TestTheReportVerifiesItself(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	signed := s.failed("app", sampleStart)
	page := string(rendered(t, signed))
	link := regexp.MustCompile(`href="data:application/octet-stream;base64,([^"]+)" download="([^"]+)"`).FindStringSubmatch(page)
	shown := regexp.MustCompile(`(?s)<pre>(.*?)</pre>`).FindStringSubmatch(page)
	if link == nil || shown == nil {
		t.Fatal("no original or no commands in the page")
	}
	object, err := base64.StdEncoding.DecodeString(html.UnescapeString(link[1]))
	if err != nil || !bytes.Equal(object, signed.Object) {
		t.Fatalf("the original inside is not the original: %v", err)
	}
	run := func(object []byte, by string) (string, error) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{html.UnescapeString(link[2]): object, "allowed_signers": []byte(by)} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("bash", "-eu", "-c", html.UnescapeString(shown[1])) //nolint:gosec // what the page says
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(object, s.key.AllowedSigners("vm")); err != nil || !strings.Contains(out, "Good \"emsafe-report\" signature for vm") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(bytes.Replace(object, []byte(`"fail"`), []byte(`"pass"`), 1), s.key.AllowedSigners("vm")); err == nil {
		t.Errorf("a verdict made better passes:\n%s", out)
	}
	if out, err := run(object, newSampler(t).key.AllowedSigners("vm")); err == nil {
		t.Errorf("another key passes:\n%s", out)
	}
	var markdown bytes.Buffer
	if err := signed.WriteMarkdown(&markdown); err != nil || !strings.Contains(markdown.String(), html.UnescapeString(shown[1])) {
		t.Error("the Markdown shows other commands", err)
	}
}

// TestLongWordsFitAPhone: names that somebody chose without thinking of phones.
func TestLongWordsFitAPhone(t *testing.T) {
	t.Parallel()
	b := browsertest.Open(t)
	s := newSampler(t)
	long := strings.Repeat("long-", 60)
	signed := s.failed(long[:63], sampleStart)
	r := &signed.Report
	r.Finding, r.Host, r.Operator, r.NotTested, r.Versions = long, long, long, []string{long}, []string{long}
	r.Actions = append(r.Actions, Action{What: long, Owner: long})
	for i := range r.Restores {
		x := &r.Restores[i]
		x.Target, x.Location, x.Identity, x.Backup, x.Kind = long, long, long, long, long
		for j := range x.Phases {
			x.Phases[j].Name, x.Phases[j].Error = long[:40], long
		}
		for j := range x.Checks {
			x.Checks[j].Name, x.Checks[j].Expected, x.Checks[j].Got = long, long, long
		}
	}
	var quarter bytes.Buffer
	if err := Quarter(q4, Scope{Host: long, Controls: []string{long}}, []Signed{signed}, yearOver).WriteHTML(&quarter); err != nil {
		t.Fatal(err)
	}
	for name, page := range map[string][]byte{"drill": rendered(t, signed), "quarter": quarter.Bytes()} {
		url := b.File(name+".html", page)
		for _, l := range []browsertest.Look{browsertest.Phone, browsertest.Desktop} {
			b.Go(url, l)
			b.Fits()
			shoot(t, b, fmt.Sprintf("long-%s-%d.png", name, l.Width))
		}
	}
}
