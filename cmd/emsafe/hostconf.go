package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/hostconf"
	"emsafe/storage/seal"
)

// keepConfiguration puts a copy of the configuration into every target that has
// not the one of now: with a backup and the recovery key alone, nobody would know
// how to drill. That it failed is no failure of a backup.
func (s *site) keepConfiguration(ctx context.Context) error {
	s.p.copying.Lock()
	defer s.p.copying.Unlock()
	text, err := os.ReadFile(s.cfg.File)
	if err != nil {
		return err
	}
	to, err := s.recipients()
	if err != nil {
		return err
	}
	key, err := readSigningKey(s.cfg.SigningKey)
	if err != nil {
		return err
	}
	var failed []error
	sum := seal.Sum(fmt.Appendf(nil, "%s\n%s\n%q", s.cfg.Host, text, to.Names()))
	now := hex.EncodeToString(sum[:])
	file := filepath.Join(s.cfg.State, "configurations.json")
	kept := map[string]string{} // by target
	if data, err := os.ReadFile(file); err == nil && json.Unmarshal(data, &kept) != nil {
		kept = map[string]string{}
	}
	was := maps.Clone(kept)
	for _, t := range s.targets {
		address := s.cfg.Targets[t.Name].URL
		if kept[address] == now {
			continue
		}
		b, err := t.Open(ctx)
		if err == nil {
			err = hostconf.Put(ctx, b, hostconf.Copy{Host: s.cfg.Host, TakenAt: s.p.now(), File: s.cfg.File, Text: text}, key, s.signers, to)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("target %s has no copy of the configuration as it is now: %w", t.Name, err))
			continue
		}
		kept[address] = now
	}
	if !maps.Equal(was, kept) {
		data, err := json.MarshalIndent(kept, "", " ")
		if err == nil {
			err = durable.WriteFile(file, append(data, '\n'), 0o600)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func hostFlag() cli.Flag {
	return &cli.StringFlag{Name: "host", Usage: "whose configuration, where a target has those of several hosts: `NAME`"}
}

// fetchConfiguration is the newest copy of a host's configuration in a target.
func (p *program) fetchConfiguration(c *cli.Context, s *site, ids seal.Identities) (hostconf.Copy, error) {
	var failed []error
	for _, t := range s.targets {
		b, err := t.Open(c.Context)
		var found hostconf.Copy
		if err == nil {
			var problems []error
			found, problems, err = hostconf.Newest(c.Context, b, s.signers, ids, c.String("host"))
			for _, problem := range problems {
				p.print.warn("%v", problem)
			}
		}
		if err == nil {
			return found, nil
		}
		failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
	}
	return hostconf.Copy{}, worst(failed)
}

// adopt makes a site of another host's configuration: what that host keeps, and
// how it is to be checked, with places of this machine. Its database is out of
// reach, and its keys are not used.
//
// Whoever takes that host signs what is in it. So it names nothing of this
// machine: no environment is put into it, it says neither who runs what nor
// where, and its programs run only after a yes.
func (p *program) adopt(c *cli.Context, s *site, ids seal.Identities) (adopted *site, whose string, err error) {
	found, err := p.fetchConfiguration(c, s, ids)
	if err != nil {
		return nil, "", err
	}
	whose = fmt.Sprintf("of %s as of %s, from the target", found.Host, found.TakenAt.Format(time.DateTime))
	p.print.note("with the configuration %s", whose)
	literal := func(name string) (string, bool) { return "${" + name + "}", true }
	cfg, problems := config.Parse(found.File, found.Text, literal)
	if problems != nil {
		return nil, "", fault.New(fault.Config, "the configuration of %s in the target: %w", found.Host, problems)
	}
	cfg.Host = config.HostName()
	cfg.State, cfg.DrillKey = c.String("state"), ""
	if cfg.State == "" {
		cfg.State = filepath.Join(p.paths().State, "of-"+found.Host)
	}
	if cfg.SigningKey = c.String("signing-key"); cfg.SigningKey == "" {
		return nil, "", usage("--signing-key FILE must say who signs the report on this machine: `ssh-keygen -t ed25519 -N '' -f drill_key`, pinned in allowed_signers with namespaces=\"emsafe-report\"")
	}
	cfg.DrillScratch, cfg.DrillUser = "", ""
	withheld := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Databases)) {
		d := cfg.Databases[name]
		d.Path, d.Targets = "", nil
		if d.Drill.Checks, withheld[name] = p.ownChecks(name, d.Drill.Checks, c.Bool("allow-commands")); len(withheld[name]) > 0 {
			p.print.warn("%s: not run, because the configuration of %s names their programs: %s. To run them, read the configuration (`emsafe config fetch`) and give --allow-commands", name, found.Host, strings.Join(withheld[name], ", "))
		}
		cfg.Databases[name] = d
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, "", permission(err)
	}
	return &site{p: p, cfg: cfg, signers: s.signers, targets: s.targets, withheld: withheld}, whose, nil
}

// ownChecks are those of another host's checks that may be asked here; the rest
// by name. Programs that may run are shown.
func (p *program) ownChecks(database string, checks map[string]config.Check, allowed bool) (own map[string]config.Check, withheld []string) {
	own = map[string]config.Check{}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		check := checks[name]
		argv := slices.Concat(check.Command, check.Service)
		switch {
		case len(argv) > 0 && !allowed:
			withheld = append(withheld, name)
			continue
		case len(argv) > 0:
			p.print.note("%s: check %s runs %q", database, name, argv)
		}
		own[name] = check
	}
	return own, withheld
}
