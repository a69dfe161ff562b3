package storagetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
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

	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := fmt.Sprintf("%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
		req.Method, req.URL.EscapedPath(), req.URL.RawQuery, req.URL.Host, sum, stamp, signed, sum)
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
