package s3

import (
	"context"
	"crypto/md5" // an ETag is one; nothing is trusted for it
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"emsafe/storage"
)

// Time to put things in order after the caller's context has ended.
const afterwards = 15 * time.Second

// partSize is the size of the next part, when done bytes are in parts. Of an
// announced size there are at most maxParts equal ones. A stream of unknown
// length starts with the usual size, and from 1,400 parts on a part is a
// 1,400th of what is there: 80 GB need parts of 55 MiB, and the largest
// object that S3 keeps still takes fewer than maxParts.
func partSize(usual, announced, done int64, equal bool) int64 {
	const mib, slow = 1 << 20, 1400
	want := done / slow
	switch {
	case announced >= 0:
		want = (announced + maxParts - 1) / maxParts
	case equal:
		return usual
	}
	if want <= usual {
		return usual
	}
	return min((want+mib-1)/mib*mib, maxPart)
}

// multi is a multipart upload under way.
type multi struct {
	b   *Bucket
	up  upload
	id  *string
	src *source

	mu    sync.Mutex
	parts []types.CompletedPart // by number, from 1
	free  [][]byte
}

// multipart uploads first and whatever src still gives. first is the caller's
// buffer; it is free again when multipart returns.
func (b *Bucket) multipart(ctx context.Context, up upload, src *source, first []byte) (storage.Info, error) {
	key := up.key
	up.token = rand.Text()
	m := &multi{b: b, src: src, up: up}
	if err := m.begin(ctx, b.cfg.MaxAttempts); err != nil {
		return storage.Info{}, b.explain(ctx, "CreateMultipartUpload", key, err)
	}
	if err := m.send(ctx, first); err != nil {
		return storage.Info{}, m.abandon(ctx, err)
	}
	m.identify()
	if up.unconditional {
		// What came meanwhile is seen before a version of ours exists.
		var err error
		if m.up.before, err = b.vacant(ctx, key); err != nil {
			return storage.Info{}, m.abandon(ctx, err)
		}
	}
	var out outcome
	out.err = b.retry(ctx, func() error {
		err := m.complete(ctx)
		out.note(err, true)
		return err
	})
	if out.err != nil && out.mute {
		// An upload that is aborted cannot be completed by a request that is
		// still on its way; one that is completed cannot be aborted.
		if m.abort(ctx) == nil {
			out.mute = false
		}
	}
	settle := b.settle
	if up.unconditional {
		settle = b.elect
	}
	info, err := settle(ctx, "CompleteMultipartUpload", m.up, out)
	if err != nil {
		return info, m.abandon(ctx, err)
	}
	return info, nil
}

func (m *multi) begin(ctx context.Context, attempts int) error {
	b := m.b
	in := s3.CreateMultipartUploadInput{
		Bucket: b.bucket(), Key: b.name(m.up.key), ContentType: aws.String("application/octet-stream"),
		Metadata:     map[string]string{tokenName: m.up.token},
		StorageClass: types.StorageClass(b.cfg.StorageClass),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = b.encryption()
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = b.retention(m.up.key)
	if *b.cfg.Checksums {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	return b.attempt(ctx, attempts, func() error {
		out, err := b.client.CreateMultipartUpload(ctx, &in)
		if err != nil {
			return err
		}
		if m.id = out.UploadId; aws.ToString(m.id) == "" {
			return badReply("the server gives no upload id: this is not S3")
		}
		return nil
	})
}

// send uploads all parts, at most Concurrency at a time while the next one
// is filled, and returns when none is under way any more.
func (m *multi) send(ctx context.Context, first []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var flights sync.WaitGroup
	defer flights.Wait()
	slots := make(chan struct{}, m.b.cfg.Concurrency)

	buf, last := first, false
	for number := int32(1); ; number++ {
		if number > maxParts {
			return fmt.Errorf("create %s: more than %d parts of %d bytes: set a larger part size", m.up.key, maxParts, m.b.cfg.PartSize)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		data := buf
		flights.Go(func() {
			defer func() { <-slots }()
			if err := m.sendPart(ctx, number, data); err != nil {
				cancel(err)
			}
			m.give(data)
		})
		m.up.size += int64(len(data))
		if last {
			break
		}
		buf = m.take(partSize(m.b.cfg.PartSize, m.src.size, m.up.size, m.b.equalParts()))
		n, end, err := m.src.fill(buf)
		if err != nil {
			cancel(err)
			return fmt.Errorf("create %s: %w", m.up.key, err)
		}
		buf, last = buf[:n], end
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	flights.Wait()
	return context.Cause(ctx)
}

func (m *multi) sendPart(ctx context.Context, number int32, data []byte) error {
	b := m.b
	sum := sha256.Sum256(data)
	sumHex := hex.EncodeToString(sum[:])
	in := s3.UploadPartInput{
		Bucket: b.bucket(), Key: b.name(m.up.key), UploadId: m.id, PartNumber: aws.Int32(number),
		ContentLength: aws.Int64(int64(len(data))),
	}
	done := types.CompletedPart{PartNumber: aws.Int32(number)}
	if *b.cfg.Checksums {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
		done.ChecksumSHA256 = in.ChecksumSHA256
	} else if b.cfg.Lock != nil {
		in.ContentMD5 = contentMD5(data)
	}
	err := b.retry(ctx, func() error {
		in.Body = newPart(data)
		out, err := b.client.UploadPart(ctx, &in, payloadHash(sumHex))
		if err != nil {
			return err
		}
		if done.ETag = out.ETag; aws.ToString(done.ETag) == "" {
			return badReply("the server says it took the part and gives no ETag: this is not S3")
		}
		return nil
	})
	if err != nil {
		return b.explain(ctx, "UploadPart", m.up.key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.parts) < int(number) {
		m.parts = append(m.parts, types.CompletedPart{})
	}
	m.parts[number-1] = done
	return nil
}

// take gives a buffer of n bytes, one that a sent part has left if it fits.
func (m *multi) take(n int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.free) > 0 {
		buf := m.free[len(m.free)-1]
		m.free = m.free[:len(m.free)-1]
		if int64(cap(buf)) >= n {
			return buf[:n]
		}
	}
	return make([]byte, n)
}

func (m *multi) give(buf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, buf)
}

// identify works out how the server will describe the whole object.
func (m *multi) identify() {
	tags, sums, known := md5.New(), sha256.New(), true
	for _, p := range m.parts {
		tag, err := hex.DecodeString(strings.Trim(*p.ETag, `"`))
		known = known && err == nil && len(tag) == md5.Size
		tags.Write(tag)
		if p.ChecksumSHA256 != nil {
			sum, _ := base64.StdEncoding.DecodeString(*p.ChecksumSHA256)
			sums.Write(sum)
		}
	}
	etag := ""
	if known {
		etag = fmt.Sprintf("%x-%d", tags.Sum(nil), len(m.parts))
	}
	m.up.etag = func() string { return etag }
	if *m.b.cfg.Checksums {
		m.up.sha = fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(sums.Sum(nil)), len(m.parts))
	}
}

func (m *multi) complete(ctx context.Context) error {
	out, err := m.b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: m.b.bucket(), Key: m.b.name(m.up.key), UploadId: m.id, IfNoneMatch: m.up.onlyNew(),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: m.parts},
	})
	if err == nil && aws.ToString(out.VersionId) != "" {
		m.up.versions = append(m.up.versions, aws.ToString(out.VersionId))
	}
	if err == nil && aws.ToString(out.ETag) == "" {
		// Amazon says 200 before it is done; what then comes may be cut off.
		err = fmt.Errorf("the server says it completed the upload and gives no ETag")
	}
	return err
}

// abandon removes the parts of an upload that failed with err.
func (m *multi) abandon(ctx context.Context, err error) error {
	if aerr := m.abort(ctx); aerr != nil {
		if code, _ := reply(aerr); code != "NoSuchUpload" {
			return fmt.Errorf("%w (its uploaded parts could not be removed: %s)", err, said(aerr))
		}
	}
	return err
}

// abortTries bounds how often an upload is aborted until it is gone.
const abortTries = 5

// abort works on when ctx has ended: an interrupt must not leave parts that
// nobody sees and somebody pays for. A part that the server was still taking
// in may land after the abort and bring the upload back, so that S3 asks to
// abort until nothing is listed.
func (m *multi) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	for try := 1; ; try++ {
		err := m.b.retry(ctx, func() error {
			_, err := m.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
				Bucket: m.b.bucket(), Key: m.b.name(m.up.key), UploadId: m.id,
			})
			return err
		})
		if code, _ := reply(err); err != nil && (try == 1 || code != "NoSuchUpload") {
			return err
		}
		if try == abortTries || !m.listed(ctx, try) {
			return nil
		}
	}
}

// listed waits a moment, longer with every try, and reports whether the upload
// is still there. Credentials that may not look say no.
func (m *multi) listed(ctx context.Context, try int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(try) * 50 * time.Millisecond):
	}
	_, err := m.b.client.ListParts(ctx, &s3.ListPartsInput{Bucket: m.b.bucket(), Key: m.b.name(m.up.key), UploadId: m.id})
	return err == nil
}
