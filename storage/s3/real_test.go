package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/storagetest"
)

func TestBadCredentials(t *testing.T) {
	_, cfg := served(t)
	for name, c := range map[string]struct {
		access string
		secret Secret
		words  string
	}{
		"secret": {cfg.AccessKeyID, "wrong-secret", "SignatureDoesNotMatch"},
		"key":    {"nobody", "wrong-secret", "InvalidAccessKeyId"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.AccessKeyID, cfg.SecretAccessKey = c.access, c.secret
			b := opened(t, cfg)
			every(t, b, func(t *testing.T, err error) {
				refused(t, err, fault.Credentials, c.words, "backups", cfg.Endpoint)
			})
			t.Run("CreateMedium", func(t *testing.T) {
				refused(t, create(t, b, 7<<20), fault.Credentials, c.words)
			})
		})
	}
}

// No credentials anywhere: the chain's end is a credentials fault, at once.
func TestNoCredentials(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "none"))
	b := opened(t, Config{Bucket: "backups", Endpoint: "http://127.0.0.1:9"})
	refused(t, listErr(t, b), fault.Credentials, "no usable credentials")
}

// The environment's credentials are used when none are configured.
func TestCredentialChain(t *testing.T) {
	_, cfg := served(t)
	t.Setenv("AWS_ACCESS_KEY_ID", cfg.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", string(cfg.SecretAccessKey))
	t.Setenv("AWS_SESSION_TOKEN", "")
	cfg.AccessKeyID, cfg.SecretAccessKey = "", ""
	if err := create(t, opened(t, cfg), 10); err != nil {
		t.Error(err)
	}
}

func TestMissingBucket(t *testing.T) {
	_, cfg := served(t)
	cfg.Bucket = "nowhere"
	b := opened(t, cfg)
	every(t, b, func(t *testing.T, err error) { refused(t, err, fault.NoBucket, "NoSuchBucket", "nowhere") })
	refused(t, create(t, b, 7<<20), fault.NoBucket, "NoSuchBucket")
}

func TestConnectionRefused(t *testing.T) {
	s, cfg := served(t)
	b := opened(t, cfg)
	s.Close()
	every(t, b, func(t *testing.T, err error) { refused(t, err, fault.Storage, "refused", cfg.Endpoint) })
}

// A user who may only put and list, which is all that a backup needs.
func TestWriteOnly(t *testing.T) {
	s, cfg := served(t)
	b := restricted(t, s, cfg, "s3:PutObject", "s3:ListBucket", "s3:AbortMultipartUpload")
	for _, size := range []int{0, 100, 9 << 20} {
		key := strings.Repeat("k", size%7+1)
		data := bytes.Repeat([]byte("x"), size)
		info, err := b.Create(t.Context(), key, bytes.NewReader(data), -1)
		if err != nil || info.Size != int64(size) || info.Modified.IsZero() {
			t.Errorf("create %d bytes: %+v, %v", size, info, err)
		}
		if _, err := b.Create(t.Context(), key, bytes.NewReader(data), -1); !errors.Is(err, storage.ErrExists) {
			t.Errorf("create %d bytes again: %v", size, err)
		}
	}
	if !b.headDenied.Load() || b.listDenied.Load() {
		t.Error("it was not noticed what is denied")
	}
	_, err := b.Open(t.Context(), "k", 0, -1)
	refused(t, err, fault.Credentials, "GetObject", "AccessDenied")
	refused(t, b.Delete(t.Context(), "k"), fault.Credentials, "DeleteObject", "AccessDenied")
	if err := listErr(t, b); err != nil {
		t.Error(err)
	}
	noUploads(t, opened(t, cfg))
}

func TestListOnly(t *testing.T) {
	s, cfg := served(t)
	b := restricted(t, s, cfg, "s3:ListBucket")
	for _, size := range []int{100, 7 << 20, 9 << 20} {
		err := create(t, b, size)
		refused(t, err, fault.Credentials, "AccessDenied")
	}
}

func TestReadOnly(t *testing.T) {
	s, cfg := served(t)
	if err := create(t, opened(t, cfg), 10); err != nil {
		t.Fatal(err)
	}
	b := restricted(t, s, cfg, "s3:GetObject")
	refused(t, listErr(t, b), fault.Credentials, "ListObjectsV2", "AccessDenied")
	if data, err := storage.ReadAll(t.Context(), b, "key", 100); err != nil || len(data) != 10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func restricted(t *testing.T, s *storagetest.Server, cfg Config, actions ...string) *Bucket {
	t.Helper()
	if err := errors.Join(s.AddUser("user", "user-secret"), s.Allow(cfg.Bucket, "user", actions...)); err != nil {
		t.Fatal(err)
	}
	cfg.AccessKeyID, cfg.SecretAccessKey = "user", "user-secret"
	return opened(t, cfg)
}

// A server on a disk that is full: its own fault, named as such, and room
// again for what fits.
func TestServerFull(t *testing.T) {
	s, err := storagetest.StartVersityGW(tmpfs(t, "size=24m"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	b := opened(t, Config{Bucket: "backups", Endpoint: s.Endpoint, AccessKeyID: s.Access, SecretAccessKey: Secret(s.Secret)})
	refused(t, create(t, b, 60<<20), fault.NoSpace, "507", "backups", s.Endpoint)
	noUploads(t, b)
	if err := create(t, b, 5<<20); err != nil {
		t.Errorf("what fits: %v", err)
	}
	for i := range 8 {
		_, err = b.Create(t.Context(), strings.Repeat("f", i+1), bytes.NewReader(make([]byte, 4<<20)), 4<<20)
		if err != nil {
			break
		}
	}
	refused(t, err, fault.NoSpace, "507")
}

// An interrupt in the middle of an upload leaves neither object nor parts.
func TestInterrupted(t *testing.T) {
	_, cfg := served(t)
	b := opened(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	body := io.MultiReader(bytes.NewReader(make([]byte, 20<<20)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, nil
	}), bytes.NewReader(make([]byte, 20<<20)))
	_, err := b.Create(ctx, "key", body, -1)
	if !errors.Is(err, context.Canceled) || fault.Exit(err) != fault.Interrupted.Exit {
		t.Errorf("%v, exit %d", err, fault.Exit(err))
	}
	noUploads(t, b)
	if _, err := b.Open(t.Context(), "key", 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Versioning changes nothing in what a Bucket promises. (A key that was
// deleted is free again on Amazon and, with versioning, not on versitygw:
// nothing here may count on either.)
func TestVersionedBucket(t *testing.T) {
	s, cfg := served(t)
	if err := s.Versioning(cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	b := opened(t, cfg)
	if err := create(t, b, 10); err != nil {
		t.Fatal(err)
	}
	if err := create(t, b, 10); !errors.Is(err, storage.ErrExists) {
		t.Errorf("create again: %v", err)
	}
	if err := b.Delete(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), "key", 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open after delete: %v", err)
	}
}

// The server's time is known also where nothing else is allowed.
func TestTime(t *testing.T) {
	_, cfg := served(t)
	for _, secret := range []Secret{cfg.SecretAccessKey, "wrong"} {
		cfg.SecretAccessKey = secret
		at, err := opened(t, cfg).Time(t.Context())
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("%v %v", at, err)
		}
	}
	cfg.Endpoint = "http://127.0.0.1:9"
	if at, err := opened(t, cfg).Time(t.Context()); !errors.Is(err, fault.Storage) {
		t.Errorf("%v %v", at, err)
	}
}
