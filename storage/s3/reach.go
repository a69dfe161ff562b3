package s3

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Reach is what another program needs to use the same bucket.
type Reach struct {
	Endpoint  string // https://host[:port]
	Bucket    string
	Prefix    string // with a slash at its end, or empty
	Region    string
	PathStyle bool
	CAFile    string

	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    Secret // may be empty
}

// Reach tells how the bucket is reached. The credentials are those of now:
// some end within the hour.
func (b *Bucket) Reach(ctx context.Context) (Reach, error) {
	o := b.client.Options()
	r := Reach{Endpoint: b.endpoint(), Bucket: b.cfg.Bucket, Prefix: b.cfg.Prefix, Region: o.Region, PathStyle: *b.cfg.PathStyle, CAFile: b.cfg.CAFile}
	if r.Endpoint == "" {
		r.Endpoint = "https://s3." + r.Region + ".amazonaws.com"
	}
	c, err := o.Credentials.Retrieve(ctx)
	if err != nil {
		return Reach{}, b.explain(ctx, "credentials", "", err)
	}
	r.AccessKeyID, r.SecretAccessKey, r.SessionToken = c.AccessKeyID, Secret(c.SecretAccessKey), Secret(c.SessionToken)
	return r, nil
}

// endpoint is where requests go, "" for Amazon's own of the region: what the
// configuration says or, without that, the AWS environment or profile.
func (b *Bucket) endpoint() string {
	if b.cfg.Endpoint != "" {
		return b.cfg.Endpoint
	}
	return strings.TrimSuffix(aws.ToString(b.client.Options().BaseEndpoint), "/")
}

// Inherited is what the configuration does not say, and the AWS environment or
// profile does: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, and the
// settings of the profile. Another process may find something else there.
type Inherited struct {
	Endpoint    string // "" if the configuration has it, or nobody
	Region      string // likewise
	Credentials string // where they are from; "" if the configuration has them
}

// Inherited tells what of this bucket's address and credentials is not from its
// configuration.
func (b *Bucket) Inherited(ctx context.Context) Inherited {
	var i Inherited
	if b.cfg.Endpoint == "" {
		i.Endpoint = b.endpoint()
	}
	if b.cfg.Region == "" && b.inheritsRegion {
		i.Region = b.region()
	}
	if b.cfg.AccessKeyID == "" {
		if c, err := b.client.Options().Credentials.Retrieve(ctx); err == nil {
			i.Credentials = c.Source
		}
	}
	return i
}
