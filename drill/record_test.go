package drill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/dir"
)

// TestReportsAreKept: signed, chained, in state and in each target, in turn.
func TestReportsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shop)
	w.backup()
	w.must(os.CopyFS(w.path("second"), os.DirFS(w.path("target"))))
	second, err := dir.Open(w.path("second"))
	w.must(err)
	reachable := true
	p := w.latest()
	p.Targets = append(p.Targets, storage.Target{Name: "second", Open: func(context.Context) (storage.Bucket, error) {
		if !reachable {
			return nil, fault.New(fault.Storage, "not today")
		}
		return putAndList{second}, nil
	}})
	reachable = false
	if r := w.expect(p, drill.Pass, ""); r.Restores[0].Target != "main" || len(w.warned) == 0 {
		t.Errorf("%s %v", r.Restores[0].Target, w.warned)
	}
	reachable = true
	if r := w.expect(p, drill.Inconclusive, drill.ReasonSurroundings); r.Restores[0].Target != "second" {
		t.Errorf("the second drill is of %s", r.Restores[0].Target)
	}
	p.Full = true
	if r := w.expect(p, drill.Inconclusive, drill.ReasonSurroundings); len(r.Restores) != 2 {
		t.Errorf("a full drill restored %d", len(r.Restores))
	}

	state := w.path("state")
	local, bad := drill.Local(state, w.signers, "app", "test")
	if len(local) != 3 || len(bad) > 0 {
		t.Fatalf("%d reports here, %v", len(local), bad)
	}
	for name, b := range map[string]storage.Bucket{"main": w.bucket, "second": second} {
		list, bad, err := drill.Stored(t.Context(), b, w.signers, "app", 0)
		if err != nil || len(bad) > 0 || len(list) != 3 || !bytes.Equal(list[2].Object, local[2].Object) {
			t.Errorf("%s: %d reports, %v %v", name, len(list), bad, err)
		}
	}
	m, err := drill.Remember(state, "app")
	if err != nil || len(m.Held) != 3 || m.Last().Number != 3 || m.Conclusive().Number != 1 || m.Drilled[local[0].Report.Restores[0].Backup].IsZero() {
		t.Errorf("memory %+v %v", m, err)
	}
	if by, last := m.Overdue(local[0].Report.Started.Add(9*24*time.Hour), 7*24*time.Hour, time.Time{}); by != 48*time.Hour || last.Number != 1 {
		t.Errorf("overdue by %s", by)
	}
	stock(t, w, local[1].Object)

	// Somebody changes one, takes one out, copies one elsewhere.
	at := func(n string) string { return filepath.Join(state, "drills", "app", "0000000000000000000"+n) }
	data, err := os.ReadFile(at("2"))
	w.must(err)
	w.must(os.WriteFile(at("2"), bytes.Replace(data, []byte(`"inconclusive"`), []byte(`"pass"`), 1), 0o600))
	if _, bad := drill.Local(state, w.signers, "app", "test"); len(bad) != 2 || !errors.Is(bad[0], fault.Forged) || !errors.Is(bad[1], fault.BrokenChain) {
		t.Errorf("a changed report: %v", bad)
	}
	w.must(os.Remove(at("2")))
	if _, bad := drill.Local(state, w.signers, "app", "test"); len(bad) != 1 || !errors.Is(bad[0], fault.BrokenChain) {
		t.Errorf("a missing report: %v", bad)
	}
	w.must(os.Rename(at("3"), at("2")))
	if _, bad := drill.Local(state, w.signers, "app", "test"); len(bad) != 1 || !errors.Is(bad[0], fault.Forged) {
		t.Errorf("a report in another's place: %v", bad)
	}

	// A new state goes on from what the targets hold.
	w.must(os.RemoveAll(filepath.Join(state, "drills")))
	w.must(os.Remove(filepath.Join(state, "app.drills.json")))
	p.Full, p.Target = false, "main"
	if r := w.expect(p, drill.Pass, ""); r.Number != 4 {
		t.Errorf("number %d", r.Number)
	}
}

// putAndList may do nothing else.
type putAndList struct{ storage.Bucket }

func (putAndList) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, fault.New(fault.Credentials, "may not read")
}

func (putAndList) Delete(context.Context, string) error {
	return fault.New(fault.Credentials, "may not delete")
}

// stock verifies a report with ssh-keygen, as the documents say.
func stock(t *testing.T, w *world, object []byte) {
	t.Helper()
	d := t.TempDir()
	for name, data := range map[string][]byte{"r.signed": object, "allowed_signers": []byte(w.key.AllowedSigners("emsafe@test"))} {
		w.must(os.WriteFile(filepath.Join(d, name), data, 0o600))
	}
	cmd := exec.Command("sh", "-ec", `sed '/^-----BEGIN SSH SIGNATURE-----$/,$d' r.signed > r.json
		sed -n '/^-----BEGIN SSH SIGNATURE-----$/,$p' r.signed > r.sig
		ssh-keygen -Y verify -f allowed_signers -I emsafe@test -n emsafe-report -s r.sig < r.json`)
	cmd.Dir = d
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Good") {
		t.Errorf("ssh-keygen: %v %s", err, out)
	}
}

// TestLitterOfDeadDrills: what a killed drill left goes with the next one; what
// a living one has stays.
func TestLitterOfDeadDrills(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "CREATE TABLE t (v)")
	w.backup()
	p := w.latest()
	dead, alive := filepath.Join(p.Scratch, "emsafe-drill-dead"), filepath.Join(p.Scratch, "emsafe-drill-alive")
	for _, d := range []string{dead, alive} {
		w.must(os.MkdirAll(filepath.Join(d, "restored"), 0o700))
		w.must(os.WriteFile(filepath.Join(d, "lock"), nil, 0o600))
		w.must(os.WriteFile(filepath.Join(d, "restored", "app.db"), []byte("plaintext"), 0o600))
	}
	hold := exec.Command("flock", filepath.Join(alive, "lock"), "sh", "-c", "echo held; exec sleep 600")
	out, err := hold.StdoutPipe()
	w.must(err)
	w.must(hold.Start())
	defer func() { hold.Process.Kill(); hold.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if r, err := drill.Run(t.Context(), p); err != nil || r.Verdict != drill.Pass {
		t.Fatal(r, err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead one's folder is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(alive, "restored", "app.db")); err != nil {
		t.Errorf("the living one's is gone: %v", err)
	}
}
