package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// provenFor is how long the object stays that ProveLock leaves: longer than the
// clock here may be behind the server's, which refuses a lock that is over.
const provenFor = 20 * time.Minute

// ProveLock implements storage.Locking.
func (b *Bucket) ProveLock(ctx context.Context) (storage.LockProof, error) {
	var proof storage.LockProof
	if b.cfg.Lock == nil {
		return proof, nil
	}
	b.sweepProofs(ctx)
	until := time.Now().Add(provenFor).UTC().Truncate(time.Second)
	key, id, err := b.putProof(ctx, until)
	if err != nil {
		return proof, b.unlockable(ctx, key, err)
	}
	if id == "" || id == "null" {
		return proof, fault.New(fault.Storage, "%s took a locked object and gave it no version: it has no versioning, and nothing in it is locked", b.address).
			WithRemedy("Make a bucket with versioning and Object Lock enabled; with most providers that cannot be done afterwards.")
	}
	got, err := b.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: b.bucket(), Key: b.name(key), VersionId: aws.String(id)})
	_, status := reply(err)
	switch {
	case status == http.StatusForbidden: // the host that backs up need not be able to
	case err != nil:
		return proof, b.explain(ctx, "GetObjectRetention", key, err)
	case got.Retention == nil || string(got.Retention.Mode) != string(b.cfg.Lock.mode()) || aws.ToTime(got.Retention.RetainUntilDate).Before(until.Add(-time.Second)):
		return proof, fault.New(fault.Storage, "%s took a lock until %s and does not have it", b.address, until.Format(time.RFC3339)).
			WithRemedy("This provider does not honour Object Lock. Take another, or take `lock` out of the configuration.")
	default:
		proof.Until = aws.ToTime(got.Retention.RetainUntilDate).UTC()
	}
	proof.Tested, err = b.refuses(ctx, key, id)
	return proof, err
}

// refuses tries to delete the locked version. A refusal counts only if the same
// credentials can delete a version that is not locked.
func (b *Bucket) refuses(ctx context.Context, key, id string) (bool, error) {
	remove := func(key, id string) error {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucket(), Key: b.name(key), VersionId: aws.String(id)})
		return err
	}
	err := remove(key, id)
	if err == nil {
		return false, fault.New(fault.Storage, "%s let a locked version be deleted: the lock is not honoured", b.address).
			WithRemedy("Do not rely on this provider against an intruder.")
	}
	if _, status := reply(err); status/100 != 4 {
		return false, b.explain(ctx, "DeleteObject", key, err)
	}
	free, id, err := b.putProof(ctx, time.Time{})
	if err != nil {
		return false, b.explain(ctx, "PutObject", free, err)
	}
	return remove(free, id) == nil, nil
}

// putProof stores a small object under a fresh key, locked or not.
func (b *Bucket) putProof(ctx context.Context, until time.Time) (key, version string, err error) {
	key = unlocked + "lock-" + strings.ToLower(rand.Text())
	in := s3.PutObjectInput{Bucket: b.bucket(), Key: b.name(key), IfNoneMatch: upload{unconditional: !*b.cfg.ConditionalWrites}.onlyNew(), Body: bytes.NewReader([]byte("locked\n"))}
	if !until.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = b.cfg.Lock.mode(), aws.Time(until)
	}
	b.digest(&in, []byte("locked\n"))
	put, err := b.client.PutObject(ctx, &in)
	if err != nil {
		return key, "", err
	}
	return key, aws.ToString(put.VersionId), nil
}

// sweepProofs removes what earlier proofs left, whose time is over.
func (b *Bucket) sweepProofs(ctx context.Context) {
	past := b.Past()
	for info, err := range past.List(ctx, unlocked+"lock-", "") {
		if err != nil {
			return // it is small
		}
		if err := past.Delete(ctx, info.Key); err != nil && !errors.Is(err, storage.ErrLocked) {
			return
		}
	}
}

// unlockable gives the refusal of a locked object its remedy.
func (b *Bucket) unlockable(ctx context.Context, key string, err error) error {
	if code, status := reply(err); status == http.StatusBadRequest || status == http.StatusNotImplemented || code == "InvalidRequest" || code == "NotImplemented" {
		f := fault.New(fault.Config, "%s does not take locked objects: %s", b.address, said(err))
		f.Err = err
		return f.WithRemedy("Make a bucket with Object Lock enabled (it needs versioning), or take `lock` out of the configuration.")
	}
	return b.explain(ctx, "PutObject", key, err)
}
