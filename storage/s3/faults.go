package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// reply is the server's error code and HTTP status, as far as err has them.
func reply(err error) (code string, status int) {
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
	}
	return code, status
}

// said is the part of err that tells an operator something: the server's
// code, status and words, or the network's error, without the SDK's layers;
// and how often it was tried.
func said(err error) string {
	words := saidOnce(err)
	var tried *exhausted
	if errors.As(err, &tried) && tried.attempts > 1 {
		words += fmt.Sprintf(", after %d attempts", tried.attempts)
	}
	var short *shortfall
	if errors.As(err, &short) {
		words += fmt.Sprintf(", %d bytes before the end", short.left)
	}
	return words
}

func saidOnce(err error) string {
	code, status := reply(err)
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		words := code
		if m := strings.TrimSpace(api.ErrorMessage()); m != "" && m != code {
			words = strings.TrimPrefix(words+": "+m, ": ")
		}
		if status != 0 {
			words += fmt.Sprintf(" (HTTP %d)", status)
		}
		return words
	case status != 0:
		return fmt.Sprintf("HTTP %d: %v", status, innermost(err))
	}
	return innermost(err).Error()
}

// innermost skips the layers of the SDK and of net/http, which repeat the
// address and request ids, down to the error that says what happened.
func innermost(err error) error {
	for _, stop := range []error{errStalled, errCutOff} {
		if errors.Is(err, stop) {
			return lastNaming(err, stop)
		}
	}
	var missing noCredentials
	if errors.As(err, &missing) {
		return missing
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// lastNaming is the last error before stop itself in err's chain.
func lastNaming(err, stop error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil || next == stop {
			return err
		}
		err = next
	}
}

// explain gives what a request ended in its row of the error table, and names
// operation, object, endpoint and bucket. A context's end stays what it is.
func (b *Bucket) explain(ctx context.Context, op, key string, err error) error {
	what := op
	if key != "" {
		what += " " + key
	}
	if ctx.Err() != nil && !errors.Is(err, storage.ErrUnsettled) {
		return fmt.Errorf("%s: %s: %w", b.address, what, ctx.Err())
	}
	if fault.Find(err) != nil {
		return err
	}
	code, status := reply(err)
	kind, words := kindOf(code, status), said(err)
	var missing noCredentials
	if errors.As(err, &missing) {
		kind = fault.Credentials
	}
	f := fault.New(kind, "%s: %s: %s", b.address, what, words)
	f.Err = err
	return b.advise(f, code, status, words)
}

// kindOf is the row for a reply; what says nothing clear is fault.Storage.
func kindOf(code string, status int) *fault.Kind {
	switch code {
	case "NoSuchBucket":
		return fault.NoBucket
	case "RequestTimeTooSkewed", "RequestExpired":
		return fault.ClockSkew
	case "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "StorageFull", "ServiceQuotaExceeded",
		"EntityTooLargeForQuota", "InsufficientCapacity", "NoSpaceLeft":
		return fault.NoSpace
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
		"AllAccessDisabled", "AccountProblem", "InvalidSecurity", "NotSignedUp", "Forbidden", "Unauthorized":
		return fault.Credentials
	}
	switch status {
	case http.StatusInsufficientStorage:
		return fault.NoSpace
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.Credentials
	}
	return fault.Storage
}

// advise replaces the table's general remedy where the reply tells more.
func (b *Bucket) advise(f *fault.Error, code string, status int, words string) *fault.Error {
	lower := strings.ToLower(words)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(f.Err, &unknown):
		return f.WithRemedy("The server's certificate is by an authority that this host does not know: set `ca_file` for the target to its certificate.")
	case code == "AuthorizationHeaderMalformed" || code == "PermanentRedirect" || status == http.StatusMovedPermanently:
		if region := regionSaid(f.Err); region != "" {
			return f.WithRemedy("The bucket is in region %q, and the request was made for %q: set `region: %s` for the target (with `emsafe init`: --region %s). An `endpoint` that names a region must name this one.",
				region, b.region(), region, region)
		}
		return f.WithRemedy("The bucket is in another region than %q, and the server did not name it: set `region` for the target to the region that the provider's console shows.", b.region())
	case unsupported(code, status) && (strings.Contains(lower, "none-match") || strings.Contains(lower, "conditional")):
		return f.WithRemedy("%s", unconditionalRemedy)
	case unsupported(code, status) && strings.Contains(lower, "checksum"):
		return f.WithRemedy("The provider refuses SHA-256 checksums: set `provider` to its preset, or `checksums: false`, for the target.")
	case status == http.StatusNotImplemented && *b.cfg.ConditionalWrites:
		return f.WithRemedy("The server does not implement this request. Possible causes: it knows no conditional writes (If-None-Match), or it refuses SHA-256 checksums. " +
			"For the first, if the bucket keeps versions, set `conditional_writes: false` for the target (docs/providers.md says what is weaker then); for the second, `checksums: false`.")
	}
	return f
}

const unconditionalRemedy = "The provider does not know conditional writes (If-None-Match). If its bucket keeps versions, set `conditional_writes: false` for the target; " +
	"docs/providers.md says what is weaker then. Otherwise use a provider that supports conditional writes."

// region is the region that requests are signed for.
func (b *Bucket) region() string { return b.client.Options().Region }

var (
	regionForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,39}$`)
	expectedForm = regexp.MustCompile(`expecting '([^']*)'`)
)

// regionSaid is the region that a refusal names: in a header, as Amazon's
// redirects do, or in the message of AuthorizationHeaderMalformed. It is "" if
// the server named none, or something that is not a region's name.
func regionSaid(err error) string {
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil && resp.Response.Response != nil {
		if region := resp.Response.Header.Get("X-Amz-Bucket-Region"); regionForm.MatchString(region) {
			return region
		}
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		if m := expectedForm.FindStringSubmatch(api.ErrorMessage()); m != nil && regionForm.MatchString(m[1]) {
			return m[1]
		}
	}
	return ""
}

func unsupported(code string, status int) bool {
	return status == http.StatusNotImplemented || status == http.StatusBadRequest || code == "NotImplemented"
}
