package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/restic"
	"emsafe/storage/s3"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// finding is one step of doctor.
type diagnosis struct {
	Check  string   `json:"check"`
	OK     bool     `json:"ok"`
	Detail string   `json:"detail"`
	Error  *failure `json:"error,omitempty"`

	Proven []storage.Property `json:"proven,omitempty"` // of a target
}

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "try every step that a backup needs, and say what does not work; or examine one database", ArgsUsage: "[NAME]",
		Description: "With NAME: all that there is to know about one database on one page, from a snapshot of it. Without: reads the configuration, the keys and each database's header, looks at space, and makes a round trip through every target with a small object under probes/.",
		Action: func(c *cli.Context) error {
			s, err := p.ownSite(c)
			if err != nil {
				return err
			}
			if c.NArg() > 0 {
				names, err := s.databases(c.Context, c.Args().Slice())
				if err != nil {
					return err
				}
				var failed []error
				for _, name := range names {
					if err := p.examine(c.Context, s, name); err != nil {
						failed = append(failed, err)
					}
				}
				return worst(failed)
			}
			d := &doctor{p: p, s: s}
			d.keys()
			d.state()
			d.say("left-over data", "none", leftOver(s.sweep()))
			for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
				d.database(name)
			}
			for _, name := range slices.Sorted(maps.Keys(s.cfg.Filesets)) {
				d.fileset(c.Context, name)
			}
			for _, t := range s.targets {
				d.target(c.Context, t)
			}
			p.print.emit(map[string]any{"checks": d.done})
			return worst(d.failed)
		},
	}
}

type doctor struct {
	p      *program
	s      *site
	done   []diagnosis
	failed []error
	spool  int64 // free bytes
}

func (d *doctor) say(check, detail string, err error) {
	row := diagnosis{Check: check, OK: err == nil, Detail: detail}
	if err != nil {
		f := describe(err)
		row.Error = &f
		d.failed = append(d.failed, fmt.Errorf("%s: %w", check, err))
		d.p.print.line("FAIL  %-24s %s", check, f.Message)
		d.p.print.line("      %-24s %s", "", f.Remedy)
	} else {
		d.p.print.done("ok    %-24s %s", check, detail)
	}
	d.done = append(d.done, row)
}

func (d *doctor) keys() {
	key, err := readSigningKey(d.s.cfg.SigningKey)
	detail := ""
	if err == nil {
		detail = key.Fingerprint() + ", pinned for " + seal.Principal(d.s.cfg.Host)
	}
	for _, name := range slices.Sorted(maps.Keys(d.s.cfg.Databases)) {
		if err == nil {
			_, err = d.s.signingKey(d.s.cfg.SigningKey, seal.NamespaceManifest, name)
		}
	}
	d.say("signing key", detail, err)
	to, err := d.s.recipients()
	d.say("recipients", fmt.Sprintf("%d: %v", len(to.Names()), to.Names()), err)
}

func (d *doctor) state() {
	err := os.MkdirAll(d.s.cfg.State, 0o700)
	var st os.FileInfo
	if err == nil {
		st, err = os.Stat(d.s.cfg.State)
	}
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		err = fault.New(fault.Permission, "%s can be entered by others (mode %04o)", d.s.cfg.State, st.Mode().Perm()).WithRemedy("chmod 700 %s", fault.Shell(d.s.cfg.State))
	}
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(d.s.cfg.State, ".doctor-"); err == nil {
			probe.Close()
			os.Remove(probe.Name())
		}
	}
	var fs unix.Statfs_t
	if err == nil {
		if err = unix.Statfs(d.s.cfg.State, &fs); err == nil {
			d.spool = int64(fs.Bavail) * int64(fs.Bsize)
		}
	}
	waiting, _ := filepath.Glob(filepath.Join(d.s.cfg.State, "spool", "*", "*.json"))
	d.say("state folder", fmt.Sprintf("%s, %s free, %s in the spool", d.s.cfg.State, size(d.spool), several(len(waiting), "backup waits", "backups wait")), permission(err))
}

func (d *doctor) database(name string) {
	path := d.s.path(name)
	image, err := sqlite.Inspect(path)
	bytes := image.Pages * int64(image.PageSize)
	if err == nil && d.spool > 0 && bytes > d.spool {
		err = fault.New(fault.NoSpace, "%s has %s, and the spool's disk has %s free", path, size(bytes), size(d.spool))
	}
	if err == nil && restore.Pending(path) {
		err = fault.New(fault.InUse, "a restore of %s was cut off half-way", path)
	}
	d.say("database "+name, fmt.Sprintf("%s, %s, journal mode %s, last written by SQLite %s", path, size(bytes), image.JournalMode, image.WriterVersion), err)
}

func (d *doctor) fileset(ctx context.Context, name string) {
	v, err := restic.Find(ctx, "")
	if err == nil {
		err = restic.CheckPaths(d.s.cfg.Filesets[name].Paths)
	}
	detail := "its password is made with the first backup"
	if file := backup.PasswordFile(d.s.cfg.State, name); err == nil && exists(file) {
		detail = "its password is here"
		_, err = backup.ReadPassword(file)
	}
	d.say("fileset "+name, fmt.Sprintf("restic %s, %s, %s", v, strings.Join(d.s.cfg.Filesets[name].Paths, ", "), detail), err)
}

func (d *doctor) target(ctx context.Context, t storage.Target) {
	b, err := t.Open(ctx)
	if err != nil {
		d.say("target "+t.Name, "", err)
		return
	}
	probed, err := storage.Probe(ctx, b)
	detail := b.String() + ": writes, refuses to overwrite, lists"
	if probed.Read {
		detail += ", reads"
	} else {
		detail += ", may not read"
	}
	if probed.Removed {
		detail += ", deletes: whoever takes this host could delete the backups"
	} else {
		detail += ", may not delete"
	}
	if own, ok := b.(*s3.Bucket); ok {
		if from := own.Inherited(ctx); from.Endpoint != "" {
			detail += "; its endpoint is from the AWS environment or profile, and not in the configuration: set endpoint"
		}
	}
	d.say("target "+t.Name, detail, err)
	d.done[len(d.done)-1].Proven = probed.Proven
	for _, property := range probed.Proven {
		d.p.print.done("      %-24s %s: %s (%s)", "", property.Name, property.State, property.Detail)
	}
	if err == nil {
		d.repository(ctx, t, b)
	}
	if l, ok := b.(storage.Locking); ok && err == nil && !l.LockedUntil(time.Now()).IsZero() {
		proof, err := l.ProveLock(ctx)
		d.say("lock of "+t.Name, lockProven(proof), err)
	}
}

// lockProven says what a proof shows, and what it cannot.
func lockProven(p storage.LockProof) string {
	detail := "takes locked objects"
	if !p.Until.IsZero() {
		detail += ", says until when"
	}
	if p.Tested {
		return detail + ", refuses to delete them"
	}
	return detail + "; these credentials may delete nothing anyway, so run doctor once with others to see that it is the lock which refuses"
}
