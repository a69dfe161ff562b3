package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// Creating without conditional writes, as at Backblaze B2, which answers 501 to
// a PUT with If-None-Match.
//
// The bucket must keep versions. Create lists the versions of the key and gives
// up if there is one (those under a delete marker do not count), stores its own,
// and lists again. It succeeds only if then every other version is its own. At most one of several writers can see
// that: of two versions that both exist, the one that was stored later is stored
// after the other, so that the writer whose listing comes last sees both. This
// needs a listing that shows what was stored before it began, and no clocks.
//
// Writers that see each other agree by the order of the listing: whoever is not
// the oldest removes its own version and reports storage.ErrExists; the oldest
// waits for that. If the others stay, one of them has succeeded before, or they
// may not remove anything, which cannot be told apart: the oldest then removes
// its own version as well.
//
// What is weaker than a conditional write: credentials that may not delete
// versions cannot remove the losing version. It stays beside the other, readers
// of the past see both, and the outcome is storage.ErrUnsettled for the oldest.

// onlyNew is the condition of a creating request.
func (up upload) onlyNew() *string {
	if up.unconditional {
		return nil
	}
	return aws.String("*")
}

// Conditional reports whether objects are created by conditional writes.
func (b *Bucket) Conditional() bool { return *b.cfg.ConditionalWrites }

// vacant is an error that wraps storage.ErrExists if key is taken, and another
// error unless the bucket keeps versions that can be listed. A key under a delete
// marker is free, as it is to a conditional write at Amazon: before are the
// versions that lie there, which are no rivals.
func (b *Bucket) vacant(ctx context.Context, key string) (before []string, err error) {
	if err := b.keepsVersions(ctx); err != nil {
		return nil, err
	}
	list, hidden, err := b.versionsUnder(ctx, key)
	switch {
	case err != nil && ctx.Err() == nil && withoutVersions(err):
		f := fault.New(fault.Credentials, "%s: ListObjectVersions %s: %s", b.address, key, said(err))
		f.Err = err
		return nil, f.WithRemedy("With `conditional_writes: false` an object is created only after its versions were listed: allow the credentials to list versions (s3:ListBucketVersions; at Backblaze B2 the capability listFiles).")
	case err != nil:
		return nil, b.explain(ctx, "ListObjectVersions", key, err)
	case len(list) > 0 && !hidden:
		return nil, b.taken(key)
	}
	for _, v := range list {
		before = append(before, aws.ToString(v.VersionId))
	}
	return before, nil
}

// hiddenOnly gives the versions under a delete marker over key, if there is one:
// some servers refuse a conditional write there, which Amazon takes.
func (b *Bucket) hiddenOnly(ctx context.Context, key string) (before []string, ok bool) {
	list, hidden, err := b.versionsUnder(ctx, key)
	if err != nil || !hidden {
		return nil, false
	}
	for _, v := range list {
		before = append(before, aws.ToString(v.VersionId))
	}
	return before, true
}

func (b *Bucket) taken(key string) error {
	return fmt.Errorf("create %s in %s: %w", key, b.address, storage.ErrExists)
}

// keepsVersions asks once whether versioning is enabled. Credentials that may not
// ask learn it from the reply to the first object.
func (b *Bucket) keepsVersions(ctx context.Context) error {
	if b.versioned.Load() {
		return nil
	}
	var out *s3.GetBucketVersioningOutput
	err := b.retry(ctx, func() (err error) {
		out, err = b.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b.bucket()})
		return err
	})
	if code, status := reply(err); err != nil {
		if code != "NoSuchBucket" && (status == http.StatusForbidden && kindOf(code, status) == fault.Credentials && code == "AccessDenied" || status == http.StatusNotImplemented) {
			return nil
		}
		return b.explain(ctx, "GetBucketVersioning", "", err)
	}
	if out.Status != types.BucketVersioningStatusEnabled {
		return b.unversioned()
	}
	b.versioned.Store(true)
	return nil
}

func (b *Bucket) unversioned() error {
	return fault.New(fault.Config, "%s keeps no versions, and conditional_writes is false for it: two writers could overwrite each other unnoticed", b.address).
		WithRemedy("Enable versioning for the bucket (a bucket of Backblaze B2 has it always), or use a provider that supports conditional writes: docs/providers.md lists them.")
}

// contestTries bounds how often the oldest of several versions is listed until
// it is alone: some ten seconds.
const contestTries = 7

// elect ends a creating request that had no condition. It is settle for it.
func (b *Bucket) elect(ctx context.Context, op string, up upload, out outcome) (storage.Info, error) {
	if out.err != nil && !out.lost {
		if exists(out.err) {
			return storage.Info{}, b.taken(up.key)
		}
		return storage.Info{}, b.explain(ctx, op, up.key, out.err)
	}
	// Also when the caller has gone: a version that lost must not stay.
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	for try := 1; ; try++ {
		list, err := b.versionsOf(look, up.key)
		list = slices.DeleteFunc(list, func(v types.ObjectVersion) bool { return slices.Contains(up.before, aws.ToString(v.VersionId)) })
		if err != nil {
			return storage.Info{}, b.unsettled(ctx, op, up.key, errors.Join(out.err, err))
		}
		own, err := b.owned(look, up, list)
		if err != nil {
			return storage.Info{}, b.unsettled(ctx, op, up.key, errors.Join(out.err, err))
		}
		switch {
		case len(own) == 0:
			return storage.Info{}, b.unlisted(look, op, up, out, len(list))
		case noVersion(aws.ToString(list[own[0]].VersionId)):
			_ = b.Delete(look, up.key) // it is the only one that there can be
			return storage.Info{}, b.unversioned()
		case len(own) == len(list):
			return b.won(look, up, list)
		case own[0] != 0, try == contestTries:
			return storage.Info{}, b.concede(look, op, up, list, own)
		}
		if b.pause(look, pauseAfter(try, nil)) != nil {
			return storage.Info{}, b.concede(look, op, up, list, own)
		}
	}
}

func noVersion(id string) bool { return id == "" || id == "null" }

// owned gives the places in list of what this upload stored. After a lost reply
// there may be several, of which no id is known: they carry the upload's token.
func (b *Bucket) owned(ctx context.Context, up upload, list []types.ObjectVersion) ([]int, error) {
	var own []int
	for i, v := range list {
		if slices.Contains(up.versions, aws.ToString(v.VersionId)) {
			own = append(own, i)
			continue
		}
		if aws.ToInt64(v.Size) != up.size || len(up.versions) > 0 && len(list) == 1 {
			continue
		}
		found, err := b.headVersion(ctx, up.key, aws.ToString(v.VersionId), b.cfg.MaxAttempts)
		if _, status := reply(err); errors.Is(err, errAbsent) {
			continue // its writer has removed it since
		} else if status == http.StatusForbidden && len(up.versions) > 0 {
			continue // the id is known of what is ours
		}
		if err != nil {
			return nil, err
		}
		if found.token == up.token {
			own = append(own, i)
		}
	}
	return own, nil
}

// unlisted is the end of an upload of which the listing has no version.
func (b *Bucket) unlisted(ctx context.Context, op string, up upload, out outcome, others int) error {
	switch {
	case out.err == nil && len(up.versions) == 0:
		// A bucket without versioning gives no id, and some list no version.
		if found, err := b.look(ctx, up.key, b.cfg.MaxAttempts); err == nil && found.token == up.token {
			_ = b.Delete(ctx, up.key)
		}
		return b.unversioned()
	case out.err == nil:
		return fault.New(fault.Storage, "%s: %s: the server said it stored version %q and does not list it", b.address, up.key, up.versions)
	case others > 0 && !out.mute:
		return b.taken(up.key)
	case out.mute:
		return b.unsettled(ctx, op, up.key, out.err)
	}
	return b.explain(ctx, op, up.key, out.err)
}

// won checks what is stored, which is list, against what was sent.
func (b *Bucket) won(ctx context.Context, up upload, list []types.ObjectVersion) (storage.Info, error) {
	info := storage.Info{Key: up.key, Size: up.size}
	for i, v := range list {
		id, etag := aws.ToString(v.VersionId), up.etag()
		have := aws.ToString(v.ETag)
		if aws.ToInt64(v.Size) != up.size || etag != "" && len(have) == len(etag)+2 && have != `"`+etag+`"` && b.cfg.SSE != "aws:kms" {
			_ = b.removeVersion(ctx, up.key, id)
			return storage.Info{}, fault.New(fault.Storage, "%s: %s: %d bytes with ETag %q were sent, and %d bytes with ETag %s are stored",
				b.address, up.key, up.size, etag, aws.ToInt64(v.Size), have)
		}
		if i == 0 {
			info.Modified = aws.ToTime(v.LastModified).UTC()
			continue
		}
		_ = b.removeVersion(ctx, up.key, id) // a repeated request of ours: the same bytes
	}
	return info, nil
}

// concede removes this upload's versions: another writer's counts.
func (b *Bucket) concede(ctx context.Context, op string, up upload, list []types.ObjectVersion, own []int) error {
	var failed error
	for _, i := range own {
		if err := b.removeVersion(ctx, up.key, aws.ToString(list[i].VersionId)); err != nil {
			failed = err
		}
	}
	switch {
	case failed == nil:
		return b.taken(up.key)
	case own[0] != 0:
		return fmt.Errorf("%w (the version stored here is not the oldest and could not be removed: %s)", b.taken(up.key), said(failed))
	}
	f := fault.New(fault.Storage, "%s: %s %s: another writer stored a version of it at the same time, and which of the two counts could not be settled: %s",
		b.address, op, up.key, said(failed))
	f.Err = errors.Join(storage.ErrUnsettled, failed)
	return f.WithRemedy("Two hosts or processes write the same database into one prefix: give each a prefix of its own. Run `emsafe verify` to see which backup is committed.")
}

func (b *Bucket) removeVersion(ctx context.Context, key, id string) error {
	err := b.retry(ctx, func() error {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucket(), Key: b.name(key), VersionId: aws.String(id)})
		return err
	})
	if code, _ := reply(err); code == "NoSuchKey" || code == "NoSuchVersion" {
		return nil
	}
	return err
}
