package storagetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// sign adds an AWS signature (version 4, service s3) to req. The few requests
// that set up a server do not justify the SDK, whose one door is storage/s3.
// The query must be in canonical form: sorted, each name with its "=".
func sign(req *http.Request, body []byte, access, secret string, now time.Time) {
	const region = "us-east-1"
	stamp := now.UTC().Format("20060102T150405Z")
	hash := sha256.Sum256(body)
	sum := hex.EncodeToString(hash[:])
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", sum)

	// All of Amazon's own headers have to be signed, in the order of their names.
	headers := map[string]string{"host": req.URL.Host}
	for name := range req.Header {
		if low := strings.ToLower(name); strings.HasPrefix(low, "x-amz-") {
			headers[low] = req.Header.Get(name)
		}
	}
	names := slices.Sorted(maps.Keys(headers))
	signed := strings.Join(names, ";")
	canonical := req.Method + "\n" + req.URL.EscapedPath() + "\n" + req.URL.RawQuery + "\n"
	for _, name := range names {
		canonical += name + ":" + headers[name] + "\n"
	}
	canonical += "\n" + signed + "\n" + sum
	scope := stamp[:8] + "/" + region + "/s3/aws4_request"
	hash = sha256.Sum256([]byte(canonical))
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(hash[:])

	key := []byte("AWS4" + secret)
	for _, part := range []string{stamp[:8], region, "s3", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x",
		access, scope, signed, key))
}
