package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/urfave/cli/v2"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/internal/render"
)

func (p *program) renderCommand() *cli.Command {
	return &cli.Command{
		Name: "render", Usage: "write the configuration of what stands around the service: proxy, unit, firewall, jails, alerts, CI", ArgsUsage: "WHAT",
		Description: "WHAT is one of " + strings.Join(render.Targets(), ", ") + ". From the answers under `web` in the configuration; it prints the file, and on stderr what must be done besides and what the part cannot do. " +
			"--diff compares with what is installed, and ends with exit code 23 where that differs. --write puts it in its place; what is there is only replaced with consent, and kept beside it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "proxy", Value: "nginx", Usage: "whose log and numbers fail2ban, logrotate and alerts are about, `WHOSE`: nginx or caddy"},
			&cli.BoolFlag{Name: "diff", Usage: "show how what is installed differs"},
			&cli.BoolFlag{Name: "write", Usage: "write it to its place"},
			&cli.StringFlag{Name: "root", Usage: "for --diff and --write: below `DIR` instead of /"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before a file is replaced"},
		},
		Action: p.render,
	}
}

func (p *program) render(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("render needs one WHAT: %s", strings.Join(render.Targets(), ", "))
	}
	if proxy := c.String("proxy"); proxy != "nginx" && proxy != "caddy" {
		return usage("--proxy is nginx or caddy, not %q", proxy)
	}
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	answers, err := s.answers(c)
	if err != nil {
		return err
	}
	m, err := render.Make(c.Args().First(), answers)
	if err != nil {
		return err
	}
	for i := range m.Files {
		m.Files[i].Path = filepath.Join("/", c.String("root"), m.Files[i].Path)
	}
	switch {
	case c.Bool("diff"):
		return p.renderDiff(m)
	case c.Bool("write"):
		return p.renderWrite(c, s, m)
	}
	p.print.emit(m)
	for i, f := range m.Files {
		if !p.print.json {
			if len(m.Files) > 1 {
				fmt.Fprintf(p.stdout, "%s### %s\n", map[bool]string{true: "\n"}[i > 0], f.Path)
			}
			fmt.Fprint(p.stdout, f.Text)
		}
	}
	p.renderRemarks(m)
	return nil
}

func (p *program) renderRemarks(m render.Made) {
	for _, f := range m.Files {
		p.print.note("belongs into %s", f.Path)
	}
	p.print.note("check it with: %s", m.Check)
	for _, r := range m.Remarks {
		p.print.note("- %s", r)
	}
}

// answers are what the configuration says of the service.
func (s *site) answers(c *cli.Context) (render.Answers, error) {
	w := s.cfg.Web
	hash, err := w.GuardHash.Reveal(c.Context, runForSecret)
	if err != nil {
		return render.Answers{}, err
	}
	hash = strings.TrimSpace(hash)
	if _, after, ok := strings.Cut(hash, ":"); ok {
		hash = after // as htpasswd prints it
	}
	return render.Answers{
		Domain: w.Domain, Upstream: w.Upstream, Data: w.Data, User: w.User, Command: w.Command, Allow: w.Allow, SSH: w.SSH, Docs: w.Docs, Login: w.Login, Health: w.Health,
		BodyLimit: w.BodyLimit, Rate: int(w.Rate), LoginRate: int(w.LoginRate), GuardUser: w.GuardUser, GuardHash: hash,
		Certificate: w.Certificate, CertificateKey: w.CertificateKey, Logs: w.Logs, HTTPPort: int(w.HTTPPort), HTTPSPort: int(w.HTTPSPort), Proxy: c.String("proxy"),
	}, nil
}

// renderedAt is a file as it is now.
func renderedAt(f render.File) (text []byte, there bool, err error) {
	text, err = os.ReadFile(f.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	return text, err == nil, permission(err)
}

func (p *program) renderDiff(m render.Made) error {
	type doc struct {
		Path string `json:"path"`
		Same bool   `json:"same"`
		Diff string `json:"diff,omitempty"`
	}
	docs, differ := []doc{}, 0
	for _, f := range m.Files {
		text, there, err := renderedAt(f)
		if err != nil {
			return err
		}
		name := f.Path
		if !there {
			name += " (not there)"
		}
		d := diff.Diff(name, text, "emsafe render "+m.Target, []byte(f.Text))
		docs = append(docs, doc{f.Path, len(d) == 0, string(d)})
		if len(d) == 0 {
			p.print.done("%s is as it would be made", f.Path)
			continue
		}
		differ++
		p.print.line("%s", strings.TrimRight(string(d), "\n"))
	}
	p.print.emit(map[string]any{"target": m.Target, "files": docs})
	if differ == 0 {
		return nil
	}
	return fault.New(fault.Findings, "%d of %d files differ", differ, len(m.Files)).
		WithRemedy("Look at each line: what was changed on purpose belongs into `web` of the configuration, or stays. Then: emsafe render %s --write", m.Target)
}

// renderWrite puts files into their places. What was there is kept beside each.
func (p *program) renderWrite(c *cli.Context, s *site, m render.Made) error {
	var changed []render.File
	old := map[string][]byte{}
	for _, f := range m.Files {
		text, there, err := renderedAt(f)
		switch {
		case err != nil:
			return err
		case there && string(text) == f.Text:
			p.print.done("%s is as it would be made", f.Path)
			continue
		case there:
			old[f.Path] = text
			p.print.note("%s", strings.TrimRight(string(diff.Diff(f.Path, text, "emsafe render "+m.Target, []byte(f.Text))), "\n"))
		}
		if _, err := os.Stat(filepath.Dir(f.Path)); errors.Is(err, os.ErrNotExist) {
			return fault.New(fault.NotFound, "there is no folder %s", filepath.Dir(f.Path)).WithRemedy("Install the part first, or give --root.")
		}
		changed = append(changed, f)
	}
	if len(old) > 0 && !c.Bool("yes") {
		if err := p.confirm(fmt.Sprintf("Replace %d files?", len(old))); err != nil {
			return err
		}
	}
	kept := []string{}
	for _, f := range changed {
		if text, there := old[f.Path]; there {
			beside := f.Path + ".before-" + p.now().UTC().Format("20060102T150405Z")
			if err := durable.CreateFile(beside, text, 0o600); err != nil {
				return permission(err)
			}
			kept = append(kept, beside)
			p.print.done("  what was there is kept in %s", beside)
		}
		mode := os.FileMode(0o644)
		if f.Secret {
			mode = 0o600
		}
		if err := durable.WriteFile(f.Path, []byte(f.Text), mode); err != nil {
			return permission(err)
		}
		s.record(journal.Entry{Action: "render", What: m.Target + " to " + f.Path}, nil)
		p.print.done("%s", f.Path)
	}
	p.print.emit(map[string]any{"target": m.Target, "files": m.Files, "kept": kept, "remarks": m.Remarks, "check": m.Check})
	p.renderRemarks(m)
	return nil
}
