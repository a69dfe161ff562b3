package s3

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"emsafe/storage"
)

// List implements storage.Bucket. A page that is cut off, out of order, or
// says there is more without saying where is an error: nothing that a server
// does wrong reads as the end.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		in := s3.ListObjectsV2Input{Bucket: b.bucket()}
		if full := b.cfg.Prefix + prefix; full != "" {
			in.Prefix = aws.String(full)
		}
		if after != "" {
			in.StartAfter = aws.String(b.cfg.Prefix + after)
		}
		last := ""
		for {
			page, err := b.page(ctx, &in)
			if err != nil {
				yield(storage.Info{}, b.explain(ctx, "ListObjectsV2", prefix, err))
				return
			}
			for _, o := range page.Contents {
				info, err := b.entry(aws.ToString(o.Key), prefix, last)
				if err != nil {
					yield(storage.Info{}, b.explain(ctx, "ListObjectsV2", prefix, err))
					return
				}
				last = info.Key
				if info.Key <= after || storage.CheckKey(info.Key) != nil {
					continue // a server without start-after; or somebody else's, like a console's "folder/"
				}
				info.Size, info.Modified = aws.ToInt64(o.Size), aws.ToTime(o.LastModified).UTC()
				if !yield(info, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

func (b *Bucket) page(ctx context.Context, in *s3.ListObjectsV2Input) (page *s3.ListObjectsV2Output, err error) {
	err = b.retry(ctx, func() error {
		page, err = b.client.ListObjectsV2(ctx, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	if aws.ToBool(page.IsTruncated) {
		switch next := aws.ToString(page.NextContinuationToken); {
		case next == "":
			return nil, badReply("the listing says that it goes on and not where")
		case next == aws.ToString(in.ContinuationToken):
			return nil, badReply("the listing goes round in a circle")
		}
	}
	return page, nil
}

func (b *Bucket) entry(name, prefix, last string) (storage.Info, error) {
	key, ok := strings.CutPrefix(name, b.cfg.Prefix)
	if !ok || !strings.HasPrefix(key, prefix) {
		return storage.Info{}, badReply(fmt.Sprintf("the listing of %q has %q", b.cfg.Prefix+prefix, name))
	}
	if key <= last {
		return storage.Info{}, badReply(fmt.Sprintf("the listing has %q after %q", key, last))
	}
	return storage.Info{Key: key}, nil
}
