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
