package s3

import (
	"bytes"
	"context"
	"crypto/md5" // an ETag is one; nothing is trusted for it
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"emsafe/storage"
)

// Create implements storage.Bucket. What fits into one part goes up in one
// request, everything else as a multipart upload.
func (b *Bucket) Create(ctx context.Context, key string, r io.Reader, size int64) (storage.Info, error) {
	if err := storage.CheckKey(key); err != nil {
		return storage.Info{}, err
	}
	if size > maxObject {
		return storage.Info{}, fmt.Errorf("create %s: %d bytes are more than S3 keeps in one object", key, size)
	}
	up := upload{key: key, unconditional: !*b.cfg.ConditionalWrites}
	if up.unconditional {
		var err error
		if up.before, err = b.vacant(ctx, key); err != nil {
			return storage.Info{}, err
		}
	}
	src := &source{ctx: ctx, r: r, size: size}
	buf, done := b.firstBuffer(size)
	defer done()
	n, last, err := src.fill(buf)
	switch {
	case err != nil:
		return storage.Info{}, fmt.Errorf("create %s: %w", key, err)
	case last:
		info, err := b.putWhole(ctx, up, buf[:n])
		if errors.Is(err, storage.ErrExists) && !up.unconditional {
			if up.before, up.unconditional = b.hiddenOnly(ctx, key); up.unconditional {
				return b.putWhole(ctx, up, buf[:n])
			}
		}
		return info, err
	}
	return b.multipart(ctx, up, src, buf[:n])
}

// firstBuffer gives a buffer for a whole small object or for the first part.
// An announced size spares a manifest of 2 KiB the buffer of 8 MiB.
func (b *Bucket) firstBuffer(size int64) ([]byte, func()) {
	part := partSize(b.cfg.PartSize, size, 0, b.equalParts())
	if size >= 0 && size < part {
		return make([]byte, size), func() {}
	}
	if part != b.cfg.PartSize {
		return make([]byte, part), func() {}
	}
	p := b.buffers.Get().(*[]byte)
	return *p, func() { b.buffers.Put(p) }
}

func (b *Bucket) equalParts() bool { return presets[b.cfg.Provider].equalParts }

// upload is one object under way: what must be known to recognize it.
type upload struct {
	key   string
	size  int64
	token string        // random, stored as metadata: the surest mark
	etag  func() string // as the server will have it; "" if that cannot be known
	sha   string        // the checksum as the server reports it; "" if none was sent

	unconditional bool     // created without If-None-Match: see unconditional.go
	before        []string // the versions that lay under a delete marker

	versions []string // the ids that the server gave what was stored, as far as it answered
}

const tokenName = "emsafe-upload"

func (b *Bucket) putWhole(ctx context.Context, up upload, body []byte) (storage.Info, error) {
	key := up.key
	sum := sha256.Sum256(body)
	sumHex := hex.EncodeToString(sum[:])
	up.size, up.token = int64(len(body)), rand.Text()
	up.etag = func() string { return fmt.Sprintf("%x", md5.Sum(body)) }
	in := s3.PutObjectInput{
		Bucket: b.bucket(), Key: b.name(key), IfNoneMatch: up.onlyNew(),
		ContentLength: aws.Int64(up.size), ContentType: aws.String("application/octet-stream"),
		Metadata:     map[string]string{tokenName: up.token},
		StorageClass: types.StorageClass(b.cfg.StorageClass),
	}
	if *b.cfg.Checksums {
		up.sha = base64.StdEncoding.EncodeToString(sum[:])
		in.ChecksumSHA256 = aws.String(up.sha)
	}
	if b.cfg.Lock != nil && !*b.cfg.Checksums {
		in.ContentMD5 = contentMD5(body)
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = b.encryption()
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = b.retention(key)

	var out outcome
	said := false
	out.err = b.retry(ctx, func() error {
		p := newPart(body)
		in.Body = p
		reply, err := b.client.PutObject(ctx, &in, payloadHash(sumHex))
		if err == nil && aws.ToString(reply.ETag) == "" {
			err = badReply("the server says it stored the object and gives no ETag: this is not S3")
		}
		if err == nil && aws.ToString(reply.VersionId) != "" {
			up.versions = append(up.versions, aws.ToString(reply.VersionId))
		}
		said = err == nil && up.said(aws.ToString(reply.ETag), aws.ToString(reply.ChecksumSHA256))
		out.note(err, p.sent())
		return b.unheard(ctx, up, err)
	})
	if out.err != nil && !out.lost && wordless(out.err) {
		out.err = b.diagnose(ctx, key, out.err)
	}
	if up.unconditional {
		return b.elect(ctx, "PutObject", up, out)
	}
	if out.err == nil && said && !out.lost {
		// The answer names what is stored: to ask again would double the
		// requests of a small backup.
		return storage.Info{Key: key, Size: up.size, Modified: time.Now().UTC()}, nil
	}
	return b.settle(ctx, "PutObject", up, out)
}

// digest gives a body the digest that S3 wants where something is locked:
// MD5 where the provider takes no checksums.
func (b *Bucket) digest(in *s3.PutObjectInput, body []byte) {
	if *b.cfg.Checksums {
		sum := sha256.Sum256(body)
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
		return
	}
	in.ContentMD5 = contentMD5(body)
}

func contentMD5(body []byte) *string {
	sum := md5.Sum(body)
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// said reports whether the answer to an upload proves that these bytes were
// stored.
func (up upload) said(etag, sha string) bool {
	return up.sha != "" && sha == up.sha || up.etag() != "" && strings.Trim(etag, `"`) == up.etag()
}

// wordless: a refusal whose words, or all of which, were lost when the server
// cut the connection under the body.
func wordless(err error) bool {
	code, status := reply(err)
	return code == "" && (status == 0 && transient(err) || status/100 == 4 && status != http.StatusPreconditionFailed)
}

// diagnose finds the words of the refusal behind a wordless err: it asks for
// the same permission with a request that has no body.
func (b *Bucket) diagnose(ctx context.Context, key string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	m := &multi{b: b, up: upload{key: key}}
	perr := m.begin(ctx, 1)
	if perr == nil {
		_ = m.abort(ctx)
		return err
	}
	if code, status := reply(perr); code != "" && (status/100 == 4 || status == http.StatusInsufficientStorage) {
		return perr
	}
	return err
}

func (b *Bucket) encryption() (types.ServerSideEncryption, *string) {
	if b.cfg.KMSKeyID == "" {
		return types.ServerSideEncryption(b.cfg.SSE), nil
	}
	return types.ServerSideEncryption(b.cfg.SSE), aws.String(b.cfg.KMSKeyID)
}

// outcome is how the attempts of one request ended together.
type outcome struct {
	err  error
	lost bool // some attempt may have had its effect although it failed
	mute bool // and got no answer at all: its effect may even be to come
}

func (o *outcome) note(err error, whole bool) {
	if err == nil || !whole || !maybeDone(err) {
		return
	}
	o.lost = true
	if _, status := reply(err); status == 0 {
		o.mute = true
	}
}

// source reads the caller's reader part by part and counts.
type source struct {
	ctx   context.Context // of the one Create call that reads
	r     io.Reader
	size  int64 // announced, or -1
	total int64
	ahead [1]byte
	held  bool // ahead is read and not yet given
}

// fill fills buf and looks one byte further, so that it can say whether this
// was the last part; n is less than len(buf) only then.
func (s *source) fill(buf []byte) (n int, last bool, err error) {
	if s.held && len(buf) > 0 {
		buf[0], n, s.held = s.ahead[0], 1, false
	}
	m, err := s.read(buf[n:])
	n += m
	if err == nil {
		m, err = s.read(s.ahead[:])
		s.held = m == 1
	}
	if s.size >= 0 && s.total > s.size {
		return n, false, fmt.Errorf("more bytes came than the %d announced", s.size)
	}
	if err == io.EOF {
		if s.size >= 0 && s.total < s.size {
			return n, false, fmt.Errorf("%d bytes came, %d were announced", s.total, s.size)
		}
		return n, true, nil
	}
	return n, false, err
}

// read fills p; io.EOF is the reader's end. It is not io.ReadFull, which
// would make an ordinary end out of a source that is cut off.
func (s *source) read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err = s.ctx.Err(); err != nil {
			break
		}
		var m int
		m, err = s.r.Read(p[n:])
		n += m
	}
	s.total += int64(n)
	if n == len(p) && err == io.EOF {
		err = nil // the next read will say it again
	}
	return n, err
}

// part is a request's body that knows whether it was read to its end: one
// that was not cannot have been stored.
type part struct {
	*bytes.Reader
	whole atomic.Bool
}

func newPart(data []byte) *part {
	p := &part{Reader: bytes.NewReader(data)}
	p.whole.Store(len(data) == 0)
	return p
}

func (p *part) Read(buf []byte) (int, error) {
	n, err := p.Reader.Read(buf)
	if p.Len() == 0 {
		p.whole.Store(true)
	}
	return n, err
}

// WriteTo would go round Read.
func (p *part) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{p})
}

func (p *part) sent() bool { return p.whole.Load() }
