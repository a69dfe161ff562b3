package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

func (p *program) initRecovery(c *cli.Context, s *setup, ask *asker) error {
	s.cfg.Recipients = c.StringSlice("recovery-recipient")
	for _, f := range c.StringSlice("recipients-file") {
		abs, err := filepath.Abs(f)
		if err != nil {
			return err
		}
		s.cfg.RecipientsFiles = append(s.cfg.RecipientsFiles, abs)
	}
	s.identityOut = c.String("recovery-key-out")
	haveOwn := len(s.cfg.Recipients)+len(s.cfg.RecipientsFiles) > 0
	switch {
	case s.identityOut != "":
		if err := s.offHost(); err != nil {
			return err
		}
	case haveOwn:
	case !ask.can():
		return fault.New(fault.Usage, "who can open the backups? Neither --recovery-recipient nor --recovery-key-out was given").
			WithRemedy("--recovery-recipient age1… for a key made elsewhere (`emsafe key new` on your laptop), or --recovery-key-out FILE to make one here and move it away.")
	}
	if s.identityOut != "" || !haveOwn {
		var err error
		if s.identity, s.recipient, err = seal.NewIdentity(c.Bool("post-quantum")); err != nil {
			return err
		}
		s.cfg.Recipients = append(s.cfg.Recipients, s.recipient)
	}
	if _, err := recipientsOf(&s.cfg); err != nil {
		return err
	}
	if s.identity != "" && s.identityOut == "" {
		return p.showIdentity(s, ask)
	}
	return nil
}

// offHost refuses to write the recovery key where a thief of this host's
// configuration or state, or of the backups, would find it.
func (s *setup) offHost() error {
	out := resolved(s.identityOut)
	places := []string{filepath.Dir(s.file), s.cfg.State}
	for _, t := range s.cfg.Targets {
		if folder, ok := t.Folder(); ok {
			places = append(places, folder)
		}
	}
	for _, dir := range places {
		if rel, err := filepath.Rel(resolved(dir), out); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return fault.New(fault.Usage, "the recovery key must not lie in %s: whoever takes that would have the key as well", dir).
				WithRemedy("Choose a place outside, best on removable media: --recovery-key-out /media/usb/recovery.key")
		}
	}
	if exists(out) {
		return fault.New(fault.BadKey, "%s exists: a key is never overwritten", out).WithRemedy("Choose another name.")
	}
	s.identityOut = out
	return nil
}

// resolved is a path without symbolic links, as far as it exists already.
func resolved(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rest := ""
	for dir := abs; ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return abs
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// showIdentity shows the key once and has it pasted back: a key that was not
// kept is found out now and not in the incident.
func (p *program) showIdentity(s *setup, ask *asker) error {
	fmt.Fprintf(p.stderr, "\nThis is the recovery key. It opens every backup, it is shown once, and it is not kept here.\nStore it in two places off this host (password manager, paper):\n\n%s\n",
		recoveryFile(s.identity, s.recipient, p.now().UTC().Format("2006-01-02")))
	for range 3 {
		pasted, err := ask.line("Paste the AGE-SECRET-KEY line back from where you stored it", "")
		if err != nil {
			return err
		}
		if strings.TrimSpace(pasted) == s.identity {
			return nil
		}
		fmt.Fprintln(p.stderr, "That is not the key.")
	}
	return fault.New(fault.BadKey, "the recovery key was not confirmed").WithSafe("Nothing was written.")
}
