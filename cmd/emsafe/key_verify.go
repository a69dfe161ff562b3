package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

func (p *program) keyVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "prove that an identity opens what is sealed, from its headers alone", ArgsUsage: "[NAME…]",
		Description: "Seals a short text to the recipients of the configuration and opens it with the identity, and opens the headers of the newest backup of " +
			"every database, or of those named, in every target: a few kilobytes each, and no body. The date is kept; `emsafe status` and reports tell when it is time again " +
			"(`prove_key_every`). With --read-data the backup is decrypted as well, and every page compared.",
		Flags: append(sourceFlags(), identityFlag("the recovery key"),
			&cli.BoolFlag{Name: "read-data", Usage: "decrypt the backup as well, and compare every page"}),
		Action: p.keyVerify,
	}
}

// proven is one backup that an identity opens, in JSON.
type proven struct {
	Database  string    `json:"database"`
	Target    string    `json:"target"`
	Backup    string    `json:"backup"`
	Recipient string    `json:"recipient"`
	Payloads  int       `json:"payloads"`
	Compared  bool      `json:"pages_compared"`
	At        time.Time `json:"at"`
}

func (p *program) keyVerify(c *cli.Context) error {
	s, err := p.site(c)
	if err != nil {
		return err
	}
	file := c.String("identity")
	if file == "" {
		return usage("key verify needs --identity FILE, or - to paste it")
	}
	ids, err := p.identities(file)
	if err != nil {
		return err
	}
	doc := map[string]any{"identity": ids.Names(), "proofs": []proven{}}
	if s.cfg != nil {
		to, err := s.recipients()
		if err != nil {
			return err
		}
		if err := proves(c.Context, ids, to); err != nil {
			return err
		}
		doc["recipients"] = to.Names()
		p.print.line("the identity opens what this host seals from now on")
	}
	names, err := s.databases(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	var proofs []proven
	var failed []error
	for _, name := range names {
		got, err := p.keyOpens(c, s, ids, name)
		if errors.Is(err, fault.NotFound) && c.NArg() == 0 {
			p.print.note("%s has no backup yet", name)
			continue
		}
		proofs = append(proofs, got...)
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(proofs) > 0 {
		doc["backup"], doc["proofs"] = proofs[0].Backup, proofs
	}
	p.print.emit(doc)
	return worst(failed)
}

// keyOpens opens the headers of a database's newest backup in every target,
// and keeps the proof.
func (p *program) keyOpens(c *cli.Context, s *site, ids seal.Identities, name string) ([]proven, error) {
	var proofs []proven
	var failed []error
	for _, t := range s.targetsOf(name) {
		got, err := p.keyOpensIn(c.Context, s, ids, name, t, c.Bool("read-data"))
		if err != nil {
			failed = append(failed, fmt.Errorf("target %s: %w", t.Name, err))
			continue
		}
		proofs = append(proofs, *got)
	}
	if len(proofs) > 0 && s.cfg != nil {
		s.keepProof(name, proofs[0])
	}
	return proofs, worst(failed)
}

func (p *program) keyOpensIn(ctx context.Context, s *site, ids seal.Identities, name string, t storage.Target, data bool) (*proven, error) {
	chain, err := s.chain(ctx, t, name)
	if err != nil {
		return nil, err
	}
	found, err := chain.Find(ctx, catalog.Wanted{})
	if err != nil {
		return nil, err
	}
	path, err := chain.Path(ctx, found.Entry)
	if err != nil {
		return nil, err
	}
	e := found.Entry
	for _, step := range path {
		if err := headerOpens(ctx, chain, step, ids); err != nil {
			return nil, err
		}
	}
	proof := &proven{Database: name, Target: t.Name, Backup: e.ID, Recipient: recipientOf(e, ids), Payloads: len(path), At: p.now().UTC().Truncate(time.Second)}
	if !data {
		p.print.line("the identity opens backup %s of %s in %s, by the headers of its %d payloads", e.ID, name, t.Name, len(path))
		return proof, nil
	}
	l := &located{target: t.Name, entry: e, chain: chain, path: path}
	if err := l.open(ctx, ids); err != nil {
		return nil, err
	}
	proof.Compared = true
	p.print.line("the identity opens backup %s of %s in %s; every page matches its signed digest", e.ID, name, t.Name)
	return proof, nil
}

// headerOpens proves that the identity opens one payload.
func headerOpens(ctx context.Context, chain *catalog.Chain, e *catalog.Entry, ids seal.Identities) error {
	err := seal.OpensHeader(ctx, func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return chain.Bucket.Open(ctx, e.Payload.Key, off, n)
	}, e.Payload.Size, ids)
	switch {
	case errors.Is(err, seal.ErrWrongIdentity):
		return fault.New(fault.WrongKey, "backup %s is sealed to %s; the identity given is %s", e.ID, strings.Join(e.Recipients, ", "), strings.Join(ids.Names(), ", "))
	case errors.Is(err, storage.ErrNotExist):
		return fault.New(fault.Damaged, "backup %s: its payload %s is missing", e.ID, e.Payload.Key)
	case errors.Is(err, seal.ErrDamaged):
		return fault.New(fault.Damaged, "backup %s, %s: %w", e.ID, e.Payload.Key, err)
	}
	return err
}

// recipientOf is the recipient of a backup that the identity answers to.
func recipientOf(e *catalog.Entry, ids seal.Identities) string {
	for _, name := range ids.Names() {
		if slices.Contains(e.Recipients, name) {
			return name
		}
	}
	return strings.Join(e.Recipients, ", ") // an ssh key's own name is not known here
}

// keepProof writes down that the key was proven, unless it is the drill key,
// which says nothing of the recovery key.
func (s *site) keepProof(name string, proof proven) {
	if slices.Contains(s.drillRecipients(), proof.Recipient) {
		s.p.print.note("this is the key that drills use; it proves nothing of the recovery key")
		return
	}
	err := os.MkdirAll(s.cfg.State, 0o700)
	if err == nil {
		err = drill.Prove(s.cfg.State, name, drill.KeyProof{At: proof.At, Recipient: proof.Recipient, Backup: proof.Backup})
	}
	if err != nil {
		s.p.print.warn("the proof was not written down: %v", err)
	}
	s.record(journal.Entry{Action: "key-verify", Database: name, What: proof.Recipient + " opens " + proof.Backup}, nil)
}

// drillRecipients are what the drill key answers to; nil without one.
func (s *site) drillRecipients() []string {
	if s.cfg == nil || s.cfg.DrillKey == "" {
		return nil
	}
	data, err := os.ReadFile(s.cfg.DrillKey)
	if err != nil {
		return nil
	}
	ids, err := seal.ParseIdentities(data, nil)
	if err != nil {
		return nil
	}
	return ids.Names()
}
