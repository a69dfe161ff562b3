package seal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Signers are the pinned public keys: an ssh allowed_signers file.
type Signers struct{ list []allowed }

// allowed is one line. Principals and namespaces are OpenSSH pattern lists.
type allowed struct {
	principals    string
	namespaces    *string // nil: any
	after, before time.Time
	key           ssh.PublicKey
}

// Claim is what a signed text says about itself. A pinned key must be allowed
// to sign it: for that host and database, and at that time.
type Claim struct {
	At       time.Time
	Host     string
	Database string // or fileset; empty if the text is about the whole host
}

// principals are the identities under which a key may sign for the claim. The
// line of the key must match one of them, and must negate none.
func (c Claim) principals() []string {
	host := strings.TrimPrefix(Principal(c.Host), principalUser)
	names := []string{principalUser + host, host}
	if c.Database != "" {
		names = append(names, principalUser+host+"/"+c.Database, host+"/"+c.Database)
	}
	return names
}

const principalUser = "emsafe@"

// Principal is the identity of a host in allowed_signers. Characters that
// would end or widen a pattern there become hyphens.
func Principal(host string) string {
	return principalUser + strings.Map(func(r rune) rune {
		if r <= ' ' || strings.ContainsRune(`,"*?!`, r) {
			return '-'
		}
		return r
	}, host)
}

// ParseSigners reads an allowed_signers file as ssh-keygen(1) does. It refuses
// the whole file where ssh-keygen would skip or refuse a line, and it refuses
// certificate authorities and quoted principals, which emsafe has no use for.
func ParseSigners(data []byte) (Signers, error) {
	var s Signers
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.Trim(line, " \t\r")
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
	a := allowed{}
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		return a, errors.New("principal, options and key are separated by spaces")
	}
	if a.principals = line[:end]; strings.Contains(a.principals, `"`) {
		return a, errors.New("quoted principals are not supported")
	}
	rest := strings.TrimLeft(line[end:], " \t")
	if key, ok := parsePublic(rest); ok {
		a.key = key
		return a, nil
	}
	options, rest, err := cutOptions(rest)
	if err != nil {
		return a, err
	}
	key, ok := parsePublic(rest)
	if !ok {
		return a, fmt.Errorf("no public key after %q", a.principals)
	}
	a.key = key
	return a, a.take(options)
}

// parsePublic reads the type and the base64 of a key, and ignores the comment
// behind them.
func parsePublic(text string) (ssh.PublicKey, bool) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) < 2 {
		return nil, false
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(fields[0] + " " + fields[1]))
	if err != nil || len(options) > 0 || key.Type() != fields[0] {
		return nil, false
	}
	return key, true
}

// cutOptions finds where the options end: at the first space outside quotes.
func cutOptions(text string) (options, rest string, err error) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && strings.HasPrefix(text[i+1:], `"`):
			i++
		case text[i] == '"':
			quoted = !quoted
		case !quoted && (text[i] == ' ' || text[i] == '\t'):
			return text[:i], strings.TrimLeft(text[i:], " \t"), nil
		}
	}
	return "", "", errors.New("no key after the options")
}

// take reads options: name="value", separated by commas, each at most once.
func (a *allowed) take(options string) error {
	seen := map[string]bool{}
	for {
		name, rest, ok := strings.Cut(options, "=")
		name = strings.ToLower(name)
		if !ok || !slices.Contains([]string{"namespaces", "valid-after", "valid-before"}, name) {
			return fmt.Errorf("option %q is not supported", name)
		}
		if seen[name] {
			return fmt.Errorf("option %q is given twice", name)
		}
		seen[name] = true
		value, rest, err := dequote(rest)
		if err == nil {
			err = a.set(name, value)
		}
		switch {
		case err != nil:
			return fmt.Errorf("option %q: %w", name, err)
		case rest == "" && !a.before.IsZero() && !a.before.After(a.after):
			return errors.New("valid-before is not later than valid-after")
		case rest == "":
			return nil
		case rest[0] != ',':
			return fmt.Errorf("%q follows option %q", rest, name)
		}
		options = rest[1:]
	}
}

func (a *allowed) set(name, value string) (err error) {
	switch name {
	case "namespaces":
		a.namespaces = &value
	case "valid-after":
		a.after, err = validity(value)
	case "valid-before":
		a.before, err = validity(value)
	}
	return err
}

// dequote reads a value in double quotes, in which a backslash quotes a double
// quote and nothing else.
func dequote(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", errors.New("the value is not in double quotes")
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && strings.HasPrefix(text[i+1:], `"`):
			i++
			b.WriteByte('"')
		case text[i] == '"':
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", errors.New("a double quote is missing")
}

// validity reads ssh-keygen's YYYYMMDD, YYYYMMDDHHMM and YYYYMMDDHHMMSS, in UTC
// where a Z or UTC follows and in local time otherwise.
func validity(s string) (time.Time, error) {
	digits, loc := strings.ToUpper(s), time.Local
	for _, zone := range []string{"Z", "UTC"} {
		if trimmed, utc := strings.CutSuffix(digits, zone); utc {
			digits, loc = trimmed, time.UTC
			break
		}
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

// Allow is nil if a signature by the key for that namespace and claim would be
// accepted.
func (s Signers) Allow(key *SigningKey, namespace string, c Claim) error {
	return s.allow(key.signer.PublicKey(), namespace, c)
}

// allow looks for a line that lets the key sign for the claim. The error names
// what the line that comes nearest does not allow.
func (s Signers) allow(key ssh.PublicKey, namespace string, c Claim) error {
	fingerprint := ssh.FingerprintSHA256(key)
	err := fmt.Errorf("the key %s is not in allowed_signers", fingerprint)
	at := c.At.Truncate(time.Second) // ssh-keygen knows whole seconds
	for _, a := range s.list {
		switch {
		case !bytes.Equal(a.key.Marshal(), key.Marshal()):
		case !a.signsFor(c):
			err = fmt.Errorf("the key %s is pinned for %q in allowed_signers, and this was signed for %s", fingerprint, a.principals, c.of())
		case a.namespaces != nil && matchList(namespace, *a.namespaces) != matched:
			err = fmt.Errorf("the key %s is not allowed to sign %s", fingerprint, namespace)
		case !a.after.IsZero() && at.Before(a.after), !a.before.IsZero() && at.After(a.before):
			err = fmt.Errorf("the key %s was not valid at %s", fingerprint, c.At.UTC().Format(time.RFC3339))
		default:
			return nil
		}
	}
	return err
}

// of names what a claim is about, as allowed_signers would have it.
func (c Claim) of() string {
	names := c.principals()
	if len(names) == 2 {
		return names[0]
	}
	return names[0] + " or " + names[2]
}

func (a allowed) signsFor(c Claim) bool {
	yes := false
	for _, name := range c.principals() {
		switch matchList(name, a.principals) {
		case negated:
			return false
		case matched:
			yes = true
		}
	}
	return yes
}

// What matchList finds.
const (
	unmatched = iota
	matched
	negated
)

// matchList is OpenSSH's match_pattern_list: patterns with * and ?, separated
// by commas. One that begins with ! and matches outweighs all others.
func matchList(name, patterns string) int {
	found := unmatched
	for pattern := range strings.SplitSeq(patterns, ",") {
		pattern, not := strings.CutPrefix(pattern, "!")
		if !match(name, pattern) {
			continue
		}
		if not {
			return negated
		}
		found = matched
	}
	return found
}

// match compares byte by byte. On a mismatch it goes back to the last * and
// lets that take one byte more, which is linear in each star.
func match(name, pattern string) bool {
	n, p, star, from := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			n, p = n+1, p+1
		case star >= 0:
			from++
			n, p = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// Verify checks a signed object and returns its text and the fingerprint of
// the key. read decodes the text and returns what it claims; it is called only
// after the signature itself was found to be by a pinned key.
func (s Signers) Verify(namespace string, object []byte, read func(text []byte) (Claim, error)) (text []byte, fingerprint string, err error) {
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
	if !slices.ContainsFunc(s.list, func(a allowed) bool { return bytes.Equal(a.key.Marshal(), sig.PublicKey.Marshal()) }) {
		return nil, fingerprint, forged("the key %s is not in allowed_signers", fingerprint)
	}
	if err := sshsig.Verify(bytes.NewReader(text), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return nil, fingerprint, forged("%v", err)
	}
	claim, err := read(text)
	if err != nil {
		return nil, fingerprint, err
	}
	if err := s.allow(sig.PublicKey, namespace, claim); err != nil {
		return nil, fingerprint, forged("%v", err)
	}
	return text, fingerprint, nil
}

// Claimed returns the text of a signed object and the fingerprint of the key
// that it says signed it, whoever that is: the signature is valid, and nothing
// else is known. It is for telling people whose an object seems to be.
func Claimed(namespace string, object []byte) (text []byte, fingerprint string, err error) {
	text, armored, err := Split(object)
	if err != nil {
		return nil, "", err
	}
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return nil, "", forged("signature: %v", err)
	}
	if err := sshsig.Verify(bytes.NewReader(text), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return nil, "", forged("%v", err)
	}
	return text, ssh.FingerprintSHA256(sig.PublicKey), nil
}
