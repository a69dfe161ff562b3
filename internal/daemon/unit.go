package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// UnitOptions are what a systemd unit is made from.
type UnitOptions struct {
	Binary      string            // the path of emsafe
	Config      string            // its configuration
	User, Group string            // "": emsafe
	Groups      []string          // groups that may read the databases
	State       string            // state directory; below /var/lib it is made by systemd
	Databases   []string          // the database files
	Files       []string          // trees of files that are kept
	Targets     []string          // the folders of targets that are folders
	Credentials map[string]string // name and file, for secrets: {credential: NAME}
	Environment string            // a file with variables, which need not exist; "": none
	Stop        time.Duration     // how long a run may take to end; 0: 2 minutes
	Commands    bool              // the configuration runs commands of its own: hooks, secrets, restic
}

// Unit is the text of emsafe.service. It runs as a user of its own and sees the
// file system read-only but for what it must write.
func Unit(o UnitOptions) (string, error) {
	o.User = o.user()
	if o.Group == "" {
		o.Group = o.User
	}
	if o.Stop == 0 {
		o.Stop = 2 * time.Minute
	}
	paths := slices.Concat([]string{o.Binary, o.Config, o.State}, o.Databases, o.Files, o.Targets)
	if o.Environment != "" {
		paths = append(paths, o.Environment)
	}
	for name, file := range o.Credentials {
		if strings.ContainsAny(name, ":/ \n") {
			return "", fmt.Errorf("credential %q: the name may not hold colons, slashes or blanks", name)
		}
		paths = append(paths, file)
	}
	for _, p := range paths {
		if !filepath.IsAbs(p) || strings.ContainsAny(p, "\n\r\x00") {
			return "", fmt.Errorf("a unit needs absolute paths in one line, not %q", p)
		}
	}
	for _, name := range append([]string{o.User, o.Group}, o.Groups...) {
		if name == "" || strings.ContainsAny(name, " \t\n%\"'\\=") {
			return "", errors.New("the name of a user or group cannot be used in a unit")
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, unitHead, unitArg(o.Binary), unitArg(o.Config), o.User, o.Group, int(o.Stop.Seconds()))
	if len(o.Groups) > 0 {
		fmt.Fprintf(&b, "# What the databases and files belong to. Nothing else gives access to them.\nSupplementaryGroups=%s\n", strings.Join(o.Groups, " "))
	}
	if o.Environment != "" {
		fmt.Fprintf(&b, "EnvironmentFile=%s\n", unitArg("-"+o.Environment))
	}
	if len(o.Credentials) > 0 {
		b.WriteString("\n# Secrets, read by systemd as root and shown to this service only.\n")
		for _, name := range sortedKeys(o.Credentials) {
			fmt.Fprintf(&b, "LoadCredential=%s:%s\n", name, strings.ReplaceAll(o.Credentials[name], "%", "%%"))
		}
	}
	o.writable(&b)
	b.WriteString(unitSandbox)
	if o.Commands {
		b.WriteString(unitCommands)
	} else {
		fmt.Fprintf(&b, unitNoCommands, unitArg(o.Binary))
	}
	b.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
	return b.String(), nil
}

// writable writes what may be written to.
func (o UnitOptions) writable(b *strings.Builder) {
	b.WriteString("\n# The whole file system is read-only, but for these.\nProtectSystem=strict\n")
	if name, ok := strings.CutPrefix(filepath.Clean(o.State), "/var/lib/"); ok {
		fmt.Fprintf(b, "StateDirectory=%s\nStateDirectoryMode=0700\n", unitArg(name))
	} else {
		fmt.Fprintf(b, "ReadWritePaths=%s\n", unitArg(o.State))
	}
	if folders := foldersOf(o.Databases); len(folders) > 0 {
		b.WriteString(unitWAL)
		for _, f := range folders {
			fmt.Fprintf(b, "ReadWritePaths=%s\n", unitArg("-"+f))
		}
	}
	if len(o.Targets) > 0 {
		b.WriteString("# Targets that are folders. Not there at the start (a disk that is not mounted): the service starts without.\n")
		for _, f := range slices.Compact(slices.Sorted(slices.Values(o.Targets))) {
			fmt.Fprintf(b, "ReadWritePaths=%s\n", unitArg("-"+filepath.Clean(f)))
		}
	}
	if slices.ContainsFunc(slices.Concat(o.Databases, o.Files, o.Targets), func(p string) bool {
		return strings.HasPrefix(p, "/home/") || strings.HasPrefix(p, "/root/") || strings.HasPrefix(p, "/run/user/")
	}) {
		b.WriteString("# A database, a fileset or a target lies in somebody's home.\nProtectHome=no\n")
	} else {
		b.WriteString("ProtectHome=yes\n")
	}
}

func foldersOf(files []string) []string {
	var folders []string
	for _, f := range files {
		folders = append(folders, filepath.Dir(f))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

func sortedKeys(m map[string]string) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// unitArg quotes a word for a unit file.
func unitArg(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if !strings.ContainsAny(s, " \t\"'\\$") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$").Replace(s) + `"`
}

// Sysusers is the text of a sysusers.d file that makes the service's user.
func Sysusers(o UnitOptions) string {
	return fmt.Sprintf("# Made by emsafe service.\nu %s - \"emsafe, backups\" %s\n", o.user(), o.State)
}

// Tmpfiles is the text of a tmpfiles.d file that lets the service's user, and
// nobody else, read what it must. Secret files belong to the user alone; what
// decides about trust stays root's.
func Tmpfiles(o UnitOptions, secret, trusted []string) string {
	var b strings.Builder
	b.WriteString("# Made by emsafe service.\n")
	line := func(file, mode, owner string) {
		fmt.Fprintf(&b, "z \"%s\" %s %s %s -\n", strings.NewReplacer("%", "%%", `"`, `\"`, `\`, `\\`).Replace(file), mode, owner, o.user())
	}
	for _, f := range trusted {
		line(f, "0640", "root")
	}
	for _, f := range secret {
		line(f, "0600", o.user())
	}
	return b.String()
}

func (o UnitOptions) user() string {
	if o.User == "" {
		return "emsafe"
	}
	return o.User
}

const unitHead = `# Made by emsafe service.
[Unit]
Description=emsafe: backups of SQLite databases, sealed, shipped and proven
Documentation=man:emsafe(1)
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target local-fs.target
# A daemon that cannot start is not worth a hot loop; somebody is told by OnFailure= or the missing heartbeat.
StartLimitIntervalSec=1h
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
RuntimeDirectory=emsafe
RuntimeDirectoryMode=0750
ExecStart=%s daemon --config %s
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=30
# Fed by the tick that looks at the jobs: when that stands still, systemd starts the service anew.
WatchdogSec=60
User=%s
Group=%s
# A run that is going on may end; the daemon asks for more time if it needs it.
TimeoutStopSec=%d
KillMode=mixed
# The application goes first.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=20
UMask=0077
`

const unitWAL = `# Databases are only read. But a reader of a database in WAL mode takes its locks in
# the -shm file, and SQLite makes that file (and an empty -wal) where it is missing:
# read-only, a database that nobody has open could not be read at all.
`

const unitSandbox = `
# No privileges, now or later.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictNamespaces=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# Lowering its own priority is all that is asked of these.
SystemCallFilter=setpriority ioprio_set sched_setaffinity prlimit64
SystemCallErrorNumber=EPERM

# Nothing of the machine but what it needs.
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
`

const unitNoCommands = `# The configuration runs no commands.
NoExecPaths=/
ExecPaths=%s /bin/kill /usr/bin/kill -/usr/lib -/lib -/lib64
ProcSubset=pid
`

const unitCommands = `# The configuration runs commands; they live in the same cage.
ProcSubset=pid
`
