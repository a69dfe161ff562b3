package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"emsafe/backup"
	"emsafe/internal/config"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

// unclaimed is an error if a target holds a repository: init has made no key yet,
// so that whatever is there is another installation's.
func unclaimed(ctx context.Context, name string, t config.Target, host string, b storage.Bucket) error {
	b = storage.Past(b)
	f, err := catalog.Whose(ctx, b)
	if catalog.IsAbsent(err) || errors.Is(err, fault.NoBucket) {
		return nil // the probe that follows says what is wrong with the bucket
	}
	what := founded(f)
	if err != nil {
		listed, lerr := catalog.Listed(ctx, b)
		if lerr != nil || !listed {
			return nil //nolint:nilerr // as above
		}
		what = fmt.Sprintf("whose it is could not be read (%v)", err)
	}
	own := below(t, host)
	return fault.New(fault.Foreign, "target %s: %s already holds the repository of another installation: %s", name, t.URL, what).
		WithSafe("Nothing was written, neither there nor here.").
		WithRemedy("Give this host a prefix of its own: --target %s. If this host replaces that one, do not run `emsafe init`: `emsafe runbook show restore-lost-host` says how to bring back its configuration and keys.",
			shellWord(name+"="+own))
}

// founded says what a repository document claims.
func founded(f catalog.Founding) string {
	if f.Fingerprint == "" {
		return "its repository.json is not signed, so that nothing is known of its owner"
	}
	return fmt.Sprintf("it was created %s for host %q and signed by the key %s", f.CreatedAt.Format("2006-01-02 15:04:05 UTC"), f.Host, f.Fingerprint)
}

// below is the url of a prefix of a host's own in a target.
func below(t config.Target, host string) string {
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(host), "-"), "-")
	if name == "" {
		name = "host"
	}
	return strings.TrimRight(t.URL, "/") + "/" + name[:min(len(name), 60)]
}

// shellWord quotes a word for a POSIX shell, if it needs it.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/:=._-", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// repository says whose the repository in a target is, and whether this host's
// backups can go on there.
func (d *doctor) repository(ctx context.Context, t storage.Target, b storage.Bucket) {
	check := "repository of " + t.Name
	past := storage.Past(b)
	c, err := catalog.Open(ctx, past, d.s.signers)
	switch {
	case errors.Is(err, fault.NotFound):
		if database, known := d.committed(t.Name); !known.IsZero() {
			err = fault.New(fault.RolledBack, "the repository in %s is gone: this host committed manifest %d of %s there", b, known.Sequence, database)
			d.say(check, "", err)
			return
		}
		d.say(check, "none yet; the first backup makes it", nil)
		return
	case errors.Is(err, fault.Credentials):
		d.say(check, "these credentials may not read it, so that whose it is was not established", nil)
		return
	case errors.Is(err, fault.Forged):
		_, known := d.committed(t.Name)
		if f, werr := catalog.Whose(ctx, past); werr == nil && known.IsZero() && f.Fingerprint != "" {
			err = d.foreign(t.Name, b, f)
		}
		d.say(check, "", err)
		return
	case err != nil:
		d.say(check, "", err)
		return
	}
	f, err := catalog.Whose(ctx, past)
	d.say(check, founded(f)+", which is pinned", err)
	for _, name := range slices.Sorted(maps.Keys(d.s.cfg.Databases)) {
		if to := d.s.cfg.Databases[name].Targets; len(to) == 0 || slices.Contains(to, t.Name) {
			d.lineage(ctx, c, t, name)
		}
	}
}

func (d *doctor) foreign(name string, b storage.Bucket, f catalog.Founding) error {
	own := below(d.s.cfg.Targets[name], d.s.cfg.Host)
	return fault.New(fault.Foreign, "%s holds the repository of another installation, which is not pinned here: %s", b, founded(f)).
		WithSafe("This host has committed nothing there, and nothing of the other installation was changed.").
		WithRemedy("Give this host a prefix of its own: set `url: %s` for target %s. If both are to share one repository, add the other key's line to %s, after comparing its fingerprint on that host. "+
			"If repository.json there should be this host's, somebody replaced it.", own, name, d.s.cfg.AllowedSigners)
}

// committed is what this host remembers of a target.
func (d *doctor) committed(target string) (string, catalog.Head) {
	for _, name := range slices.Sorted(maps.Keys(d.s.cfg.Databases)) {
		for _, head := range d.s.remembered(name) {
			if head.Target == target {
				return name, head
			}
		}
	}
	return "", catalog.Head{}
}

// lineage reports a database whose newest backup in the target is another
// installation's: the first backup would be refused.
func (d *doctor) lineage(ctx context.Context, c *catalog.Catalog, t storage.Target, name string) {
	chain := c.Chain(name)
	m, err := catalog.LoadMemory(backup.MemoryFile(d.s.cfg.State, name))
	if err != nil {
		return // status and backup say what is wrong with it
	}
	newest, err := chain.Newest(ctx, m.Heads[c.Repository].Sequence)
	if err != nil || newest == 0 {
		return // verify and status are about what is there
	}
	entry, err := chain.Read(ctx, newest)
	if err != nil || entry.Lineage == m.Lineage {
		return
	}
	d.say("backups of "+name, "", fault.New(fault.Foreign, "%s already holds backups of a database called %s by another installation: number %d is by host %q, %s",
		c.Bucket, name, entry.Sequence, entry.Host, entry.CommittedAt.UTC().Format(time.DateTime)+" UTC").
		WithRemedy("Give this host a prefix of its own (`url: %s` for target %s), or give the database another name. If this host replaces that one, run `emsafe backup --take-over`.",
			below(d.s.cfg.Targets[t.Name], d.s.cfg.Host), t.Name))
}
