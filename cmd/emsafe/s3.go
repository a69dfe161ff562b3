package main

import (
	"cmp"
	"context"
	"time"

	"emsafe/internal/command"
	"emsafe/internal/config"
	"emsafe/storage"
	"emsafe/storage/s3"
)

// openS3 opens an S3 target; its secrets are fetched now and not before.
func openS3(ctx context.Context, t config.Target, limited func() bool, lock time.Duration) (storage.Bucket, error) {
	bucket, prefix, _ := t.Bucket()
	cfg := s3.Config{
		Bucket: bucket, Prefix: prefix, Provider: t.Provider, Endpoint: t.Endpoint, Region: t.Region, PathStyle: t.PathStyle,
		ConditionalWrites: t.ConditionalWrites, Checksums: t.Checksums,
		CAFile: t.CAFile, StorageClass: t.StorageClass, SSE: t.SSE, KMSKeyID: t.KMSKeyID, UploadLimit: t.UploadLimit, UploadLimited: limited,
	}
	if lock > 0 {
		cfg.Lock = &s3.Lock{Mode: cmp.Or(t.LockMode, "compliance"), For: lock}
	}
	var secret, token string
	for _, s := range []struct {
		from config.Secret
		into *string
	}{{t.AccessKeyID, &cfg.AccessKeyID}, {t.SecretAccessKey, &secret}, {t.SessionToken, &token}} {
		value, err := s.from.Reveal(ctx, runForSecret)
		if err != nil {
			return nil, err
		}
		*s.into = value
	}
	cfg.SecretAccessKey, cfg.SessionToken = s3.Secret(secret), s3.Secret(token)
	return s3.Open(ctx, cfg)
}

func runForSecret(ctx context.Context, argv []string) ([]byte, error) {
	return command.Run(ctx, argv, command.Options{})
}

// settled writes into a target what the AWS environment or profile says of its
// address: a service that runs later has another environment, and would look for
// the bucket elsewhere. Credentials stay where they are, which is said.
func (p *program) settled(ctx context.Context, name string, t config.Target) (config.Target, error) {
	if _, _, ok := t.Bucket(); !ok {
		return t, nil
	}
	opened, err := openBucket(ctx, t, nil, 0)
	if err != nil {
		return t, err
	}
	b, ok := opened.(*s3.Bucket)
	if !ok {
		return t, nil
	}
	from := b.Inherited(ctx)
	if from.Endpoint != "" {
		t.Endpoint = from.Endpoint
		p.print.note("target %s: the endpoint %s is from the AWS environment or profile (AWS_ENDPOINT_URL), and is written to the configuration", name, t.Endpoint)
	}
	if from.Region != "" {
		t.Region = from.Region
		p.print.note("target %s: the region %s is from the AWS environment or profile (AWS_REGION), and is written to the configuration", name, t.Region)
	}
	if from.Credentials != "" {
		p.print.note("target %s: the credentials are not in the configuration but from the AWS credential chain (%s): whatever runs emsafe later, as a service does, must find them as well, or set access_key_id and secret_access_key",
			name, from.Credentials)
	}
	return t, nil
}
