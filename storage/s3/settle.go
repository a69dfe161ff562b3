package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// stored is what the server says of an object that it has.
type stored struct {
	size             int64
	etag, sha, token string
	modified         time.Time
}

type verdict int

const (
	unknown verdict = iota
	ours
	another
)

var (
	errAbsent = errors.New("the object is not there")
	errDenied = errors.New("the credentials do not allow to look")
)

// settle turns the end of a creating request into the truth about the object:
// after a success what is stored is compared with what was sent, and after a
// lost reply it is found out whether the object is there and whose it is.
func (b *Bucket) settle(ctx context.Context, op string, up upload, out outcome) (storage.Info, error) {
	if out.err == nil {
		return b.confirm(ctx, up)
	}
	refused := exists(out.err)
	if !out.lost {
		if refused {
			return storage.Info{}, fmt.Errorf("create %s in %s: %w", up.key, b.address, storage.ErrExists)
		}
		return storage.Info{}, b.explain(ctx, op, up.key, out.err)
	}
	// Also when the caller has gone: it must not take for undone what is done.
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	found, err := b.look(look, up.key, b.cfg.MaxAttempts)
	switch {
	case err == nil && up.compare(found) == ours:
		return storage.Info{Key: up.key, Size: up.size, Modified: found.modified}, nil
	case err == nil && up.compare(found) == another:
		return storage.Info{}, fmt.Errorf("create %s in %s: %w", up.key, b.address, storage.ErrExists)
	case errors.Is(err, errAbsent) && !refused && !out.mute:
		// Every attempt was answered, or the upload is aborted: it failed.
		return storage.Info{}, b.explain(ctx, op, up.key, out.err)
	}
	return storage.Info{}, b.unsettled(ctx, op, up.key, out.err)
}

// unsettled reports the last error, and that it is not the whole truth.
func (b *Bucket) unsettled(ctx context.Context, op, key string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %s %s: %w: %w", b.address, op, key, storage.ErrUnsettled, ctx.Err())
	}
	f := fault.New(fault.Storage, "%s: %s %s: %s; whether the object is stored could not be found out",
		b.address, op, key, said(err))
	f.Err = errors.Join(storage.ErrUnsettled, err)
	return f
}

// unheard deals with an attempt that got no answer: a server that refuses a
// body while it still comes cuts the connection, and with it its own reply.
// If the key is taken, no further attempt can succeed.
func (b *Bucket) unheard(ctx context.Context, up upload, err error) error {
	if _, status := reply(err); err == nil || status != 0 || ctx.Err() != nil || hopeless(err) {
		return err
	}
	found, lerr := b.look(ctx, up.key, 1)
	if lerr != nil {
		return err
	}
	switch up.compare(found) {
	case ours:
		return nil
	case another:
		return errTaken
	}
	return err
}

var errTaken = &smithy.GenericAPIError{Code: "PreconditionFailed", Message: "the key is taken"}

// exists: somebody's object has the key.
func exists(err error) bool {
	code, status := reply(err)
	return status == http.StatusPreconditionFailed || code == "PreconditionFailed"
}

// confirm reads back what was stored. Not being able to is no failure: the
// server has said that the object is whole.
func (b *Bucket) confirm(ctx context.Context, up upload) (storage.Info, error) {
	info := storage.Info{Key: up.key, Size: up.size, Modified: time.Now().UTC()}
	found, err := b.look(ctx, up.key, b.cfg.MaxAttempts)
	wrong := ""
	switch {
	case errors.Is(err, errAbsent):
		wrong = "the server said it stored the object and does not have it"
	case err != nil:
		return info, nil
	case found.token != "" && found.token != up.token:
		return info, fault.New(fault.Storage, "%s: %s was overwritten by another writer: the provider ignores If-None-Match", b.address, up.key).
			WithRemedy("Use a provider that supports conditional writes: on this one two writers overwrite each other unseen.")
	case found.size != up.size:
		wrong = fmt.Sprintf("%d bytes were sent and %d are stored", up.size, found.size)
	case up.sha != "" && found.sha != "" && found.sha != up.sha:
		wrong = fmt.Sprintf("SHA-256 %s was sent and %s is stored", up.sha, found.sha)
	default:
		info.Modified = found.modified
		return info, nil
	}
	// Ours, and not what it should be: it must not stay under the key.
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	_ = b.Delete(tidy, up.key)
	return storage.Info{}, fault.New(fault.Storage, "%s: %s: %s", b.address, up.key, wrong)
}

// compare decides whose object was found. Tokens decide alone where the
// server keeps metadata and lets us read it; from a listing there are only
// size and ETag, which is no digest of the content under aws:kms.
func (up upload) compare(found stored) verdict {
	want, have := up.etag(), strings.Trim(found.etag, `"`)
	switch {
	case found.token != "" && found.token == up.token:
		return ours
	case found.token != "", found.size != up.size:
		return another
	case up.sha != "" && found.sha != "":
		if up.sha == found.sha {
			return ours
		}
		return another
	case want != "" && want == have:
		return ours
	case want != "" && len(want) == len(have):
		return another
	}
	return unknown
}

// look asks for the object by HeadObject or, for credentials that may only
// write and list, by a listing.
func (b *Bucket) look(ctx context.Context, key string, attempts int) (stored, error) {
	if !b.headDenied.Load() {
		found, err := b.head(ctx, key, attempts)
		if _, status := reply(err); status != http.StatusForbidden {
			return found, err
		}
		b.headDenied.Store(true)
	}
	if b.listDenied.Load() {
		return stored{}, errDenied
	}
	found, err := b.lookUp(ctx, key, attempts)
	if _, status := reply(err); status == http.StatusForbidden {
		b.listDenied.Store(true)
		return stored{}, errDenied
	}
	return found, err
}

func (b *Bucket) head(ctx context.Context, key string, attempts int) (stored, error) {
	return b.headVersion(ctx, key, "", attempts)
}

// headVersion is head of a version, "" for the newest.
func (b *Bucket) headVersion(ctx context.Context, key, version string, attempts int) (stored, error) {
	in := s3.HeadObjectInput{Bucket: b.bucket(), Key: b.name(key), VersionId: optional(version)}
	if *b.cfg.Checksums {
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	var out *s3.HeadObjectOutput
	err := b.attempt(ctx, attempts, func() (err error) {
		out, err = b.client.HeadObject(ctx, &in)
		return err
	})
	if _, status := reply(err); status == http.StatusNotFound {
		return stored{}, errAbsent
	}
	if err != nil {
		return stored{}, err
	}
	found := stored{
		size: aws.ToInt64(out.ContentLength), etag: aws.ToString(out.ETag), sha: aws.ToString(out.ChecksumSHA256),
		modified: aws.ToTime(out.LastModified).UTC(),
	}
	for name, value := range out.Metadata {
		if strings.EqualFold(name, tokenName) {
			found.token = value
		}
	}
	return found, nil
}

// lookUp finds the object in a listing of the names that start with its own.
func (b *Bucket) lookUp(ctx context.Context, key string, attempts int) (stored, error) {
	in := s3.ListObjectsV2Input{Bucket: b.bucket(), Prefix: b.name(key), MaxKeys: aws.Int32(1)}
	var out *s3.ListObjectsV2Output
	err := b.attempt(ctx, attempts, func() (err error) {
		out, err = b.client.ListObjectsV2(ctx, &in)
		return err
	})
	if err != nil {
		return stored{}, err
	}
	for _, o := range out.Contents {
		if aws.ToString(o.Key) == *in.Prefix {
			return stored{size: aws.ToInt64(o.Size), etag: aws.ToString(o.ETag), modified: aws.ToTime(o.LastModified).UTC()}, nil
		}
	}
	return stored{}, errAbsent
}
