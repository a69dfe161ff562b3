package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

// drilled puts a signed report of a drill of the newest backup into a target.
func (h *host) drilled(target string, before drill.Signed, edit func(*drill.Report)) drill.Signed {
	h.t.Helper()
	key, err := seal.ParseSigningKey(h.read(h.path("etc/signing_key")))
	if err != nil {
		h.t.Fatal(err)
	}
	var listed struct {
		Backups []struct {
			Digest   seal.Digest `json:"manifest_digest"`
			Sequence uint64
		}
	}
	if err := json.Unmarshal([]byte(h.must("list", "--json", "--target", "local")), &listed); err != nil {
		h.t.Fatal(err)
	}
	newest := listed.Backups[len(listed.Backups)-1]
	now := time.Now().UTC()
	n := before.Report.Number + 1
	r := drill.Report{
		Format: drill.Format, ID: fmt.Sprintf("%s-%08x", now.Format("20060102T150405Z"), n), Number: n, Previous: before.Digest(), Host: "vm", Database: "app",
		Started: now, Ended: now.Add(time.Second), Verdict: drill.Pass, Finding: "It restored.",
		Restores: []drill.Restored{{Verdict: drill.Pass, Target: "local", Sequence: newest.Sequence, Manifest: newest.Digest}},
	}
	if edit != nil {
		edit(&r)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		h.t.Fatal(err)
	}
	object, err := key.Sign(seal.NamespaceReport, append(text, '\n'))
	if err != nil {
		h.t.Fatal(err)
	}
	file := filepath.Join(target, "reports", "drills", "app", "vm", fmt.Sprintf("%020d", r.Number))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, object, 0o600); err != nil {
		h.t.Fatal(err)
	}
	return drill.Signed{Report: r, Object: object}
}

func TestDrillReports(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must("backup")
	h.fails(fault.NotFound, "no report of a drill yet", "drill", "report")
	first := h.drilled(h.path("local"), drill.Signed{}, nil)
	second := h.drilled(h.path("local"), first, func(r *drill.Report) { r.Started, r.Finding = r.Started.Add(time.Second), "It restored again." })
	quarter := drill.PeriodOf(first.Report.Started).String()

	if out := h.must("drill", "report"); !strings.HasPrefix(out, "# Restore drill of app: Pass") || !strings.Contains(out, "restored again") || !strings.Contains(out, second.Digest().String()) {
		t.Errorf("the newest:\n%s", out)
	}
	text, _, err := seal.Split(first.Object)
	if err != nil {
		t.Fatal(err)
	}
	if out := h.must("drill", "report", first.Report.ID, "--json"); out != string(text) {
		t.Errorf("the JSON is not what was signed:\n%s", out)
	}
	h.must("drill", "report", "-o", h.path("drill.html"))
	if html := h.read(h.path("drill.html")); !strings.HasPrefix(string(html), "<!doctype html>") {
		t.Errorf("%.100s", html)
	}
	if out := h.must("drill", "report", "--quarter", quarter, "--format", "csv"); strings.Count(out, "\n") != 3 {
		t.Errorf("csv:\n%s", out)
	}
	if out := h.must("drill", "report", "--quarter", quarter); !strings.Contains(out, "reports 1 to 2 are chained without a gap") {
		t.Errorf("quarter:\n%s", out)
	}
	if out := h.must("drill", "report", "--quarter", quarter, "--database", "other"); !strings.Contains(out, "No drill was held.") {
		t.Errorf("another database:\n%s", out)
	}
	h.overwrite(h.conf, []byte(strings.Replace(string(h.read(h.conf)), "version: 1\n", "version: 1\ncontrols: [SOC 2 A1.2]\n", 1)))
	if out := h.must("drill", "report", "--quarter", quarter); !strings.Contains(out, "Evidence for: SOC 2 A1.2 (as configured)") {
		t.Errorf("the configured control is not named:\n%s", out)
	}
	h.fails(fault.NotFound, "there is no drill", "drill", "report", "1999")
	h.fails(fault.Usage, "is not a quarter", "drill", "report", "--quarter", "2026")
	h.fails(fault.Usage, "no format", "drill", "report", "--format", "pdf")
	h.fails(fault.Usage, "no format", "drill", "report", "--format", "csv")
	h.fails(fault.NotFound, "no drill was held", "drill", "evidence", "--quarter", "1999Q1")

	// The archive, as somebody without emsafe takes it apart.
	h.must("drill", "evidence", "--quarter", quarter, "-o", h.path("emsafe-evidence-"+quarter+".tar.gz"))
	cmd := exec.Command("bash", "-euc", "tar -xzf emsafe-evidence-$0.tar.gz && cd emsafe-evidence-$0 && sha256sum -c SHA256SUMS && ls -R", quarter) //nolint:gosec // our own words
	cmd.Dir = h.dir
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), ".signed: OK") != 3 || !strings.Contains(string(out), "manifests/local/app/00000000000000000001.signed: OK") {
		t.Errorf("%v\n%s", err, out)
	}

	// A second target that does not answer is told, and the report shown.
	down := strings.Replace(string(h.read(h.conf)), "\ntargets:\n", "\ntargets:\n  down: {url: file://"+h.path("nowhere")+"}\n", 1)
	if down == string(h.read(h.conf)) {
		t.Fatal("the configuration has no targets")
	}
	up := h.read(h.conf)
	h.overwrite(h.conf, []byte(down))
	if shown, errOut, code := h.command("drill", "report"); code != 0 || !strings.Contains(shown, "restored again") || !strings.Contains(errOut, "target down") {
		t.Errorf("exit %d\n%s%s", code, shown, errOut)
	}
	h.overwrite(h.conf, up)

	// A report that somebody made better is no report, and is told.
	forged := filepath.Join(h.path("local"), "reports", "drills", "app", "vm", fmt.Sprintf("%020d", second.Report.Number))
	h.overwrite(forged, []byte(strings.Replace(string(second.Object), "It restored again.", "It restored superbly.", 1)))
	shown, errOut, code := h.command("drill", "report")
	if code != fault.Forged.Exit || strings.Contains(shown, "superbly") || !strings.Contains(shown, first.Report.ID) || !strings.Contains(errOut, "drills/app/vm/00000000000000000002") {
		t.Errorf("exit %d\n%s%s", code, shown, errOut)
	}
}

func TestEvidenceHoldsNoSecret(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must("backup")
	const secret = "hunter2-not-for-auditors"
	h.env = []string{"HOOK=https://chat.example/" + secret}
	config := string(h.read(h.conf)) + "\nnotify: {chat: {url: {env: HOOK}}}\n"
	h.overwrite(h.conf, []byte(config))
	r := h.drilled(h.path("local"), drill.Signed{}, nil)
	file := h.path("e.tar.gz")
	h.must("drill", "evidence", "--quarter", drill.PeriodOf(r.Report.Started).String(), "-o", file)
	cmd := exec.Command("tar", "-xOzf", file) //nolint:gosec // our own file
	all, err := cmd.Output()
	if err != nil || !strings.Contains(string(all), "env: HOOK") {
		t.Fatalf("%v: the configuration is not in it", err)
	}
	for _, never := range []string{secret, "PRIVATE KEY", "AGE-SECRET-KEY"} {
		if strings.Contains(string(all), never) {
			t.Errorf("the archive holds %q", never)
		}
	}
}
