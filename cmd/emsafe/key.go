package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

func (p *program) keyCommand() *cli.Command {
	return group("key", "recovery keys: make one, and prove that one opens your backups",
		&cli.Command{
			Name: "new", Usage: "make a recovery key",
			Description: "The identity opens every backup sealed to its recipient. Keep it off the host, in two places. " +
				"Without --out it is printed once, on stdout; the recipient goes to stderr.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "out", Usage: "write the identity to a new `FILE` (0600) instead of stdout"},
				&cli.BoolFlag{Name: "post-quantum", Usage: "make an age1pq… key; all recipients must then be of that kind"},
			},
			Action: p.keyNew,
		},
		p.keyVerifyCommand())
}

func (p *program) keyNew(c *cli.Context) error {
	identity, recipient, err := seal.NewIdentity(c.Bool("post-quantum"))
	if err != nil {
		return err
	}
	text := recoveryFile(identity, recipient, p.now().UTC().Format("2006-01-02"))
	if out := c.String("out"); out != "" {
		if err := writeKey(out, text); err != nil {
			return err
		}
		p.print.emit(map[string]string{"recipient": recipient, "file": out})
		p.print.line("%s", recipient)
		p.print.note("the identity is in %s; move it off this host and keep two copies", out)
		return nil
	}
	p.print.emit(map[string]string{"recipient": recipient, "identity": identity})
	if !p.print.json {
		fmt.Fprint(p.stdout, text)
	}
	p.print.note("recipient: %s", recipient)
	return nil
}

// recoveryFile is an age identity file that explains itself.
func recoveryFile(identity, recipient, day string) string {
	return fmt.Sprintf("# emsafe recovery key, made %s. Whoever has it can read the backups.\n# Open one by hand: age -d -i THIS_FILE payload.age | zstd -d > app.db\n# public key: %s\n%s\n", day, recipient, identity)
}

// writeKey makes a new file for a secret and never replaces one.
func writeKey(file, text string) error {
	err := durable.CreateFile(file, []byte(text), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.BadKey, "%s exists: a key is never overwritten", file).WithRemedy("Choose another name.")
	}
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Permission, "%w", err)
	}
	return err
}

// proves seals one page to the recipients and opens it again.
func proves(ctx context.Context, ids seal.Identities, to seal.Recipients) error {
	page := []byte(strings.Repeat("emsafe ", 74)[:512])
	var sealed bytes.Buffer
	w, err := seal.NewWriter(&sealed, seal.Options{Recipients: to, PageSize: len(page)})
	if err != nil {
		return err
	}
	if _, err := w.Write(page); err != nil {
		return err
	}
	s, content, err := w.Close()
	if err != nil {
		return err
	}
	fetch := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(sealed.Bytes()[off : off+n])), nil
	}
	err = seal.Extract(ctx, fetch, ids, s, content, seal.Discard)
	if errors.Is(err, seal.ErrWrongIdentity) {
		return fault.New(fault.WrongKey, "the identity (%s) does not open what is sealed to %s", strings.Join(ids.Names(), ", "), strings.Join(to.Names(), ", ")).
			WithRemedy("Find the identity of one of those recipients, or put this key's recipient into the configuration.")
	}
	return err
}

// readSigningKey reads the host's signing key; it must be private.
func readSigningKey(file string) (*seal.SigningKey, error) {
	st, err := os.Stat(file)
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.BadKey, "the signing key %s is readable by others (mode %04o)", file, st.Mode().Perm()).
			WithRemedy("chmod 600 %s; and if others could read it, make a new one and pin it.", fault.Shell(file))
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.New(fault.Permission, "the signing key cannot be read: %w", err)
	}
	if err != nil {
		return nil, fault.New(unreadable(err), "the signing key cannot be read: %w", err).WithRemedy("`emsafe init` makes one; a lost one is replaced by a new one, pinned beside the old.")
	}
	key, err := seal.ParseSigningKey(data)
	if err != nil {
		return nil, fault.New(fault.BadKey, "signing key %s: %w", file, err)
	}
	return key, nil
}

// unreadable is the kind of a key file that could not be read: nothing is known
// of the key then, so that it is not called a wrong one.
func unreadable(err error) *fault.Kind {
	if f := fault.Of(err); f != nil {
		return f.Kind
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return fault.Config
	}
	return fault.Other
}

// readSigners reads the pinned public keys.
func readSigners(file string) (seal.Signers, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrPermission) {
		return seal.Signers{}, fault.New(fault.Permission, "the pinned keys cannot be read: %w", err)
	}
	if err != nil {
		return seal.Signers{}, fault.New(unreadable(err), "the pinned keys cannot be read: %w", err).
			WithRemedy("Give --allowed-signers FILE: a copy of the host's allowed_signers file.")
	}
	signers, err := seal.ParseSigners(data)
	if err != nil {
		return seal.Signers{}, fault.New(fault.BadKey, "allowed_signers %s: %w", file, err)
	}
	return signers, nil
}
