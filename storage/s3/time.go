package s3

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"emsafe/storage"
)

var _ storage.Timed = (*Bucket)(nil)

// Time implements storage.Timed with the date of an answer, whatever else it
// says: a server refuses requests of a clock that is far off, and says its own.
func (b *Bucket) Time(ctx context.Context) (time.Time, error) {
	var header http.Header
	_, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: b.bucket(), Prefix: aws.String(b.cfg.Prefix + "repository.json"), MaxKeys: aws.Int32(1)}, func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("date", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
				out, metadata, err := next.HandleDeserialize(ctx, in)
				if resp, ok := out.RawResponse.(*smithyhttp.Response); ok {
					header = resp.Header
				}
				return out, metadata, err
			}), middleware.After)
		})
	})
	var refused *awshttp.ResponseError
	if errors.As(err, &refused) && header == nil {
		header = refused.HTTPResponse().Header
	}
	at, derr := http.ParseTime(header.Get("Date"))
	switch {
	case derr == nil:
		return at, nil
	case err != nil:
		return time.Time{}, b.explain(ctx, "ListObjectsV2", "repository.json", err)
	}
	return time.Time{}, derr
}
