package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/backup"
	"emsafe/drill/runbook"
	"emsafe/internal/config"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage"
	"emsafe/storage/point"
	"emsafe/storage/seal"
)

// configured are the variables that the configuration gives.
var configured = []string{"database", "source", "service", "target", "url", "config", "state", "signers", "signing_key", "host", "work", "fileset"}

// runs is where the records of this host are.
func (s *site) runs() runbook.Store {
	return runbook.Store{Folder: filepath.Join(s.cfg.State, "runbooks")}
}

func (s *site) incidents() runbook.Incidents {
	return runbook.Incidents{Folder: filepath.Join(s.cfg.State, "incidents")}
}

func (p *program) runbookRun(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("runbook run needs one ID; `emsafe runbook list` shows them")
	}
	s, err := p.anywhere(c)
	if err != nil {
		return err
	}
	b, err := s.book(c.Args().First())
	if err != nil {
		return err
	}
	who, _ := journal.Who(p.env)
	now := p.now().UTC().Truncate(time.Second)
	r := &runbook.Record{
		Format: runbook.Format, ID: point.NewID(p.now()), Runbook: b.ID, Title: b.Title, Digest: b.digest(), Host: s.cfg.Host, Operator: who, Started: now,
		Outcome: runbook.Running, DryRun: c.Bool("dry-run"), Variables: map[string]string{}, Before: []runbook.Checked{}, Steps: []runbook.Done{}, Notes: []runbook.Note{},
	}
	if i, err := s.incidents().Open(); err == nil && i != nil {
		r.Incident = i.ID
	}
	return p.walk(c, s, b, r)
}

func (p *program) runbookResume(c *cli.Context) error {
	s, err := p.anywhere(c)
	if err != nil {
		return err
	}
	r, err := s.runs().Find(c.Args().First(), func(r *runbook.Record) bool { return r.Outcome == runbook.Running || r.Outcome == runbook.Stopped })
	if err != nil {
		return err
	}
	b, err := s.book(r.Runbook)
	if err != nil {
		return err
	}
	if b.digest() != r.Digest {
		return fault.New(fault.Replaced, "the runbook %s was changed since the run %s began", b.ID, r.ID).
			WithSafe("What was done is in the record.").WithRemedy("Begin a new run; its first steps may be left out, with that as the reason.")
	}
	r.Outcome, r.Ended = runbook.Running, time.Time{}
	return p.walk(c, s, b, r)
}

// anywhere is the site of a procedure: on a machine that has no configuration
// yet, for what must be possible there, only a state folder.
func (p *program) anywhere(c *cli.Context) (*site, error) {
	s, err := p.here(c)
	if err == nil && s.cfg == nil {
		s.cfg = &config.Config{State: p.paths().State, Host: config.HostName()}
	}
	return s, err
}

// walk runs what is left of a run.
func (p *program) walk(c *cli.Context, s *site, b book, r *runbook.Record) error {
	if len(b.problems) > 0 {
		return fault.New(fault.Config, "%w", b.problems[0]).WithRemedy("`emsafe runbook lint %s` shows all that is wrong with it.", b.ID)
	}
	who, _ := journal.Who(p.env)
	store := s.runs()
	if !r.DryRun {
		if err := store.Save(r); err != nil {
			return permission(err)
		}
		unlock, err := durable.Lock(store.Path(r.ID, "lock"), "run "+r.ID)
		if err != nil {
			return err
		}
		defer unlock() //nolint:errcheck // the process ends with it
	}
	values := s.values(store.Path(r.ID, "work"))
	for name, value := range r.Variables {
		if value != runbook.Scrubbed {
			values[name] = value
		}
	}
	for _, pair := range c.StringSlice("set") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || strings.ContainsAny(value, "\n\x00") {
			return usage("--set takes NAME=VALUE, in one line, not %q", pair)
		}
		values[name] = value
		r.Variables[name] = runbook.Scrub(value)
	}
	out := p.stdout
	if p.print.json {
		out = p.stderr // the record is what comes on stdout
	}
	session := &runbook.Session{
		Book: b.Runbook, Record: r, Store: store, Operator: who, Values: values, Work: store.Path(r.ID, "work"), Secrets: s.secrets(),
		Choices: map[string][]string{"database": slices.Sorted(maps.Keys(s.cfg.Databases)), "target": slices.Sorted(maps.Keys(s.cfg.Targets)), "fileset": slices.Sorted(maps.Keys(s.cfg.Filesets))},
		First:   map[string]string{"source": "database", "service": "database", "url": "target"}, Derive: s.derive, Env: p.childEnv(s),
		Yes: c.Bool("yes"), DryRun: r.DryRun, In: p.stdin, Out: out, Now: p.now,
	}
	err := session.Run(c.Context)
	if r.DryRun {
		return err
	}
	done, skipped, failed := r.Counts()
	s.record(journal.Entry{Action: "runbook", What: fmt.Sprintf("%s: %s", r.Runbook, r.Outcome), Run: r.ID}, err)
	fmt.Fprintf(out, "\n%s: %d done, %d left out, %d failed\n  record: emsafe runbook log %s\n", r.Outcome, done, skipped, failed, r.ID)
	if r.Outcome != runbook.Stopped && s.cfg.SigningKey != "" {
		if kerr := s.keepRecords(context.WithoutCancel(c.Context)); kerr != nil {
			p.print.warn("%v", kerr)
		}
	}
	p.print.emit(r)
	if err == nil && failed > 0 {
		return fault.New(fault.Partial, "%d of %d steps did not go as expected", failed, len(r.Steps)).WithSafe("What was done is in the record.").WithRemedy("emsafe runbook log %s", r.ID)
	}
	return err
}

// values are the variables that follow from the configuration alone.
func (s *site) values(work string) map[string]string {
	v := map[string]string{"state": s.cfg.State, "host": s.cfg.Host, "work": work}
	if s.cfg.File != "" {
		v["config"], v["signers"], v["signing_key"] = s.cfg.File, s.cfg.AllowedSigners, s.cfg.SigningKey
	}
	only := func(name string, of []string) {
		if len(of) == 1 {
			v[name] = of[0]
		}
	}
	only("database", slices.Collect(maps.Keys(s.cfg.Databases)))
	only("target", slices.Collect(maps.Keys(s.cfg.Targets)))
	only("fileset", slices.Collect(maps.Keys(s.cfg.Filesets)))
	return v
}

// derive fills in what follows from a database or target that was chosen.
func (s *site) derive(v map[string]string) {
	if d, ok := s.cfg.Databases[v["database"]]; ok {
		v["source"] = d.Path
		if d.Unit != "" {
			v["service"] = strings.TrimSuffix(filepath.Base(d.Unit), ".service")
		}
	}
	if t, ok := s.cfg.Targets[v["target"]]; ok {
		v["url"] = t.URL
	}
}

// childEnv lets commands of runbooks be this very emsafe, with this
// configuration.
func (p *program) childEnv(s *site) []string {
	env := []string{"NO_COLOR=1"}
	if s.cfg.File != "" {
		env = append(env, "EMSAFE_CONFIG="+s.cfg.File)
	}
	if self, err := os.Executable(); err == nil {
		path, _ := p.env("PATH")
		env = append(env, "PATH="+filepath.Dir(self)+string(filepath.ListSeparator)+path)
	}
	return env
}

// secrets are values that must not be shown: those that this host has in files.
func (s *site) secrets() (list []string) {
	for name := range s.cfg.Filesets {
		if password, err := backup.ReadPassword(backup.PasswordFile(s.cfg.State, name)); err == nil {
			list = append(list, password)
		}
	}
	return list
}

// keepRecords signs the records of runs that have ended and puts them into every
// target that has them not.
func (s *site) keepRecords(ctx context.Context) error {
	key, err := readSigningKey(s.cfg.SigningKey)
	if err != nil {
		return err
	}
	store := s.runs()
	records, _ := store.List()
	var failed []error
	for _, r := range records {
		if r.Outcome == runbook.Running || r.Outcome == runbook.Stopped {
			continue
		}
		failed = append(failed, s.keepSigned(ctx, key, r, store.Path(r.ID, "record.signed"), store.Path(r.ID, "kept.json"), "reports/runbooks/"+place(r.Host)+"/"+r.ID))
	}
	return errors.Join(failed...)
}

// place makes a segment of a key of a host's name.
func place(host string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, host)
}

// keepSigned signs a document once, and puts it under a key into every target
// that has it not.
func (s *site) keepSigned(ctx context.Context, key *seal.SigningKey, doc any, file, keptFile, at string) error {
	object, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		var text []byte
		if text, err = json.MarshalIndent(doc, "", "  "); err == nil {
			if object, err = key.Sign(seal.NamespaceReport, append(text, '\n')); err == nil {
				err = durable.WriteFile(file, object, 0o600)
			}
		}
	}
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	if data, err := os.ReadFile(keptFile); err == nil && json.Unmarshal(data, &kept) != nil {
		kept = map[string]bool{}
	}
	before := len(kept)
	var failed []error
	for _, t := range s.targets {
		address := s.cfg.Targets[t.Name].URL
		if kept[address] {
			continue
		}
		b, err := t.Open(ctx)
		if err == nil {
			if _, err = b.Create(ctx, at, bytes.NewReader(object), int64(len(object))); errors.Is(err, storage.ErrExists) {
				err = nil
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("target %s does not have %s yet: %w", t.Name, at, err))
			continue
		}
		kept[address] = true
	}
	if len(kept) > before {
		data, err := json.Marshal(kept)
		if err == nil {
			err = durable.WriteFile(keptFile, append(data, '\n'), 0o600)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// document is a record or report that people read.
type document interface {
	Markdown() string
	WriteHTML(w io.Writer) error
}

// writeDocument writes a document as the file's name wants it; signed is where the
// signed original is, once there is one.
func (p *program) writeDocument(d document, signed, file string) error {
	var out bytes.Buffer
	var err error
	switch filepath.Ext(file) {
	case ".md":
		out.WriteString(d.Markdown())
	case ".html":
		err = d.WriteHTML(&out)
	case ".json":
		e := json.NewEncoder(&out)
		e.SetIndent("", "  ")
		err = e.Encode(d)
	case ".signed":
		var object []byte
		if object, err = os.ReadFile(signed); errors.Is(err, os.ErrNotExist) {
			err = fault.New(fault.NotFound, "it is not over yet, and so not signed")
		}
		out.Write(object)
	default:
		err = usage("--out is a file that ends in .md, .html, .json or .signed, not %q", file)
	}
	if err != nil {
		return err
	}
	if err := durable.WriteFile(file, out.Bytes(), 0o600); err != nil {
		return permission(err)
	}
	p.print.done("%s", file)
	p.print.emit(map[string]string{"file": file})
	return nil
}
