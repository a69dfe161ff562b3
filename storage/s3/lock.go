package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"emsafe/internal/fault"
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
func (b *Bucket) Relock(ctx context.Context, key string) error {
	if b.cfg.Lock == nil {
		return nil
	}
	mode, until := b.retention(key)
	err := b.retry(ctx, func() error {
		_, err := b.client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
			Bucket: b.bucket(), Key: b.name(key), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(mode), RetainUntilDate: until},
		})
		return err
	})
	if err != nil {
		return b.explain(ctx, "PutObjectRetention", key, err)
	}
	return nil
}

// provenFor is how long the object stays that ProveLock leaves.
const provenFor = 2 * time.Minute

// ProveLock implements storage.Locking: it stores a small locked object, reads
// its retention back, and tries to delete that version.
func (b *Bucket) ProveLock(ctx context.Context) error {
	if b.cfg.Lock == nil {
		return nil
	}
	b.sweepProofs(ctx)
	key, until := unlocked+"lock-"+strings.ToLower(rand.Text()), time.Now().Add(provenFor).UTC().Truncate(time.Second)
	put, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: b.bucket(), Key: b.name(key), Body: bytes.NewReader([]byte("locked\n")), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ObjectLockMode: b.cfg.Lock.mode(), ObjectLockRetainUntilDate: aws.Time(until),
	})
	if err != nil {
		return b.unlockable(ctx, key, err)
	}
	id := aws.ToString(put.VersionId)
	if id == "" || id == "null" {
		return fault.New(fault.Storage, "%s took a locked object and gave it no version: it has no versioning, and nothing in it is locked", b.address).
			WithRemedy("Make a bucket with versioning and Object Lock enabled; with most providers that cannot be done afterwards.")
	}
	got, err := b.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: b.bucket(), Key: b.name(key), VersionId: aws.String(id)})
	switch {
	case err != nil:
		err = b.explain(ctx, "GetObjectRetention", key, err)
	case got.Retention == nil || string(got.Retention.Mode) != string(b.cfg.Lock.mode()) || aws.ToTime(got.Retention.RetainUntilDate).Before(until.Add(-time.Second)):
		err = fault.New(fault.Storage, "%s took a lock until %s and does not have it", b.address, until.Format(time.RFC3339)).
			WithRemedy("This provider does not honour Object Lock. Take another, or take `lock` out of the configuration.")
	}
	if _, derr := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucket(), Key: b.name(key), VersionId: aws.String(id)}); derr == nil {
		return fault.New(fault.Storage, "%s let a locked version be deleted: the lock is not honoured", b.address).
			WithRemedy("Do not rely on this provider against an intruder.")
	} else if code, status := reply(derr); status/100 != 4 && code == "" {
		return b.explain(ctx, "DeleteObject", key, derr)
	}
	return err
}

// sweepProofs removes what earlier proofs left, whose time is over.
func (b *Bucket) sweepProofs(ctx context.Context) {
	past := b.Past()
	for info, err := range past.List(ctx, unlocked+"lock-", "") {
		if err != nil || past.Delete(ctx, info.Key) != nil {
			return // it is small
		}
	}
}

// unlockable gives the refusal of a locked object its remedy.
func (b *Bucket) unlockable(ctx context.Context, key string, err error) error {
	if code, status := reply(err); status == 400 || code == "InvalidRequest" || code == "NotImplemented" {
		f := fault.New(fault.Config, "%s does not take locked objects: %s", b.address, code)
		f.Err = err
		return f.WithRemedy("Make a bucket with Object Lock enabled (it needs versioning), or take `lock` out of the configuration.")
	}
	return b.explain(ctx, "PutObject", key, err)
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
