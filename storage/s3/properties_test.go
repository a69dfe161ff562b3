package s3

import (
	"net/http"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// states runs a round trip and gives what it showed, by property.
func states(t *testing.T, b *Bucket) (map[string]string, error) {
	t.Helper()
	p, err := storage.Probe(t.Context(), b)
	got := map[string]string{}
	for _, property := range p.Proven {
		t.Logf("%s: %s (%s)", property.Name, property.State, property.Detail)
		got[property.Name] = property.State
	}
	return got, err
}

func TestProperties(t *testing.T) {
	t.Parallel()
	s, cfg := served(t)
	want := map[string]string{
		"created once": storage.Proven, "created once, in parts": storage.Proven, "listed after write": storage.Proven, "read after write": storage.Proven,
		"ranges": storage.Proven, "stored checksums": storage.Proven, "versions": storage.Absent,
	}
	compare := func(what string, b *Bucket) {
		t.Helper()
		got, err := states(t, b)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for name, state := range want {
			if got[name] != state {
				t.Errorf("%s: %s is %q, want %q", what, name, got[name], state)
			}
		}
	}
	compare("without versions", opened(t, cfg))
	noUploads(t, opened(t, cfg))

	if err := s.Versioning(cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	want["versions"] = storage.Proven
	compare("with versions", opened(t, cfg))

	// Headers that are dropped, as a proxy or an old server does.
	want["stored checksums"] = storage.Absent
	compare("checksums are dropped", meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodHead {
			w = &without{w, "X-Amz-Checksum-Sha256"}
		}
		server.ServeHTTP(w, r)
	}))
	want["stored checksums"], want["versions"] = storage.Proven, storage.NotEstablished
	compare("versions may not be listed", meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.URL.Query().Has("versions") {
			says(http.StatusForbidden, errorXML("AccessDenied", "no"))(w, r)
			return
		}
		server.ServeHTTP(w, r)
	}))
}

// without leaves a header out of the reply.
type without struct {
	http.ResponseWriter
	name string
}

func (w *without) WriteHeader(status int) {
	w.Header().Del(w.name)
	w.ResponseWriter.WriteHeader(status)
}

// A provider that honours the condition for small objects alone is refused.
func TestUploadsInPartsThatOverwrite(t *testing.T) {
	t.Parallel()
	s, cfg := served(t)
	b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
			if _, err := s.Overwrite(cfg.Bucket, r.URL.Path[len("/"+cfg.Bucket+"/"):], "x"); err != nil {
				t.Error(err)
			}
			says(http.StatusOK, `<CompleteMultipartUploadResult><ETag>"00000000000000000000000000000000-1"</ETag></CompleteMultipartUploadResult>`)(w, r)
			return
		}
		server.ServeHTTP(w, r)
	})
	got, err := states(t, b)
	refused(t, err, fault.Storage, "CompleteMultipartUpload ignores If-None-Match")
	if got["created once, in parts"] != storage.Absent {
		t.Errorf("%v", got)
	}
}

// Without conditional writes the round trip says so, and what stands for them.
func TestPropertiesWithoutConditionalWrites(t *testing.T) {
	t.Parallel()
	s, cfg := versioned(t)
	got, err := states(t, meddled(t, s.Endpoint, cfg, unconditional()))
	if err != nil || got["conditional writes"] != storage.Absent || got["created once"] != storage.Proven || got["versions"] != storage.Proven {
		t.Errorf("%v %v", got, err)
	}
}
