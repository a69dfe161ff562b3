package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/storagetest"
)

// unconditional answers like Backblaze B2: 501 to a PUT with If-None-Match. While
// a version is stored or removed nothing else is asked: versitygw loses a version
// when two are stored at the same moment, and a listing at that moment lacks some
// that were there before and are there afterwards.
func unconditional() func(http.ResponseWriter, *http.Request, http.Handler) {
	var mu sync.RWMutex
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Header.Get("If-None-Match") != "" {
			says(http.StatusNotImplemented, errorXML("NotImplemented", "A header you provided implies functionality that is not implemented."))(w, r)
			return
		}
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/d") {
			w.WriteHeader(http.StatusNoContent) // versitygw fails, as it is a folder there
			return
		}
		if creates(r) || r.Method == http.MethodDelete {
			mu.Lock()
			defer mu.Unlock()
		} else {
			mu.RLock()
			defer mu.RUnlock()
		}
		server.ServeHTTP(w, r)
	}
}

// versioned starts versitygw with a bucket that keeps versions.
func versioned(t *testing.T) (*storagetest.Server, Config) {
	t.Helper()
	s, cfg := served(t)
	if err := s.Versioning(cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	cfg.ConditionalWrites = aws.Bool(false)
	return s, cfg
}

// A bucket without conditional writes keeps every promise of a storage.Bucket,
// with sixteen writers of one key as well.
func TestConformanceWithoutConditionalWrites(t *testing.T) {
	s, cfg := versioned(t)
	var n atomic.Int32
	storagetest.Conformance(t, func(t *testing.T) storage.Bucket {
		cfg := cfg
		cfg.Prefix = fmt.Sprintf("prefix/%d", n.Add(1))
		b := meddled(t, s.Endpoint, cfg, unconditional())
		b.pause = func(ctx context.Context, d time.Duration) error { return sleep(ctx, d/20) }
		return b
	})
	noUploads(t, opened(t, cfg))
}

// Without the setting the provider is refused, and the remedy names the setting.
func TestConditionalWritesAreMissed(t *testing.T) {
	t.Parallel()
	s, cfg := versioned(t)
	cfg.ConditionalWrites = nil
	b := meddled(t, s.Endpoint, cfg, unconditional())
	for _, size := range []int{100, 9 << 20} {
		err := create(t, b, size)
		refused(t, err, fault.Storage, "NotImplemented")
		if f := fault.Find(err); !strings.Contains(f.Remedy, "`conditional_writes: false`") {
			t.Errorf("remedy %q", f.Remedy)
		}
	}
	noUploads(t, opened(t, cfg))
}

// A bucket that keeps no versions is refused before anything is stored, or with
// nothing left where the credentials may not ask.
func TestUnversionedIsRefused(t *testing.T) {
	t.Parallel()
	s, cfg := served(t)
	cfg.ConditionalWrites = aws.Bool(false)
	for name, b := range map[string]*Bucket{
		"asked": opened(t, cfg),
		"may not ask": meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.URL.Query().Has("versioning") {
				says(http.StatusForbidden, errorXML("AccessDenied", "no"))(w, r)
				return
			}
			server.ServeHTTP(w, r)
		}),
	} {
		for _, size := range []int{100, 9 << 20} {
			refused(t, create(t, b, size), fault.Config, "keeps no versions")
			if _, err := b.Open(t.Context(), "key", 0, -1); !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("%s: an object is left: %v", name, err)
			}
		}
	}
}

// A rival's version that is stored after ours was announced and before it is
// settled: of the two at most one succeeds, whichever the listing calls older.
func TestRivalWithoutConditionalWrites(t *testing.T) {
	t.Parallel()
	s, cfg := versioned(t)
	for size, n := range bodySizes {
		for _, first := range []bool{true, false} {
			cfg := cfg
			cfg.Prefix = fmt.Sprint(size, first)
			var once atomic.Bool
			b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				rival := creates(r) && once.CompareAndSwap(false, true)
				if rival && first {
					overwrite(t, s, cfg, "theirs")
				}
				server.ServeHTTP(w, r)
				if rival && !first {
					overwrite(t, s, cfg, "theirs")
				}
			})
			if err := create(t, b, n); !errors.Is(err, storage.ErrExists) {
				t.Errorf("%s: %v, want ErrExists", cfg.Prefix, err)
			}
			got, err := storage.ReadAll(t.Context(), b.Past(), "key", 1<<20)
			if err != nil || string(got) != "theirs" {
				t.Errorf("%s: %d bytes are read, %v", cfg.Prefix, len(got), err)
			}
		}
	}
}

func overwrite(t *testing.T, s *storagetest.Server, cfg Config, body string) {
	t.Helper()
	if _, err := s.Overwrite(cfg.Bucket, cfg.Prefix+"/key", body); err != nil {
		t.Error(err)
	}
}

// Credentials that may not delete: a rival that came later cannot be told from
// one that has won, which is what is reported; a rival that came first wins.
func TestRivalWithoutDelete(t *testing.T) {
	t.Parallel()
	s, cfg := versioned(t)
	for _, first := range []bool{true, false} {
		cfg := cfg
		cfg.Prefix = fmt.Sprint(first)
		var once atomic.Bool
		b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.Method == http.MethodDelete {
				says(http.StatusForbidden, errorXML("AccessDenied", "no"))(w, r)
				return
			}
			rival := creates(r) && once.CompareAndSwap(false, true)
			if rival && first {
				overwrite(t, s, cfg, "theirs")
			}
			server.ServeHTTP(w, r)
			if rival && !first {
				overwrite(t, s, cfg, "theirs")
			}
		})
		err := create(t, b, 100)
		if errors.Is(err, storage.ErrExists) == errors.Is(err, storage.ErrUnsettled) {
			t.Errorf("first %v: %v", first, err)
		}
		if first && !errors.Is(err, storage.ErrExists) {
			t.Errorf("the rival's version is older: %v", err)
		}
	}
}

// Replies that are lost: Create finds out that the versions are its own, and
// leaves one.
func TestLostReplyWithoutConditionalWrites(t *testing.T) {
	t.Parallel()
	s, cfg := versioned(t)
	for size, n := range bodySizes {
		for _, losses := range []int32{1, 100} {
			cfg := cfg
			cfg.Prefix = fmt.Sprint(size, losses)
			var lost atomic.Int32
			b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				switch {
				case creates(r) && lost.Add(1) <= losses:
					unanswered(w, r, server)
				case r.Method == http.MethodHead && !r.URL.Query().Has("versionId"):
					drop(w) // so that the request is repeated
				default:
					server.ServeHTTP(w, r)
				}
			})
			if err := create(t, b, n); err != nil {
				t.Errorf("%s: %v", cfg.Prefix, err)
			}
			list, err := opened(t, cfg).versionsOf(t.Context(), "key")
			if err != nil || len(list) != 1 {
				t.Errorf("%s: %d versions, %v", cfg.Prefix, len(list), err)
			}
		}
	}
}

// A delete marker over an object frees its key everywhere: also at a server that
// refuses a conditional write there, and without conditional writes.
func TestAMarkerFreesTheKey(t *testing.T) {
	t.Parallel()
	s, cfg := versioned(t)
	for _, conditional := range []bool{true, false} {
		cfg := cfg
		cfg.ConditionalWrites, cfg.Prefix = aws.Bool(conditional), fmt.Sprint(conditional)
		b := opened(t, cfg)
		overwrite(t, s, cfg, "junk")
		if err := create(t, b, 100); !errors.Is(err, storage.ErrExists) {
			t.Errorf("over junk: %v, want ErrExists", err)
		}
		if err := b.Delete(t.Context(), "key"); err != nil {
			t.Fatal(err)
		}
		if err := create(t, b, 100); err != nil {
			t.Errorf("conditional %v, under a marker: %v", conditional, err)
		}
		if err := create(t, b, 100); !errors.Is(err, storage.ErrExists) {
			t.Errorf("conditional %v, a second time: %v, want ErrExists", conditional, err)
		}
		if data, err := storage.ReadAll(t.Context(), b, "key", 1000); err != nil || len(data) != 100 {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
}
