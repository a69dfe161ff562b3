package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"emsafe/storage"
)

// Open implements storage.Bucket. A connection that breaks is taken up again
// where it broke, on the same version of the object.
func (b *Bucket) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return b.open(ctx, key, "", offset, length)
}

// open is Open of a version, "" for the newest.
func (b *Bucket) open(ctx context.Context, key, version string, offset, length int64) (io.ReadCloser, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if offset < 0 || length < -1 {
		return nil, fmt.Errorf("open %s: range from %d, %d bytes", key, offset, length)
	}
	s := &stream{b: b, ctx: ctx, key: key, version: optional(version), at: offset, left: length, size: -1, tries: b.cfg.MaxAttempts}
	if length == 0 {
		// Only to learn whether the object is there: no range is empty.
		s.at, s.left = 0, 1
	}
	err := b.retry(ctx, s.connect)
	var r rangeError
	switch {
	case errors.As(err, &r) && (length == 0 || length == -1 && offset == r.size):
		return io.NopCloser(strings.NewReader("")), nil
	case errors.As(err, &r):
		return nil, fmt.Errorf("open %s in %s: bytes from %d are not there: it has %d", key, b.address, offset, r.size)
	case err != nil:
		return nil, b.missing(ctx, key, err)
	case length == 0:
		s.Close()
		return io.NopCloser(strings.NewReader("")), nil
	}
	return s, nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// missing is explain for GetObject: a missing key has a sentinel. A 404
// without S3's own code is some other server's, and tells nothing.
func (b *Bucket) missing(ctx context.Context, key string, err error) error {
	if code, _ := reply(err); code == "NoSuchKey" {
		return fmt.Errorf("open %s in %s: %w", key, b.address, storage.ErrNotExist)
	}
	return b.explain(ctx, "GetObject", key, err)
}

// rangeError: the object is there and the range is not.
type rangeError struct{ size int64 }

func (e rangeError) Error() string {
	return fmt.Sprintf("range is beyond the object's %d bytes", e.size)
}

// stream is a GetObject that survives its connection. left is -1 until the
// first reply has told how much there is.
type stream struct {
	b       *Bucket
	ctx     context.Context // of the one Open call that this stream is the result of
	key     string
	version *string
	at      int64
	left    int64
	etag    *string
	body    io.ReadCloser
	tries   int
	size    int64 // of the whole object, as the last reply had it; -1 unknown
	since   int64 // bytes that came since the last break
	err     error
}

// connect requests what is left, and checks that it is what is coming.
func (s *stream) connect() error {
	in := s3.GetObjectInput{Bucket: s.b.bucket(), Key: s.b.name(s.key), VersionId: s.version, IfMatch: s.etag}
	switch {
	case s.left >= 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", s.at, s.at+s.left-1))
	case s.at > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", s.at))
	}
	out, err := s.b.client.GetObject(s.ctx, &in)
	if err != nil {
		if _, status := reply(err); status == http.StatusRequestedRangeNotSatisfiable {
			return s.measure()
		}
		return err
	}
	if err := s.check(in.Range, out); err != nil {
		out.Body.Close()
		return err
	}
	s.body, s.etag = out.Body, out.ETag
	return nil
}

// measure finds the size of an object that does not have the range.
func (s *stream) measure() error {
	out, err := s.b.client.HeadObject(s.ctx, &s3.HeadObjectInput{Bucket: s.b.bucket(), Key: s.b.name(s.key), VersionId: s.version})
	if err != nil {
		return err
	}
	return rangeError{aws.ToInt64(out.ContentLength)}
}

// check holds the reply's headers against the request. A shorter range is
// what an object that is too short gives: the stream will say so at its end.
func (s *stream) check(asked *string, out *s3.GetObjectOutput) error {
	if asked != nil {
		given := aws.ToString(out.ContentRange)
		from, rest, ok := strings.Cut(strings.TrimPrefix(given, "bytes "), "-")
		start, err := strconv.ParseInt(from, 10, 64)
		if !ok || err != nil || start != s.at {
			return badReply(fmt.Sprintf("asked for %s, the server sends range %q", *asked, given))
		}
		if _, total, ok := strings.Cut(rest, "/"); ok {
			if n, err := strconv.ParseInt(total, 10, 64); err == nil {
				s.size = n
			}
		}
	}
	if s.left < 0 {
		if out.ContentLength == nil || *out.ContentLength < 0 {
			return badReply("the server does not say how long the object is")
		}
		s.left = *out.ContentLength
	}
	return nil
}

// Read gives exactly the bytes asked for, or an error that is not io.EOF.
func (s *stream) Read(p []byte) (int, error) {
	for {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.left == 0:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		n, err := s.body.Read(p[:min(int64(len(p)), s.left)])
		s.at, s.left, s.since = s.at+int64(n), s.left-int64(n), s.since+int64(n)
		if err != nil && s.left > 0 {
			s.resume(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// refill: after so many bytes without a break a new one does not count as
// one of a row.
const refill = 64 << 20

// resume connects again after cause, or settles the stream's error.
func (s *stream) resume(cause error) {
	s.body.Close()
	if s.since >= refill {
		s.tries = s.b.cfg.MaxAttempts
	}
	s.since = 0
	if cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	fail := func(err error) {
		s.err = s.b.explain(s.ctx, "GetObject", s.key, &shortfall{err, s.left})
	}
	if s.tries--; s.tries <= 0 || s.ctx.Err() != nil || s.at == s.size {
		fail(cause)
		return
	}
	err := s.b.pause(s.ctx, pauseAfter(s.b.cfg.MaxAttempts-s.tries, cause))
	if err == nil {
		err = s.b.retry(s.ctx, s.connect)
	}
	var r rangeError
	switch {
	case errors.As(err, &r):
		// It never had the bytes: they were asked for beyond its end.
		fail(io.ErrUnexpectedEOF)
	case err != nil:
		s.err = s.b.missing(s.ctx, s.key, &shortfall{err, s.left})
	}
}

// shortfall says how much of a stream did not come.
type shortfall struct {
	error
	left int64
}

func (e *shortfall) Unwrap() error { return e.error }

func (s *stream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
