package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

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
