package config_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"emsafe/internal/config"
	"emsafe/internal/fault"
)

// TestSecretDoesNotPrint tries every way by which values get into logs.
func TestSecretDoesNotPrint(t *testing.T) {
	s := config.LiteralSecret("hunter2")
	type outer struct {
		Shown  config.Secret
		Point  *config.Secret
		hidden config.Secret
		hiding *config.Secret
	}
	o := outer{s, &s, s, &s}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T", "%p"} {
		fmt.Fprintf(&b, verb+" "+verb+" "+verb+" "+verb+"\n", s, &s, o, []config.Secret{s})
		fmt.Fprintf(&b, verb+"\n", map[string]config.Target{"a": {SecretAccessKey: s}})
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		data, err := marshal(map[string]any{"a": s, "b": &s, "c": config.Target{SecretAccessKey: s}})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("x", "s", s, "o", o, "t", config.Target{AccessKeyID: s})
	}
	fmt.Fprint(&b, errors.New(s.String()), s.Source())
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), "104 117 110"} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("%q shows in\n%s", leak, &b)
		}
	}
	if got, err := s.Reveal(t.Context(), nil); err != nil || got != "hunter2" {
		t.Errorf("%q %v", got, err)
	}
}

func TestReveal(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("good"), "hunter2\r\n", 0o400)
	write(t, at("open"), "hunter2\n", 0o640)
	write(t, at("empty"), "\n", 0o600)
	write(t, at("lines"), "one\ntwo\n", 0o600)
	write(t, at("large"), strings.Repeat("x", 65<<10), 0o600)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("EMSAFE_TEST_SECRET", "hunter2")
	failed := errors.New("exit status 1")
	run := func(_ context.Context, argv []string) ([]byte, error) {
		if argv[0] == "fail" {
			return nil, failed
		}
		return []byte(strings.Join(argv[1:], " ") + "\n"), nil
	}
	for _, c := range []struct {
		secret config.Secret
		kind   *fault.Kind
		want   string // the value, or part of the error
	}{
		{config.Secret{}, nil, ""},
		{config.EnvSecret("EMSAFE_TEST_SECRET"), nil, "hunter2"},
		{config.EnvSecret("EMSAFE_TEST_UNSET"), fault.Credentials, "EMSAFE_TEST_UNSET is not set"},
		{config.FileSecret(at("good")), nil, "hunter2"},
		{config.FileSecret(at("open")), fault.Permission, "mode 0640: others can reach it"},
		{config.FileSecret(at("empty")), fault.Credentials, "is empty"},
		{config.FileSecret(at("lines")), fault.Credentials, "more than one line"},
		{config.FileSecret(at("large")), fault.Credentials, "larger than"},
		{config.FileSecret(at("missing")), fault.Credentials, "is missing"},
		{config.FileSecret(dir), fault.Credentials, "is not a regular file"},
		{config.CredentialSecret("open"), nil, "hunter2"},
		{config.CredentialSecret("missing"), fault.Credentials, "is missing"},
		{config.CommandSecret("show", "hunter2"), nil, "hunter2"},
		{config.CommandSecret("show"), fault.Credentials, "is empty"},
		{config.CommandSecret("fail"), fault.Credentials, "exit status 1"},
	} {
		got, err := c.secret.Reveal(t.Context(), run)
		switch {
		case c.kind == nil && (err != nil || got != c.want):
			t.Errorf("%s: %q %v", c.secret.Source(), got, err)
		case c.kind != nil && (!errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %v, want %v %q", c.secret.Source(), err, c.kind, c.want)
		}
	}
	if _, err := config.CommandSecret("fail").Reveal(t.Context(), run); !errors.Is(err, failed) {
		t.Error("the cause is lost:", err)
	}
	if err := os.Unsetenv("CREDENTIALS_DIRECTORY"); err != nil {
		t.Fatal(err)
	}
	if _, err := config.CredentialSecret("good").Reveal(t.Context(), run); !errors.Is(err, fault.Credentials) {
		t.Error(err)
	}
}

// TestSecretSources: what the file says is what is fetched, with the
// environment that the file was read with.
func TestSecretSources(t *testing.T) {
	c := parse(t, `version: 1
recipients: [age1x]
targets:
  a: {url: s3://bucket/a, access_key_id: AKIA, secret_access_key: "${SECRET}"}
  b: {url: s3://bucket/b, access_key_id: "${KEY_ID}", secret_access_key: {env: UNSET_UNTIL_NEEDED}, session_token: {command: [echo, "${HOST}"]}}
`)
	run := func(_ context.Context, argv []string) ([]byte, error) { return []byte(strings.Join(argv, " ")), nil }
	for _, step := range []struct {
		secret config.Secret
		want   string
	}{
		{c.Targets["a"].AccessKeyID, "AKIA"}, {c.Targets["a"].SecretAccessKey, "hunter2hunter2"},
		{c.Targets["b"].AccessKeyID, "AKIAEXAMPLE"}, {c.Targets["b"].SessionToken, "echo web1"},
	} {
		if got, err := step.secret.Reveal(t.Context(), run); err != nil || got != step.want {
			t.Errorf("%q %v, want %q", got, err, step.want)
		}
	}
	if _, err := c.Targets["b"].SecretAccessKey.Reveal(t.Context(), run); !errors.Is(err, fault.Credentials) {
		t.Errorf("a secret that is missing stops its target, and only that: %v", err)
	}
}
