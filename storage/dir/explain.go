package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// explain gives an error of the file system its row of the error table. The
// bucket's own sentinels, a context's end and a reader's errors pass as they
// are: only what carries an errno is about the folder.
func explain(err error, folder string) error {
	var (
		errno  syscall.Errno
		source sourceError
	)
	switch {
	case err == nil, fault.Find(err) != nil, errors.As(err, &source),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, storage.ErrExists), errors.Is(err, storage.ErrNotExist):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(fault.NoSpace, "target folder %s is full: %w", folder, err)
	case errors.Is(err, syscall.EROFS):
		return fault.New(fault.Permission, "target folder %s is on a read-only file system: %w", folder, err).
			WithRemedy("Remount it for writing; a disk with errors is remounted read-only by the kernel: see dmesg.")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Permission, "target folder %s: %w", folder, err)
	case errors.As(err, &errno):
		return fault.New(fault.Storage, "target folder %s: %w", folder, err)
	}
	return err
}

// missing is for errors about the target folder itself.
func missing(folder string, err error) error {
	if gone(err) {
		return fault.New(fault.NoBucket, "target folder %s does not exist; is its disk mounted? (%w)", folder, err).
			WithRemedy("Mount the disk, or correct the target's url.")
	}
	return fmt.Errorf("%s: %w", folder, err)
}

// linkRefused: this file system, or a policy on it, has no hard links.
func linkRefused(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
