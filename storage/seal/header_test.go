package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

func TestOpensHeader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		quantum bool
		keys    int
	}{"one": {false, 1}, "post-quantum": {true, 1}, "many post-quantum": {true, 12}, "many": {false, 100}} {
		var lines []string
		var mine Identities
		for range c.keys {
			secret, recipient, err := NewIdentity(c.quantum)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, recipient)
			if mine, err = ParseIdentities([]byte(secret), nil); err != nil {
				t.Fatal(err)
			}
		}
		to, err := ParseRecipients(lines...)
		if err != nil {
			t.Fatal(err)
		}
		var sealed bytes.Buffer
		w, err := NewWriter(&sealed, Options{Recipients: to, PageSize: 4096})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		s, _, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		fetched := int64(0)
		fetch := func(data []byte) Fetch {
			return func(_ context.Context, off, n int64) (io.ReadCloser, error) {
				fetched += n
				return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
			}
		}
		if err := OpensHeader(t.Context(), fetch(sealed.Bytes()), s.Size, mine); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		secret, _, err := NewIdentity(c.quantum)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ParseIdentities([]byte(secret), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := OpensHeader(t.Context(), fetch(sealed.Bytes()), s.Size, other); !errors.Is(err, ErrWrongIdentity) {
			t.Errorf("%s, another key: %v", name, err)
		}
		broken := bytes.Clone(sealed.Bytes())
		broken[60] ^= 1
		if err := OpensHeader(t.Context(), fetch(broken), s.Size, mine); err == nil {
			t.Errorf("%s, a broken header was opened", name)
		}
		if name == "one" && fetched > 3*4096 {
			t.Errorf("%d bytes were fetched", fetched)
		}
	}
}
