package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"emsafe/internal/config"
	"emsafe/internal/fault"
)

const sound = "version: 1\nrecipients: [age1x]\ntargets: {a: {url: file:///x}}\n"

func write(t *testing.T, file, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return file
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("good"), sound, 0o600)
	write(t, at("readable"), sound, 0o644)
	write(t, at("group"), sound, 0o660)
	write(t, at("world"), sound, 0o602)
	write(t, at("wrong"), "version: 1\nhots: x\nrecipients: [age1x]\ntargets: {a: {url: file:///x, regoin: x}}\n", 0o600)
	write(t, at("huge"), sound+strings.Repeat("#", 1<<20), 0o600)
	write(t, at("unreadable"), sound, 0o000)
	write(t, at("stranger"), sound, 0o600)
	for _, err := range []error{
		os.Symlink("good", at("link")), os.Symlink("group", at("link-to-group")), os.Symlink("nowhere", at("dangling")),
		os.Mkdir(at("folder"), 0o700), syscall.Mkfifo(at("pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		file string
		kind *fault.Kind // nil: accepted
		want string
	}{
		{"good", nil, ""}, {"readable", nil, ""}, {"link", nil, ""},
		{"missing", fault.Config, "there is no configuration at"}, {"dangling", fault.Config, "there is no configuration at"},
		{"group", fault.Config, "can be changed by its group (mode 0660)"}, {"link-to-group", fault.Config, "can be changed by its group"},
		{"world", fault.Config, "can be changed by everybody (mode 0602)"},
		{"wrong", fault.Config, "has 2 problems"}, {"huge", fault.Config, "larger than 1 MiB"},
		{"folder", fault.Config, "is not a regular file"}, {"pipe", fault.Config, "is not a regular file"},
	}
	if os.Getuid() == 0 {
		if err := os.Chown(at("stranger"), 4711, -1); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, struct {
			file string
			kind *fault.Kind
			want string
		}{"stranger", fault.Config, "belongs to user 4711"})
	} else {
		cases = append(cases, struct {
			file string
			kind *fault.Kind
			want string
		}{"unreadable", fault.Permission, "permission denied"})
	}
	for _, c := range cases {
		cfg, err := config.Load(at(c.file), environment)
		switch {
		case c.kind == nil && (err != nil || cfg.File != at(c.file)):
			t.Errorf("%s: %v", c.file, err)
		case c.kind != nil && (!errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %v %q", c.file, err, c.kind, c.want)
		case c.kind != nil:
			t.Logf("%s: %v\n  remedy: %s", c.file, err, fault.Find(err).Remedy)
		}
	}
	_, err := config.Load(at("wrong"), environment)
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) != 2 || fault.Exit(err) != 78 {
		t.Errorf("problems %v, exit %d", problems, fault.Exit(err))
	}
}

func TestAllRecipients(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "recipients.txt")
	c := parse(t, "version: 1\nrecipients_files: ["+file+"]\ntargets: {a: {url: file:///x}}\n")
	for _, step := range []struct {
		text string
		mode os.FileMode
		want string // in the error, "" for none
	}{
		{"# keys\nage1a\n\n  ssh-ed25519 AAAA me\r\n", 0o644, ""},
		{"# none\n", 0o644, "there is no recipient in"},
		{"age1a\nnonsense\n", 0o644, ":2: this line is no recipient"},
		{"age1a\nAGE-SECRET-KEY-1HUNTER2\n", 0o644, ":2: this line is a secret identity"},
		{"age1a\n", 0o666, "can be changed by everybody"},
	} {
		write(t, file, step.text, step.mode)
		got, err := c.AllRecipients()
		if step.want == "" && (err != nil || strings.Join(got, "|") != "age1a|ssh-ed25519 AAAA me") {
			t.Errorf("%q %v", got, err)
		}
		if step.want != "" && (!errors.Is(err, fault.Config) || !strings.Contains(err.Error(), step.want) || strings.Contains(err.Error(), "HUNTER2")) {
			t.Errorf("%q: %v", step.text, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AllRecipients(); !errors.Is(err, fault.Config) || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}
