package hostconf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

type host struct {
	t       *testing.T
	b       *storagetest.RAM
	key     *seal.SigningKey
	signers seal.Signers
	to      seal.Recipients
	ids     seal.Identities
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, b: storagetest.Memory()}
	var err error
	if h.key, _, err = seal.NewSigningKey("test"); err != nil {
		t.Fatal(err)
	}
	if h.signers, err = seal.ParseSigners([]byte(h.key.AllowedSigners("*"))); err != nil {
		t.Fatal(err)
	}
	h.to, h.ids = pair(t)
	return h
}

func pair(t *testing.T) (seal.Recipients, seal.Identities) {
	t.Helper()
	secret, public, err := seal.NewIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipients(public)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := seal.ParseIdentities([]byte(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	return to, ids
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// put stores a copy at so many seconds past noon, and gives its key.
func (h *host) put(name, text string, second int) string {
	h.t.Helper()
	before := h.keys()
	c := Copy{Host: name, TakenAt: noon.Add(time.Duration(second) * time.Second), File: "/etc/emsafe/emsafe.yaml", Text: []byte(text)}
	if err := Put(h.t.Context(), h.b, c, h.key, h.signers, h.to); err != nil {
		h.t.Fatal(err)
	}
	for _, k := range h.keys() {
		if !slices.Contains(before, k) {
			return k
		}
	}
	h.t.Fatal("nothing was stored")
	return ""
}

func (h *host) keys() (keys []string) {
	for info, err := range h.b.List(h.t.Context(), "", "") {
		if err != nil {
			h.t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// newest expects a text, or a kind of error that says something.
func (h *host) newest(name, text string, problems int, kind *fault.Kind, says string) {
	h.t.Helper()
	c, bad, err := Newest(h.t.Context(), h.b, h.signers, h.ids, name)
	if string(c.Text) != text || len(bad) != problems || kind == nil && err != nil || kind != nil && (!errors.Is(err, kind) || !strings.Contains(err.Error(), says)) {
		h.t.Errorf("of %q: %q, %d problems %v, error %v; want %q, %d problems, %v %q", name, c.Text, len(bad), bad, err, text, problems, kind, says)
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.newest("", "", 0, fault.NotFound, "no copy")
	h.put("web", "version: 1 # old\n", 0)
	last := h.put("web", "version: 1 # secret\n", 1)
	h.newest("", "version: 1 # secret\n", 0, nil, "")
	if strings.Contains(string(h.b.Peek(last)), "secret") {
		t.Error("it lies there in clear")
	}
	h.put("db", "version: 1 # of db\n", 2)
	h.newest("", "", 0, fault.Usage, "db, web")
	h.newest("web", "version: 1 # secret\n", 0, nil, "")
	h.newest("mail", "", 0, fault.NotFound, "host mail")

	_, h.ids = pair(t)
	h.newest("db", "", 0, fault.WrongKey, "does not open")
}

// TestPassword: of a fileset, and never a configuration in its place.
func TestPassword(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	get := func(fileset string) (string, error) {
		c, _, err := Password(h.t.Context(), h.b, h.signers, h.ids, fileset)
		return string(c.Text), err
	}
	if _, err := get("scans"); !errors.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for second, text := range []string{"old", "new"} {
		c := Copy{Host: "web", Fileset: "scans", TakenAt: noon.Add(time.Duration(second) * time.Second), Text: []byte(text)}
		if err := Put(t.Context(), h.b, c, h.key, h.signers, h.to); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := get("scans"); got != "new" || err != nil {
		t.Error(got, err)
	}
	conf := h.put("scans", "version: 1\n", 5)
	h.b.Poke("passwords/scans/29991231T000000Z-moved000", h.b.Peek(conf))
	if got, err := get("scans"); got != "new" || err != nil {
		t.Error(got, err)
	}
	for _, key := range h.keys() {
		if strings.HasPrefix(key, "passwords/scans/2026") {
			h.b.Poke("passwords/cats/x", h.b.Peek(key))
		}
	}
	if _, err := get("cats"); !errors.Is(err, fault.Forged) {
		t.Error(err)
	}
}

// TestForgedCopies: what is not signed by the host for this very place is passed
// over and told, and where nothing else is there, refused.
func TestForgedCopies(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	good := h.put("web", "version: 1\n", 0)
	object := h.b.Peek(good)
	thief := newHost(t)
	thief.b, thief.to = h.b, h.to
	foreign := thief.put("web", "version: 1 # of a thief\n", 5)
	h.b.Poke("configurations/web/20991231T000000Z-copied00", object)
	h.b.Poke("configurations/web/20991231T000000Z-garbage0", []byte("garbage"))
	h.b.Poke("configurations/web/20991231T000000Z-flipped0", bytes.Replace(object, []byte(`"host": "web"`), []byte(`"host": "wec"`), 1))
	manifest, err := h.key.Sign(seal.NamespaceManifest, []byte("{}\n"))
	if err != nil {
		t.Fatal(err)
	}
	h.b.Poke("configurations/web/20991231T000000Z-manifest", manifest)
	h.newest("web", "version: 1\n", 5, nil, "")
	h.b.Poke(good, nil)
	h.newest("web", "", 5, fault.Forged, "signed by a pinned key")
	h.b.Poke(foreign, nil)
	h.b.Poke("configurations/thief/x", object)
	h.newest("", "", 0, fault.Usage, "thief, web")
}

// TestPutIsReadable: what nobody could verify is not stored.
func TestPutIsReadable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	line := strings.Replace(h.key.AllowedSigners("*"), ","+seal.NamespaceConfiguration, "", 1)
	var err error
	if h.signers, err = seal.ParseSigners([]byte(line)); err != nil {
		t.Fatal(err)
	}
	err = Put(t.Context(), h.b, Copy{Host: "web", TakenAt: noon, Text: []byte("x")}, h.key, h.signers, h.to)
	if !errors.Is(err, fault.BadKey) || len(h.keys()) > 0 {
		t.Errorf("%v %q", err, h.keys())
	}
}

// past is a bucket with versions in which somebody put one in front.
type past struct {
	*storagetest.RAM
	front string
}

func (b past) Past() storage.Bucket { return b }

func (b past) Versions(_ context.Context, key string) iter.Seq2[io.Reader, error] {
	return func(yield func(io.Reader, error) bool) {
		if yield(strings.NewReader(b.front), nil) {
			yield(bytes.NewReader(b.Peek(key)), nil)
		}
	}
}

func (b past) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(b.front)), nil
}

// TestVersionInFront: of a key that has several versions the oldest that is
// signed counts.
func TestVersionInFront(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.put("web", "version: 1\n", 0)
	c, bad, err := Newest(t.Context(), past{h.b, "garbage"}, h.signers, h.ids, "")
	if err != nil || len(bad) > 0 || string(c.Text) != "version: 1\n" {
		t.Errorf("%q %v %v", c.Text, bad, err)
	}
}
