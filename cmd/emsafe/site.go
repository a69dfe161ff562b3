package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/internal/config"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/suggest"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// site is what a command works on: the configuration, or, where there is none,
// what the flags say in its place.
type site struct {
	p       *program
	cfg     *config.Config // nil if the flags say it all
	signers seal.Signers
	targets []storage.Target
	ids     *seal.Identities // once they were asked for

	withheld map[string][]string // checks, by database, whose programs are not run
}

// sourceFlags let reading commands work on a machine without a configuration.
func sourceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Usage: "a target's `NAME` in the configuration, or its url (file:///…, s3://bucket/prefix)"},
		&cli.StringFlag{Name: "allowed-signers", Usage: "pinned public keys, `FILE`; default: the configuration's", EnvVars: []string{"EMSAFE_ALLOWED_SIGNERS"}},
		&cli.StringFlag{Name: "provider", Usage: "S3 preset for a --target url, `NAME`: aws, r2, b2, wasabi, hetzner, garage, minio or scaleway"},
		&cli.StringFlag{Name: "endpoint", Usage: "S3 endpoint `URL` for a --target url"},
		&cli.StringFlag{Name: "region", Usage: "S3 `REGION` for a --target url"},
		&cli.BoolFlag{Name: "path-style", Usage: "address the bucket in the path"},
		&cli.StringFlag{Name: "ca-file", Usage: "PEM `FILE` with the certificate authority of the endpoint"},
	}
}

// site reads what a command needs. With --target URL and --allowed-signers the
// configuration may be missing.
func (p *program) site(c *cli.Context) (*site, error) {
	s := &site{p: p}
	target := c.String("target")
	byURL := strings.Contains(target, "://")
	file := p.configFile(c)
	cfg, err := config.Load(file, p.env)
	missing := err != nil && c.String("config") == "" && !exists(file)
	switch {
	case err == nil:
		s.cfg = cfg
	case !missing:
		return nil, err
	case target == "" && c.String("to") != "" && c.Bool("undo"):
		return s, nil // an undo needs nothing but the path
	case !byURL:
		return nil, noConfiguration()
	}
	s.sweep() //nolint:errcheck // status, doctor and the daemon report what stays
	signers := c.String("allowed-signers")
	if signers == "" && s.cfg != nil {
		signers = s.cfg.AllowedSigners
	}
	if signers == "" {
		return nil, usage("without a configuration, --allowed-signers FILE must say whose signatures count")
	}
	if s.signers, err = readSigners(signers); err != nil {
		return nil, err
	}
	if byURL {
		t := config.Target{URL: target, Provider: c.String("provider"), Endpoint: c.String("endpoint"), Region: c.String("region"), CAFile: c.String("ca-file")}
		if c.IsSet("path-style") {
			style := c.Bool("path-style")
			t.PathStyle = &style
		}
		s.targets = []storage.Target{{Name: "target", Open: func(ctx context.Context) (storage.Bucket, error) { return openBucket(ctx, t, nil, 0) }}}
		return s, nil
	}
	return s, s.configured(target)
}

// ownSite is the site of a command that works on what this host's configuration
// says.
func (p *program) ownSite(c *cli.Context) (*site, error) {
	s, err := p.site(c)
	if err == nil && s.cfg == nil {
		err = noConfiguration()
	}
	return s, err
}

// configured takes the targets from the configuration, or the one named.
func (s *site) configured(only string) error {
	names := slices.Sorted(maps.Keys(s.cfg.Targets))
	for _, name := range names {
		if only != "" && name != only {
			continue
		}
		t := s.cfg.Targets[name]
		limited, err := s.limited(t)
		if err != nil {
			return err
		}
		s.targets = append(s.targets, storage.Target{Name: name, Lock: t.LockFor, Open: func(ctx context.Context) (storage.Bucket, error) {
			return openBucket(ctx, t, limited, s.lockFor(name, t))
		}})
	}
	if len(s.targets) == 0 {
		return fault.New(fault.NotFound, "the configuration has no target %q", only).WithRemedy("It has: %s. A url works too.", strings.Join(names, ", "))
	}
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, os.ErrNotExist)
}

func noConfiguration() error {
	return fault.New(fault.Config, "there is no configuration yet").
		WithRemedy("`emsafe init` makes one. To read backups without one: --target URL --allowed-signers FILE.")
}

func (p *program) paths() config.Paths { return config.DefaultPaths(os.Getuid(), p.env) }

func (p *program) configFile(c *cli.Context) string {
	if file := c.String("config"); file != "" {
		return file
	}
	return p.paths().Config
}

// path is where a database lives; "" if no configuration says so.
func (s *site) path(database string) string {
	if s.cfg == nil {
		return ""
	}
	return s.cfg.Databases[database].Path
}

// targetsOf are the targets that a database goes to.
func (s *site) targetsOf(database string) []storage.Target {
	if s.cfg == nil || len(s.cfg.Databases[database].Targets) == 0 || len(s.targets) == 1 {
		return s.targets
	}
	return slices.DeleteFunc(slices.Clone(s.targets), func(t storage.Target) bool {
		return !slices.Contains(s.cfg.Databases[database].Targets, t.Name)
	})
}

// databases are the names that a command is for: those given, or all.
func (s *site) databases(ctx context.Context, given []string) ([]string, error) {
	var known []string
	if s.cfg != nil {
		known = slices.Sorted(maps.Keys(s.cfg.Databases))
	}
	if len(given) == 0 && len(known) > 0 {
		return known, nil
	}
	if s.cfg == nil || len(known) == 0 {
		var err error
		if known, err = s.stored(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range given {
		if slices.Contains(known, name) || s.has(ctx, name) {
			continue
		}
		if s.cfg != nil {
			if _, ok := s.cfg.Filesets[name]; ok {
				return nil, fault.New(fault.NotFound, "%s is a fileset, and this is for databases", name).
					WithRemedy("See `emsafe files --help`; a point with its files comes back by `emsafe restore --point latest --to FOLDER`.")
			}
		}
		return nil, noDatabase(name, known)
	}
	if len(given) == 0 {
		given = known
	}
	if len(given) == 0 {
		return nil, fault.New(fault.NotFound, "there are no databases yet")
	}
	return given, nil
}

func noDatabase(name string, known []string) error {
	err := fault.New(fault.NotFound, "there is no database %q", name)
	if near := suggest.Nearest(name, known); near != "" {
		return err.WithRemedy("Did you mean %q?", near)
	}
	return err.WithRemedy("There are: %s.", strings.Join(known, ", "))
}

// stored asks the targets which databases they hold.
func (s *site) stored(ctx context.Context) ([]string, error) {
	var all []string
	for _, t := range s.targets {
		b, err := t.Open(ctx)
		if err != nil {
			return nil, err
		}
		c, err := catalog.Open(ctx, storage.Past(b), s.signers)
		if err != nil {
			return nil, err
		}
		names, err := c.Databases(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// has reports whether name is a database, in the configuration or a target.
func (s *site) has(ctx context.Context, name string) bool {
	if s.cfg != nil {
		if _, ok := s.cfg.Databases[name]; ok {
			return true
		}
	}
	stored, err := s.stored(ctx)
	return err == nil && slices.Contains(stored, name)
}

// database is the one that a command is for. anyName takes the name as it is.
func (s *site) database(ctx context.Context, given string, anyName bool) (string, error) {
	if given != "" && (anyName || s.has(ctx, given)) {
		return given, nil
	}
	if given == "" && anyName && s.cfg == nil {
		return "", nil
	}
	var args []string
	if given != "" {
		args = []string{given}
	}
	names, err := s.databases(ctx, args)
	if err != nil {
		return "", err
	}
	if len(names) > 1 {
		return "", fault.New(fault.Usage, "which database? There are %s", strings.Join(names, ", ")).WithRemedy("Name one.")
	}
	return names[0], nil
}

// remembered are the heads that this host knows of a database.
func (s *site) remembered(database string) map[string]catalog.Head {
	if s.cfg == nil {
		return nil
	}
	m, err := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, database))
	if err != nil {
		s.p.print.warn("this host's memory of %s is not used: %v", database, err)
	}
	return m.Heads
}

// lock keeps backups of a database away while its file is switched.
func (s *site) lock(database string) (unlock func() error, err error) {
	if s.cfg == nil || database == "" || !exists(s.cfg.State) {
		return func() error { return nil }, nil
	}
	return durable.Lock(backup.LockFile(s.cfg.State, database), "database "+database)
}

// vanished is an error if a chain does not go on from what this host remembers.
func (s *site) vanished(ctx context.Context, chain *catalog.Chain, newest uint64) error {
	return chain.Continues(ctx, s.remembered(chain.Database)[chain.Repository], newest)
}

func (s *site) chain(ctx context.Context, t storage.Target, database string) (*catalog.Chain, error) {
	b, err := t.Open(ctx)
	if err != nil {
		return nil, err
	}
	c, err := catalog.Open(ctx, storage.Past(b), s.signers)
	if err != nil {
		return nil, err
	}
	return c.Chain(database), nil
}

// located is a backup and where it was found.
type located struct {
	target, bucket string
	entry          *catalog.Entry
	since          []catalog.Result
	chain          *catalog.Chain
	path           []*catalog.Entry // what a restore goes through
	broken         error            // instead of a path
}

func (l *located) open(ctx context.Context, ids seal.Identities) error {
	if l.broken != nil {
		return l.broken
	}
	return restore.Open(ctx, l.chain, l.path, ids, seal.Discard)
}

// find looks for a backup in all databases and targets, or in one database.
func (s *site) find(ctx context.Context, database string, w catalog.Wanted) (*located, error) {
	var names []string
	if database != "" {
		names = []string{database}
	}
	names, err := s.databases(ctx, names)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, name := range names {
		for _, t := range s.targetsOf(name) {
			chain, err := s.chain(ctx, t, name)
			if err != nil {
				failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
				continue
			}
			found, err := chain.Find(ctx, w)
			if err == nil {
				path, err := chain.Path(ctx, found.Entry)
				return &located{t.Name, chain.Bucket.String(), found.Entry, found.Since, chain, path, err}, nil
			}
			failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
		}
	}
	return nil, worst(failed)
}
