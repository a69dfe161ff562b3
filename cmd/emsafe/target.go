package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
	"emsafe/internal/fault"
	"emsafe/storage/s3"
)

func (p *program) targetCommand() *cli.Command {
	return group("target", "the places where backups go",
		&cli.Command{
			Name: "policy", Usage: "print what credentials for a role need, and no more", ArgsUsage: "[NAME]",
			Description: "Roles: `write` is for the host that backs up: it can put and list, and neither read nor delete its past. `read` is for whoever restores, verifies and drills. `prune` is for the machine that prunes. " +
				"Where the provider has policies in Amazon's language, this is one: for a user (IAM), or with --principal for the bucket. Where it has not, it says in words what there is.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "role", Usage: "`ROLE`: write, read or prune", Value: "write"},
				&cli.StringFlag{Name: "provider", Usage: "as for a target at `NAME`, whatever the configuration says: aws, r2, b2, wasabi, hetzner, garage, minio or scaleway"},
				&cli.StringFlag{Name: "principal", Usage: "make a bucket policy for `WHOM`: an ARN at Amazon, a user's name elsewhere"},
			},
			Action: p.targetPolicy,
		})
}

func (p *program) targetPolicy(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	if name == "" {
		for _, n := range slices.Sorted(maps.Keys(s.cfg.Targets)) {
			if _, _, ok := s.cfg.Targets[n].Bucket(); ok {
				name = n
				break
			}
		}
	}
	if name == "" {
		return fault.New(fault.NotFound, "no target of the configuration is in S3").WithRemedy("Who may do what in a folder is a matter of the file system.")
	}
	t, ok := s.cfg.Targets[name]
	if !ok {
		return fault.New(fault.NotFound, "the configuration has no target %q", name).WithRemedy("It has: %s.", strings.Join(slices.Sorted(maps.Keys(s.cfg.Targets)), ", "))
	}
	if _, _, ok := t.Bucket(); !ok {
		return fault.New(fault.Usage, "target %s is a folder: who may do what there is a matter of the file system", name)
	}
	role := c.String("role")
	if !slices.Contains([]string{"write", "read", "prune"}, role) {
		return usage("--role is write, read or prune, not %q", role)
	}
	if as := c.String("provider"); as != "" {
		if t.Provider = as; !slices.Contains(s3.Providers(), as) {
			return usage("--provider is one of %s, not %q", strings.Join(s3.Providers(), ", "), as)
		}
	}
	if words, ok := policyWords[t.Provider]; ok && (t.Provider != "hetzner" || c.String("principal") == "") {
		p.print.emit(map[string]string{"target": name, "role": role, "words": words[role]})
		p.print.line("%s", words[role])
		return nil
	}
	files := slices.ContainsFunc(slices.Collect(maps.Values(s.cfg.Filesets)), func(f config.Fileset) bool { return len(f.Targets) == 0 || slices.Contains(f.Targets, name) })
	doc := policy(t, role, c.String("principal"), files)
	p.print.emit(map[string]any{"target": name, "role": role, "policy": doc})
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	p.print.line("%s", text)
	return nil
}

// statement is one of a policy in Amazon's language.
type statement struct {
	Sid       string         `json:"Sid"`
	Effect    string         `json:"Effect"`
	Principal map[string]any `json:"Principal,omitempty"`
	Action    []string       `json:"Action"`
	Resource  []string       `json:"Resource"`
	Condition map[string]any `json:"Condition,omitempty"`
}

// policy is the least that a role needs. Amazon can refuse an overwrite by a
// condition; elsewhere versions and their lock make it harmless.
func policy(t config.Target, role, principal string, files bool) map[string]any {
	bucket, prefix, _ := t.Bucket()
	arn := "arn:aws:s3:::" + bucket
	below := arn + "/"
	if prefix != "" {
		below += prefix + "/"
	}
	objects := below + "*"
	// What is refused is refused everywhere, but for what restic does.
	once, kept := []string{objects}, []string{objects}
	if files {
		once = nil
		for _, own := range []string{"repository.json", "databases/*", "reports/*", "configurations/*", "passwords/*", "points/*"} {
			once = append(once, below+own)
		}
		kept = once
		for _, restics := range []string{"config", "data/*", "index/*", "keys/*", "snapshots/*"} {
			kept = append(kept, below+"filesets/*/"+restics)
		}
	}
	amazon := t.Provider == "aws" || t.Provider == "" && t.Endpoint == ""
	// Versions are listed by everybody: who backs up must see what was hidden.
	put := []string{"s3:PutObject", "s3:AbortMultipartUpload"}
	if t.LockFor > 0 {
		put = append(put, "s3:PutObjectRetention")
	}
	get := []string{"s3:GetObject", "s3:GetObjectVersion"}
	if t.LockFor > 0 {
		get = append(get, "s3:GetObjectRetention")
	}
	list := []string{"s3:ListBucket", "s3:ListBucketVersions"}
	on := map[string][]string{
		"write": slices.Concat(put, get[2:]), // a retention may be read, which doctor does
		"read":  get,
		"prune": slices.Concat(get, put, []string{"s3:DeleteObject", "s3:DeleteObjectVersion"}),
	}[role]
	statements := []statement{
		{Sid: "Objects", Effect: "Allow", Action: on, Resource: []string{objects}},
		{Sid: "List", Effect: "Allow", Action: list, Resource: []string{arn}},
	}
	if prefix != "" && (amazon || t.Provider != "") {
		statements[1].Condition = map[string]any{"StringLike": map[string]any{"s3:prefix": []string{prefix + "/*"}}}
	}
	if amazon && role != "read" {
		// A part of a multipart upload creates nothing, and carries no condition.
		statements = append(statements, statement{
			Sid: "NeverOverwrite", Effect: "Deny", Action: []string{"s3:PutObject"}, Resource: once,
			Condition: map[string]any{"Null": map[string]string{"s3:if-none-match": "true"}, "Bool": map[string]string{"s3:ObjectCreationOperation": "true"}},
		})
	}
	if role == "write" {
		if files {
			statements = append(statements,
				statement{Sid: "ResticReads", Effect: "Allow", Action: []string{"s3:GetObject"}, Resource: []string{below + "filesets/*"}},
				statement{Sid: "ResticUnlocks", Effect: "Allow", Action: []string{"s3:DeleteObject"}, Resource: []string{below + "filesets/*/locks/*"}})
		}
		statements = append(statements, statement{
			Sid: "NeverDelete", Effect: "Deny", Action: []string{"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"}, Resource: kept,
		})
	}
	if strings.HasPrefix(t.KMSKeyID, "arn:") {
		key := []string{"kms:Decrypt"} // S3 asks for it to put an upload together, too
		if role != "read" {
			key = append(key, "kms:GenerateDataKey")
		}
		statements = append(statements, statement{Sid: "Key", Effect: "Allow", Action: key, Resource: []string{t.KMSKeyID}})
	}
	if principal != "" {
		for i := range statements {
			statements[i].Principal = map[string]any{"AWS": []string{principal}}
		}
	}
	return map[string]any{"Version": "2012-10-17", "Statement": statements}
}

// policyWords are for providers that have no such policies.
var policyWords = map[string]map[string]string{
	"r2": {
		"write": "R2 has no credentials that may only put. Make an API token with \"Object Read & Write\" for this bucket alone, and a bucket lock rule (R2, Settings, Bucket lock rules) on the prefix, so that nobody can delete or overwrite for its time; `lock` in emsafe's configuration is not for R2.",
		"read":  "Make an API token with \"Object Read only\" for this bucket alone.",
		"prune": "Make an API token with \"Object Read & Write\" for this bucket alone, and keep it on the machine that prunes. Objects under a bucket lock rule go when the rule lets them.",
	},
	"b2": {
		"write": "Make an application key for this bucket with the capabilities listBuckets, listFiles and writeFiles (and writeFileRetentions with a lock), and with neither readFiles nor deleteFiles nor bypassGovernance: b2 key create --bucket BUCKET --name-prefix PREFIX/ emsafe-write listBuckets,listFiles,writeFiles. B2 keeps all versions: an overwrite hides nothing for good. B2 has no conditional writes: docs/providers.md says what is weaker with a key that may not delete.",
		"read":  "Make an application key for this bucket with listBuckets, listFiles and readFiles (and readFileRetentions with a lock).",
		"prune": "Make an application key for this bucket with listBuckets, listFiles, readFiles, writeFiles and deleteFiles (and readFileRetentions with a lock), and keep it on the machine that prunes.",
	},
	"hetzner": {
		"write": "Hetzner's keys are for the whole project. Restrict them by a bucket policy: `emsafe target policy --role write --principal arn:aws:iam:::user/pPROJECT:KEY` prints one to begin with. Make the bucket with Object Lock; that cannot be done later.",
		"read":  "As for write, with --role read, and a key of its own.",
		"prune": "As for write, with --role prune, and a key that stays on the machine that prunes.",
	},
	"scaleway": {
		"write": scalewayWords + "For writing: s3:PutObject, s3:AbortMultipartUpload, s3:ListBucket and s3:ListBucketVersions, and with a lock s3:PutObjectRetention and s3:GetObjectRetention.",
		"read":  scalewayWords + "For reading: s3:GetObject, s3:GetObjectVersion, s3:ListBucket and s3:ListBucketVersions, and with a lock s3:GetObjectRetention.",
		"prune": scalewayWords + "For pruning: what reading and writing have, and s3:DeleteObject and s3:DeleteObjectVersion; keep the key on the machine that prunes.",
	},
	"garage": {
		"write": "Garage knows read, write and owner for each key and bucket, and write includes delete: a host that backs up can delete its past. Take copies from there (a second target, snapshots of Garage's own disks), and give the host a key with write alone: garage bucket allow --write BUCKET --key KEY.",
		"read":  "garage bucket allow --read BUCKET --key KEY",
		"prune": "garage bucket allow --read --write BUCKET --key KEY, on the machine that prunes.",
	},
}

// scalewayWords are for a language that is Amazon's but for version, resources
// and principals, with one policy for each bucket.
const scalewayWords = "Make an IAM application and an API key for each role, and one policy for the bucket, of version 2023-04-17: " +
	"each statement names {\"SCW\": \"application_id:…\"} as its principal, and BUCKET and BUCKET/PREFIX/* without arn: as its resources. " +
	"It must also allow everything to you, or you lose the bucket yourself. Make the bucket with Object Lock if you want a lock. "
