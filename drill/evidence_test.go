package drill

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"emsafe/storage/seal"
)

func sampleEvidence(t *testing.T) Evidence {
	t.Helper()
	s := newSampler(t)
	// Backups whose manifests are signed, as the reports name them.
	var manifests []SignedObject
	object, err := s.key.Sign(seal.NamespaceManifest, []byte("{\"sequence\": 312}\n"))
	if err != nil {
		t.Fatal(err)
	}
	manifests = append(manifests, SignedObject{"main", "app", 312, object})
	all := []Signed{s.report("app", sampleStart.AddDate(0, 0, -3), nil)}
	all = append(all, s.report("app", sampleStart.AddDate(0, 0, 2), func(r *Report) { r.Restores[0].Manifest = seal.Sum(object) }))
	all = append(all, s.missed("app", sampleStart.AddDate(0, 1, 0)), s.failed("app", sampleStart.AddDate(0, 1, 7)), s.report("app", sampleStart.AddDate(0, 1, 8), nil))
	all = append(all, s.report("bill.ing", sampleStart.AddDate(0, 0, 3), nil))
	return Evidence{
		Quarter: Quarter(q4, sampleScope(), all, yearOver), Reports: all, Manifests: manifests,
		Signers: []byte("# pinned by init\n" + s.key.AllowedSigners("vm-fra-1")), Config: []byte("version: 1\n"),
	}
}

var commands = regexp.MustCompile("(?s)```sh\n(.*?)```")

// follow does what the README says, in a folder that holds the archive.
func follow(t *testing.T, dir string, steps [][]byte, between func(folder string)) (string, error) {
	t.Helper()
	for i := range steps {
		steps[i] = bytes.TrimSpace(steps[i])
	}
	run := func(in string, text []byte) (string, error) {
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", string(text))
		cmd.Dir = in
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	first, rest := steps[0], bytes.Join(steps[1:], []byte("\n"))
	if out, err := run(dir, first); err != nil {
		return out, err
	}
	folder := filepath.Join(dir, "emsafe-evidence-2026Q4")
	if between != nil {
		between(folder)
	}
	return run(folder, rest)
}

func TestEvidenceIsVerifiedByStockCommands(t *testing.T) {
	t.Parallel()
	e := sampleEvidence(t)
	var archive, again bytes.Buffer
	if err := WriteEvidence(&archive, e); err != nil {
		t.Fatal(err)
	}
	if err := WriteEvidence(&again, e); err != nil || !bytes.Equal(archive.Bytes(), again.Bytes()) {
		t.Error("the same evidence gives another archive", err)
	}
	files, err := e.files()
	if err != nil {
		t.Fatal(err)
	}
	steps := func() (list [][]byte) {
		for _, m := range commands.FindAllSubmatch(files[0].data, -1) {
			list = append(list, bytes.Clone(m[1]))
		}
		return list
	}
	if n := len(steps()); n != 6 {
		t.Fatalf("the README has %d steps", n)
	}
	report := func(folder, pattern string) string {
		found, err := filepath.Glob(filepath.Join(folder, "reports", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v %v", pattern, found, err)
		}
		return found[0]
	}
	swap := func(file, before, after string) {
		data, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(data, []byte(before)) {
			t.Fatalf("%s does not contain %q: %v", file, before, err)
		}
		if err := os.WriteFile(file, bytes.Replace(data, []byte(before), []byte(after), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		damage func(folder string)
		want   string // what it says; "" if all is well
	}{
		"whole":                  {nil, ""},
		"a verdict made better":  {func(f string) { swap(report(f, "app/*-000004-*.signed"), `"verdict": "fail"`, `"verdict": "pass"`) }, "FAILED: reports/app/"},
		"a report taken out":     {func(f string) { remove(t, report(f, "app/*-000003-*.signed")) }, "reports are missing"},
		"the last one taken out": {func(f string) { remove(t, report(f, "app/*-000005-*.signed")) }, "wc -l"},
		"a manifest of another": {func(f string) {
			swap(filepath.Join(f, "manifests/main/app/00000000000000000312.signed"), "312", "313")
		}, "FAILED: manifests/"},
		"another key": {func(f string) {
			other, _, err := seal.NewSigningKey("x")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(f, "allowed_signers"), []byte(other.AllowedSigners("vm-fra-1")), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "FAILED: reports/"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "emsafe-evidence-2026Q4.tar.gz"), archive.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := follow(t, dir, steps(), c.damage)
		switch {
		case c.want == "" && err != nil, c.want != "" && err == nil:
			t.Errorf("%s: %v\n%s", name, err, out)
		case c.want != "" && c.want != "wc -l" && !strings.Contains(out, c.want):
			t.Errorf("%s: said\n%s", name, out)
		case c.want == "" && !strings.Contains(out, "SHA256:"):
			t.Errorf("%s: no fingerprint is shown\n%s", name, out)
		}
	}
	// A bit that flips on the way is found by the sums.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "emsafe-evidence-2026Q4.tar.gz"), archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	unpack := fmt.Sprintf("tar -xzf emsafe-evidence-2026Q4.tar.gz && echo >> emsafe-evidence-2026Q4/%s && cd emsafe-evidence-2026Q4 && sha256sum --quiet -c SHA256SUMS", "configuration.yaml")
	if out, err := follow(t, dir, [][]byte{[]byte(unpack)}, nil); err == nil || !strings.Contains(out, "configuration.yaml: FAILED") {
		t.Errorf("damage on the way is not found: %s", out)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func TestSafeNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"app": "app", "../../etc": ".._.._etc", "..": "_..", "": "_", "-rf": "_-rf", "a b/ä": "a_b__"} {
		if got := safe(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
