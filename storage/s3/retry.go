package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"emsafe/internal/fault"
)

const (
	firstPause = 200 * time.Millisecond
	longPause  = 20 * time.Second
)

// exhausted marks the last of several attempts that all failed in ways that
// might have passed.
type exhausted struct {
	error
	attempts int
}

func (e *exhausted) Unwrap() error { return e.error }

// retry calls once until it succeeds, fails in a way that another attempt
// will not mend, or MaxAttempts are used up; the pauses double, with jitter.
func (b *Bucket) retry(ctx context.Context, once func() error) error {
	return b.attempt(ctx, b.cfg.MaxAttempts, once)
}

func (b *Bucket) attempt(ctx context.Context, most int, once func() error) error {
	for attempt := 1; ; attempt++ {
		err := ctx.Err()
		if err == nil {
			err = once()
		}
		switch {
		case err == nil || ctx.Err() != nil || !transient(err):
			return err
		case attempt >= most:
			return &exhausted{err, attempt}
		}
		if perr := b.pause(ctx, pauseAfter(attempt, err)); perr != nil {
			return errors.Join(perr, err)
		}
	}
}

// pauseAfter is how long to wait after the nth failure: as long as the server
// asks for, within reason.
func pauseAfter(n int, err error) time.Duration {
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil && resp.Response.Response != nil {
		if s, perr := strconv.Atoi(resp.Response.Header.Get("Retry-After")); perr == nil && s >= 0 {
			return min(time.Duration(s)*time.Second, longPause)
		}
	}
	d := min(firstPause<<min(n-1, 10), longPause)
	return d/2 + rand.N(d/2)
}

// transient tells errors that may pass from refusals.
func transient(err error) bool {
	code, status := reply(err)
	switch code {
	case "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException",
		"RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded", "ConditionalRequestConflict", "OperationAborted",
		"ExistingObjectIsDirectory": // versitygw, at times, when many begin a folder at once
		return true
	}
	if kindOf(code, 0) != fault.Storage {
		return false // also where an error travels in a 200, which the SDK makes a 500
	}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case 0:
		return code == "" && !hopeless(err)
	}
	if status/100 == 2 {
		// An answer that says it is well and then cannot be understood.
		return code == "" && !hopeless(err)
	}
	return false
}

// hopeless: errors before or without a reply that will be the same next time.
func hopeless(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		host      x509.HostnameError
		header    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
		dns       *net.DNSError
		creds     noCredentials
		shape     badReply
		hung      hungError
	)
	return errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &host) || errors.As(err, &header) ||
		errors.As(err, &verify) || errors.As(err, &creds) || errors.As(err, &shape) || errors.As(err, &hung) || errors.As(err, &dns) && dns.IsNotFound
}

// badReply is an answer that contradicts itself or the request.
type badReply string

func (e badReply) Error() string { return string(e) }

// maybeDone: the request may have had its effect although it failed.
func maybeDone(err error) bool {
	var hung hungError
	if errors.As(err, &hung) {
		return true // the attempt before this one was sent
	}
	if hopeless(err) {
		return false
	}
	code, status := reply(err)
	switch code {
	case "SlowDown", "ConditionalRequestConflict", "OperationAborted", "RequestTimeout":
		return false
	}
	return status == 0 || status >= 500 && status != http.StatusNotImplemented && status != http.StatusInsufficientStorage ||
		status/100 == 2
}
