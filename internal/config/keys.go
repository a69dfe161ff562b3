package config

import "strings"

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
)

// at is the part of a configuration that a key's field is in.
type at struct {
	config   *Config
	target   *Target
	database *Database
	channel  *Channel
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
var keys = []key{
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

	{path: "databases", kind: kindNames, computed: "none",
		what: "The SQLite databases to protect, by names of your choice.",
		why:  "The name stands in the target and on the command line; keep it when the file moves."},
	{path: "databases.*", kind: kindGroup, what: "One database.", why: "Each has a chain of its own in every target."},
	{path: "databases.*.path", kind: kindPath, required: true, form: notRoot, example: "/srv/app/app.db",
		what:  "The database file.",
		why:   "Only the main file is named: `-wal`, `-shm` and `-journal` are found beside it.",
		field: func(a at) any { return &a.database.Path }},
	{path: "databases.*.targets", kind: kindTargets, computed: "all targets", example: "[local, offsite]",
		what:  "The targets that this database goes to.",
		why:   "Leave it out unless a database must not go somewhere: a new target then gets all of them.",
		field: func(a at) any { return &a.database.Targets }},
	{path: "databases.*.max_hold", kind: kindDuration, def: "250ms", min: "10ms", max: "1m", example: "250ms",
		what:  "Rollback-journal databases: the longest time that writers are kept out at a stretch.",
		why:   "In that mode reading blocks commits, and applications give up after their busy timeout. A quarter of a second is unnoticed by all of them; keep it well under the application's timeout.",
		field: func(a at) any { return &a.database.MaxHold }},
	{path: "databases.*.allow_block", kind: kindBoolean, def: "false", example: "true",
		what:  "Rollback-journal databases: exceed `max_hold` rather than fail when the copy cannot be made within it.",
		why:   "A large database that is written all the time may leave no other way. Commits then wait, or fail, for the length of a read.",
		field: func(a at) any { return &a.database.AllowBlock }},
	{path: "databases.*.max_snapshot", kind: kindDuration, def: "10m", min: "1s", max: "24h", example: "10m",
		what:  "WAL databases: the longest time that one read transaction stays open.",
		why:   "Writers go on meanwhile, but the WAL cannot be reused and grows. Raise it for a very large database on a slow disk.",
		field: func(a at) any { return &a.database.MaxSnapshot }},
	{path: "databases.*.max_wal_growth", kind: kindSize, def: "1GiB", min: "1MiB", example: "1GiB",
		what:  "WAL databases: how far the WAL may grow during one read transaction.",
		why:   "Keeps a busy application's disk from filling up because of a backup.",
		field: func(a at) any { return &a.database.MaxWALGrowth }},
	{path: "databases.*.full_every", kind: kindDuration, def: "7d", min: "1m", max: "3650d", example: "7d",
		what:  "How old the last full backup may be. Between two, only changed pages are stored.",
		why:   "A restore needs the full backup and the deltas since, so a damaged object costs at most what lies between two of them. Fulls also read every page, and so find one that went bad.",
		field: func(a at) any { return &a.database.FullEvery }},
	{path: "databases.*.full_share", kind: kindPercent, def: "50%", example: "50%",
		what:  "A full backup is taken early when the deltas that a restore would fetch exceed this share of it. `0%` makes every backup a full one.",
		why:   "Bounds how much longer a restore takes because of deltas, however fast the database changes.",
		field: func(a at) any { return &a.database.FullShare }},
	{path: "databases.*.schedule", kind: kindText, form: scheduleOK, computed: "none: the daemon does not back it up on schedule", example: `"17 3 * * *"`,
		what:  "When `emsafe daemon` backs the database up: five fields as in crontab, or `every 15m`, counted from the last run.",
		why:   "A run that was missed, because the machine slept or the daemon was down, is made up for once. Every host and job has a fixed offset of up to five minutes, so that not all come at once.",
		field: func(a at) any { return &a.database.Schedule }},
	{path: "databases.*.verify_schedule", kind: kindText, form: scheduleOK, computed: "none", example: `"0 5 * * 0"`,
		what:  "When `emsafe daemon` reads every payload in every target and holds it against the signed hashes.",
		why:   "Storage loses and changes bytes without a word. It reads everything that is kept, so mind what your provider charges for that.",
		field: func(a at) any { return &a.database.VerifySchedule }},
	{path: "databases.*.prune_schedule", kind: kindText, form: scheduleOK, computed: "`30 4 * * *` where there is a `keep`", example: `"30 4 * * *"`,
		what:  "When `emsafe daemon` removes what `keep` does not want.",
		why:   "Once a day is enough; payloads go with the prune after the one that removed their manifests.",
		field: func(a at) any { return &a.database.PruneSchedule }},
	{path: "databases.*.unchanged", kind: kindChoice, choices: []string{"heartbeat", "skip"}, def: "heartbeat", example: "skip",
		what:  "What a scheduled backup does when no page changed: sign a heartbeat, a manifest without a payload that says so, or nothing at all.",
		why:   "A heartbeat costs one small request and proves that the backup of yesterday is still all there is; without it a quiet database and a dead backup look the same from the target. Continuous protection writes none between its intervals.",
		field: func(a at) any { return &a.database.Unchanged }},
	{path: "databases.*.continuous", kind: kindBoolean, def: "false", example: "true",
		what:  "Protect the database continuously: `emsafe backup --continuous` commits a delta whenever something changed.",
		why:   "A loss is then seconds instead of the time since the last scheduled backup. It suits WAL databases, where the log says what changed; a rollback-journal database is read whole each time that it changed.",
		field: func(a at) any { return &a.database.Continuous }},
	{path: "databases.*.interval", kind: kindDuration, def: "10s", min: "1s", max: "24h", example: "1s",
		what:  "Continuous protection: how often to look for changes.",
		why:   "What is committed between two looks is what a sudden end can lose. Every delta costs two requests to each target; when nothing changed there is none.",
		field: func(a at) any { return &a.database.Interval }},
	{path: "databases.*.objective", kind: kindGroup, computed: "none", what: "What you promise about this database.",
		why: "`emsafe status --check` holds every target against it and ends with exit code 22 where it is missed: call it from your monitoring, so that a backup that silently stopped is noticed."},
	{path: "databases.*.objective.rpo", kind: kindDuration, computed: "none", min: "1s", max: "3650d", example: "1h",
		what:  "The recovery point objective: how much may be lost at most, as time.",
		why:   "A target is stale when what it holds is older than this and not known to be all there is.",
		field: func(a at) any { return &a.database.RPO }},
	{path: "databases.*.ping", kind: kindSecret, computed: "none", example: "{credential: ping-app}",
		what:  "The address of a check in the manner of healthchecks: `emsafe daemon` calls it (with `/start` before, and `/fail`) for every backup of this database.",
		why:   "Somebody else notices when nothing comes any more. Success is sent only when every target has the backup. Who knows the address can lie to the check, so it is a secret.",
		field: func(a at) any { return &a.database.Ping }},
	{path: "databases.*.keep", kind: kindGroup, computed: "everything is kept", what: "Which backups `emsafe prune` keeps. A backup stays if any of the rules wants it, or another one that stays is built on it.",
		why: "Without any rule nothing is ever removed. The newest backup, the newest full one, and the newest that a drill has passed stay whatever the rules say."},
	{path: "databases.*.keep.last", kind: kindCount, computed: "0", example: "3",
		what:  "Keep the newest so many, however old they are.",
		why:   "A safety net where backups are taken by hand or with gaps.",
		field: func(a at) any { return &a.database.Keep.Last }},
	{path: "databases.*.keep.hourly", kind: kindCount, computed: "0", example: "24",
		what:  "Keep the newest of each of so many hours that have a backup.",
		why:   "Hours, days and so on without a backup do not count, so that an outage does not eat what was kept before it.",
		field: func(a at) any { return &a.database.Keep.Hourly }},
	{path: "databases.*.keep.daily", kind: kindCount, computed: "0", example: "7",
		what:  "Keep the newest of each of so many days that have a backup, in UTC.",
		why:   "A mistake is often noticed after the weekend: a week of days covers it.",
		field: func(a at) any { return &a.database.Keep.Daily }},
	{path: "databases.*.keep.weekly", kind: kindCount, computed: "0", example: "5",
		what:  "Keep the newest of each of so many ISO weeks that have a backup.",
		why:   "The next coarser step after the days.",
		field: func(a at) any { return &a.database.Keep.Weekly }},
	{path: "databases.*.keep.monthly", kind: kindCount, computed: "0", example: "12",
		what:  "Keep the newest of each of so many months that have a backup.",
		why:   "What auditors ask for most.",
		field: func(a at) any { return &a.database.Keep.Monthly }},
	{path: "databases.*.keep.yearly", kind: kindCount, computed: "0", example: "3",
		what:  "Keep the newest of each of so many years that have a backup.",
		why:   "For what the law wants kept; ask first what it wants deleted.",
		field: func(a at) any { return &a.database.Keep.Yearly }},
	{path: "databases.*.keep.within", kind: kindDuration, computed: "none", min: "1m", max: "36500d", example: "2d",
		what:  "Keep all that are not older than this.",
		why:   "With continuous protection: every point of the last days, and steps before them.",
		field: func(a at) any { return &a.database.Keep.Within }},

	{path: "daemon", kind: kindGroup, computed: "as below", what: "How `emsafe daemon` runs.",
		why: "The defaults are right for one small host."},
	{path: "daemon.listen", kind: kindText, form: hostPort, computed: "none", example: "127.0.0.1:9464",
		what:  "The address of the daemon's page, and for Prometheus to ask for metrics (`/metrics`).",
		why:   "On loopback, for this machine. They name databases and sizes: with another address the daemon wants a `token`, and a proxy of yours with TLS belongs in front. `emsafe status --html` and `emsafe metrics --textfile` need no port at all.",
		field: func(a at) any { return &a.config.Daemon.Listen }},
	{path: "daemon.token", kind: kindSecret, computed: "none", example: "{credential: page-token}",
		what:  "Who wants the page or the metrics from `daemon.listen` must show it: as a bearer token, or as the password of any user. At least 16 characters.",
		why:   "On loopback every user of the machine can ask; from other machines everybody.",
		field: func(a at) any { return &a.config.Daemon.Token }},
	{path: "daemon.socket", kind: kindPath, computed: "`daemon.sock` in systemd's runtime directory `/run/emsafe`, else in the state folder", example: "/run/emsafe/daemon.sock",
		what:  "Where `emsafe status`, `emsafe run` and `emsafe reload` find the daemon.",
		why:   "Its user and group may use it (mode 0660): put colleagues who look after backups in the group.",
		field: func(a at) any { return &a.config.Daemon.Socket }},
	{path: "daemon.heavy", kind: kindCount, def: "2", min: "2", example: "3",
		what:  "How many jobs that read or write much run at a time. The last place is for backups.",
		why:   "A small host has two cores, and the application needs them.",
		field: func(a at) any { return &a.config.Daemon.Heavy }},
	{path: "daemon.ping", kind: kindSecret, computed: "none", example: "{credential: ping-daemon}",
		what:  "The address of a check that the daemon calls every five minutes while it lives and believes its clock.",
		why:   "A host that is gone sends no message that it is gone.",
		field: func(a at) any { return &a.config.Daemon.Ping }},

	{path: "notify", kind: kindNames, computed: "none",
		what: "Who is told, by names of your choice: a webhook (`url`), mail (`smtp`) or a command (`command`).",
		why:  "Each is told once when something goes wrong, once a day while it stays so, and once when it is over. `emsafe notify test` tries them. A message that cannot be sent fails no backup; it is counted in the metrics."},
	{path: "notify.*", kind: kindGroup, what: "One way to reach somebody.", why: "One that hangs delays no other."},
	{path: "notify.*.url", kind: kindSecret, computed: "none", example: "{credential: slack-url}",
		what:  "The address of a webhook.",
		why:   "With most services whoever knows the address can post, so it is a secret.",
		field: func(a at) any { return &a.channel.URL }},
	{path: "notify.*.service", kind: kindChoice, choices: []string{"json", "slack", "discord", "ntfy", "gotify", "telegram", "matrix"}, def: "json", example: "slack",
		what:  "Whose webhook it is. `json` posts the message as it is: host, severity, subject, title, text, run, at, since, times.",
		why:   "Each wants a shape of its own.",
		field: func(a at) any { return &a.channel.Service }},
	{path: "notify.*.token", kind: kindSecret, computed: "none", example: "{credential: ntfy-token}",
		what:  "What ntfy, gotify, telegram and matrix ask for besides the address.",
		why:   "It is sent in a header, or for telegram in the path.",
		field: func(a at) any { return &a.channel.Token }},
	{path: "notify.*.room", kind: kindText, computed: "none", example: `"!abc:example.org"`,
		what:  "The room (matrix) or the chat (telegram).",
		why:   "A bot can be in many.",
		field: func(a at) any { return &a.channel.Room }},
	{path: "notify.*.smtp", kind: kindText, form: hostPortOK, computed: "none", example: "mail.example.org:587",
		what:  "The mail server and its port.",
		why:   "587 goes with `starttls`, 465 with `tls`.",
		field: func(a at) any { return &a.channel.SMTP }},
	{path: "notify.*.security", kind: kindChoice, choices: []string{"starttls", "tls", "none"}, def: "starttls", example: "tls",
		what:  "How the way to the mail server is protected; `none` is for a server on this machine only.",
		why:   "A server that does not offer it is refused: mail says what is wrong with your host.",
		field: func(a at) any { return &a.channel.Security }},
	{path: "notify.*.user", kind: kindText, computed: "none", example: "emsafe",
		what:  "The user at the mail server.",
		why:   "Most servers ask for one, together with a password.",
		field: func(a at) any { return &a.channel.User }},
	{path: "notify.*.password", kind: kindSecret, computed: "none", example: "{credential: smtp-password}",
		what:  "The password at the mail server.",
		why:   "Together with `user`, or not at all.",
		field: func(a at) any { return &a.channel.Password }},
	{path: "notify.*.from", kind: kindText, form: mailOK, computed: "none", example: "emsafe@example.org",
		what:  "Whom mail is from.",
		why:   "Servers refuse senders that are not theirs.",
		field: func(a at) any { return &a.channel.From }},
	{path: "notify.*.to", kind: kindTexts, form: mailOK, computed: "none", example: "[ops@example.org]",
		what:  "Whom mail goes to.",
		why:   "A list of people, or an address that is one.",
		field: func(a at) any { return &a.channel.To }},
	{path: "notify.*.command", kind: kindWords, computed: "none", example: "[/usr/local/bin/page, --now]",
		what:  "A program with its arguments. It gets the message in its environment: EMSAFE_HOST, EMSAFE_SEVERITY, EMSAFE_SUBJECT, EMSAFE_TITLE, EMSAFE_TEXT, EMSAFE_RUN.",
		why:   "For whatever is not above. No shell takes part, and it has a minute.",
		field: func(a at) any { return &a.channel.Command }},
}
