package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pages makes n bytes that compress about as a database does.
func pages(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+64)
	for len(b) < n {
		b = fmt.Appendf(b, "row %d: %x %s;", len(b), r.Uint64(), strings.Repeat("text ", int(r.Uint32()%8)))
	}
	return b[:n]
}

// memory is a WriterAt over a slice.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func fetchFrom(sealed []byte) Fetch {
	return func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		if off+n > int64(len(sealed)) {
			n = int64(len(sealed)) - off
		}
		return io.NopCloser(bytes.NewReader(sealed[off : off+n])), nil
	}
}

type key struct {
	secret string
	ids    Identities
	to     Recipients
}

func newKey(t testing.TB, pq bool) key {
	t.Helper()
	secret, recipient, err := NewIdentity(pq)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := ParseIdentities([]byte(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseRecipients(recipient)
	if err != nil {
		t.Fatal(err)
	}
	return key{secret, ids, to}
}

func sealBytes(t testing.TB, to Recipients, pageSize int, data []byte) ([]byte, Sealed, Content) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Options{Recipients: to, PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	s, c, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s, c
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, pq := range []bool{false, true} {
		k := newKey(t, pq)
		for _, c := range []struct{ size, page int }{
			{512, 512}, {4096, 4096}, {FrameSize, 4096}, {FrameSize + 4096, 4096}, {3 * FrameSize, 65536}, {21<<20 + 512, 512},
		} {
			data := pages(c.size, 7)
			sealed, s, content := sealBytes(t, k.to, c.page, data)
			out := make(memory, c.size)
			if err := Extract(t.Context(), fetchFrom(sealed), k.ids, s, content, out); err != nil {
				t.Fatalf("size %d page %d: %v", c.size, c.page, err)
			}
			if !bytes.Equal(out, data) {
				t.Fatalf("size %d page %d: other bytes came back", c.size, c.page)
			}
			if s.Size != int64(len(sealed)) || content.Size != int64(c.size) {
				t.Fatalf("described as %+v %+v", s, content)
			}
		}
	}
}

// The digest is specified in docs/format.md; this is an independent reading.
func TestDigestAsSpecified(t *testing.T) {
	t.Parallel()
	k := newKey(t, false)
	data := pages(1500*512, 3)
	_, _, c := sealBytes(t, k.to, 512, data)
	h := sha256.New()
	h.Write([]byte("emsafe-pages-1"))
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, 512), 1500))
	for _, group := range [][2]int{{0, 1024}, {1024, 1500}} {
		g := sha256.New()
		for i := group[0]; i < group[1]; i++ {
			p := sha256.Sum256(data[i*512 : (i+1)*512])
			g.Write(p[:])
		}
		h.Write(g.Sum(nil))
	}
	if want := Digest(h.Sum(nil)); c.Digest != want {
		t.Fatalf("digest %s, specified %s", c.Digest, want)
	}
}

func TestStockToolsOpenAPayload(t *testing.T) {
	t.Parallel()
	k := newKey(t, false)
	data := pages(5<<20, 5)
	sealed, _, _ := sealBytes(t, k.to, 4096, data)
	dir := t.TempDir()
	for name, b := range map[string][]byte{"key": []byte(k.secret + "\n"), "payload.age": sealed} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("sh", "-c", `age -d -i "$0/key" "$0/payload.age" | zstd -d`, dir).Output()
	if err != nil {
		t.Fatalf("age -d | zstd -d: %v", err)
	}
	if !bytes.Equal(out, data) {
		t.Fatal("stock tools gave other bytes")
	}
}

// Damage with the part hashes recomputed, as by somebody who holds the
// recipient but not the signing key, must still be found further in.
func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	k, other := newKey(t, false), newKey(t, false)
	data := pages(2<<20, 9)
	sealed, s, c := sealBytes(t, k.to, 4096, data)
	run := func(sealed []byte, s Sealed, c Content, ids Identities) error {
		return Extract(t.Context(), fetchFrom(sealed), ids, s, c, make(memory, 3<<20))
	}
	rehash := func(sealed []byte) Sealed {
		w := &partWriter{dst: io.Discard, part: sha256.New()}
		w.Write(sealed)
		return w.sum()
	}
	if err := run(sealed, s, c, k.ids); err != nil {
		t.Fatal(err)
	}
	if err := run(sealed, s, c, other.ids); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("wrong identity: %v", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		bad := bytes.Clone(sealed)
		bit := r.IntN(len(bad) * 8)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := run(bad, s, c, k.ids); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		if err := run(bad, rehash(bad), c, k.ids); err == nil {
			t.Fatalf("bit %d flipped and parts rehashed: accepted", bit)
		}
		cut := sealed[:1+r.IntN(len(sealed)-1)]
		if err := run(cut, rehash(cut), c, k.ids); err == nil {
			t.Fatalf("cut to %d and parts rehashed: accepted", len(cut))
		}
	}
	longer, ls, lc := sealBytes(t, k.to, 4096, pages(2<<20+4096, 9))
	if err := run(longer, ls, c, k.ids); !errors.Is(err, ErrDamaged) {
		t.Errorf("more content than signed: %v", err)
	}
	if err := run(sealed, s, lc, k.ids); !errors.Is(err, ErrDamaged) {
		t.Errorf("less content than signed: %v", err)
	}
	swapped := c
	swapped.Digest[0] ^= 1
	if err := run(sealed, s, swapped, k.ids); !errors.Is(err, ErrDamaged) {
		t.Errorf("other digest: %v", err)
	}
	if err := run(append(bytes.Clone(sealed), 0), s, c, k.ids); err != nil {
		t.Errorf("bytes behind the signed size are not even fetched: %v", err)
	}
}

// A small bomb must not grow beyond the signed size.
func TestExtractBoundsOutput(t *testing.T) {
	t.Parallel()
	k := newKey(t, false)
	sealed, s, _ := sealBytes(t, k.to, 4096, make([]byte, 16<<20))
	small := Content{Size: 4096, PageSize: 4096, Pages: 1}
	var most int64
	err := Extract(t.Context(), fetchFrom(sealed), k.ids, s, small, writerAt(func(p []byte, off int64) (int, error) {
		most = max(most, off+int64(len(p)))
		return len(p), nil
	}))
	if !errors.Is(err, ErrDamaged) || most > 4096 {
		t.Fatalf("wrote up to %d: %v", most, err)
	}
}

type writerAt func(p []byte, off int64) (int, error)

func (f writerAt) WriteAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestExtractPassesErrorsOn(t *testing.T) {
	t.Parallel()
	k := newKey(t, false)
	data := make([]byte, 12<<20) // incompressible: more than one part
	for i, r := 0, rand.New(rand.NewPCG(1, 1)); i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], r.Uint64())
	}
	sealed, s, c := sealBytes(t, k.to, 4096, data)
	boom := errors.New("boom")
	err := Extract(t.Context(), func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if off > 0 {
			return nil, boom
		}
		return fetchFrom(sealed)(ctx, off, n)
	}, k.ids, s, c, make(memory, 20<<20))
	if !errors.Is(err, boom) {
		t.Errorf("fetch error came back as %v", err)
	}
	err = Extract(t.Context(), fetchFrom(sealed), k.ids, s, c, writerAt(func([]byte, int64) (int, error) { return 0, boom }))
	if !errors.Is(err, boom) {
		t.Errorf("write error came back as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Extract(ctx, fetchFrom(sealed), k.ids, s, c, writerAt(func(p []byte, _ int64) (int, error) { cancel(); return len(p), nil }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelling came back as %v", err)
	}
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	_, classic, _ := NewIdentity(false)
	secret, pq, _ := NewIdentity(true)
	for _, c := range []struct {
		lines []string
		want  string // in the error; "" for success
		n     int
	}{
		{[]string{classic, "# comment", "", classic}, "", 1},
		{[]string{pq}, "", 1},
		{[]string{classic, pq}, "cannot be mixed", 0},
		{[]string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAo3D7CGN01tTYY/dLKXEv8RxRyxa32c51X0uKMhnMab me@host", classic}, "", 2},
		{[]string{secret}, "secret identity", 0},
		{[]string{"age1nonsense"}, "malformed", 0},
		{[]string{"gpg"}, "is not age1", 0},
		{nil, "no recipients", 0},
	} {
		r, err := ParseRecipients(c.lines...)
		if c.want == "" && (err != nil || len(r.Names()) != c.n) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, %v", c.lines, r.Names(), err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Error("the error shows the secret")
		}
	}
}

func TestSSHAndPassphraseIdentities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, pass := range []string{"", "correct horse"} {
		file := filepath.Join(dir, "id"+pass)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", pass, "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v %s", err, out)
		}
		public, _ := os.ReadFile(file + ".pub")
		private, _ := os.ReadFile(file)
		to, err := ParseRecipients(string(public))
		if err != nil {
			t.Fatal(err)
		}
		ids, err := ParseIdentities(private, func() ([]byte, error) { return []byte(pass), nil })
		if err != nil {
			t.Fatal(err)
		}
		data := pages(8192, 1)
		sealed, s, c := sealBytes(t, to, 4096, data)
		if err := Extract(t.Context(), fetchFrom(sealed), ids, s, c, make(memory, 8192)); err != nil {
			t.Fatalf("passphrase %q: %v", pass, err)
		}
	}
	if _, err := ParseIdentities([]byte("age1qqqq"), nil); err == nil || !strings.Contains(err.Error(), "recipient") {
		t.Errorf("recipient as identity: %v", err)
	}
}

func TestScratch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := NewScratch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("the scratch file has a name: %v", left)
	}
	for round := range uint64(2) {
		for i := range int64(4) {
			data := pages(FrameSize-int(i)*512, round*10+uint64(i))
			if err := s.Put(i, data); err != nil {
				t.Fatal(err)
			}
			got, err := s.Read(i, nil)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("chunk %d: %v", i, err)
			}
			raw := make([]byte, scratchSlot)
			s.file.ReadAt(raw, i*scratchSlot)
			if bytes.Contains(raw, data[:64]) {
				t.Fatal("plaintext on disk")
			}
		}
	}
	s.Reset()
	if _, err := s.Read(0, nil); err == nil {
		t.Fatal("a chunk survived Reset")
	}
}

func FuzzFrames(f *testing.F) {
	var t seekTable
	t.add(1, 2)
	f.Add(append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00}, t.marshal()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		extractFrames(t.Context(), newFrameReader(bytes.NewReader(data)), 512, (*extracted).unpack, func(*extracted) {}) //nolint:errcheck // must not panic
	})
}
