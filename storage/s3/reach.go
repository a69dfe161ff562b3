package s3

import "context"

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
	r := Reach{Endpoint: b.cfg.Endpoint, Bucket: b.cfg.Bucket, Prefix: b.cfg.Prefix, Region: o.Region, PathStyle: *b.cfg.PathStyle, CAFile: b.cfg.CAFile}
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
