package s3

import (
	"context"
	"crypto/md5" // what the protocol has
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"emsafe/storage"
)

// strict answers as Amazon does where something is locked: a body comes with a
// digest of its own, or is refused. One that knows no checksums refuses their
// headers by name, as Backblaze does.
func strict(t *testing.T, checksums bool) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		digest := ""
		for name := range r.Header {
			low := strings.ToLower(name)
			sum := strings.HasPrefix(low, "x-amz-checksum-") && low != "x-amz-checksum-mode" && low != "x-amz-checksum-algorithm"
			if !checksums && (strings.HasPrefix(low, "x-amz-checksum") || strings.HasPrefix(low, "x-amz-sdk-checksum")) {
				says(400, errorXML("InvalidArgument", "Unsupported header '"+low+"' received for this API call."))(w, r)
				return
			}
			if sum || low == "content-md5" {
				digest = low
			}
		}
		q := r.URL.Query()
		part, retention := q.Has("partNumber"), q.Has("retention")
		locked := r.Header.Get("x-amz-object-lock-mode") != ""
		if digest == "" && (r.Method == http.MethodPut && (part || retention || locked)) {
			says(400, errorXML("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters"))(w, r)
			return
		}
		sum := md5.Sum(body)
		if got := r.Header.Get("Content-MD5"); got != "" && got != base64.StdEncoding.EncodeToString(sum[:]) {
			says(400, errorXML("BadDigest", "it is another one"))(w, r)
			return
		}
		switch {
		case q.Has("uploads"):
			if !locked {
				t.Errorf("an upload without a lock")
			}
			_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPost:
			_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
		case r.Method == http.MethodPut && !retention:
			w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sum))
			w.Header().Set("x-amz-version-id", "v1")
		case r.Method == http.MethodGet && retention:
			until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
			_, _ = io.WriteString(w, `<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>`+until+`</RetainUntilDate></Retention>`)
		case r.Method == http.MethodDelete:
			says(403, errorXML("AccessDenied", "locked"))(w, r)
		case r.Method == http.MethodHead, r.Method == http.MethodGet:
			says(403, errorXML("AccessDenied", "not for you"))(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// TestLockedBodiesHaveDigests: whatever is stored under a lock comes with a
// digest that the provider takes.
func TestLockedBodiesHaveDigests(t *testing.T) {
	t.Parallel()
	for _, checksums := range []bool{true, false} {
		srv := strict(t, checksums)
		b := opened(t, Config{
			Bucket: "backups", Endpoint: srv.URL, AccessKeyID: "key", SecretAccessKey: "the-secret",
			Checksums: aws.Bool(checksums), Lock: &Lock{Mode: "compliance", For: time.Hour},
		})
		for name, call := range map[string]func() error{
			"small":  func() error { return create(t, b, 100) },
			"large":  func() error { return create(t, b, 9<<20) },
			"relock": func() error { return b.Relock(t.Context(), "key") },
			"proof":  func() error { return prove(t.Context(), b) },
		} {
			if err := call(); err != nil {
				t.Errorf("checksums %v, %s: %v", checksums, name, err)
			}
		}
	}
}

func prove(ctx context.Context, b storage.Locking) error {
	_, err := b.ProveLock(ctx)
	return err
}
