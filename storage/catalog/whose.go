package catalog

import (
	"context"
	"errors"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

// Founding is what the repository document of a target says of itself.
type Founding struct {
	Repository  string
	Host        string
	CreatedAt   time.Time
	Fingerprint string // of the key that signed it, whoever that is; "" if no valid signature is on it
}

// Whose reads the repository document for people: whether or not its signature
// counts here. What it returns is what the holder of some key claims, and
// nothing may be decided by it. The error wraps storage.ErrNotExist if the target
// has no repository.
func Whose(ctx context.Context, b storage.Bucket) (Founding, error) {
	object, err := storage.ReadAll(ctx, b, repositoryKey, maxRepository)
	if err != nil {
		return Founding{}, err
	}
	text, fingerprint, err := seal.Claimed(seal.NamespaceRepository, object)
	if err != nil {
		return Founding{}, nil //nolint:nilerr // it is there, and says nothing that could be passed on
	}
	var doc repository
	if err := seal.Decode(text, &doc); err != nil {
		return Founding{}, nil //nolint:nilerr // as above
	}
	return Founding{doc.Repository, doc.Host, doc.CreatedAt.UTC(), fingerprint}, nil
}

// Listed reports whether the target lists a repository document, for credentials
// that may not read it.
func Listed(ctx context.Context, b storage.Bucket) (bool, error) {
	for info, err := range b.List(ctx, repositoryKey, "") {
		if err != nil {
			return false, err
		}
		if info.Key == repositoryKey {
			return true, nil
		}
	}
	return false, nil
}

// IsAbsent reports whether err says that a target has no repository.
func IsAbsent(err error) bool {
	return errors.Is(err, storage.ErrNotExist) || errors.Is(err, fault.NotFound)
}
