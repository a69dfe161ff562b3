package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"emsafe/internal/fault"
)

const (
	hidden      = "[secret]"
	secretLimit = 64 << 10 // bytes; a session token has about one thousand
)

// Secret is where a secret comes from. Whatever prints it (fmt with any verb,
// JSON, YAML, slog) prints "[secret]"; [Secret.Reveal] is the only way to the
// value, and is called when it is needed: a target whose secret is missing
// fails alone. The zero Secret says that none was configured.
type Secret struct {
	from *source
}

type source struct {
	kind string // env, file, credential, command or literal
	name string // of the variable, file or credential
	argv []string
	// A function, because fmt calls no method on an unexported field and,
	// given a verb that does not fit, prints what a pointer leads to.
	value func() string
	env   func(string) (string, bool)
}

// EnvSecret is the secret in an environment variable.
func EnvSecret(name string) Secret { return Secret{&source{kind: "env", name: name}} }

// FileSecret is the content of a file, without the line's end.
func FileSecret(path string) Secret { return Secret{&source{kind: "file", name: path}} }

// CredentialSecret is a systemd credential (LoadCredential=, SetCredential=).
func CredentialSecret(name string) Secret { return Secret{&source{kind: "credential", name: name}} }

// CommandSecret is what a command prints, without the line's end. No shell
// takes part.
func CommandSecret(argv ...string) Secret { return Secret{&source{kind: "command", argv: argv}} }

// LiteralSecret is the value itself. In a file only access_key_id, which is a
// name rather than a secret, may be written so.
func LiteralSecret(value string) Secret {
	return Secret{&source{kind: "literal", value: func() string { return value }}}
}

// IsZero reports whether no secret was configured.
func (s Secret) IsZero() bool { return s.from == nil }

// Source says where the secret comes from, without the secret.
func (s Secret) Source() string {
	switch {
	case s.from == nil:
		return "none"
	case s.from.kind == "command":
		return "command " + s.from.argv[0] // arguments may tell things
	case s.from.kind == "literal":
		return "the configuration"
	}
	return s.from.kind + " " + s.from.name
}

// Sources are where the secrets of a configuration come from.
type Sources struct {
	Credentials []string // names of systemd credentials, sorted
	Environment bool     // variables, of secrets or of values
	Commands    bool     // a secret comes from a command, or a channel is one
}

// Sources says what a service needs besides files.
func (c *Config) Sources() Sources {
	var out Sources
	c.walk(func(k *key, path string, a at) {
		out.Environment = out.Environment || c.origins[path].Variables != ""
		switch f := k.field(a).(type) {
		case *[]string:
			out.Commands = out.Commands || k.kind == kindWords && len(*f) > 0
		case *Secret:
			switch {
			case f.from == nil:
			case f.from.kind == "credential":
				out.Credentials = append(out.Credentials, f.from.name)
			case f.from.kind == "env":
				out.Environment = true
			case f.from.kind == "command":
				out.Commands = true
			}
		}
	})
	slices.Sort(out.Credentials)
	out.Credentials = slices.Compact(out.Credentials)
	return out
}

func (s Secret) String() string               { return hidden }
func (s Secret) GoString() string             { return hidden }
func (s Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, hidden) } //nolint:errcheck // fmt has nowhere to report it
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
func (s Secret) MarshalYAML() (any, error)    { return hidden, nil }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }

// Reveal fetches the secret. run runs a command and returns what it printed;
// it is called for command sources only. The zero Secret reveals "".
func (s Secret) Reveal(ctx context.Context, run func(ctx context.Context, argv []string) ([]byte, error)) (string, error) {
	if s.from == nil {
		return "", nil
	}
	data, err := s.from.fetch(ctx, run)
	if err != nil {
		return "", err
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case value == "":
		err = errors.New("is empty")
	case len(value) > secretLimit:
		err = fmt.Errorf("is larger than %d bytes", secretLimit)
	case strings.ContainsAny(value, "\r\n\x00"):
		err = errors.New("holds more than one line")
	default:
		return value, nil
	}
	return "", fault.New(fault.Credentials, "the secret from %s %w", s.Source(), err)
}

func (s *source) fetch(ctx context.Context, run func(context.Context, []string) ([]byte, error)) ([]byte, error) {
	env := s.env
	if env == nil {
		env = os.LookupEnv
	}
	switch s.kind {
	case "literal":
		return []byte(s.value()), nil
	case "env":
		if v, ok := env(s.name); ok {
			return []byte(v), nil
		}
		return nil, fault.New(fault.Credentials, "the environment variable %s is not set", s.name).
			WithRemedy("Set it where emsafe is started (systemd: EnvironmentFile=), or name another source in the configuration.")
	case "credential":
		dir, ok := env("CREDENTIALS_DIRECTORY")
		if !ok {
			return nil, fault.New(fault.Credentials, "the systemd credential %s cannot be read: CREDENTIALS_DIRECTORY is not set", s.name).
				WithRemedy("Credentials reach only a unit that lists them: add LoadCredential=%s:/path to it, or run `systemd-run -p LoadCredential=%s:/path emsafe …`.", s.name, s.name)
		}
		// Their mode is systemd's to decide, which may show an ACL as group bits.
		return readSecret(filepath.Join(dir, s.name), false)
	case "command":
		if run == nil {
			return nil, errors.New("commands cannot be run here")
		}
		data, err := run(ctx, slices.Clone(s.argv))
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, fault.New(fault.Credentials, "the command that prints a secret failed: %w", err)
		}
		return data, nil
	}
	return readSecret(s.name, true)
}

// readSecret reads a small file that, if private is set, others must not be
// able to read.
func readSecret(file string, private bool) ([]byte, error) {
	f, err := openRegular(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Credentials, "the file of a secret is missing: %w", err).WithRemedy("Write the secret into %s (mode 0600), or correct the path in the configuration.", file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.Permission, "the file of a secret cannot be read: %w", err)
	case err != nil:
		return nil, fault.New(fault.Credentials, "the file of a secret cannot be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 {
		return nil, fault.New(fault.Permission, "%s holds a secret and has mode %04o: others can reach it", file, mode).
			WithRemedy("chmod 600 %s; and if others may have read it, replace the secret.", fault.Shell(file))
	}
	return io.ReadAll(io.LimitReader(f, secretLimit+3))
}

// openRegular opens a file for reading and refuses everything that is not one.
// Opening a pipe must not wait for a writer.
func openRegular(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", file)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
