package drill

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	signers, err := seal.ParseSigners([]byte(s.key.AllowedSigners("*")))
	if err != nil {
		t.Fatal(err)
	}
	good := s.report("app", sampleStart, nil)
	read, err := Open(good.Object, signers)
	if err != nil || read.Report.ID != good.Report.ID || read.Signer != s.key.Fingerprint() || read.Digest() != good.Digest() {
		t.Fatalf("%+v %v", read, err)
	}
	text, _, err := seal.Split(good.Object)
	if err != nil {
		t.Fatal(err)
	}
	otherKind, err := s.key.Sign(seal.NamespaceManifest, text)
	if err != nil {
		t.Fatal(err)
	}
	notJSON, err := s.key.Sign(seal.NamespaceReport, []byte("[]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		object []byte
		want   *fault.Kind
	}{
		"changed":         {bytes.Replace(good.Object, []byte(`"pass"`), []byte(`"fail"`), 1), fault.Forged},
		"another kind":    {otherKind, fault.Forged},
		"by another key":  {newSampler(t).report("app", sampleStart, nil).Object, fault.Forged},
		"not signed":      {text, fault.Forged},
		"empty":           {nil, fault.Forged},
		"no report":       {notJSON, fault.Forged},
		"of nothing":      {s.sign(Report{Format: 1}).Object, fault.Damaged},
		"a later format":  {s.report("app", sampleStart, func(r *Report) { r.Format = 2 }).Object, fault.Unsupported},
		"a critical name": {s.report("app", sampleStart, func(r *Report) { r.Critical = []string{"sealed"} }).Object, fault.Unsupported},
	} {
		if _, err := Open(c.object, signers); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLibraryReadsOnce(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	signers, err := seal.ParseSigners([]byte(s.key.AllowedSigners("vm-fra-1")))
	if err != nil {
		t.Fatal(err)
	}
	b := storagetest.Memory()
	ctx := context.Background()
	put := func(key string, object []byte) {
		t.Helper()
		if _, err := b.Create(ctx, key, bytes.NewReader(object), -1); err != nil {
			t.Fatal(err)
		}
	}
	one := s.report("app", sampleStart, nil)
	put("reports/drills/app/vm-fra-1/00000000000000000001", one.Object)
	put("reports/drills/app/vm-fra-1/00000000000000000007", bytes.Replace(one.Object, []byte("app"), []byte("apq"), 1))
	put("reports/drills/app/vm-fra-1/00000000000000000008", one.Object) // a copy of the first
	put("reports/drills/other/vm-fra-1/00000000000000000001", one.Object)
	put("reports/exercises/1", one.Object) // lies elsewhere
	var l Library
	for range 2 {
		reports, problems, err := l.Read(ctx, b, signers)
		if err != nil || len(reports) != 1 || len(problems) != 3 || !strings.Contains(problems[1].Error(), "it was copied there") {
			t.Fatalf("%d reports, %v, %v", len(reports), problems, err)
		}
	}
	put("reports/drills/app/vm-fra-1/00000000000000000002", s.report("app", sampleStart.AddDate(0, 0, 1), nil).Object)
	if reports, _, err := l.Read(ctx, b, signers); err != nil || len(reports) != 2 {
		t.Errorf("%d reports, %v", len(reports), err)
	}
	for key := range l.known {
		if err := b.Delete(ctx, strings.Fields(key)[len(strings.Fields(key))-1]); err != nil {
			t.Fatal(err)
		}
	}
	if reports, _, err := l.Read(ctx, b, signers); err != nil || len(reports) != 0 {
		t.Errorf("what is gone is still there: %d, %v", len(reports), err)
	}
}

func TestLibraryReadsWhatThisHostHeld(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	signers, err := seal.ParseSigners([]byte(s.key.AllowedSigners("vm-fra-1")))
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	var l Library
	if reports, problems, err := l.Local(state, signers); len(reports)+len(problems) > 0 || err != nil {
		t.Errorf("of nothing: %v %v %v", reports, problems, err)
	}
	folder := filepath.Join(state, "drills", "app")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	one := s.report("app", sampleStart, nil)
	for name, data := range map[string][]byte{"00000000000000000001": one.Object, "00000000000000000004": one.Object, "00000000000000000002": []byte("torn"), ".tmp": []byte("in the making")} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reports, problems, err := l.Local(state, signers)
	if err != nil || len(reports) != 1 || reports[0].Digest() != one.Digest() || len(problems) != 2 || !strings.Contains(problems[0].Error(), "000002") || !strings.Contains(problems[1].Error(), "copied") {
		t.Errorf("%d reports, %v, %v", len(reports), problems, err)
	}
}
