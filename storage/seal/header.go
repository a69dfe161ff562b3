package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
)

// maxHeader is more than the header of a file for a hundred recipients takes.
const maxHeader = 256 << 10

// OpensHeader is nil if an identity opens the payload of so many bytes, as far
// as its age header tells: the first few kilobytes are fetched, and nothing is
// decrypted but the file's key. The header proves that the key is held; that
// the bytes behind it are what was signed, only [Extract] finds out. The error
// wraps ErrWrongIdentity if no identity opens it.
func OpensHeader(ctx context.Context, fetch Fetch, size int64, ids Identities) error {
	r, err := fetch(ctx, 0, min(size, 4<<10))
	if err != nil {
		return err
	}
	defer r.Close()
	header, err := age.ExtractHeader(r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// More recipients, or post-quantum ones, than those bytes have room for.
		long, ferr := fetch(ctx, 0, min(size, maxHeader))
		if ferr != nil {
			return ferr
		}
		defer long.Close()
		header, err = age.ExtractHeader(long)
	}
	if err != nil {
		return damaged("age header: %v", err)
	}
	_, err = age.DecryptHeader(bytes.Clone(header), slices.Clone(ids.list)...)
	var no *age.NoIdentityMatchError
	if errors.As(err, &no) {
		return fmt.Errorf("%w: %w", ErrWrongIdentity, err)
	}
	if err != nil {
		return damaged("age header: %v", err)
	}
	return nil
}
