package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Namespaces of SSH signatures: a signature for one kind of object is none for
// another.
const (
	NamespaceManifest      = "emsafe-manifest"
	NamespaceRepository    = "emsafe-repository"
	NamespacePrune         = "emsafe-prune"
	NamespaceReport        = "emsafe-report"
	NamespaceHead          = "emsafe-head"
	NamespaceConfiguration = "emsafe-configuration"
	NamespacePoint         = "emsafe-point"
)

// ErrForged is wrapped when a signature is missing, wrong, or by a key that is
// not pinned for its namespace and time.
var ErrForged = errors.New("not signed by a pinned key")

func forged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForged, fmt.Sprintf(format, args...))
}

// SigningKey signs what a host commits.
type SigningKey struct{ signer ssh.Signer }

// NewSigningKey makes an Ed25519 key in OpenSSH's private-key file format.
func NewSigningKey(comment string) (*SigningKey, []byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, nil, err
	}
	text := pem.EncodeToMemory(block)
	key, err := ParseSigningKey(text)
	return key, text, err
}

// ParseSigningKey reads an unencrypted OpenSSH Ed25519 private key.
func ParseSigningKey(text []byte) (*SigningKey, error) {
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	if signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("the signing key is %s, not ssh-ed25519", signer.PublicKey().Type())
	}
	return &SigningKey{signer}, nil
}

// Public is the key as one authorized_keys line without a comment.
func (k *SigningKey) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// Fingerprint is OpenSSH's SHA256:… of the key.
func (k *SigningKey) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }

// AllowedSigners is the line that pins the key for everything that a host
// signs, and for pruning, which docs/keys.md tells how to give to another key.
func (k *SigningKey) AllowedSigners(principal string) string {
	spaces := []string{NamespaceManifest, NamespaceRepository, NamespaceReport, NamespaceHead, NamespacePrune, NamespaceConfiguration, NamespacePoint}
	return fmt.Sprintf("%s namespaces=\"%s\" %s\n", principal, strings.Join(spaces, ","), k.Public())
}

// Sign returns text followed by an armored SSH signature over it: the form of
// every signed object. text must end in a newline.
func (k *SigningKey) Sign(namespace string, text []byte) ([]byte, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, errors.New("sign: the text does not end in a newline")
	}
	sig, err := sshsig.Sign(bytes.NewReader(text), k.signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return append(bytes.Clone(text), sshsig.Armor(sig)...), nil
}

var armorStart = []byte("-----BEGIN SSH SIGNATURE-----\n")

// Split cuts a signed object into its text and its armored signature.
func Split(object []byte) (text, signature []byte, err error) {
	// The text is JSON: no raw line of it can look like the armor.
	at := bytes.Index(object, append([]byte("\n"), armorStart...))
	if at < 0 {
		return nil, nil, forged("there is no signature")
	}
	return object[:at+1], object[at+1:], nil
}

// Signers are the pinned public keys: an ssh allowed_signers file.
type Signers struct{ list []allowed }

type allowed struct {
	principals    string
	namespaces    []string // empty: any
	after, before time.Time
	key           ssh.PublicKey
}

// ParseSigners reads an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS):
// principals, the options namespaces, valid-after and valid-before, key.
func ParseSigners(data []byte) (Signers, error) {
	var s Signers
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		a, err := parseAllowed(line)
		if err != nil {
			return Signers{}, fmt.Errorf("line %d: %w", i+1, err)
		}
		s.list = append(s.list, a)
	}
	if len(s.list) == 0 {
		return Signers{}, errors.New("no key in it")
	}
	return s, nil
}

func parseAllowed(line string) (allowed, error) {
	principals, rest, ok := strings.Cut(line, " ")
	if !ok {
		return allowed{}, errors.New("principal, options and key are separated by spaces")
	}
	// What follows the principals is an authorized_keys line.
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return allowed{}, fmt.Errorf("no public key after %q: %w", principals, err)
	}
	a := allowed{principals: principals, key: key}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			a.namespaces = strings.Split(value, ",")
		case "valid-after":
			a.after, err = validity(value)
		case "valid-before":
			a.before, err = validity(value)
		default:
			err = fmt.Errorf("option %q is not supported", name)
		}
		if err != nil {
			return allowed{}, err
		}
	}
	return a, nil
}

// validity reads ssh-keygen's YYYYMMDD[Z] and YYYYMMDDHHMM[SS][Z].
func validity(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	loc := time.Local
	if utc {
		loc = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			return time.ParseInLocation(layout, digits, loc)
		}
	}
	return time.Time{}, fmt.Errorf("time %q is not YYYYMMDD[HHMM[SS]][Z]", s)
}

// Principals lists who is pinned, for people.
func (s Signers) Principals() []string {
	var names []string
	for _, a := range s.list {
		names = append(names, a.principals+" "+ssh.FingerprintSHA256(a.key))
	}
	return names
}

// Verify checks a signed object and returns its text and the fingerprint of
// the key. when returns the time that the text says it was signed at, which
// the validity of pinned keys is held against; it is called only after the
// signature itself held.
func (s Signers) Verify(namespace string, object []byte, when func(text []byte) (time.Time, error)) (text []byte, fingerprint string, err error) {
	text, armored, err := Split(object)
	if err != nil {
		return nil, "", err
	}
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return nil, "", forged("signature: %v", err)
	}
	// One form only: else one object would have many digests.
	if !bytes.Equal(sshsig.Armor(sig), armored) {
		return nil, "", forged("the signature is not in its canonical form")
	}
	fingerprint = ssh.FingerprintSHA256(sig.PublicKey)
	pinned := slices.DeleteFunc(slices.Clone(s.list), func(a allowed) bool {
		return !bytes.Equal(a.key.Marshal(), sig.PublicKey.Marshal())
	})
	if len(pinned) == 0 {
		return nil, fingerprint, forged("the key %s is not in allowed_signers", fingerprint)
	}
	if err := sshsig.Verify(bytes.NewReader(text), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return nil, fingerprint, forged("%v", err)
	}
	at, err := when(text)
	if err != nil {
		return nil, fingerprint, err
	}
	for _, a := range pinned {
		switch {
		case len(a.namespaces) > 0 && !slices.Contains(a.namespaces, namespace):
			err = forged("the key %s is not allowed to sign %s", fingerprint, namespace)
		case !a.after.IsZero() && at.Before(a.after), !a.before.IsZero() && !at.Before(a.before):
			err = forged("the key %s was not valid at %s", fingerprint, at.UTC().Format(time.RFC3339))
		default:
			return text, fingerprint, nil
		}
	}
	return nil, fingerprint, err
}
