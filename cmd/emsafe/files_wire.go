package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/drill"
	"emsafe/internal/command"
	"emsafe/internal/config"
	"emsafe/internal/fault"
	"emsafe/internal/suggest"
	"emsafe/storage"
	"emsafe/storage/dir"
	"emsafe/storage/hostconf"
	"emsafe/storage/point"
	"emsafe/storage/restic"
	"emsafe/storage/s3"
	"emsafe/storage/seal"
)

// filesets are the names that a command is for: those given, or all.
func (s *site) filesets(given []string) ([]string, error) {
	if s.cfg == nil {
		return given, nil
	}
	known := slices.Sorted(maps.Keys(s.cfg.Filesets))
	for _, name := range given {
		if slices.Contains(known, name) {
			continue
		}
		err := fault.New(fault.NotFound, "there is no fileset %q", name)
		if near := suggest.Nearest(name, known); near != "" {
			return nil, err.WithRemedy("Did you mean %q?", near)
		}
		if len(known) == 0 {
			return nil, err.WithRemedy("The configuration has none: add one under `filesets`.")
		}
		return nil, err.WithRemedy("There are: %s.", strings.Join(known, ", "))
	}
	if len(given) == 0 {
		given = known
	}
	if len(given) == 0 {
		return nil, fault.New(fault.NotFound, "the configuration has no fileset").
			WithRemedy("Add one, as in: filesets: {uploads: {paths: [/srv/app/uploads], databases: [app]}}")
	}
	return given, nil
}

// filesTargets are the targets that a fileset goes to.
func (s *site) filesTargets(fileset string) []storage.Target {
	if s.cfg == nil || len(s.cfg.Filesets[fileset].Targets) == 0 || len(s.targets) == 1 {
		return s.targets
	}
	return slices.DeleteFunc(slices.Clone(s.targets), func(t storage.Target) bool {
		return !slices.Contains(s.cfg.Filesets[fileset].Targets, t.Name)
	})
}

// reach says how restic gets to a fileset's repository in a bucket.
func (s *site) reach(ctx context.Context, b storage.Bucket, fileset string) (*restic.Repository, error) {
	folder := point.Repository(fileset)
	r := &restic.Repository{Unlock: func(ctx context.Context, id string) error { return b.Delete(ctx, folder+"/locks/"+id) }}
	if s.cfg != nil {
		r.Cache, r.Zone = filepath.Join(s.cfg.State, "filesets", "cache"), s.cfg.Zone
	}
	switch b := b.(type) {
	case *dir.Bucket:
		r.Location = filepath.Join(b.Folder(), filepath.FromSlash(folder))
	case *s3.Bucket:
		to, err := b.Reach(ctx)
		if err != nil {
			return nil, err
		}
		r.Location = "s3:" + to.Endpoint + "/" + to.Bucket + "/" + to.Prefix + folder
		r.CAFile, r.Lookup = to.CAFile, "dns"
		if to.PathStyle {
			r.Lookup = "path"
		}
		r.Env = []string{
			"AWS_ACCESS_KEY_ID=" + to.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + string(to.SecretAccessKey),
			"AWS_SESSION_TOKEN=" + string(to.SessionToken), "AWS_DEFAULT_REGION=" + to.Region,
		}
	default:
		return nil, fmt.Errorf("restic does not reach %s", b)
	}
	return r, nil
}

// points is all that a recovery point of one fileset takes.
func (s *site) points(name string, take func(ctx context.Context, database string) (map[string]error, error)) (backup.Files, error) {
	key, err := s.signingKey(s.cfg.SigningKey, seal.NamespacePoint, name)
	if err != nil {
		return backup.Files{}, err
	}
	to, err := s.recipients()
	if err != nil {
		return backup.Files{}, err
	}
	f := s.cfg.Filesets[name]
	job := backup.Files{
		Fileset: name, Host: s.cfg.Host, State: s.cfg.State, Targets: s.filesTargets(name), Databases: f.Databases, Database: take,
		Source:     restic.Source{Paths: f.Paths, Excludes: append(slices.Clone(f.Exclude), s.cfg.State)},
		Recipients: to, Key: key, Signers: s.signers, Now: s.p.now,
		Before: hook(name, "before", f.Before, f), After: hook(name, "after", f.After, f),
	}
	job.Reach = func(ctx context.Context, b storage.Bucket, target string) (*restic.Repository, error) {
		r, err := s.reach(ctx, b, name)
		if err == nil {
			r.Limit = s.uploadLimit(name, target)
		}
		return r, err
	}
	return job, nil
}

// uploadLimit is the lower one of a fileset's and that of a target, now.
func (s *site) uploadLimit(fileset, target string) int64 {
	limit := s.cfg.Filesets[fileset].UploadLimit
	t := s.cfg.Targets[target]
	if limited, err := s.limited(t); t.UploadLimit > 0 && err == nil && (limited == nil || limited()) && (limit == 0 || t.UploadLimit < limit) {
		limit = t.UploadLimit
	}
	return limit
}

func hook(fileset, when string, argv []string, f config.Fileset) func(context.Context) error {
	if len(argv) == 0 {
		return nil
	}
	return func(ctx context.Context) error {
		_, err := command.Run(ctx, argv, command.Options{Timeout: f.HookTimeout, Env: []string{"EMSAFE_FILESET=" + fileset, "EMSAFE_HOOK=" + when}})
		return err
	}
}

// repository opens a fileset's repository in a target for reading: with the
// password that this host has, or with the copy in the target and the identity
// that opens it.
func (s *site) repository(c *cli.Context, b storage.Bucket, fileset string) (*restic.Repository, error) {
	return s.openRepository(c.Context, b, fileset, func() (seal.Identities, error) {
		file := c.String("identity")
		if file == "" {
			return seal.Identities{}, fault.New(fault.Usage, "the password of %s is not on this host: the identity that opens its copy in the target is needed", fileset).
				WithRemedy("Give --identity FILE, or --identity - and paste it.")
		}
		return s.identity(file)
	})
}

func (s *site) openRepository(ctx context.Context, b storage.Bucket, fileset string, ids func() (seal.Identities, error)) (*restic.Repository, error) {
	if _, err := restic.Find(ctx, ""); err != nil {
		return nil, err
	}
	r, err := s.reach(ctx, b, fileset)
	if err != nil {
		return nil, err
	}
	if s.cfg != nil {
		if r.Password, err = backup.ReadPassword(backup.PasswordFile(s.cfg.State, fileset)); !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
	}
	opens, err := ids()
	if err != nil {
		return nil, err
	}
	found, err := s.sealedPassword(ctx, b, opens, fileset)
	r.Password = strings.TrimRight(string(found.Text), "\n")
	return r, err
}

// pairing is what a drill needs to look at the files of a database.
func (s *site) pairing(p config.Pairing, ids seal.Identities) *drill.Pairing {
	root := p.Root
	if paths := s.cfg.Filesets[p.Fileset].Paths; root == "" && len(paths) == 1 {
		root = paths[0]
	}
	read := ""
	if p.Read > 0 {
		read = fmt.Sprintf("%d%%", p.Read)
	}
	return &drill.Pairing{
		Read: read, Fileset: p.Fileset, SQL: p.SQL, Root: root, Sample: min(int(p.Sample), sampleMost),
		Open: func(ctx context.Context, b storage.Bucket) (*restic.Repository, error) {
			return s.openRepository(ctx, b, p.Fileset, func() (seal.Identities, error) { return ids, nil })
		},
	}
}

// identity reads an identity once: it may come from standard input.
func (s *site) identity(file string) (seal.Identities, error) {
	if s.ids == nil {
		ids, err := s.p.identities(file)
		if err != nil {
			return ids, err
		}
		s.ids = &ids
	}
	return *s.ids, nil
}

func (s *site) sealedPassword(ctx context.Context, b storage.Bucket, ids seal.Identities, fileset string) (hostconf.Copy, error) {
	found, problems, err := hostconf.Password(ctx, b, s.signers, ids, fileset)
	for _, problem := range problems {
		s.p.print.warn("%v", problem)
	}
	return found, err
}
