package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/restic"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "find databases, make keys, prove the target, write the configuration",
		Description: "On a terminal it asks for what the flags do not say; elsewhere it asks nothing. The recovery key is shown or written " +
			"once and never kept on this host: without it nobody can open the backups.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "scan", Usage: "folder to look for databases in, `DIR`; may be repeated"},
			&cli.StringSliceFlag{Name: "database", Usage: "a database as `NAME=PATH` or PATH; may be repeated"},
			&cli.StringSliceFlag{Name: "files", Usage: "a folder of files that belong to the databases as `NAME=PATH` or PATH, kept by restic; may be repeated"},
			&cli.StringSliceFlag{Name: "target", Aliases: []string{"t"}, Usage: "a target as `[NAME=]URL`: file:///… or s3://bucket/prefix; may be repeated"},
			&cli.StringFlag{Name: "provider", Usage: "S3 preset, `NAME`: aws, r2, b2, wasabi, hetzner, garage, minio or scaleway"},
			&cli.StringFlag{Name: "endpoint", Usage: "S3 endpoint `URL`"},
			&cli.StringFlag{Name: "region", Usage: "S3 `REGION`"},
			&cli.BoolFlag{Name: "path-style", Usage: "address the bucket in the path"},
			&cli.StringFlag{Name: "ca-file", Usage: "PEM `FILE` with the certificate authority of the endpoint"},
			&cli.StringSliceFlag{Name: "recovery-recipient", Usage: "public `KEY` that backups are sealed to (age1…, age1pq…, ssh-ed25519 …), made elsewhere; may be repeated"},
			&cli.StringSliceFlag{Name: "recipients-file", Usage: "`FILE` with recipients, one per line; may be repeated"},
			&cli.StringFlag{Name: "recovery-key-out", Usage: "make a recovery key and write it to a new `FILE`, which you then move off this host"},
			&cli.BoolFlag{Name: "post-quantum", Usage: "make the recovery key a post-quantum one"},
			&cli.StringFlag{Name: "state", Usage: "state folder, `DIR`: spool, locks, memory"},
			&cli.StringFlag{Name: "host", Usage: "`NAME` of this host in the manifests"},
		},
		Action: p.init,
	}
}

// setup is what init decides before it writes anything.
type setup struct {
	file        string // configuration
	cfg         config.Config
	key         *seal.SigningKey
	keyText     []byte
	identity    string // a recovery key made here; "" if it was made elsewhere
	recipient   string
	identityOut string
}

func (p *program) init(c *cli.Context) error {
	if c.NArg() > 0 {
		return usage("init takes no arguments; a database is given with --database %s", c.Args().First())
	}
	s := &setup{file: p.configFile(c), cfg: config.Config{Version: config.Version}}
	if exists(s.file) {
		return fault.New(fault.Config, "%s exists already", s.file).
			WithRemedy("Edit it and run `emsafe config check`, or move it away first. To use another: --config FILE.")
	}
	ask := &asker{p: p, in: bufio.NewReader(p.stdin)}
	for _, step := range []func(*cli.Context, *setup, *asker) error{p.initPaths, p.initDatabases, p.initFilesets, p.initTargets, p.initRecovery} {
		if err := step(c, s, ask); err != nil {
			return err
		}
	}
	probes, err := p.initProve(c.Context, s)
	if err != nil {
		return err
	}
	if err := p.initWrite(s); err != nil {
		return err
	}
	p.initReport(s, probes)
	return nil
}

func (p *program) initPaths(c *cli.Context, s *setup, _ *asker) error {
	paths := p.paths()
	s.cfg.State = paths.State
	if dir := c.String("state"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		s.cfg.State = abs
	}
	abs, err := filepath.Abs(s.file)
	if err != nil {
		return err
	}
	s.file = abs
	s.cfg.SigningKey = filepath.Join(filepath.Dir(abs), "signing_key")
	s.cfg.AllowedSigners = filepath.Join(filepath.Dir(abs), "allowed_signers")
	s.cfg.Host = c.String("host")
	if s.cfg.Host == "" {
		s.cfg.Host, _ = os.Hostname()
	}
	for _, f := range []string{s.cfg.SigningKey, s.cfg.AllowedSigners} {
		if exists(f) {
			return fault.New(fault.Config, "%s exists already, and a key is never overwritten", f).
				WithRemedy("It belongs to an earlier `emsafe init`. Move it away, or use another --config FILE in another folder.")
		}
	}
	return nil
}

var notInName = regexp.MustCompile(`[^a-z0-9_-]+`)

// nameOf makes a database's name from its file's.
func nameOf(path string) string {
	base := strings.ToLower(filepath.Base(path))
	base = strings.TrimSuffix(base, filepath.Ext(base))
	name := strings.Trim(notInName.ReplaceAllString(base, "-"), "-_")
	if name == "" {
		return "database"
	}
	return name[:min(len(name), 60)]
}

func (p *program) initDatabases(c *cli.Context, s *setup, ask *asker) error {
	s.cfg.Databases = map[string]config.Database{}
	for _, given := range c.StringSlice("database") {
		name, path, ok := strings.Cut(given, "=")
		if !ok {
			name, path = nameOf(given), given
		}
		if err := s.addDatabase(name, path); err != nil {
			return err
		}
	}
	scans := c.StringSlice("scan")
	if len(scans) == 0 && len(s.cfg.Databases) == 0 {
		if !ask.can() {
			return fault.New(fault.Usage, "which databases? Neither --database nor --scan was given").
				WithRemedy("For example: --scan /srv/app, or --database app=/srv/app/app.db.")
		}
		dir, err := ask.line("Folder to look for SQLite databases in", ".")
		if err != nil {
			return err
		}
		scans = []string{dir}
	}
	for _, dir := range scans {
		if err := p.scan(c.Context, s, dir, ask); err != nil {
			return err
		}
	}
	if len(s.cfg.Databases) == 0 {
		return fault.New(fault.NoDatabase, "no SQLite database was found under %s", strings.Join(scans, ", ")).WithRemedy("Name one with --database NAME=PATH.")
	}
	return nil
}

// initFilesets takes the folders that go with the databases.
func (p *program) initFilesets(c *cli.Context, s *setup, _ *asker) error {
	s.cfg.Filesets = map[string]config.Fileset{}
	for _, given := range c.StringSlice("files") {
		name, path, ok := strings.Cut(given, "=")
		if !ok {
			name, path = nameOf(given), given
		}
		abs, err := filepath.Abs(path)
		if err == nil {
			err = restic.CheckPaths([]string{abs})
		}
		if err != nil {
			return err
		}
		if _, taken := s.cfg.Databases[name]; taken {
			name += "-files"
		}
		if _, taken := s.cfg.Filesets[name]; taken {
			return usage("two filesets are called %s: name them, as in --files scans=/srv/scans", name)
		}
		f := config.NewFileset(abs)
		f.Databases = slices.Sorted(maps.Keys(s.cfg.Databases))
		s.cfg.Filesets[name] = f
	}
	if len(s.cfg.Filesets) > 0 {
		if _, err := restic.Find(c.Context, ""); err != nil {
			p.print.warn("%v: %s", err, fault.NoRestic.Remedy)
		}
	}
	return nil
}

func (s *setup) addDatabase(name, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := sqlite.Inspect(abs); err != nil {
		return err
	}
	base := name
	for i := 2; ; i++ {
		if _, taken := s.cfg.Databases[name]; !taken {
			break
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
	s.cfg.Databases[name] = config.NewDatabase(abs)
	return nil
}

func (p *program) scan(ctx context.Context, s *setup, dir string, ask *asker) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	found, err := sqlite.Find(ctx, abs)
	if err != nil {
		return err
	}
	for _, f := range found {
		switch {
		case f.Skipped:
			p.print.warn("%s could not be looked into", f.Path)
		case f.Vendor:
			p.print.note("passed over %s (dependencies or version control); add it with --database if it is yours", f.Path)
		default:
			if ask.can() {
				yes, err := ask.yes(fmt.Sprintf("Back up %s (%s)?", f.Path, size(f.Size)))
				if err != nil {
					return err
				}
				if !yes {
					continue
				}
			}
			if err := s.addDatabase(nameOf(f.Path), f.Path); err != nil {
				return err
			}
			p.print.note("found %s, %s", f.Path, size(f.Size))
		}
	}
	return nil
}

func (p *program) initTargets(c *cli.Context, s *setup, ask *asker) error {
	given := c.StringSlice("target")
	if len(given) == 0 {
		if !ask.can() {
			return fault.New(fault.Usage, "where to? No --target was given").
				WithRemedy("For example: --target file:///mnt/backup, or --target s3://bucket/prefix with --provider or --endpoint.")
		}
		url, err := ask.line("Where do backups go (file:///folder or s3://bucket/prefix)", "")
		if err != nil {
			return err
		}
		given = []string{url}
	}
	s.cfg.Targets = map[string]config.Target{}
	for i, g := range given {
		name, url, ok := strings.Cut(g, "=")
		if !ok || strings.Contains(name, "/") {
			name, url = "main", g
			if i > 0 {
				name = fmt.Sprintf("target%d", i+1)
			}
		}
		if strings.HasPrefix(url, "/") || strings.HasPrefix(url, ".") {
			abs, err := filepath.Abs(url)
			if err != nil {
				return err
			}
			url = "file://" + abs
		}
		t := config.Target{URL: url}
		if strings.HasPrefix(url, "s3://") {
			t.Provider, t.Endpoint, t.Region, t.CAFile = c.String("provider"), c.String("endpoint"), c.String("region"), c.String("ca-file")
			if c.IsSet("path-style") {
				style := c.Bool("path-style")
				t.PathStyle = &style
			}
		}
		if _, taken := s.cfg.Targets[name]; taken {
			return usage("two targets are called %s", name)
		}
		s.cfg.Targets[name] = t
	}
	return nil
}

// initProve makes the targets' round trips before anything is written, so that
// a failure leaves nothing behind.
func (p *program) initProve(ctx context.Context, s *setup) (map[string]storage.Probed, error) {
	probes := map[string]storage.Probed{}
	for name, t := range s.cfg.Targets {
		if err := makeFolder(t); err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		t, err := p.settled(ctx, name, t)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		s.cfg.Targets[name] = t
		b, err := openBucket(ctx, t, nil, 0)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		if err := unclaimed(ctx, name, t, s.cfg.Host, b); err != nil {
			return nil, err
		}
		probed, err := storage.Probe(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		probes[name] = probed
	}
	return probes, nil
}

func (p *program) initWrite(s *setup) error {
	var err error
	if s.key, s.keyText, err = seal.NewSigningKey("emsafe@" + s.cfg.Host); err != nil {
		return err
	}
	text := config.Render(s.cfg)
	if _, err := config.Parse(s.file, text, p.env); err != nil {
		return fmt.Errorf("the configuration that init made is not valid: %w", err)
	}
	for _, dir := range []string{filepath.Dir(s.file), s.cfg.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return permission(err)
		}
	}
	if s.identityOut != "" {
		if err := writeKey(s.identityOut, recoveryFile(s.identity, s.recipient, p.now().UTC().Format("2006-01-02"))); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{s.cfg.SigningKey, s.keyText, 0o600},
		{s.cfg.AllowedSigners, []byte(s.key.AllowedSigners(seal.Principal(s.cfg.Host))), 0o644},
		{s.file, text, 0o600},
	} {
		if err := durable.CreateFile(f.name, f.data, f.mode); err != nil {
			return permission(err)
		}
	}
	return nil
}

// principal is the host's name in allowed_signers: ssh-keygen allows no space
// and no comma there.

func permission(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fault.New(fault.Permission, "%w", err).WithRemedy("Run as root for /etc and /var/lib, or name places of your own with --config and --state.")
	}
	return err
}

func (p *program) initReport(s *setup, probes map[string]storage.Probed) {
	recipients, _ := recipientsOf(&s.cfg)
	databases, targets := map[string]string{}, map[string]any{}
	for name, d := range s.cfg.Databases {
		databases[name] = d.Path
	}
	for name, probed := range probes {
		targets[name] = map[string]any{"url": s.cfg.Targets[name].URL, "reads": probed.Read, "deletes": probed.Removed, "proven": probed.Proven}
	}
	p.print.emit(map[string]any{
		"config": s.file, "state": s.cfg.State, "allowed_signers": s.cfg.AllowedSigners, "signing_key": s.key.Public(), "fingerprint": s.key.Fingerprint(),
		"recipients": recipients.Names(), "recovery_key_out": s.identityOut, "databases": databases, "targets": targets,
	})
	names := slices.Sorted(maps.Keys(databases))
	for _, name := range names {
		p.print.line("database %s: %s", name, databases[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Filesets)) {
		p.print.line("fileset %s: %s", name, strings.Join(s.cfg.Filesets[name].Paths, ", "))
	}
	p.initTargetsReport(s, probes)
	for _, r := range recipients.Names() {
		p.print.line("opens with: %s", r)
	}
	if s.identityOut != "" {
		p.print.line("recovery key: %s  <- move it off this host, and keep two copies", s.identityOut)
	}
	p.print.line("pinned key: %s  <- copy it off this host as well: restoring needs it", s.cfg.AllowedSigners)
	p.print.line("configuration: %s", s.file)
	p.print.note("next: emsafe backup; then prove it: emsafe restore %s --to /tmp/%s.db --identity KEY", names[0], names[0])
}

// initTargetsReport says what the round trips showed, and what they did not.
func (p *program) initTargetsReport(s *setup, probes map[string]storage.Probed) {
	for _, name := range slices.Sorted(maps.Keys(probes)) {
		what := "written, listed, read back"
		switch probed := probes[name]; {
		case !probed.Read:
			what = "written and listed; these credentials may not read, which is enough for backups"
		case probed.Removed:
			what += ", deleted"
		}
		p.print.line("target %s: %s: %s", name, s.cfg.Targets[name].URL, what)
		for _, property := range probes[name].Proven {
			if property.State != storage.Proven {
				p.print.note("target %s: %s: %s (%s)", name, property.Name, property.State, property.Detail)
			}
		}
	}
}
