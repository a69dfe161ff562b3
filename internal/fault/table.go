package fault

// Kind is one row of the error table. A *Kind is itself an error, so that
// errors.Is(err, fault.NotFound) reads naturally.
type Kind struct {
	ID     string // stable, kebab-case; in --json and in docs/errors.md
	Exit   int
	Means  string
	Safe   string
	Remedy string
}

func (k *Kind) Error() string { return k.ID }

// Table lists every kind in the order of the reference.
var Table []*Kind

func kind(id string, exit int, means, safe, remedy string) *Kind {
	k := &Kind{ID: id, Exit: exit, Means: means, Safe: safe, Remedy: remedy}
	Table = append(Table, k)
	return k
}

const (
	sourceUntouched = "The source database was not changed; earlier backups are untouched."
	nothingPlaced   = "Nothing was placed: the destination is as it was."
)

// The rows. Several kinds may share an exit code: the code says what class of
// thing failed, the id which.
var (
	Other = kind("other", 1, "An error without a row of its own.",
		"Backups that were committed stay committed.", "Read the message; if it does not help, run `emsafe doctor`.")
	Partial = kind("partial", 3, "Some databases or targets succeeded and some failed.",
		"Everything that is reported as done is committed and restorable.", "Mend what the message names and run the command again; what waits in the spool is shipped then.")
	NotFound = kind("not-found", 10, "No such backup, database or target.",
		"Nothing was changed.", "`emsafe list` shows what there is.")
	NoBackupAt = kind("no-backup-at-time", 10, "No backup exists at or before the time asked for.",
		"Nothing was changed.", "Choose one of the times in the message, or see `emsafe list`.")
	Locked = kind("locked", 11, "The database, or emsafe's own lock, is held by somebody else.",
		sourceUntouched, "Wait for the holder or stop it, then run again.")
	LockBound = kind("lock-bound", 11, "Taking a consistent copy would have kept writers out, or grown the WAL, for longer than the configured bound.",
		sourceUntouched, "Raise the setting that the message names, or run at a quieter time.")
	InUse = kind("in-use", 11, "A process has the destination database open.",
		nothingPlaced, "Stop the process that the message names, or restore beside it with --to.")
	HotJournal = kind("hot-journal", 11, "The database has a journal of a transaction that crashed; only its application may roll it back.",
		sourceUntouched, "Open the database once with its application, then run again.")
	TargetExists = kind("destination-exists", 11, "There is a file at the destination already.",
		nothingPlaced, "Choose another --to, or use --in-place to replace a database with its undo kept.")
	WrongKey = kind("wrong-key", 12, "The identity given does not open this backup.",
		nothingPlaced, "Use an identity for one of the recipients that the message lists.")
	BadKey = kind("bad-key", 12, "A key, recipient or identity cannot be read or used.",
		"Nothing was changed.", "Check the key named in the message.")
	Damaged = kind("damaged", 13, "Stored data does not match its signed description.",
		nothingPlaced, "Try another target or an earlier backup: `emsafe verify --read-data` tells which are whole.")
	Forged = kind("forged", 13, "A signature is missing or is not by a pinned signing key.",
		nothingPlaced, "Compare the pinned allowed_signers file with a copy you trust; if it is right, somebody wrote to the target.")
	BrokenChain = kind("broken-chain", 13, "The chain of manifests has a gap, a fork, or a link that does not match.",
		nothingPlaced, "`emsafe verify` shows where. A backup that is itself signed and whole can still be restored with --allow-broken-chain.")
	RolledBack = kind("rolled-back", 13, "The newest backup in the target is older than one that is known to exist.",
		nothingPlaced, "Somebody removed or hid backups. Try another target, or look for the missing versions in the bucket's history.")
	LockIgnored = kind("lock-ignored", 11, "A process writes to the database without the locks that SQLite's processes exclude each other by.",
		"No backup was taken, because what was read may be torn. Earlier backups are untouched; those that were taken while that process wrote may be torn.", "Let the application use SQLite's default VFS (without `vfs=unix-dotfile`, `unix-none` or `nolock=1`), and the same path as emsafe on the same file system; or stop it while a backup is taken.")
	OtherName = kind("other-name", 11, "The database file is used, or may be used, under another name, and its -wal or journal lies there.",
		"No backup was taken, because what lies beside the other name would be missing from it. Earlier backups are untouched.", "Configure the name that the application uses, and share its folder instead of the file alone.")
	StateBehind = kind("state-behind", 13, "A target holds backups of this installation that this host does not remember making.",
		"The new backup is committed, and does not depend on what is remembered of that target.", "If the state folder or the machine came back from an older copy, nothing is to be done: the next backup knows. Otherwise somebody signs with this host's key: compare `emsafe list` with the host's logs, and replace the key (docs/keys.md).")
	Unsupported = kind("unsupported-format", 13, "Stored data uses a format version or a critical feature that this emsafe does not know.",
		nothingPlaced, "Use a newer emsafe.")
	Foreign = kind("foreign-lineage", 13, "The target already holds backups of this database made by another installation.",
		"Nothing was committed; both sets of backups are untouched.", "If this host replaces the other one, run `emsafe backup --take-over`; otherwise give the database another name or target.")
	Storage = kind("storage", 14, "The target answered with an error or not at all.",
		"Earlier backups are untouched; a sealed backup waits in the spool and is shipped by the next run.", "Check the address, the network and the target's own health; `emsafe doctor` tries each step.")
	Credentials = kind("credentials", 14, "The target refused the credentials, or they lack a permission.",
		"Earlier backups are untouched; a sealed backup waits in the spool and is shipped by the next run.", "Check key, secret and policy; `emsafe doctor` tells which operation is refused.")
	NoBucket = kind("no-bucket", 14, "The bucket or folder of the target does not exist.",
		"Nothing was changed.", "Create it, or correct the target's url.")
	ClockSkew = kind("clock-skew", 14, "The target refused the request because this host's clock is wrong.",
		"Nothing was changed.", "Set the clock (timedatectl, chrony), then run again.")
	NoSpace = kind("no-space", 15, "A disk or a quota is full.",
		"What was half-written has been removed.", "Free space at the place the message names, then run again.")
	Permission = kind("permission", 16, "The operating system refused access to a file or folder.",
		"Nothing was changed.", "Run as the database's owner or as root, or mend the mode of the path named.")
	NotSQLite = kind("not-sqlite", 17, "The file is not a SQLite database (or is encrypted as a whole).",
		"Nothing was changed.", "Check the path in the configuration.")
	NoDatabase = kind("no-database", 17, "There is no database file at the path.",
		"Nothing was changed.", "Check the path in the configuration; was the database moved?")
	NetworkFS = kind("network-filesystem", 17, "A WAL database lies on a network file system, where WAL is not safe.",
		sourceUntouched, "Move the database to a local disk, or switch it to a rollback journal.")
	Corrupt = kind("corrupt", 17, "SQLite reports the database itself as damaged.",
		sourceUntouched, "Restore the newest backup that passes its check: `emsafe restore --check full`.")
	NoFiles = kind("no-files", 17, "A path of a fileset is not there.",
		"No snapshot was taken; earlier ones are untouched.", "Is a disk not mounted? Otherwise correct `paths` in the configuration.")
	NoRestic = kind("no-restic", 18, "Filesets need restic, and it is missing, too old, or does not start.",
		"Databases are backed up without it.", "Install it (`apt-get install restic`): 0.14.0 is the oldest version that works.")
	Restic = kind("restic", 18, "restic ended with an error that has no row of its own.",
		"Snapshots that were taken stay; databases are not touched by this.", "The message has restic's own words; `emsafe files check` looks at the whole repository.")
	HookFailed = kind("hook-failed", 19, "A `before` or `after` command of a fileset failed, or took too long.",
		"No recovery point was made. Where `before` had run, `after` was run too, and is run again by the next backup if it failed.", "Run the command by hand and see; if the application is still quiesced, wake it.")
	Replaced = kind("replaced", 11, "The database file was replaced while it was read.",
		sourceUntouched, "Run again when the deploy or restore that replaced it has finished.")
	DrillFailed = kind("drill-failed", 20, "A drill restored a backup, and it is not what it must be, or it could not be restored.",
		"The source database was not touched; other backups may be whole.", "Read the checks that failed (`emsafe drill show`). Drill an older backup or another target (--select, --target), and back up anew once the cause is known.")
	ObjectiveMissed = kind("objective-missed", 21, "A drill restored a backup that is whole, but later, or with more lost, than the objective allows.",
		"The backup is whole and restores.", "Back up more often (`interval`, `schedule`), bring the target nearer, or state an objective that can be kept.")
	Stale = kind("stale", 22, "A database's newest backup is older than its objective allows.",
		"Earlier backups are untouched.", "`emsafe status` shows which, and why; `emsafe backup` takes one now.")
	Findings = kind("findings", 23, "Something is open that is not to be.",
		"Nothing was changed.", "Mend what is shown, worst first; `emsafe harden apply` does what it can. What is to be lived with gets a waiver, with a reason and a day.")
	AuditOpen = kind("audit-open", 1, "An audit found something open, or a plan that claims what does not hold.",
		"Nothing was changed, neither here nor at the service.", "Mend what is shown, worst first: `emsafe render` writes configuration for much of it. What is to be lived with gets a waiver, with a reason, an owner and a day.")
	AuditUnclear = kind("audit-unclear", 2, "An audit found nothing open, but something could not be checked.",
		"Nothing was changed, neither here nor at the service.", "Read the lines that begin with ERROR: is the service up, and may this user see what was to be looked at?")
	Usage = kind("usage", 64, "The command line is wrong.",
		"Nothing was done.", "See `emsafe help` and the command's --help.")
	Config = kind("configuration", 78, "The configuration cannot be used.",
		"Nothing was done.", "Mend the lines shown; `emsafe config check` tells when it is right.")
	Interrupted = kind("interrupted", 130, "The command was interrupted.",
		"Nothing half-made is visible; a later run cleans up and goes on.", "Run it again when you are ready.")
)
