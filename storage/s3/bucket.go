// Package s3 keeps objects in a bucket of S3 or of a service that speaks its
// protocol.
//
// Start with [Open]. It sends nothing: a target that is down fails when it is
// used. Objects are created with If-None-Match, so a key is never overwritten
// on a provider that knows conditional writes; small ones in one request,
// others as multipart uploads whose parts leave while the reader still grows.
// Every part carries its SHA-256, in the signature and, where the provider
// takes it, as a checksum that is stored; what was stored is read back where
// the credentials allow it. Uploads never hold more than Concurrency+1 parts
// in memory.
//
// What it promises beyond storage.Bucket: a reply that got lost is settled by
// asking what is there, and only if that cannot be asked does Create report
// storage.ErrUnsettled; an unfinished upload is aborted also when the context
// has ended; nothing is retried without bound; an error names endpoint and
// bucket and never a secret.
//
// Where the provider does not know If-None-Match, Config.ConditionalWrites is
// false: objects are then created in a bucket that keeps versions, and two
// writers settle by listing them; unconditional.go says how, and what is weaker.
//
// What it cannot do: make a provider that ignores If-None-Match refuse a
// second writer, or abort an upload whose id never arrived. Both need a
// setting at the provider: versioning, and a rule that ends old uploads.
package s3

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"emsafe/storage"
)

// Bucket is an S3 bucket, or the part of one below a prefix.
type Bucket struct {
	cfg     Config // with the preset's values filled in
	client  *s3.Client
	address string
	buffers sync.Pool // of *[]byte, each PartSize long
	pause   func(ctx context.Context, d time.Duration) error

	// What the credentials turned out not to allow is not asked again: each
	// refused request is an alarm in somebody's log.
	headDenied, listDenied atomic.Bool

	inheritsRegion bool // from the AWS environment or profile

	versioned atomic.Bool // it is known that the bucket keeps versions
}

var _ storage.Bucket = (*Bucket)(nil)

// Open prepares the use of a bucket; only the credentials' own chain may use
// the network, and only when they are first needed. A configuration that
// cannot work is fault.Config.
func Open(ctx context.Context, cfg Config) (*Bucket, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	client, inherits, err := newClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	b := &Bucket{cfg: cfg, client: client, inheritsRegion: inherits, pause: sleep}
	reached := cfg
	reached.Endpoint = b.endpoint()
	b.address = reached.address()
	b.buffers.New = func() any { p := make([]byte, cfg.PartSize); return &p }
	return b, nil
}

// String is s3://bucket/prefix, with the endpoint if it is not Amazon's own.
func (b *Bucket) String() string { return b.address }

func (c Config) address() string {
	u := url.URL{Scheme: "s3", Host: c.Bucket, Path: strings.TrimSuffix("/"+c.Prefix, "/")}
	if c.Endpoint != "" {
		u.RawQuery = "endpoint=" + c.Endpoint
	}
	return u.String()
}

func (b *Bucket) name(key string) *string { return aws.String(b.cfg.Prefix + key) }

func (b *Bucket) bucket() *string { return aws.String(b.cfg.Bucket) }

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	err := b.retry(ctx, func() error {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucket(), Key: b.name(key)})
		return err
	})
	if code, _ := reply(err); code == "NoSuchKey" {
		return nil
	}
	if err != nil {
		return b.explain(ctx, "DeleteObject", key, err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("while waiting to try again: %w", ctx.Err())
	}
}
