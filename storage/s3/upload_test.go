package s3

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"emsafe/internal/fault"
)

// Streams of any length fit into the number of parts that S3 allows, and
// parts are no larger than they must be.
func TestPartSizes(t *testing.T) {
	const usual = 8 << 20
	parts := func(total, announced int64) (n int, largest int64) {
		for done := int64(0); done < total; n++ {
			size := partSize(usual, announced, done, false)
			largest = max(largest, size)
			done += size
		}
		return n, largest
	}
	for _, total := range []int64{1, 8 << 20, 80e9, 100e9, 1e12, maxObject} {
		for _, announced := range []int64{-1, total} {
			n, largest := parts(total, announced)
			t.Logf("%14d bytes, announced %14d: %5d parts, up to %4d MiB", total, announced, n, largest>>20)
			if n > maxParts || largest > maxPart {
				t.Errorf("%d bytes: %d parts of up to %d", total, n, largest)
			}
		}
	}
	if _, largest := parts(80e9, -1); largest > 64<<20 {
		t.Errorf("80 GB need parts of %d", largest)
	}
	if got := partSize(usual, -1, 1e12, true); got != usual {
		t.Errorf("a provider that wants equal parts gets one of %d", got)
	}
	if n, _ := parts(10e9, -1); n > 1400 {
		t.Errorf("10 GB in %d parts", n)
	}
}

// The reader is not asked for more than fits: Concurrency parts on their way
// and one that waits. And parts leave while the reader still has more: were
// it not so, the first check would wait for ever.
func TestMemoryIsBounded(t *testing.T) {
	for _, concurrency := range []int{1, 3} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			var taken atomic.Int64
			arrived, release := make(chan struct{}, 100), make(chan struct{})
			b, _ := faked(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Query().Has("uploads"):
					_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
				case r.Method == http.MethodPut:
					arrived <- struct{}{}
					<-release
					w.Header().Set("ETag", `"x"`)
				case r.Method == http.MethodPost:
					_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
				default:
					w.WriteHeader(403)
				}
			})
			b.cfg.Concurrency, b.cfg.PartSize = concurrency, minPart
			b.buffers.New = func() any { p := make([]byte, minPart); return &p }
			body := readerFunc(func(p []byte) (int, error) {
				if taken.Load() >= 10*minPart {
					return 0, io.EOF
				}
				taken.Add(int64(len(p)))
				return len(p), nil
			})
			done := make(chan error, 1)
			go func() {
				_, err := b.Create(t.Context(), "key", body, -1)
				done <- err
			}()
			for range concurrency {
				<-arrived
			}
			// The look-ahead is one byte.
			if limit := int64(concurrency+1)*minPart + 1; taken.Load() > limit {
				t.Errorf("%d bytes were taken while %d parts were under way", taken.Load(), concurrency)
			}
			close(release)
			if err := <-done; err != nil {
				t.Error(err)
			}
			if limit := int64(concurrency+1)*minPart + 1; taken.Load() < limit {
				t.Errorf("only %d bytes were taken", taken.Load())
			}
		})
	}
}

// A part that is refused ends the upload without reading on to the end.
func TestRefusedPart(t *testing.T) {
	var aborted atomic.Bool
	b, _ := faked(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("uploads"):
			_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPut:
			says(403, errorXML("AccessDenied", "no"))(w, r)
		case r.Method == http.MethodDelete:
			aborted.Store(true)
			w.WriteHeader(204)
		}
	})
	taken := 0
	endless := readerFunc(func(p []byte) (int, error) { taken += len(p); return len(p), nil })
	_, err := b.Create(t.Context(), "key", endless, -1)
	refused(t, err, fault.Credentials, "UploadPart", "AccessDenied")
	if !aborted.Load() {
		t.Error("not aborted")
	}
}

// A server that refuses a body by cutting the connection, so that its own
// words are lost: they are asked for by a request without a body.
func TestRefusedByReset(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			drop(w) // the client still waits to be told to send the body
			return
		}
		says(403, errorXML("AccessDenied", "no"))(w, r)
	}))
	t.Cleanup(srv.Close)
	b := opened(t, Config{Bucket: "backups", Endpoint: srv.URL, AccessKeyID: "key", SecretAccessKey: "the-secret"})
	refused(t, create(t, b, 7<<20), fault.Credentials, "AccessDenied")
}

// An abort that fails is told, for somebody pays for the parts.
func TestFailedAbort(t *testing.T) {
	b, _ := faked(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("uploads") {
			_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
			return
		}
		says(403, errorXML("AccessDenied", "no"))(w, r)
	})
	refused(t, create(t, b, 9<<20), fault.Credentials, "UploadPart", "parts could not be removed")
}

// The rate holds, and waiting for it is no stall. Time is the bubble's own.
func TestUploadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := doer(func(r *http.Request) (*http.Response, error) {
			_, err := io.Copy(io.Discard, r.Body)
			return &http.Response{StatusCode: 200, Body: http.NoBody}, err
		})
		const rate, size = 100_000, 1_000_000
		tr := newTransport(inner, 50*time.Millisecond, rate, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://127.0.0.1/", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		resp, err := tr.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("%d bytes at %d a second took %v", size, rate, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, _ = http.NewRequestWithContext(ctx, http.MethodPut, "http://127.0.0.1/", strings.NewReader(strings.Repeat("x", size)))
		if _, err := tr.Do(req); err == nil {
			t.Error("the limit does not stop when the context ends")
		}
	})
}

// Outside of its hours the limit does not hold, also in the middle of an upload.
func TestUploadHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := doer(func(r *http.Request) (*http.Response, error) {
			_, err := io.Copy(io.Discard, r.Body)
			return &http.Response{StatusCode: 200, Body: http.NoBody}, err
		})
		start := time.Now()
		tr := newTransport(inner, time.Second, 100_000, func() bool { return time.Since(start) < 5*time.Second })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://127.0.0.1/", strings.NewReader(strings.Repeat("x", 1_000_000)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A consumer that takes its time is no stall, and a server that does is one.
func TestStallInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		inner := doer(func(r *http.Request) (*http.Response, error) {
			context.AfterFunc(r.Context(), func() { pw.CloseWithError(r.Context().Err()) })
			return &http.Response{StatusCode: 200, Body: pr}, nil
		})
		tr := newTransport(inner, time.Second, 0, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		go pw.Write([]byte("0123"))
		time.Sleep(time.Minute)
		if n, err := resp.Body.Read(make([]byte, 4)); n != 4 || err != nil {
			t.Errorf("after a pause of the consumer: %d bytes, %v", n, err)
		}
		if n, err := resp.Body.Read(make([]byte, 4)); n != 0 || !errors.Is(err, errStalled) {
			t.Errorf("after a pause of the server: %d bytes, %v", n, err)
		}
	})
}

type doer func(*http.Request) (*http.Response, error)

func (f doer) Do(r *http.Request) (*http.Response, error) { return f(r) }

// Private authorities: ca_file, with and without a bundle in the environment.
func TestCertificates(t *testing.T) {
	srv := httptest.NewUnstartedServer(says(200, listing("a")))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bundle := range []string{"", ca} {
		t.Setenv("AWS_CA_BUNDLE", bundle)
		for _, file := range []string{"", ca} {
			b := opened(t, Config{Bucket: "backups", Endpoint: srv.URL, AccessKeyID: "key", SecretAccessKey: "the-secret", CAFile: file})
			err := listErr(t, b)
			if bundle == "" && file == "" {
				refused(t, err, fault.Storage, "certificate")
				if f := fault.Find(err); !strings.Contains(f.Remedy, "ca_file") || strings.Contains(err.Error(), "attempts") {
					t.Errorf("remedy %q of %v", f.Remedy, err)
				}
			} else if err != nil {
				t.Errorf("bundle %q, file %q: %v", bundle, file, err)
			}
		}
	}
	_, err := Open(t.Context(), Config{Bucket: "backups", CAFile: ca + ".missing"})
	refused(t, err, fault.Config, "CA file")
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", "")
	_, err = Open(t.Context(), Config{Bucket: "backups", CAFile: ca})
	refused(t, err, fault.Config, "no PEM")
}

func TestConfig(t *testing.T) {
	ok := func(cfg Config) Config {
		t.Helper()
		got, err := cfg.complete()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct {
		cfg               Config
		endpoint, region  string
		address           string
		path, checksummed bool
	}{
		{Config{Bucket: "b"}, "", "", "s3://b", false, true},
		{Config{Bucket: "b", Prefix: "/a/b/", Provider: "aws", Region: "eu-central-1"}, "", "eu-central-1", "s3://b/a/b", false, true},
		{Config{Bucket: "b", Provider: "b2", Region: "us-west-004"}, "https://s3.us-west-004.backblazeb2.com", "us-west-004",
			"s3://b?endpoint=https://s3.us-west-004.backblazeb2.com", true, false},
		{Config{Bucket: "b", Provider: "wasabi"}, "https://s3.us-east-1.wasabisys.com", "us-east-1",
			"s3://b?endpoint=https://s3.us-east-1.wasabisys.com", true, false},
		{Config{Bucket: "b", Provider: "hetzner", Region: "fsn1"}, "https://fsn1.your-objectstorage.com", "fsn1",
			"s3://b?endpoint=https://fsn1.your-objectstorage.com", true, false},
		{Config{Bucket: "b", Provider: "scaleway", Region: "fr-par"}, "https://s3.fr-par.scw.cloud", "fr-par",
			"s3://b?endpoint=https://s3.fr-par.scw.cloud", true, false},
		{Config{Bucket: "b", Provider: "r2", Endpoint: "https://x.r2.cloudflarestorage.com/"}, "https://x.r2.cloudflarestorage.com", "auto",
			"s3://b?endpoint=https://x.r2.cloudflarestorage.com", true, false},
		{Config{Bucket: "b", Provider: "garage", Endpoint: "http://g:3900"}, "http://g:3900", "garage", "s3://b?endpoint=http://g:3900", true, false},
		{Config{Bucket: "b", Provider: "minio", Endpoint: "http://m:9000", Prefix: "p"}, "http://m:9000", "us-east-1", "s3://b/p?endpoint=http://m:9000", true, true},
		{Config{Bucket: "b", Endpoint: "http://v:7070"}, "http://v:7070", "us-east-1", "s3://b?endpoint=http://v:7070", true, true},
	} {
		got := ok(c.cfg)
		if got.Endpoint != c.endpoint || got.Region != c.region || got.address() != c.address || *got.PathStyle != c.path || *got.Checksums != c.checksummed {
			t.Errorf("%+v became endpoint %q, region %q, address %q, path style %v, checksums %v",
				c.cfg, got.Endpoint, got.Region, got.address(), *got.PathStyle, *got.Checksums)
		}
	}
	no := false
	if got := ok(Config{Bucket: "b", Provider: "minio", Endpoint: "http://m", PathStyle: &no}); *got.PathStyle {
		t.Error("what is configured does not win over the preset")
	}
	for _, cfg := range []Config{
		{}, {Bucket: "a/b"}, {Bucket: "b", Provider: "awz"}, {Bucket: "b", Prefix: "a//b"}, {Bucket: "b", Provider: "r2"}, {Bucket: "b", Provider: "b2"},
		{Bucket: "b", Endpoint: "host:9000"}, {Bucket: "b", Endpoint: "ftp://host"}, {Bucket: "b", Endpoint: "https://user:the-secret@host"},
		{Bucket: "b", Endpoint: "https://host/?x=the-secret"}, {Bucket: "b", PartSize: 1000}, {Bucket: "b", Concurrency: 100}, {Bucket: "b", MaxAttempts: -1},
		{Bucket: "b", SSE: "rot13"}, {Bucket: "b", KMSKeyID: "k"}, {Bucket: "b", AccessKeyID: "k"}, {Bucket: "b", SecretAccessKey: "the-secret"}, {Bucket: "b", UploadLimit: -1},
	} {
		_, err := Open(t.Context(), cfg)
		refused(t, err, fault.Config)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	cfg := Config{Bucket: "b", AccessKeyID: "k", SecretAccessKey: "hush", SessionToken: "hush"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if s := fmt.Sprintf(verb, cfg.SecretAccessKey) + fmt.Sprintf(verb, cfg); strings.Contains(s, "hush") || strings.Contains(s, "68757368") {
			t.Errorf("%s prints %q", verb, s)
		}
	}
	if text, err := cfg.SecretAccessKey.MarshalText(); strings.Contains(string(text), "hush") || err != nil {
		t.Errorf("marshals as %q, %v", text, err)
	}
}

// A dead name server and a name that does not exist are told apart from a
// server that refuses.
func TestUnknownHost(t *testing.T) {
	b := opened(t, Config{Bucket: "backups", Endpoint: "http://nowhere.invalid", AccessKeyID: "key", SecretAccessKey: "the-secret"})
	err := listErr(t, b)
	refused(t, err, fault.Storage, "nowhere.invalid")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
