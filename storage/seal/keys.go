package seal

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"
)

// Recipients are the public keys that a payload is sealed to.
type Recipients struct {
	list  []age.Recipient
	names []string
}

// Names are the recipients as they are written: they stand in the manifest, so
// that a wrong key can be told which one is needed.
func (r Recipients) Names() []string { return slices.Clone(r.names) }

// ParseRecipients reads recipients (age1…, age1pq…, ssh-ed25519, ssh-rsa), one
// per string; comments and empty lines are passed over and doubles are kept
// once. Post-quantum and classic recipients do not mix: one classic stanza
// would undo what the others are for.
func ParseRecipients(lines ...string) (Recipients, error) {
	var r Recipients
	var pq, classic string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		recipient, name, err := parseRecipient(line)
		if err != nil {
			return Recipients{}, err
		}
		if slices.Contains(r.names, name) {
			continue
		}
		if _, ok := recipient.(*age.HybridRecipient); ok {
			pq = name
		} else {
			classic = name
		}
		r.list, r.names = append(r.list, recipient), append(r.names, name)
	}
	if len(r.list) == 0 {
		return Recipients{}, errors.New("no recipients")
	}
	if pq != "" && classic != "" {
		return Recipients{}, fmt.Errorf("post-quantum and classic recipients cannot be mixed: whoever breaks the classic key %s reads what %s… was to protect; use age1pq… keys for all, or for none", short(classic), short(pq))
	}
	return r, nil
}

func short(s string) string {
	if len(s) > 24 {
		return s[:24]
	}
	return s
}

func parseRecipient(s string) (age.Recipient, string, error) {
	switch {
	case strings.HasPrefix(s, "age1pq1"):
		r, err := age.ParseHybridRecipient(s)
		return r, s, err
	case strings.HasPrefix(s, "age1"):
		r, err := age.ParseX25519Recipient(s)
		return r, s, err
	case strings.HasPrefix(s, "ssh-"):
		r, err := agessh.ParseRecipient(s)
		if err != nil {
			return nil, "", err
		}
		fields := strings.Fields(s)
		return r, strings.Join(fields[:2], " "), nil // without the comment
	case strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY-"):
		// Never echo it.
		return nil, "", errors.New("a secret identity stands where a recipient (age1…) belongs; take it out of the file, and treat it as leaked if the file is shared")
	default:
		return nil, "", fmt.Errorf("recipient %q is not age1…, age1pq…, ssh-ed25519 or ssh-rsa", short(s))
	}
}

// Identities are the secret keys that open payloads.
type Identities struct {
	list  []age.Identity
	names []string
}

// Names are the recipients that the identities answer to, as far as they can
// be told without more secrets.
func (ids Identities) Names() []string { return slices.Clone(ids.names) }

// ParseIdentities reads an age identity file, an OpenSSH private key, or
// either of them encrypted with a passphrase, for which passphrase is called.
func ParseIdentities(data []byte, passphrase func() ([]byte, error)) (Identities, error) {
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		return Identities{}, errors.New("the identity is empty")
	case bytes.HasPrefix(trimmed, []byte("age-encryption.org/")), bytes.HasPrefix(trimmed, []byte(armor.Header)):
		plain, err := openIdentityFile(trimmed, data, passphrase)
		if err != nil {
			return Identities{}, err
		}
		return ParseIdentities(plain, nil)
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN")):
		return parseSSHIdentity(data, passphrase)
	case bytes.HasPrefix(trimmed, []byte("age1")):
		return Identities{}, errors.New("this is a recipient (public); opening needs the identity (AGE-SECRET-KEY-1…)")
	}
	list, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return Identities{}, err
	}
	ids := Identities{list: list}
	for _, id := range list {
		switch id := id.(type) {
		case *age.X25519Identity:
			ids.names = append(ids.names, id.Recipient().String())
		case *age.HybridIdentity:
			ids.names = append(ids.names, id.Recipient().String())
		}
	}
	return ids, nil
}

// maxWorkFactor caps what a passphrase-protected identity may cost to try.
const maxWorkFactor = 22

func openIdentityFile(trimmed, data []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	if passphrase == nil {
		return nil, errors.New("the identity is protected by a passphrase, and there is no terminal to ask on")
	}
	pass, err := passphrase()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(string(pass))
	if err != nil {
		return nil, err
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	var src io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(trimmed, []byte(armor.Header)) {
		src = armor.NewReader(bytes.NewReader(trimmed))
	}
	r, err := age.Decrypt(src, id)
	if err != nil {
		return nil, fmt.Errorf("open identity file: %w", err)
	}
	return io.ReadAll(bufio.NewReader(r))
}

func parseSSHIdentity(data []byte, passphrase func() ([]byte, error)) (Identities, error) {
	id, err := agessh.ParseIdentity(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) && passphrase != nil {
		pass, perr := passphrase()
		if perr != nil {
			return Identities{}, perr
		}
		key, perr := ssh.ParseRawPrivateKeyWithPassphrase(data, pass)
		if perr != nil {
			return Identities{}, fmt.Errorf("open ssh key: %w", perr)
		}
		ed, ok := key.(*ed25519.PrivateKey)
		if !ok {
			return Identities{}, errors.New("a passphrase-protected ssh key must be ed25519")
		}
		id, err = agessh.NewEd25519Identity(*ed)
	}
	if err != nil {
		return Identities{}, err
	}
	ids := Identities{list: []age.Identity{id}}
	if signer, err := ssh.ParsePrivateKey(data); err == nil {
		ids.names = append(ids.names, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	}
	return ids, nil
}

// NewIdentity makes a recovery key: the text of an identity file with its
// secret, and the recipient. Post-quantum if asked for.
func NewIdentity(postQuantum bool) (identity, recipient string, err error) {
	if postQuantum {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", err
		}
		return id.String(), id.Recipient().String(), nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", err
	}
	return id.String(), id.Recipient().String(), nil
}
