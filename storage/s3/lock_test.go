package s3

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
)

func lockedBucket(t *testing.T, mode string, term time.Duration) (*Bucket, Config) {
	t.Helper()
	s, cfg := served(t)
	cfg.Bucket = "locked"
	if err := s.MakeLockedBucket(cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	cfg.Lock = &Lock{Mode: mode, For: term}
	return opened(t, cfg), cfg
}

func content(t *testing.T, b storage.Bucket, key string) string {
	t.Helper()
	r, err := b.Open(t.Context(), key, 0, -1)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// listed are the keys of a listing, with a mark for what is hidden and the
// number of versions where it is not one.
func listed(t *testing.T, b storage.Bucket, prefix, after string) []string {
	t.Helper()
	var keys []string
	for info, err := range b.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		key := info.Key
		if info.Hidden {
			key += "!"
		}
		if info.Versions > 1 {
			key += strings.Repeat("+", info.Versions-1)
		}
		keys = append(keys, key)
	}
	return keys
}

// TestLock: every object that is stored is locked, small or in parts; nobody
// deletes it, and what a delete marker hides is read all the same.
func TestLock(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"compliance", "governance"} {
		b, cfg := lockedBucket(t, mode, time.Hour)
		if proof, err := b.ProveLock(t.Context()); err != nil || !proof.Tested || time.Until(proof.Until) < time.Minute {
			t.Fatalf("%+v %v", proof, err)
		}
		for key, size := range map[string]int{"small": 10, "large": 9 << 20} {
			if _, err := b.Create(t.Context(), key, strings.NewReader(strings.Repeat("x", size)), -1); err != nil {
				t.Fatal(err)
			}
			if err := b.Relock(t.Context(), key); err != nil {
				t.Error(err)
			}
			past := b.Past()
			if err := past.Delete(t.Context(), key); !errors.Is(err, storage.ErrLocked) {
				t.Errorf("%s %s: deleted for good: %v", mode, key, err)
			}
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			if got := content(t, b, key); !strings.Contains(got, storage.ErrNotExist.Error()) {
				t.Errorf("%s is not hidden: %.40s", key, got)
			}
			if got := content(t, b.Past(), key); len(got) != size {
				t.Errorf("%s %s is not read through its marker: %.100s", mode, key, got)
			}
		}
		if got := listed(t, b.Past(), "", ""); got[0] != "large!" || got[len(got)-1] != "small!" || len(got) != 3 {
			t.Errorf("%q", got)
		}
		cfg.Lock = &Lock{Mode: mode, For: time.Minute}
		shorter := opened(t, cfg).Past().(storage.Locking)
		if err := shorter.Relock(t.Context(), "nothing"); err == nil {
			t.Error("what is not there was locked")
		}
		if err := shorter.Relock(t.Context(), "small"); err != nil {
			t.Errorf("a shorter term, below a delete marker: %v", err)
		}
		if until := b.LockedUntil(time.Now()); time.Until(until) < 59*time.Minute {
			t.Error(until)
		}
	}
}

// TestPast: the oldest version of a key is what counts, in listings over many
// pages as well, and without permission for versions the bucket is as it is.
func TestPast(t *testing.T) {
	t.Parallel()
	s, cfg := served(t)
	if err := s.Versioning(cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	cfg.Prefix = "p"
	b := opened(t, cfg)
	put := func(key, text string) {
		t.Helper()
		if _, err := b.Create(t.Context(), key, strings.NewReader(text), -1); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a/1", "a/2", "a/3", "b/1"} {
		put(key, "first")
	}
	for _, key := range []string{"a/2", "a/3"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Overwrite(cfg.Bucket, "p/a/3", "of an intruder"); err != nil {
		t.Fatal(err)
	}
	past := b.Past()
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", []string{"a/1", "a/2!", "a/3+", "b/1"}},
		{"a/", "", []string{"a/1", "a/2!", "a/3+"}},
		{"a/", "a/1", []string{"a/2!", "a/3+"}},
		{"a/", "a/3", nil},
		{"c/", "", nil},
	} {
		if got := listed(t, past, c.prefix, c.after); !slices.Equal(got, c.want) {
			t.Errorf("%q after %q: %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	for _, fresh := range []bool{false, true} {
		for key, want := range map[string]string{"a/1": "first", "a/2": "first", "a/3": "first", "b/1": "first"} {
			if fresh {
				past = b.Past()
			}
			if got := content(t, past, key); got != want {
				t.Errorf("%s: %q", key, got)
			}
		}
	}
	var versions []string
	for r, err := range b.Versions(t.Context(), "a/3") {
		data, rerr := io.ReadAll(r)
		if err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		versions = append(versions, string(data))
	}
	if !slices.Equal(versions, []string{"first", "of an intruder"}) {
		t.Errorf("versions, the oldest first: %q", versions)
	}
	for r, err := range b.Versions(t.Context(), "a/4") {
		t.Error("a key that is not there has a version", r, err)
	}
	if got := content(t, past, "a/4"); !strings.Contains(got, storage.ErrNotExist.Error()) {
		t.Error(got)
	}
	if got := content(t, b, "a/3"); got != "of an intruder" {
		t.Error(got)
	}

	if err := s.AddUser("reader", "reader-secret"); err != nil {
		t.Fatal(err)
	}
	if err := s.Allow(cfg.Bucket, "reader", "s3:GetObject", "s3:ListBucket"); err != nil {
		t.Fatal(err)
	}
	cfg.AccessKeyID, cfg.SecretAccessKey = "reader", "reader-secret"
	past = opened(t, cfg).Past()
	if got := listed(t, past, "", ""); !slices.Equal(got, []string{"a/1", "a/3", "b/1"}) {
		t.Errorf("without versions: %q", got)
	}
	if got := content(t, past, "a/1"); got != "first" {
		t.Error(got)
	}
	for _, err := range past.(storage.Versioned).Versions(t.Context(), "a/1") {
		t.Error("versions without the permission", err)
	}
}

// TestLockIsProven: where nothing would be locked, the proof says so.
func TestLockIsProven(t *testing.T) {
	t.Parallel()
	_, cfg := served(t)
	cfg.Lock = &Lock{Mode: "compliance", For: time.Hour}
	err := prove(t.Context(), opened(t, cfg))
	refused(t, err, fault.Config, "locked objects")
	if err := create(t, opened(t, cfg), 10); err == nil {
		t.Error("an object was stored without its lock")
	}
	for _, bad := range []Lock{{"none", time.Hour}, {"compliance", 0}} {
		cfg.Lock = &bad
		if _, err := Open(t.Context(), cfg); !errors.Is(err, fault.Config) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
