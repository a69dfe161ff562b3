package seal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSignatures(t *testing.T) {
	t.Parallel()
	key, _, err := NewSigningKey("test")
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, _ := NewSigningKey("stranger")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	when := func([]byte) (Claim, error) { return Claim{At: now, Host: "web1", Database: "app"}, nil }
	text := []byte("{\n  \"format\": 1\n}\n")
	object, err := key.Sign(NamespaceManifest, text)
	if err != nil {
		t.Fatal(err)
	}
	signers := func(lines string) Signers {
		s, err := ParseSigners([]byte(lines))
		if err != nil {
			t.Fatalf("%s: %v", lines, err)
		}
		return s
	}
	pinned := signers(key.AllowedSigners("emsafe@web1"))
	if got, _, err := pinned.Verify(NamespaceManifest, object, when); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("own signature: %q %v", got, err)
	}
	strange, _ := stranger.Sign(NamespaceManifest, text)
	for name, c := range map[string]struct {
		signers   Signers
		namespace string
		object    []byte
	}{
		"stranger":          {pinned, NamespaceManifest, strange},
		"other namespace":   {pinned, NamespaceReport, object},
		"role not pinned":   {signers(`web1 namespaces="emsafe-prune" ` + key.Public()), NamespaceManifest, object},
		"expired":           {signers(`web1 valid-before="20261123Z" ` + key.Public()), NamespaceManifest, object},
		"not yet":           {signers(`web1 valid-after="20261124Z" ` + key.Public()), NamespaceManifest, object},
		"another host":      {signers(key.AllowedSigners("emsafe@web2")), NamespaceManifest, object},
		"not this host":     {signers("*,!web1 " + key.Public()), NamespaceManifest, object},
		"another database":  {signers("emsafe@web1/shop " + key.Public()), NamespaceManifest, object},
		"not this database": {signers("web1,!web1/app " + key.Public()), NamespaceManifest, object},
		"no signature":      {pinned, NamespaceManifest, text},
		"trailing":          {pinned, NamespaceManifest, append(bytes.Clone(object), '\n')},
		"empty":             {pinned, NamespaceManifest, nil},
	} {
		if _, _, err := c.signers.Verify(c.namespace, c.object, when); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := signers(`web1 valid-after="20261101Z",valid-before="20261201Z" `+key.Public()).Verify(NamespaceManifest, object, when); err != nil {
		t.Errorf("inside its validity: %v", err)
	}
	for bit := range len(object) * 8 {
		bad := bytes.Clone(object)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, _, err := pinned.Verify(NamespaceManifest, bad, when); err == nil {
			t.Fatalf("bit %d flipped: accepted", bit)
		}
	}
}

func TestSSHKeygenAgrees(t *testing.T) {
	t.Parallel()
	key, _, _ := NewSigningKey("test")
	text := []byte("{\"a\": 1}\n")
	object, _ := key.Sign(NamespaceManifest, text)
	dir := t.TempDir()
	for name, b := range map[string][]byte{"object": object, "allowed": []byte(key.AllowedSigners("emsafe@web1"))} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := `cd "$0"
sed '/^-----BEGIN SSH SIGNATURE-----$/,$d' object > text
sed -n '/^-----BEGIN SSH SIGNATURE-----$/,$p' object > sig
ssh-keygen -Y verify -f allowed -I emsafe@web1 -n "$1" -s sig < text`
	if out, err := exec.Command("sh", "-c", script, dir, NamespaceManifest).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen -Y verify: %v %s", err, out)
	}
	if err := exec.Command("sh", "-c", script, dir, NamespaceReport).Run(); err == nil {
		t.Fatal("ssh-keygen took the signature for another namespace")
	}
}

func TestParseSignersRefuses(t *testing.T) {
	t.Parallel()
	key, _, _ := NewSigningKey("test")
	for _, line := range []string{
		`web1`,
		`web1 namespaces="a",namespaces="emsafe-manifest" %s`, // the last one would count
		`web1 valid-before="20261201Z",valid-before="20271201Z" %s`,
		`web1 valid-after="20261201Z",valid-before="20261201Z" %s`,
		`web1 namespaces=emsafe-manifest %s`,
		`web1 namespaces="a",%s`,
		`web1 namespaces="a" , %s`,
		`web1 namespaces="a %s`,
		`web1 cert-authority %s`,
		`web1 no-touch-required %s`,
		`"web1" %s`,
		`web1 valid-before="20261341Z" %s`,
		`%s`,
	} {
		if strings.Contains(line, "%s") {
			line = fmt.Sprintf(line, key.Public())
		}
		if _, err := ParseSigners([]byte(line)); err == nil {
			t.Errorf("accepted: %s", line)
		}
	}
}

// TestSignersAsOpenSSH holds random allowed_signers lines against ssh-keygen:
// what is accepted here is accepted there for an identity of the claim, and
// what parses and is refused here is refused there.
func TestSignersAsOpenSSH(t *testing.T) {
	t.Parallel()
	rounds := 60
	if os.Getenv("EMSAFE_SOAK") != "" {
		rounds = 5000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	key, _, _ := NewSigningKey("test")
	claim := Claim{At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Host: "web1", Database: "app"}
	text := []byte("{}\n")
	object, _ := key.Sign(NamespaceManifest, text)
	_, sig, _ := Split(object)
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sig", sig)
	accepted := 0
	for range rounds {
		var principals, options []string
		for range 1 + random.IntN(3) {
			principals = append(principals, pick("web1", "*", "web?", "emsafe@web1", "emsafe@*", "!web1", "!*", "web2", "web1/app", "*/app", "web", "Web1", "**1", ""))
		}
		for range random.IntN(3) {
			options = append(options, pick("namespaces", "Namespaces", "valid-after", "valid-before", "other")+"="+
				pick(`"emsafe-manifest"`, `"emsafe-*"`, `"a,emsafe-manifest"`, `"!emsafe-manifest,*"`, `""`, `"20261123Z"`, `"20261124Z"`, `"202611231200Z"`, `"202611231200UTC"`, `"20261123120000z"`, `"x`, `20261123Z`))
		}
		line := pick("", " ", "\t") + strings.Join(principals, ",") + pick(" ", "  ", "\t")
		if len(options) > 0 {
			line += strings.Join(options, pick(",", ",", ",", " ")) + pick(" ", "\t")
		}
		line += key.Public() + pick("", " comment", " a b c")
		write("allowed", []byte(line+"\n"))
		s, perr := ParseSigners([]byte(line))
		ours := perr == nil && s.Allow(key, NamespaceManifest, claim) == nil
		theirs := false
		for _, name := range claim.principals() {
			c := exec.Command("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", name, "-n", NamespaceManifest, "-s", "sig", "-O", "verify-time=20261123120000Z")
			c.Dir, c.Stdin = dir, bytes.NewReader(text)
			theirs = theirs || c.Run() == nil
		}
		switch {
		case ours && !theirs:
			t.Errorf("accepted here, refused by ssh-keygen: %q", line)
		case !ours && theirs && perr == nil && !strings.Contains(strings.Join(principals, ","), "!"):
			t.Errorf("refused here, accepted by ssh-keygen: %q", line)
		}
		if ours {
			accepted++
		}
	}
	t.Logf("%d of %d lines accepted", accepted, rounds)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type doc struct {
		ID    string `json:"id"`
		Inner struct {
			A int `json:"a"`
		} `json:"inner"`
	}
	for text, want := range map[string]string{
		`{"id": "x", "new": {"ID": 1}}`:         "x",
		`{"id": "x", "ID": "y"}`:                "x", // as every other reader of JSON has it
		`{"Id": "y"}`:                           "",
		`{"id": "x", "id": "y"}`:                "refused",
		`{"id": "x", "inner": {"a":1, "a": 2}}`: "refused",
		`{"id": "x", "new": {"b":1, "b": 2}}`:   "refused",
		`{"id": "x"} {}`:                        "refused",
		"{\"id\": \"\xff\"}":                    "refused",
	} {
		var d doc
		err := Decode([]byte(text), &d)
		if got := map[bool]string{true: d.ID, false: "refused"}[err == nil]; got != want {
			t.Errorf("%s: %q %v, want %q", text, got, err, want)
		}
	}
}

func FuzzParseSigners(f *testing.F) {
	key, _, _ := NewSigningKey("fuzz")
	f.Add([]byte(key.AllowedSigners("a")))
	f.Fuzz(func(_ *testing.T, data []byte) { ParseSigners(data) }) //nolint:errcheck // must not panic
}
