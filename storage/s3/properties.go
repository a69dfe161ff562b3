package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"emsafe/internal/fault"
	"emsafe/storage"
)

var _ storage.Proving = (*Bucket)(nil)

// Prove implements storage.Proving: create-once of an upload in parts, stored
// checksums, and versions.
func (b *Bucket) Prove(ctx context.Context, key string) ([]storage.Property, error) {
	parts, err := b.proveParts(ctx, key)
	list := []storage.Property{parts}
	if err != nil {
		return list, err
	}
	list = append(list, b.proveChecksum(ctx, key), b.proveVersions(ctx, key))
	if !b.Conditional() {
		list = append(list, storage.Property{Name: "conditional writes", State: storage.Absent,
			Detail: "conditional_writes is false: two writers settle by listing versions, which is weaker (docs/providers.md)"})
	}
	return list, nil
}

// proveParts tries to complete an upload in parts over the object: a provider may
// honour the condition for PutObject alone.
func (b *Bucket) proveParts(ctx context.Context, key string) (storage.Property, error) {
	p := storage.Property{Name: "created once, in parts", State: storage.NotEstablished}
	if !b.Conditional() {
		p.Detail = "there is no condition to test; the versions are listed before and after"
		return p, nil
	}
	m := &multi{b: b, up: upload{key: key, token: "proof"}}
	if err := m.begin(ctx, b.cfg.MaxAttempts); err != nil {
		p.Detail = said(err)
		return p, nil
	}
	err := m.sendPart(ctx, 1, []byte("x"))
	if err == nil {
		err = b.retry(ctx, func() error { return m.complete(ctx) })
	}
	_ = m.abort(ctx)
	switch {
	case err == nil:
		p.State, p.Detail = storage.Absent, "an upload in parts replaced an object"
		return p, fault.New(fault.Storage, "%s let an upload in parts replace %s: CompleteMultipartUpload ignores If-None-Match", b.address, key).
			WithSafe("Only a test object was replaced.").
			WithRemedy("Use a provider that honours `If-None-Match: *` on CompleteMultipartUpload (docs/providers.md), or, in a bucket that keeps versions, set `conditional_writes: false` for the target.")
	case exists(err):
		p.State, p.Detail = storage.Proven, "completing an upload over an object was refused"
	default:
		p.Detail = said(err)
	}
	return p, nil
}

func (b *Bucket) proveChecksum(ctx context.Context, key string) storage.Property {
	p := storage.Property{Name: "stored checksums", State: storage.NotEstablished}
	if !*b.cfg.Checksums {
		p.State, p.Detail = storage.Absent, "not asked for (checksums: false, or the provider's preset); the signed digests of backups do not need them"
		return p
	}
	data, err := storage.ReadAll(ctx, b, key, 1<<10)
	if err != nil {
		p.Detail = "these credentials may not read"
		return p
	}
	sum := sha256.Sum256(data)
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.bucket(), Key: b.name(key), ChecksumMode: types.ChecksumModeEnabled})
	switch {
	case err != nil:
		p.Detail = said(err)
	case aws.ToString(out.ChecksumSHA256) == base64.StdEncoding.EncodeToString(sum[:]):
		p.State, p.Detail = storage.Proven, "the SHA-256 of the object is stored with it"
	default:
		p.State, p.Detail = storage.Absent, "the header was taken, and no SHA-256 is stored; the signed digests of backups do not need it"
	}
	return p
}

// proveVersions looks for a version of the object.
func (b *Bucket) proveVersions(ctx context.Context, key string) storage.Property {
	p := storage.Property{Name: "versions", State: storage.NotEstablished}
	list, err := b.versionsOf(ctx, key)
	switch {
	case err != nil && withoutVersions(err):
		p.Detail = fmt.Sprintf("versions cannot be listed (%s): what somebody deletes or overwrites is not seen from here", said(err))
	case err != nil:
		p.Detail = said(err)
	case len(list) == 0 || noVersion(aws.ToString(list[0].VersionId)):
		p.State, p.Detail = storage.Absent, "the bucket keeps none: what somebody deletes or overwrites is gone"
	default:
		p.State, p.Detail = storage.Proven, "the object has a version of its own, which is listed"
	}
	return p
}
