package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
)

func (p *program) verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "verify signatures, chain and stored bytes of a database's backups", ArgsUsage: "[NAME|ID]",
		Description: "Without flags: every manifest's signature, the chain, and that each payload is there in its signed size. " +
			"--read-data reads the payloads and compares their signed hashes; no key is needed for that. " +
			"--identity also decrypts them and compares every page.",
		Flags: append(sourceFlags(),
			&cli.BoolFlag{Name: "read-data", Usage: "read every payload and compare its hashes"},
			identityFlag("decrypt as well, and compare every page with the signed digest")),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("verify takes one NAME or ID")
			}
			s, err := p.site(c)
			if err != nil {
				return err
			}
			depth := restore.Depth{ReadData: c.Bool("read-data"), Progress: p.print.progress("verifying")}
			if file := c.String("identity"); file != "" {
				if depth.Identities, err = p.identities(file); err != nil {
					return err
				}
				depth.Open = true
			}
			names, err := s.verifies(c, &depth)
			if err != nil {
				return err
			}
			return p.verifyAll(c, s, names, depth)
		},
	}
}

// verifies tells a database's name from a backup's id.
func (s *site) verifies(c *cli.Context, depth *restore.Depth) ([]string, error) {
	arg := c.Args().First()
	if arg != "" && !s.has(c.Context, arg) {
		found, err := s.find(c.Context, "", catalog.Wanted{ID: arg})
		if err != nil {
			return nil, err
		}
		depth.Only = found.entry.ID
		return []string{found.entry.Database}, nil
	}
	return s.databases(c.Context, c.Args().Slice())
}

// verified is one target's result in JSON.
type verified struct {
	Target    string    `json:"target"`
	Database  string    `json:"database"`
	Manifests int       `json:"manifests"`
	Read      int       `json:"payloads_read"`
	Opened    int       `json:"payloads_decrypted"`
	Present   int       `json:"payloads_present_only"`
	Bytes     int64     `json:"bytes_read"`
	Head      string    `json:"head"`
	Problems  []failure `json:"problems"`
	Blind     string    `json:"blind,omitempty"` // why what was hidden could not be seen
}

func (p *program) verifyAll(c *cli.Context, s *site, names []string, depth restore.Depth) error {
	var docs []verified
	var failed []error
	for _, name := range names {
		depth.Remembered = s.remembered(name)
		for _, t := range s.targetsOf(name) {
			doc, err := p.verifyOne(c, s, t, name, depth)
			if doc != nil {
				docs = append(docs, *doc)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("target %s, database %s: %w", t.Name, name, err))
			}
		}
	}
	p.print.emit(map[string]any{"verified": docs})
	return worst(failed)
}

func (p *program) verifyOne(c *cli.Context, s *site, t storage.Target, name string, depth restore.Depth) (*verified, error) {
	v, err := restore.Verify(c.Context, t, s.signers, name, depth)
	p.print.clearProgress()
	if v == nil {
		return nil, err
	}
	doc := &verified{v.Target, v.Database, v.Manifests, v.Payloads - v.Opened, v.Opened, v.Unverified, v.Bytes, v.Head.String(), []failure{}, ""}
	if v.Blind != nil {
		doc.Blind = v.Blind.Error()
		p.print.warn("%v", v.Blind)
	}
	for _, problem := range v.Problems {
		doc.Problems = append(doc.Problems, describe(problem))
		p.print.line("ERROR: %s in %s: %v", name, t.Name, problem)
	}
	how := fmt.Sprintf("%d payloads present (not read)", v.Unverified)
	switch {
	case v.Opened > 0:
		how = fmt.Sprintf("%d payloads decrypted, every page compared", v.Opened)
	case v.Payloads > 0:
		how = fmt.Sprintf("%d payloads read, every hash compared", v.Payloads)
	}
	verdict := "ok"
	if len(v.Problems) > 0 || err != nil {
		verdict = fmt.Sprintf("%d PROBLEMS", len(v.Problems))
	}
	p.print.line("%s in %s: %s; %d manifests signed and chained; %s; head %s", name, t.Name, verdict, v.Manifests, how, v.Head)
	if err != nil {
		return doc, err
	}
	return doc, worst(v.Problems)
}
