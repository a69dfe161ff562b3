// Package config is the configuration file: one strict YAML document whose
// every key does what it says, or is an error.
//
// [Load] is the call to start with: it reads a file that it has found to be
// trustworthy and returns a [Config] with all defaults filled in. [Parse] does
// the same for bytes, and reports every problem of the file at once, each with
// its line and a caret. One table (keys.go) holds every key with its type, its
// default, what it is for and why: the decoder, [Schema], [Reference],
// [Render] and [Config.Show] are all driven by it, so none can know a key that
// another does not.
//
// A key that is unknown, misplaced, doubled, of the wrong type, out of range
// or in contradiction to another is refused; nothing is passed over. Secrets
// are named in the file, never written in it, and a [Secret] cannot print
// itself.
package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Version is the version of the file that this package reads and writes.
const Version = 1

// Config is the file with its defaults filled in.
type Config struct {
	File            string // where it was read from
	Version         int
	Host            string
	State           string   // folder of emsafe's own state, absolute
	SigningKey      string   // file, absolute
	Zone            string   // of schedules and of the days of Keep; IANA name
	Controls        []string // ids that quarterly reports are evidence for
	PruneKey        string   // "": the signing key
	AllowedSigners  string   // file, absolute
	Recipients      []string
	RecipientsFiles []string // absolute
	Compression     string   // default, better or best
	DrillKey        string   // file, absolute; "": none
	DrillScratch    string   // folder, absolute; "": chosen by what there is
	DrillUser       string   // "": nobody
	ProveKeyEvery   time.Duration
	SpoolLimit      int64 // bytes, of all databases together
	Targets         map[string]Target
	Databases       map[string]Database
	Filesets        map[string]Fileset
	Daemon          Daemon
	Notify          map[string]Channel
	Harden          Harden
	Waivers         map[string]Waiver
	Runbooks        Runbooks
	Web             Web

	origins map[string]Origin
}

// Target is a place where backups go.
type Target struct {
	URL       string // file:///folder or s3://bucket[/prefix]
	Provider  string // "" for AWS and everything that behaves like it
	Endpoint  string
	Region    string
	PathStyle *bool // nil: as the provider wants it
	// ConditionalWrites and Checksums: nil: as the provider wants it.
	ConditionalWrites *bool
	Checksums         *bool
	CAFile            string
	StorageClass      string
	SSE               string // "", AES256 or aws:kms
	KMSKeyID          string
	AccessKeyID       Secret // this and the next two: zero means the standard AWS chain
	SecretAccessKey   Secret
	SessionToken      Secret
	LockMode          string // compliance or governance, with LockFor
	LockFor           time.Duration
	UploadLimit       int64  // bytes per second; 0 is no limit
	UploadHours       string // when the limit holds, as "08:00-18:00" in Zone; "": always
}

// Database is one SQLite database under protection.
type Database struct {
	Path         string   // absolute
	Targets      []string // empty: all
	MaxHold      time.Duration
	AllowBlock   bool
	MaxSnapshot  time.Duration
	MaxWALGrowth int64 // bytes
	FullEvery    time.Duration
	FullShare    Percent
	Unchanged    string // heartbeat or skip
	Continuous   bool
	Interval     time.Duration // of continuous protection
	Keep         Keep
	RPO          time.Duration // 0: none
	Group        string        // that may share the files; "": none
	Unit         string        // of the application: a name, or a file's path; "": unknown
	RTO          time.Duration // 0: none
	Drill        Drill
	Ping         Secret // url of a dead man's switch; zero: none

	// Of the daemon; "" is never, but for PruneSchedule where something is to
	// be pruned.
	Schedule       string
	VerifySchedule string
	PruneSchedule  string
	DrillSchedule  string // "": weekly, where there is a DrillKey
}

// Fileset is trees of files under protection.
type Fileset struct {
	Paths          []string // absolute
	Exclude        []string // restic's patterns
	Targets        []string // empty: all
	Databases      []string
	Schedule       string        // "": never
	ForgetSchedule string        // "": daily, where there is something to forget
	RPO            time.Duration // how old the newest point may be; 0: none
	UploadLimit    int64         // bytes per second; 0: the target's
	Before, After  []string
	HookTimeout    time.Duration
	Keep           Keep
}

// NewFileset is a fileset with the defaults of the file.
func NewFileset(path string) Fileset {
	return Fileset{Paths: []string{path}, HookTimeout: time.Minute}
}

// Daemon is how `emsafe daemon` runs.
type Daemon struct {
	Listen string // address and port of the page and of metrics; "": none
	Token  Secret // that they ask for; zero: none, and only on loopback
	Socket string // file, absolute; "": in the runtime or the state folder
	Heavy  Count  // jobs at a time that read or write much
	Ping   Secret // url of a dead man's switch for the daemon's own life; zero: none
}

// Harden is how what surrounds the databases is looked at.
type Harden struct {
	Schedule string // of the daemon; "": never
	FailOn   string // severity from which `harden check` fails
	Enforce  bool   // the daemon mends modes that drifted
}

// Runbooks is where the operator's own procedures are, and when all are looked
// at.
type Runbooks struct {
	Folder   string // absolute; "": none
	Selftest string // schedule; "": weekly
}

// Web is the service in front of the databases.
type Web struct {
	Domain, Upstream, Data, User string
	Command                      []string
	Allow, SSH                   []string // networks
	Docs, Login                  []string // paths
	Health                       string
	BodyLimit                    int64 // bytes
	Rate, LoginRate              Count // a second, and a minute
	GuardUser                    string
	GuardHash                    Secret
	Certificate, CertificateKey  string
	Logs                         string
	HTTPPort, HTTPSPort          Count
}

// Waiver is a finding that is to be lived with, until a day.
type Waiver struct {
	Finding string // its id
	Subject string // pattern; "": all
	Reason  string
	Owner   string // who answers for it; "": nobody
	Until   string // day, as 2027-01-31
}

// Channel is a way to reach somebody: one of URL, SMTP and Command.
type Channel struct {
	URL      Secret
	Service  string // whose webhook it is
	Token    Secret
	Room     string
	SMTP     string // host:port
	Security string // tls, starttls or none
	User     string
	Password Secret
	From     string
	To       []string
	Command  []string
}

// Keep is how many backups stay; zero everywhere keeps all.
type Keep struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly Count
	Within                                       time.Duration
}

// Drill is what a drill of a database restores, and asks of it.
type Drill struct {
	Select []string // empty: latest and random
	Limit  time.Duration
	Rows   Percent // that every table must have kept
	Newest string  // SQL
	Canary bool
	Checks map[string]Check
	Files  Pairing
}

// Pairing is which files a database names.
type Pairing struct {
	Fileset string // "": none
	SQL     string
	Root    string
	Sample  Count
	Read    Percent // of the repository's data
}

// Check is one of SQL, Command and Service, and what is expected of it.
type Check struct {
	SQL, Expect, Min, Max string
	NewerThan             time.Duration
	Command, Service      []string
	Timeout               time.Duration
	Ask                   map[string]Ask
}

// Ask is a question to a service.
type Ask struct {
	URL             string
	Status          Count // 0: any of success
	Header, Content string
}

// Count is a number of things.
type Count int

// Percent is a share of a hundred.
type Percent int

// Paths are the places where things lie if nothing says otherwise.
type Paths struct {
	Config, State, SigningKey, AllowedSigners string
}

// DefaultPaths are the places for a user: root's are the system's, everybody
// else's follow the XDG folders.
func DefaultPaths(uid int, env func(string) (string, bool)) Paths {
	conf, state := "/etc/emsafe", "/var/lib/emsafe"
	if uid != 0 {
		conf = filepath.Join(xdg(uid, env, "XDG_CONFIG_HOME", ".config"), "emsafe")
		state = filepath.Join(xdg(uid, env, "XDG_STATE_HOME", ".local/state"), "emsafe")
	}
	p := beside(conf)
	p.State = state
	return p
}

// beside are the files that lie with a configuration in its folder.
func beside(folder string) Paths {
	return Paths{
		Config:         filepath.Join(folder, "emsafe.yaml"),
		SigningKey:     filepath.Join(folder, "signing_key"),
		AllowedSigners: filepath.Join(folder, "allowed_signers"),
	}
}

// xdg follows the base directory specification, which says that a path that is
// not absolute is to be ignored.
func xdg(uid int, env func(string) (string, bool), name, fallback string) string {
	if dir, _ := env(name); filepath.IsAbs(dir) {
		return dir
	}
	home, _ := env("HOME")
	if !filepath.IsAbs(home) { // started without one, as services are
		home = "/"
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && filepath.IsAbs(u.HomeDir) {
			home = u.HomeDir
		}
	}
	return filepath.Join(home, fallback)
}

// Folder is the absolute path of a file:// target; ok is false for others.
func (t Target) Folder() (path string, ok bool) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return filepath.Clean(u.Path), true
}

// Bucket is the bucket and the prefix (without slashes at its ends, perhaps
// empty) of an s3:// target; ok is false for others.
func (t Target) Bucket() (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(t.URL, "s3://")
	if !ok {
		return "", "", false
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, strings.Trim(prefix, "/"), true
}

// Check is for a target that was put together from flags: it refuses what the
// file would refuse.
func (t Target) Check() error {
	var p parse
	for _, k := range children("targets.*") {
		if k.field == nil {
			continue
		}
		if s, ok := k.field(at{target: &t}).(*string); ok && *s != "" {
			if why, hint := k.refuse(*s); why != "" {
				return withHint(k.name()+" "+why, hint)
			}
		}
	}
	p.checkTarget("", t)
	for _, b := range p.problems {
		return withHint(strings.TrimSpace(b.Message), b.Suggestion)
	}
	return nil
}

func withHint(why, hint string) error {
	if hint == "" {
		return errors.New(why)
	}
	return fmt.Errorf("%s (%s)", why, hint)
}

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	bucketForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)
)

// HostName is this machine's name, or something to tell it by.
func HostName() string {
	if name, err := os.Hostname(); err == nil && hostForm.MatchString(name) {
		return name
	}
	return "localhost"
}

// IsZero reports whether everything is kept.
func (k Keep) IsZero() bool { return k == Keep{} }
