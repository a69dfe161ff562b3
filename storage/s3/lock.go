package s3

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"emsafe/storage"
)

// Lock is Object Lock: for a time nobody can delete or replace the version of
// an object that was stored, with compliance not even the owner of the account.
type Lock struct {
	Mode string        // compliance or governance
	For  time.Duration // from when an object is stored; storage.LockSlack is added
}

var _ storage.Locking = (*Bucket)(nil)

// unlocked are keys of objects that are only passing through.
const unlocked = "probes/"

// LockedUntil implements storage.Locking.
func (b *Bucket) LockedUntil(at time.Time) time.Time {
	if b.cfg.Lock == nil {
		return time.Time{}
	}
	return at.Add(b.cfg.Lock.For).UTC().Truncate(time.Second)
}

// retention is what an upload of key asks for; nil for what is not locked.
func (b *Bucket) retention(key string) (types.ObjectLockMode, *time.Time) {
	if b.cfg.Lock == nil || strings.HasPrefix(key, unlocked) {
		return "", nil
	}
	return b.cfg.Lock.mode(), aws.Time(b.LockedUntil(time.Now()).Add(storage.LockSlack))
}

func (l *Lock) mode() types.ObjectLockMode {
	if l.Mode == "governance" {
		return types.ObjectLockModeGovernance
	}
	return types.ObjectLockModeCompliance
}

// Relock implements storage.Locking: an object that must outlive what was stored
// with it is locked anew, from now on.
func (b *Bucket) Relock(ctx context.Context, key string) error { return b.relock(ctx, key, "") }

// relock is Relock of a version, "" for the newest.
func (b *Bucket) relock(ctx context.Context, key, version string) error {
	if b.cfg.Lock == nil {
		return nil
	}
	mode, until := b.retention(key)
	in := s3.PutObjectRetentionInput{
		Bucket: b.bucket(), Key: b.name(key), VersionId: optional(version),
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(mode), RetainUntilDate: until},
	}
	err := b.retry(ctx, func() error {
		_, err := b.client.PutObjectRetention(ctx, &in, b.digested)
		return err
	})
	if err == nil {
		return nil
	}
	// Nobody can shorten a lock; one that is longer already is as good.
	got, gerr := b.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: in.Bucket, Key: in.Key, VersionId: in.VersionId})
	if gerr == nil && got.Retention != nil && !aws.ToTime(got.Retention.RetainUntilDate).Before(*until) {
		return nil
	}
	return b.explain(ctx, "PutObjectRetention", key, err)
}

// digested has the SDK send a digest of the body, without which S3 takes nothing
// that is about locks: a checksum, or MD5 where the provider knows no others.
func (b *Bucket) digested(o *s3.Options) {
	if *b.cfg.Checksums {
		return // the SDK's own: CRC32
	}
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		for _, id := range []string{"AWSChecksum:SetupInputContext", "AWSChecksum:ComputeInputPayloadChecksum"} {
			_, ierr := stack.Initialize.Remove(id)
			_, ferr := stack.Finalize.Remove(id)
			if ierr != nil && ferr != nil {
				return fmt.Errorf("the SDK has no %s any more", id)
			}
		}
		return smithyhttp.AddContentChecksumMiddleware(stack)
	})
}

// Relock implements storage.Locking: the version that counts is the one to keep.
func (p *past) Relock(ctx context.Context, key string) error {
	id, err := p.version(ctx, key)
	if err != nil {
		return err
	}
	return p.relock(ctx, key, id)
}

// Delete implements storage.Bucket over all versions: without them a locked
// bucket would only ever grow. What is still locked stays, and the error wraps
// storage.ErrLocked.
func (p *past) Delete(ctx context.Context, key string) error {
	if p.cfg.Lock == nil {
		return p.Bucket.Delete(ctx, key)
	}
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	page, err := p.versionPage(ctx, &s3.ListObjectVersionsInput{Bucket: p.bucket(), Prefix: p.name(key)})
	if err != nil {
		return p.explain(ctx, "ListObjectVersions", key, err)
	}
	for _, v := range page.Versions {
		if aws.ToString(v.Key) != p.cfg.Prefix+key {
			continue
		}
		if err := p.deleteVersion(ctx, key, v.VersionId); err != nil {
			return err
		}
	}
	for _, m := range page.DeleteMarkers {
		if aws.ToString(m.Key) != p.cfg.Prefix+key {
			continue
		}
		if err := p.deleteVersion(ctx, key, m.VersionId); err != nil {
			return err
		}
	}
	return nil
}

func (p *past) deleteVersion(ctx context.Context, key string, id *string) error {
	err := p.retry(ctx, func() error {
		_, err := p.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: p.bucket(), Key: p.name(key), VersionId: id})
		return err
	})
	if err == nil {
		return nil
	}
	got, rerr := p.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: p.bucket(), Key: p.name(key), VersionId: id})
	if rerr == nil && got.Retention != nil {
		if until := aws.ToTime(got.Retention.RetainUntilDate); until.After(time.Now()) {
			return &storage.LockedError{Key: key, Until: until.UTC()}
		}
	}
	return p.explain(ctx, "DeleteObject", key, err)
}
