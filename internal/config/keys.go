package config

import (
	"slices"
	"strings"
)

// kind is the type of a key's value.
type kind int

const (
	kindGroup    kind = iota // a mapping with keys of its own
	kindNames                // a mapping from names that the operator chooses
	kindNumber               // an integer
	kindText                 // a line of text
	kindPath                 // an absolute path
	kindAddress              // the url of a target
	kindEndpoint             // an http or https url
	kindChoice               // one of choices
	kindBoolean              // true or false
	kindDuration             // 250ms, 10m
	kindSize                 // 10MiB
	kindPercent              // 50%
	kindCount                // 7
	kindTexts                // a list of lines
	kindPaths                // a list of absolute paths
	kindWords                // a program and its arguments: a list in which a word may come twice
	kindTargets              // a list of names under targets
	kindSecret               // where a secret comes from
	kindValue                // one value as it is written: text, or a number
)

// at is the part of a configuration that a key's field is in.
type at struct {
	config   *Config
	target   *Target
	database *Database
	fileset  *Fileset
	channel  *Channel
	waiver   *Waiver
	check    *Check
	ask      *Ask
}

// key is one row of the table: all that there is to know of a key.
type key struct {
	path     string // from the root, dotted; * is a name that the operator chooses
	kind     kind
	choices  []string
	def      string // in the file's own notation, taken where the key is absent
	computed string // instead of def: how the default comes about
	min, max string
	required bool
	s3       bool // has a meaning for s3:// targets only
	literal  bool // a secret that may be written out
	form     func(string) (why, hint string)
	what     string // what it sets, one sentence or two
	why      string // why one would set it, and why the default is what it is
	example  string // one line of YAML, without the key
	field    func(at) any
}

// name is the last part of the path.
func (k *key) name() string { return k.path[strings.LastIndexByte(k.path, '.')+1:] }

// parent is the path without the last part; "" for the top level.
func (k *key) parent() string { return k.path[:max(strings.LastIndexByte(k.path, '.'), 0)] }

// children are the keys of a mapping, in the order of the table.
func children(parent string) []*key {
	var list []*key
	for i := range keys {
		if keys[i].parent() == parent {
			list = append(list, &keys[i])
		}
	}
	return list
}

func find(path string) *key {
	for i := range keys {
		if keys[i].path == path {
			return &keys[i]
		}
	}
	return nil
}

// keys is the table. Its order is the order of the reference and of a file
// that emsafe writes.
var keys = slices.Concat(hostKeys, databaseKeys, drillKeys, pairKeys, promiseKeys,
	keepKeys("databases.*", func(a at) *Keep { return &a.database.Keep }), filesKeys, daemonKeys, hardenKeys, runbookKeys, webKeys)

// hostKeys are those of the host and its targets.
var hostKeys = []key{
	{path: "version", kind: kindNumber, required: true, example: "1",
		what:  "The version of this file's format. There is one: 1.",
		why:   "A later emsafe can tell an old file from a new one, and an old emsafe refuses a file that it would misread.",
		field: func(a at) any { return &a.config.Version }},
	{path: "host", kind: kindText, computed: "this machine's host name", form: hostOK, example: "web1",
		what:  "The name of this machine in manifests and reports.",
		why:   "Manifests are read on another machine, perhaps years later. Set it where the host name says nothing or changes, as in containers.",
		field: func(a at) any { return &a.config.Host }},
	{path: "state", kind: kindPath, form: notRoot, computed: "`/var/lib/emsafe` for root, else `$XDG_STATE_HOME/emsafe`", example: "/var/lib/emsafe",
		what:  "The folder for emsafe's own state: the spool, locks, and what it remembers of every target.",
		why:   "A sealed backup waits here until every target has it, so the disk needs room for at least one compressed copy of the largest database. Nothing in it is needed for a restore.",
		field: func(a at) any { return &a.config.State }},
	{path: "signing_key", kind: kindPath, computed: "`signing_key` beside this file", example: "/etc/emsafe/signing_key",
		what:  "The host's private Ed25519 key (OpenSSH format), which signs manifests.",
		why:   "age does not say who sealed a file: anyone who knows a recipient can. The signature tells your backups from a forger's. Only emsafe's user may read the file.",
		field: func(a at) any { return &a.config.SigningKey }},
	{path: "allowed_signers", kind: kindPath, computed: "`allowed_signers` beside this file", example: "/etc/emsafe/allowed_signers",
		what:  "The public keys whose signatures count, as an ssh `allowed_signers` file.",
		why:   "This is the pin. Keep a copy off the host, with the recovery key: a restore on a new machine needs it.",
		field: func(a at) any { return &a.config.AllowedSigners }},
	{path: "zone", kind: kindText, form: zoneOK, computed: "`UTC`", example: "Europe/Berlin",
		what:  "The time zone of schedules, and of the hours, days and weeks of `keep`.",
		why:   "In UTC no hour is skipped or doubled. With another zone, a time that spring skips comes at the change, and one that autumn doubles comes once.",
		field: func(a at) any { return &a.config.Zone }},
	{path: "controls", kind: kindTexts, form: controlOK, computed: "none", example: "[SOC 2 A1.2, ISO 27001 A.8.13]",
		what:  "Ids of the controls that the quarterly report of drills is evidence for; it names them on its cover.",
		why:   "Which controls apply is for you and your auditor to say: no report names one by itself.",
		field: func(a at) any { return &a.config.Controls }},
	{path: "prune_key", kind: kindPath, computed: "the signing key", example: "/etc/emsafe/prune_key",
		what:  "The private Ed25519 key that signs prune records. Its line in allowed_signers must have the namespace `emsafe-prune`.",
		why:   "Whoever takes this host can sign with its keys. If another machine prunes, with a key of its own, take `emsafe-prune` from this host's line: then nothing that disappears with this host's signature is legal.",
		field: func(a at) any { return &a.config.PruneKey }},
	{path: "recipients", kind: kindTexts, form: recipientOK, example: "[age1example…]", computed: "none; there must be at least one here or in `recipients_files`",
		what:  "The public keys that every backup is encrypted to: `age1…`, `age1pq…` (post-quantum), `ssh-ed25519 …` or `ssh-rsa …`.",
		why:   "Any one of the matching identities opens a backup, so a second recipient is a spare key. The identities do not belong on this host: whoever takes the host must not get its past with it. Post-quantum and other recipients do not mix, because the weaker one would decide.",
		field: func(a at) any { return &a.config.Recipients }},
	{path: "recipients_files", kind: kindPaths, example: "[/etc/emsafe/recipients.txt]", computed: "none",
		what:  "Files with more recipients, one a line; `#` begins a comment.",
		why:   "One list of keys can be shared by many hosts. The files are read at every backup, and are refused if somebody else could add a key to them.",
		field: func(a at) any { return &a.config.RecipientsFiles }},
	{path: "compression", kind: kindChoice, choices: []string{"default", "better", "best"}, def: "default", example: "default",
		what:  "How hard zstd tries.",
		why:   "The application needs the processors too: `default` is within a tenth of the size of `zstd -3` at two thirds of the work. `better` is as small as `zstd -3`; `best` spends much more to save a few per cent.",
		field: func(a at) any { return &a.config.Compression }},

	{path: "drill_key", kind: kindPath, computed: "none: drills on schedule are not held", example: "/etc/emsafe/drill_key",
		what:  "A file with an age identity that opens the backups, for drills that nobody attends.",
		why:   "Whoever takes this host can read with it what is sealed to it. Give it a recipient of its own, keep it on a machine that does nothing but drills, or do without and run drills by hand with the recovery key on standard input.",
		field: func(a at) any { return &a.config.DrillKey }},
	{path: "drill_scratch", kind: kindPath, form: notRoot, computed: "memory (`/dev/shm`) where twice the database fits, else `/var/tmp`", example: "/srv/scratch",
		what:  "The folder in which drills restore, each in a folder of its own that nobody else may enter and that goes with it.",
		why:   "A drill needs room for the whole database, in clear. What a crash leaves there the next drill removes.",
		field: func(a at) any { return &a.config.DrillScratch }},
	{path: "drill_user", kind: kindText, form: userOK, computed: "`nobody`", example: "app-drill",
		what:  "Where emsafe runs as root: the user as whom drills run your checks and start your application.",
		why:   "What an application does with a restored database must not reach the real one. Make it a user that may do nothing else.",
		field: func(a at) any { return &a.config.DrillUser }},
	{path: "prove_key_every", kind: kindDuration, computed: "`180d`", min: "1d", max: "3650d", example: "90d",
		what:  "How long ago the last `emsafe key verify` with the recovery key may be.",
		why:   "Keys are lost in drawers and by people who leave. The proof takes a minute and reads no backup.",
		field: func(a at) any { return &a.config.ProveKeyEvery }},

	{path: "spool_limit", kind: kindSize, min: "16MiB", def: "10GiB", example: "2GiB",
		what:  "How much may wait in the spool for targets that cannot be reached, of all databases together.",
		why:   "A long outage must not fill the disk that the application writes to. When the limit is reached, or less than a twentieth of the disk (at most 1 GiB) is free, what waits is dropped, oldest first, but never the newest: the target then gets a full backup, and lacks the points between. It is said when it happens.",
		field: func(a at) any { return &a.config.SpoolLimit }},

	{path: "targets", kind: kindNames, required: true,
		what: "The places where backups go, by names of your choice.",
		why:  "Every target holds complete backups and restores alone. Two, of which one is off the site, survive what takes the other."},
	{path: "targets.*", kind: kindGroup, what: "One target.", why: "A target that is down fails alone; what it misses waits in the spool."},
	{path: "targets.*.url", kind: kindAddress, required: true, form: addressOK, example: "s3://bucket/prefix",
		what:  "`file:///folder` for a folder, `s3://bucket` or `s3://bucket/prefix` for S3 and what speaks like it.",
		why:   "A folder on the same disk is good for a trial and for quick undo; it is lost with the disk.",
		field: func(a at) any { return &a.target.URL }},
	{path: "targets.*.provider", kind: kindChoice, s3: true, choices: []string{"aws", "r2", "b2", "wasabi", "hetzner", "garage", "minio", "scaleway"}, computed: "`aws`", example: "r2",
		what:  "Whose S3 it is.",
		why:   "Providers differ in checksums, addressing and endpoints; this sets what is known to work. The settings below win over it.",
		field: func(a at) any { return &a.target.Provider }},
	{path: "targets.*.endpoint", kind: kindEndpoint, s3: true, form: endpointOK, computed: "the provider's, for the region; `r2`, `garage` and `minio` have none", example: "https://ACCOUNT.r2.cloudflarestorage.com",
		what:  "The server's address, without the bucket.",
		why:   "Needed where the address holds your account or is your own server.",
		field: func(a at) any { return &a.target.Endpoint }},
	{path: "targets.*.region", kind: kindText, s3: true, form: regionOK, computed: "the AWS configuration's, or the provider's", example: "eu-central-1",
		what:  "The bucket's region.",
		why:   "Requests are signed for a region; a wrong one is refused by most servers.",
		field: func(a at) any { return &a.target.Region }},
	{path: "targets.*.path_style", kind: kindBoolean, s3: true, computed: "as the provider wants it", example: "true",
		what:  "Name the bucket in the path (`https://server/bucket`) instead of the host name.",
		why:   "Servers of your own seldom have a DNS name and a certificate for each bucket.",
		field: func(a at) any { return &a.target.PathStyle }},
	{path: "targets.*.conditional_writes", kind: kindBoolean, s3: true, computed: "`false` for `b2`, otherwise `true`", example: "false",
		what:  "Whether the provider refuses to overwrite an object when a request says `If-None-Match: *`.",
		why:   "Two writers can then never both believe that they stored the same backup. `false` is for a provider that answers 501 to such a request: the bucket must keep versions, an object costs two listings more, and two writers settle by listing versions. docs/providers.md says what is weaker then.",
		field: func(a at) any { return &a.target.ConditionalWrites }},
	{path: "targets.*.checksums", kind: kindBoolean, s3: true, computed: "as the provider wants it", example: "false",
		what:  "Send a SHA-256 checksum with each object, which the provider stores.",
		why:   "The signature of a request covers its content either way, and every backup carries signed digests of its own. `false` is for a server that refuses the header.",
		field: func(a at) any { return &a.target.Checksums }},
	{path: "targets.*.ca_file", kind: kindPath, s3: true, computed: "the system's certificates", example: "/etc/ssl/private-ca.pem",
		what:  "A PEM file with the certificate authority of the endpoint.",
		why:   "For a server of your own with a private certificate. There is no switch to leave certificates unchecked.",
		field: func(a at) any { return &a.target.CAFile }},
	{path: "targets.*.storage_class", kind: kindText, s3: true, form: storageClassOK, computed: "the bucket's", example: "STANDARD_IA",
		what:  "The storage class of payloads.",
		why:   "Colder classes cost less to keep and more to read. Classes that must be thawed first (GLACIER, DEEP_ARCHIVE) make a restore wait for hours.",
		field: func(a at) any { return &a.target.StorageClass }},
	{path: "targets.*.sse", kind: kindChoice, s3: true, choices: []string{"AES256", "aws:kms"}, computed: "the bucket's", example: "aws:kms",
		what:  "Encryption by the server, on top of emsafe's own.",
		why:   "Some policies ask for it. It protects nothing that age does not protect already.",
		field: func(a at) any { return &a.target.SSE }},
	{path: "targets.*.kms_key_id", kind: kindText, s3: true, computed: "the account's default key", example: "arn:aws:kms:…",
		what:  "The KMS key for `sse: aws:kms`.",
		why:   "Whoever may not use this key cannot read the objects: give it to those who restore.",
		field: func(a at) any { return &a.target.KMSKeyID }},
	{path: "targets.*.access_key_id", kind: kindSecret, s3: true, literal: true, computed: "the standard AWS credential chain", example: "{env: BACKUP_KEY_ID}",
		what:  "The id of the access key. The id alone may be written out.",
		why:   "Use a key that may only put and list: then a thief of this host cannot delete what is there.",
		field: func(a at) any { return &a.target.AccessKeyID }},
	{path: "targets.*.secret_access_key", kind: kindSecret, s3: true, computed: "the standard AWS credential chain", example: "{credential: s3-secret}",
		what:  "Where the secret of the access key comes from: `{env: NAME}`, `{file: /path}`, `{credential: name}` (systemd) or `{command: [program, argument]}`.",
		why:   "A secret in a configuration ends up in version control and in tickets, so it is refused here. Together with `access_key_id`, or not at all.",
		field: func(a at) any { return &a.target.SecretAccessKey }},
	{path: "targets.*.session_token", kind: kindSecret, s3: true, computed: "none", example: "{command: [/usr/local/bin/s3-token]}",
		what:  "Where the session token of temporary credentials comes from.",
		why:   "Only for credentials that have one; the AWS chain fetches its own.",
		field: func(a at) any { return &a.target.SessionToken }},
	{path: "targets.*.lock", kind: kindGroup, s3: true, computed: "none", what: "Object Lock: what is stored cannot be deleted or replaced for a time, by anybody.",
		why: "Whoever takes this host, or the keys of the bucket, cannot take its past. The bucket must have been made with Object Lock; `emsafe doctor` proves that it is honoured. `prune` waits for the locks to end."},
	{path: "targets.*.lock.mode", kind: kindChoice, s3: true, choices: []string{"compliance", "governance"}, computed: "`compliance`", example: "governance",
		what:  "`compliance`: not even the owner of the account can delete before the time. `governance`: somebody with a permission of its own can.",
		why:   "A mistake in `for` costs storage until it ends: try with governance and a short time first.",
		field: func(a at) any { return &a.target.LockMode }},
	{path: "targets.*.lock.for", kind: kindDuration, s3: true, computed: "no lock", min: "1h", max: "3650d", example: "30d",
		what:  "How long every backup can be restored at least, whatever happens in the bucket.",
		why:   "What a backup is built on must stay as long as itself, so objects are locked for this and the longest `full_every` of the databases that go there, and a day. The repository document and prune records are locked anew from time to time.",
		field: func(a at) any { return &a.target.LockFor }},
	{path: "targets.*.upload_limit", kind: kindSize, s3: true, min: "64KiB", computed: "no limit", example: "10MiB",
		what:  "The most bytes per second that are uploaded.",
		why:   "Keeps a small host's uplink free for its users. The database is not held meanwhile: sealing goes to the spool at full speed.",
		field: func(a at) any { return &a.target.UploadLimit }},
	{path: "targets.*.upload_hours", kind: kindText, s3: true, form: windowOK, computed: "at all hours", example: `"08:00-18:00"`,
		what:  "The hours of the day, in `zone`, in which `upload_limit` holds; outside of them there is no limit.",
		why:   "The office needs the line by day, and nobody does by night. It may cross midnight.",
		field: func(a at) any { return &a.target.UploadHours }},
}
