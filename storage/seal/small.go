package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
)

// SealSmall is a small text as an age file, which `age -d` opens.
func SealSmall(text []byte, to Recipients) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to.list...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// OpenSmall is the inverse of [SealSmall]; a text of more than limit bytes is
// refused. The error wraps ErrWrongIdentity if no identity opens it.
func OpenSmall(sealed []byte, ids Identities, limit int64) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), slices.Clone(ids.list)...)
	var no *age.NoIdentityMatchError
	switch {
	case errors.As(err, &no):
		return nil, fmt.Errorf("%w: %w", ErrWrongIdentity, err)
	case err != nil:
		return nil, damaged("age: %v", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, damaged("age: %v", err)
	}
	if int64(len(text)) > limit {
		return nil, damaged("more than %d bytes were sealed", limit)
	}
	return text, nil
}
