package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"time"

	"emsafe/backup"
	"emsafe/internal/config"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/dir"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// openBucket opens what a target's url says. limited tells whether its upload
// limit holds now; nil: always. Objects are locked for so long; 0: not at all.
func openBucket(ctx context.Context, t config.Target, limited func() bool, lock time.Duration) (storage.Bucket, error) {
	if err := t.Check(); err != nil {
		return nil, usage("target %s: %w", t.URL, err)
	}
	if folder, ok := t.Folder(); ok {
		return dir.Open(folder)
	}
	return openS3(ctx, t, limited, lock)
}

// lockFor is how long objects are locked in a target, so that every backup can
// be restored for the configured time: what it is built on is as old as the last
// full backup.
func (s *site) lockFor(name string, t config.Target) time.Duration {
	if t.LockFor == 0 {
		return 0
	}
	var oldest time.Duration
	for _, d := range s.cfg.Databases {
		if len(d.Targets) == 0 || slices.Contains(d.Targets, name) {
			oldest = max(oldest, d.FullEvery)
		}
	}
	return t.LockFor + oldest
}

// limited is when a target's upload limit holds.
func (s *site) limited(t config.Target) (func() bool, error) {
	if t.UploadHours == "" {
		return nil, nil
	}
	hours, err := daemon.ParseWindow(t.UploadHours, s.zone())
	if err != nil {
		return nil, fault.New(fault.Config, "upload_hours: %w", err)
	}
	return func() bool { return hours.Contains(s.p.now()) }, nil
}

// makeFolder makes the folder of a file:// target, which only init does: later
// a missing folder is a disk that is not mounted.
func makeFolder(t config.Target) error {
	folder, ok := t.Folder()
	if !ok {
		return nil
	}
	if err := dir.Make(folder); err != nil {
		return permission(err)
	}
	return nil
}

// recipients are the configuration's, from its list and its files.
func (s *site) recipients() (seal.Recipients, error) { return recipientsOf(s.cfg) }

func recipientsOf(cfg *config.Config) (seal.Recipients, error) {
	lines, err := cfg.AllRecipients()
	if err != nil {
		return seal.Recipients{}, err
	}
	r, err := seal.ParseRecipients(lines...)
	if err != nil {
		return r, fault.New(fault.BadKey, "recipients: %w", err)
	}
	return r, nil
}

// signingKey reads a key that this host signs with. It is an error unless the
// pinned keys allow it to sign for this host, the namespace, and the database
// ("" for what is about the whole host): nobody would accept the signature.
func (s *site) signingKey(file, namespace, database string) (*seal.SigningKey, error) {
	key, err := readSigningKey(file)
	if err != nil {
		return nil, err
	}
	if err := s.signers.Allow(key, namespace, seal.Claim{At: s.p.now(), Host: s.cfg.Host, Database: database}); err != nil {
		return nil, fault.New(fault.BadKey, "what this host signs would be refused: %w", err).
			WithRemedy("Correct the line of this key in allowed_signers here, and wherever restores are made. A line for everything that this host signs is: %s", strings.TrimSpace(key.AllowedSigners(seal.Principal(s.cfg.Host))))
	}
	return key, nil
}

// job is all that a backup of one database takes.
func (s *site) job(name string, takeOver bool) (backup.Job, error) {
	key, err := s.signingKey(s.cfg.SigningKey, seal.NamespaceManifest, name)
	if err != nil {
		return backup.Job{}, err
	}
	to, err := s.recipients()
	if err != nil {
		return backup.Job{}, err
	}
	d := s.cfg.Databases[name]
	return backup.Job{
		Database: name, Path: d.Path,
		Snapshot:   sqlite.Options{MaxHold: d.MaxHold, AllowBlock: d.AllowBlock, MaxSnapshot: d.MaxSnapshot, MaxWALGrowth: d.MaxWALGrowth},
		Recipients: to, Level: s.cfg.Compression, Key: key, Signers: s.signers,
		Host: s.cfg.Host, Machine: machine(), Versions: versions(), State: s.cfg.State, SpoolLimit: s.cfg.SpoolLimit,
		Targets: s.targetsOf(name), TakeOver: takeOver,
		Policy:    backup.Policy{FullEvery: d.FullEvery, FullShare: int(d.FullShare)},
		Heartbeat: d.Unchanged == "heartbeat",
	}, nil
}

// pruning is all that a prune of one database in one target takes.
func (s *site) pruning(name string, t storage.Target) (backup.Pruning, error) {
	file := s.cfg.PruneKey
	if file == "" {
		file = s.cfg.SigningKey
	}
	key, err := s.signingKey(file, seal.NamespacePrune, name)
	if err != nil {
		return backup.Pruning{}, err
	}
	k := s.cfg.Databases[name].Keep
	return backup.Pruning{
		Database: name, Target: t, Signers: s.signers, Key: key, Host: s.cfg.Host, Remembered: s.remembered(name),
		Keep: catalog.Keep{
			Last: int(k.Last), Hourly: int(k.Hourly), Daily: int(k.Daily), Weekly: int(k.Weekly),
			Monthly: int(k.Monthly), Yearly: int(k.Yearly), Within: k.Within,
		},
		Zone: s.zone(), Grace: pruneGrace,
	}, nil
}

// zone is that of schedules and of retention.
func (s *site) zone() *time.Location {
	zone, err := time.LoadLocation(s.cfg.Zone)
	if err != nil {
		return time.UTC // the configuration was checked: it is only unset
	}
	return zone
}

// pruneGrace is how long a payload outlives its manifest: a restore that began
// before goes on.
const pruneGrace = 12 * time.Hour

// machine is a digest of the machine's id, which itself is not to be shown to
// others (machine-id(5)); "" where there is none.
func machine() string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(bytes.TrimSpace(id)) == 0 {
		return ""
	}
	sum := sha256.Sum256(append([]byte("emsafe "), bytes.TrimSpace(id)...))
	return hex.EncodeToString(sum[:8])
}
