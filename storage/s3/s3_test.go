package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/storagetest"
)

// opened opens a bucket whose pauses between attempts take no time.
func opened(t *testing.T, cfg Config) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.pause = func(ctx context.Context, d time.Duration) error {
		if d <= 0 || d > longPause {
			t.Errorf("a pause of %v", d)
		}
		return ctx.Err()
	}
	return b
}

// served starts versitygw with one bucket.
func served(t *testing.T) (*storagetest.Server, Config) {
	t.Helper()
	s := storagetest.VersityGW(t)
	if err := s.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	return s, Config{Bucket: "backups", Endpoint: s.Endpoint, AccessKeyID: s.Access, SecretAccessKey: Secret(s.Secret)}
}

// refused fails the test unless err is of kind, and its message has the words
// and no secret; it shows the message.
func refused(t *testing.T, err error, kind *fault.Kind, words ...string) {
	t.Helper()
	t.Logf("%v", err)
	if !errors.Is(err, kind) {
		t.Fatalf("want %s of %v", kind.ID, err)
	}
	t.Logf("[%s, exit %d] %s", kind.ID, fault.Exit(err), fault.Find(err).Remedy)
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", err), "-secret") {
		t.Errorf("%q tells the secret", err)
	}
}

func TestConformance(t *testing.T) {
	_, cfg := served(t)
	var n atomic.Int32
	storagetest.Conformance(t, func(t *testing.T) storage.Bucket {
		cfg := cfg
		cfg.Prefix = fmt.Sprintf("prefix/%d", n.Add(1))
		return opened(t, cfg)
	})
	noUploads(t, opened(t, cfg))
}

// noUploads fails the test if the bucket holds parts of unfinished uploads.
func noUploads(t *testing.T, b *Bucket) {
	t.Helper()
	out, err := b.client.ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: b.bucket()})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		t.Errorf("parts of %s were left", *u.Key)
	}
}
