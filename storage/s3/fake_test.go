package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// faked is a bucket at a server that answers as told, for what a real server
// does not do on demand. The counter is of requests.
func faked(t *testing.T, answer http.HandlerFunc) (*Bucket, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return opened(t, Config{Bucket: "backups", Endpoint: srv.URL, AccessKeyID: "key", SecretAccessKey: "the-secret"}), &n
}

func errorXML(code, message string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func listErr(t *testing.T, b *Bucket) error {
	t.Helper()
	var last error
	for info, err := range b.List(t.Context(), "", "") {
		if last != nil {
			t.Errorf("%v after the error", info)
		}
		last = err
	}
	return last
}

func create(t *testing.T, b *Bucket, size int) error {
	t.Helper()
	_, err := b.Create(t.Context(), "key", strings.NewReader(strings.Repeat("x", size)), -1)
	return err
}

// every runs all four methods, Create with a small and a large object, and
// hands their errors over.
func every(t *testing.T, b *Bucket, check func(t *testing.T, err error)) {
	t.Helper()
	for name, call := range map[string]func(t *testing.T) error{
		"Create":      func(t *testing.T) error { return create(t, b, 100) },
		"CreateLarge": func(t *testing.T) error { return create(t, b, 9<<20) },
		"Open": func(t *testing.T) error {
			r, err := b.Open(t.Context(), "key", 0, -1)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			return err
		},
		"List":   func(t *testing.T) error { return listErr(t, b) },
		"Delete": func(t *testing.T) error { return b.Delete(t.Context(), "key") },
	} {
		t.Run(name, func(t *testing.T) { check(t, call(t)) })
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		status   int
		code     string
		kind     *fault.Kind
		requests int32 // of a listing
		words    string
	}{
		"clock skew":     {403, "RequestTimeTooSkewed", fault.ClockSkew, 1, "RequestTimeTooSkewed"},
		"denied":         {403, "AccessDenied", fault.Credentials, 1, "AccessDenied"},
		"expired":        {400, "ExpiredToken", fault.Credentials, 1, "ExpiredToken"},
		"quota":          {403, "QuotaExceeded", fault.NoSpace, 1, "QuotaExceeded"},
		"full":           {507, "XMinioStorageFull", fault.NoSpace, 1, "XMinioStorageFull"},
		"no bucket":      {404, "NoSuchBucket", fault.NoBucket, 1, "NoSuchBucket"},
		"internal error": {500, "InternalError", fault.Storage, 6, "after 6 attempts"},
		"slow down":      {503, "SlowDown", fault.Storage, 6, "SlowDown"},
		"too many":       {429, "TooManyRequests", fault.Storage, 6, "HTTP 429"},
		"other region":   {301, "PermanentRedirect", fault.Storage, 1, "PermanentRedirect"},
		"unknown":        {400, "Whatever", fault.Storage, 1, "Whatever"},
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			b, n := faked(t, says(c.status, errorXML(c.code, "as it is put")))
			every(t, b, func(t *testing.T, err error) {
				refused(t, err, c.kind, c.words, "backups", b.cfg.Endpoint)
				if errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExists) {
					t.Errorf("%v passes for an answer", err)
				}
			})
			n.Store(0)
			if _ = listErr(t, b); n.Load() != c.requests {
				t.Errorf("%d requests, want %d", n.Load(), c.requests)
			}
		})
	}
}

// Bodies that are no S3 error at all: a proxy's page, an empty reply.
func TestStrangers(t *testing.T) {
	for _, status := range []int{200, 403, 404, 500, 502, 503} {
		for _, body := range []string{"", "<html><body>Welcome to our network</body></html>", `{"error":"x"}`} {
			t.Run(fmt.Sprint(status, len(body)), func(t *testing.T) {
				b, _ := faked(t, says(status, body))
				every(t, b, func(t *testing.T, err error) {
					switch {
					case strings.HasSuffix(t.Name(), "/Delete") && status == 200:
						return // nothing in a reply to Delete could tell
					case strings.HasSuffix(t.Name(), "/Open") && status == 200:
						return // any bytes are an object's
					case err == nil:
						t.Fatal("taken for a success")
					case errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExists):
						t.Errorf("%v passes for an answer", err)
					case fault.Find(err) == nil:
						t.Errorf("%v has no row", err)
					}
				})
			})
		}
	}
}

// A server that recovers: no error, and as many requests as it took.
func TestRetriesSucceed(t *testing.T) {
	var left atomic.Int32
	b, n := faked(t, func(w http.ResponseWriter, _ *http.Request) {
		switch left.Add(-1) {
		case 2:
			w.Header().Set("Retry-After", "3")
			says(503, errorXML("SlowDown", ""))(w, nil)
		case 1:
			says(500, "")(w, nil)
		case 0:
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		default:
			_, _ = io.WriteString(w, listing("a", "b"))
		}
	})
	left.Store(3)
	if err := listErr(t, b); err != nil || n.Load() != 4 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

func listing(keys ...string) string {
	var s strings.Builder
	s.WriteString(`<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>backups</Name><Prefix></Prefix><KeyCount>` +
		fmt.Sprint(len(keys)) + `</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>`)
	for _, k := range keys {
		fmt.Fprintf(&s, `<Contents><Key>%s</Key><LastModified>2026-11-23T10:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>`, k)
	}
	return s.String() + `</ListBucketResult>`
}

// A listing that stops at any byte is an error and never a shorter listing.
func TestTruncatedListing(t *testing.T) {
	whole := listing("a", "b", "c")
	var cut atomic.Int32
	b, _ := faked(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, whole[:cut.Load()]) })
	b.cfg.MaxAttempts = 1
	for n := range len(whole) {
		cut.Store(int32(n))
		if err := listErr(t, b); !errors.Is(err, fault.Storage) {
			t.Fatalf("cut off after %d bytes (…%q): %v", n, whole[max(0, n-20):n], err)
		}
	}
	refused(t, listErr(t, b), fault.Storage, "cut off")
	cut.Store(int32(len(whole)))
	if err := listErr(t, b); err != nil {
		t.Errorf("the whole listing: %v", err)
	}
}

func TestListingsThatLie(t *testing.T) {
	more := func(s, token string) string {
		return strings.Replace(s, "<IsTruncated>false</IsTruncated>", "<IsTruncated>true</IsTruncated>"+token, 1)
	}
	for name, c := range map[string]struct{ body, words string }{
		"no token":     {more(listing("a", "b"), ""), "goes on"},
		"a circle":     {more(listing("a"), "<NextContinuationToken>t</NextContinuationToken>"), ""},
		"out of order": {listing("b", "a"), `"a" after "b"`},
		"twice":        {listing("a", "a"), `"a" after "a"`},
		"error inside": {errorXML("InternalError", "in the middle"), "InternalError"},
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			b, _ := faked(t, says(200, c.body))
			refused(t, listErr(t, b), fault.Storage, c.words)
		})
	}
	b, _ := faked(t, says(200, listing("other/a")))
	var err error
	for _, err = range b.List(t.Context(), "mine/", "") {
	}
	refused(t, err, fault.Storage, `"other/a"`)
}

// Multipart uploads whose completion answers 200 with an error, a body that
// is cut off, or a refusal of the condition.
func TestCompletions(t *testing.T) {
	const done = `<CompleteMultipartUploadResult><ETag>"x-2"</ETag></CompleteMultipartUploadResult>`
	for name, c := range map[string]struct {
		status int
		body   string
		words  string
		remedy string
	}{
		"error in 200":    {200, errorXML("InternalError", "We encountered an internal error."), "InternalError", ""},
		"denied in 200":   {200, errorXML("AccessDenied", "no"), "AccessDenied", ""},
		"empty 200":       {200, "", "", ""},
		"cut off 200":     {200, done[:40], "", ""},
		"not implemented": {501, errorXML("NotImplemented", "A header you provided implies functionality that is not implemented: If-None-Match"), "NotImplemented", "conditional writes"},
		"invalid 400":     {400, errorXML("InvalidArgument", "If-None-Match is not supported"), "None-Match", "conditional writes"},
		"checksum":        {501, errorXML("NotImplemented", "x-amz-checksum-sha256 is not implemented"), "checksum", "checksums: false"},
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			var aborted atomic.Bool
			b, _ := faked(t, func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				switch {
				case r.Method == http.MethodPost && q.Has("uploads"):
					_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
				case r.Method == http.MethodPost:
					if r.Header.Get("If-None-Match") != "*" {
						t.Error("completed without a condition")
					}
					says(c.status, c.body)(w, r)
				case r.Method == http.MethodPut:
					w.Header().Set("ETag", `"00000000000000000000000000000000"`)
				case r.Method == http.MethodDelete && q.Has("uploadId"):
					aborted.Store(true)
					w.WriteHeader(204)
				default:
					w.WriteHeader(404)
				}
			})
			err := create(t, b, 9<<20)
			f := fault.Find(err)
			if f == nil {
				t.Fatalf("%v has no row", err)
			}
			refused(t, err, f.Kind, c.words)
			if !strings.Contains(f.Remedy, c.remedy) {
				t.Errorf("remedy %q lacks %q", f.Remedy, c.remedy)
			}
			if !aborted.Load() {
				t.Error("the upload was not aborted")
			}
		})
	}
}

// What is configured is in the requests.
func TestHeaders(t *testing.T) {
	var seen http.Header
	b, n := faked(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			seen = r.Header.Clone()
			w.Header().Set("ETag", `"x"`)
			return
		}
		w.WriteHeader(403)
	})
	b.cfg.StorageClass, b.cfg.SSE, b.cfg.KMSKeyID = "STANDARD_IA", "aws:kms", "key-1"
	if err := create(t, b, 3); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"If-None-Match":                               "*",
		"X-Amz-Storage-Class":                         "STANDARD_IA",
		"X-Amz-Server-Side-Encryption":                "aws:kms",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key-1",
		"X-Amz-Checksum-Sha256":                       "zS6wg3ybTJYsItL/i1RBt7RYBYh/BR05vxM7WDuvaGA=",
		"X-Amz-Content-Sha256":                        "cd2eb0837c9b4c962c22d2ff8b5441b7b45805887f051d39bf133b583baf6860",
	} {
		if seen.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, seen.Get(name), want)
		}
	}
	// The object, and two attempts to look that were refused.
	if n.Load() != 3 {
		t.Errorf("%d requests", n.Load())
	}
	*b.cfg.Checksums = false
	if err := create(t, b, 3); err != nil {
		t.Fatal(err)
	}
	if n.Load() != 4 {
		t.Errorf("%d requests: what is refused is asked again", n.Load())
	}
	for name := range seen {
		if strings.HasPrefix(name, "X-Amz-Checksum") || name == "X-Amz-Trailer" || name == "X-Amz-Sdk-Checksum-Algorithm" {
			t.Errorf("checksums are off and %s is sent", name)
		}
	}
}

// A refusal that names the bucket's region: the remedy names it too.
func TestRegionIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status        int
		code, message string
		header        string
		want          string
	}{
		"redirect":    {301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.", "eu-central-2", "`region: eu-central-2`"},
		"malformed":   {400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-3'", "", "`region: eu-west-3`"},
		"not said":    {301, "PermanentRedirect", "somewhere else", "", "did not name it"},
		"no region":   {301, "PermanentRedirect", "", "x; rm -rf /", "did not name it"},
		"no region 2": {400, "AuthorizationHeaderMalformed", "expecting '../../etc'", "", "did not name it"},
	} {
		b, _ := faked(t, func(w http.ResponseWriter, _ *http.Request) {
			if c.header != "" {
				w.Header()["X-Amz-Bucket-Region"] = []string{c.header}
			}
			says(c.status, errorXML(c.code, c.message))(w, nil)
		})
		for op, err := range map[string]error{"list": listErr(t, b), "create": create(t, b, 100), "delete": b.Delete(t.Context(), "key")} {
			refused(t, err, fault.Storage, c.code)
			if f := fault.Find(err); !strings.Contains(f.Remedy, c.want) {
				t.Errorf("%s, %s: remedy %q lacks %q", name, op, f.Remedy, c.want)
			}
		}
	}
}
