package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"emsafe/internal/command"
	"emsafe/internal/daemon"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
)

func (p *program) serviceCommand() *cli.Command {
	userFlag := &cli.StringFlag{Name: "user", Usage: "run as `NAME`, which is made if it is not there", Value: "emsafe"}
	return group("service", "run the daemon as a systemd service, as a user of its own",
		&cli.Command{
			Name: "print", Usage: "print the unit for this configuration, or one of the files beside it",
			Description: "Secrets named {credential: NAME} are loaded from the folder `credentials` beside the configuration, variables from the file `environment` there. `systemd-analyze security` scores the unit at 2.0 or better.",
			Flags:       []cli.Flag{userFlag, &cli.StringFlag{Name: "file", Usage: "`WHICH`: unit, sysusers or tmpfiles", Value: "unit"}},
			Action:      p.servicePrint,
		},
		&cli.Command{
			Name: "install", Usage: "write the unit and what goes with it, and say what else must be done",
			Description: "Writes /etc/systemd/system/emsafe.service, /etc/sysusers.d/emsafe.conf and /etc/tmpfiles.d/emsafe.conf. With --now it makes the user, sets the modes of emsafe's own files, and starts the service.",
			Flags: []cli.Flag{
				userFlag,
				&cli.StringFlag{Name: "root", Usage: "write below `DIR` instead of /"},
				&cli.BoolFlag{Name: "now", Usage: "make the user, set the modes, and start the service"},
			},
			Action: p.serviceInstall,
		})
}

// installation is the files of the service for one configuration.
type installation struct {
	unit, sysusers, tmpfiles string
	remarks                  []string // what the service will lack
}

const unitMark = "# Made by emsafe service"

func (p *program) installation(c *cli.Context) (*site, *installation, error) {
	s, err := p.ownSite(c)
	if err != nil {
		return nil, nil, err
	}
	binary, err := os.Executable()
	if err == nil {
		binary, err = filepath.EvalSymlinks(binary)
	}
	if err != nil {
		return nil, nil, err
	}
	o := daemon.UnitOptions{Binary: binary, Config: s.cfg.File, User: c.String("user"), State: s.cfg.State}
	sources := s.cfg.Sources()
	beside := filepath.Dir(s.cfg.File)
	o.Commands = sources.Commands || len(s.cfg.Filesets) > 0
	if sources.Environment {
		o.Environment = filepath.Join(beside, "environment")
	}
	i := &installation{}
	o.Credentials = map[string]string{}
	for _, name := range sources.Credentials {
		file := filepath.Join(beside, "credentials", name)
		o.Credentials[name] = file
		if !exists(file) {
			i.remark("the credential %s is expected in %s (root, 0600), and is not there", name, file)
		}
	}
	i.databases(s, &o)
	i.filesets(s, &o)
	for _, t := range s.cfg.Targets {
		if folder, ok := t.Folder(); ok {
			o.Targets = append(o.Targets, folder)
			i.remark("what lies in %s must belong to %s: chown -R %s: %s", folder, o.User, o.User, fault.Shell(folder))
		}
	}
	if s.cfg.DrillScratch != "" {
		o.Targets = append(o.Targets, s.cfg.DrillScratch)
	}
	if i.unit, err = daemon.Unit(o); err != nil {
		return nil, nil, fault.New(fault.Config, "%w", err)
	}
	i.sysusers = daemon.Sysusers(o)
	secret := []string{s.cfg.SigningKey}
	if s.cfg.PruneKey != "" {
		secret = append(secret, s.cfg.PruneKey)
	}
	if s.cfg.DrillKey != "" {
		secret = append(secret, s.cfg.DrillKey)
	}
	i.tmpfiles = daemon.Tmpfiles(o, secret, append([]string{s.cfg.File, s.cfg.AllowedSigners}, s.cfg.RecipientsFiles...))
	return s, i, nil
}

func (i *installation) remark(format string, args ...any) {
	i.remarks = append(i.remarks, fmt.Sprintf(format, args...))
}

// databases gives the service the groups that may read the databases. A reader
// of a database in WAL mode takes locks in its -shm file, and needs to write
// there.
func (i *installation) databases(s *site, o *daemon.UnitOptions) {
	for name, d := range s.cfg.Databases {
		o.Databases = append(o.Databases, d.Path)
		info, err := os.Stat(d.Path)
		if err != nil {
			i.remark("%s: %v", name, err)
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		owner := strconv.Itoa(int(st.Gid))
		if g, err := user.LookupGroupId(owner); err == nil {
			owner = g.Name
		}
		switch {
		case st.Gid == 0:
			i.remark("%s belongs to the group root, which a service has no business in: chgrp it to a group of the application", d.Path)
		case info.Mode().Perm()&0o060 != 0o060:
			i.remark("the group %s may not read and write %s: chmod g+rw it, and its folder g+rwx (readers of a WAL database take locks)", owner, d.Path)
			fallthrough
		default:
			o.Groups = append(o.Groups, owner)
		}
	}
	slices.Sort(o.Databases)
	slices.Sort(o.Groups)
	o.Groups = slices.Compact(o.Groups)
	slices.Sort(i.remarks)
}

// filesets gives the service the groups that may read the files.
func (i *installation) filesets(s *site, o *daemon.UnitOptions) {
	for name, f := range s.cfg.Filesets {
		o.Files = append(o.Files, f.Paths...)
		for _, path := range f.Paths {
			info, err := os.Stat(path)
			if err != nil {
				i.remark("%s: %v", name, err)
				continue
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			mode := info.Mode().Perm()
			switch {
			case !ok || mode&0o005 == 0o005:
			case st.Gid == 0 || mode&0o050 != 0o050:
				i.remark("%s cannot be read by the service: chgrp -R it to a group of the application, and chmod -R g+rX it", path)
			default:
				group := strconv.Itoa(int(st.Gid))
				if g, err := user.LookupGroupId(group); err == nil {
					group = g.Name
				}
				o.Groups = append(o.Groups, group)
			}
		}
	}
	slices.Sort(o.Files)
	slices.Sort(o.Groups)
	o.Groups = slices.Compact(o.Groups)
	slices.Sort(i.remarks)
}

func (p *program) servicePrint(c *cli.Context) error {
	_, i, err := p.installation(c)
	if err != nil {
		return err
	}
	text, ok := map[string]string{"unit": i.unit, "sysusers": i.sysusers, "tmpfiles": i.tmpfiles}[c.String("file")]
	if !ok {
		return usage("--file is unit, sysusers or tmpfiles, not %q", c.String("file"))
	}
	p.print.emit(map[string]any{"text": text, "remarks": i.remarks})
	if !p.print.json {
		fmt.Fprint(p.stdout, text)
	}
	for _, r := range i.remarks {
		p.print.warn("%s", r)
	}
	return nil
}

func (p *program) serviceInstall(c *cli.Context) error {
	s, i, err := p.installation(c)
	if err != nil {
		return err
	}
	if c.Bool("now") && c.String("root") != "" {
		return usage("--now is for this system, and --root for another")
	}
	files := []struct{ name, text string }{
		{"/etc/sysusers.d/emsafe.conf", i.sysusers}, {"/etc/tmpfiles.d/emsafe.conf", i.tmpfiles}, {"/etc/systemd/system/emsafe.service", i.unit},
	}
	for _, f := range files { // before anything is written
		if old, err := os.ReadFile(filepath.Join("/", c.String("root"), f.name)); err == nil && !strings.HasPrefix(string(old), unitMark) {
			return fault.New(fault.Usage, "%s is there, and was not made by emsafe", f.name).
				WithSafe("Nothing was changed.").WithRemedy("Move it away; additions of your own belong into emsafe.service.d/.")
		}
	}
	for _, f := range files {
		name := filepath.Join("/", c.String("root"), f.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // a system folder, for all to read
			return permission(err)
		}
		if err := durable.WriteFile(name, []byte(f.text), fs.FileMode(0o644)); err != nil {
			return permission(err)
		}
		p.print.done("%s", name)
	}
	next := [][]string{
		{"systemd-sysusers", "emsafe.conf"}, {"systemd-tmpfiles", "--create", "emsafe.conf"},
		{"systemctl", "daemon-reload"}, {"systemctl", "enable", "--now", "emsafe.service"},
	}
	if c.Bool("now") {
		err = runAll(c.Context, next)
		s.record(journal.Entry{Action: "service", What: "installed and started"}, err)
	} else {
		p.print.note("then:")
		for _, argv := range next {
			p.print.note("  %s", strings.Join(argv, " "))
		}
	}
	for _, r := range i.remarks {
		p.print.warn("%s", r)
	}
	p.print.emit(map[string]any{"next": next, "remarks": i.remarks})
	return err
}

func runAll(ctx context.Context, commands [][]string) error {
	for _, argv := range commands {
		if _, err := command.Run(ctx, argv, command.Options{}); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
	}
	return nil
}
