package drill

import (
	"slices"
	"time"

	"emsafe/internal/command"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// Plan is a drill of one database, and all that it takes.
type Plan struct {
	Database string
	Host     string // where the drill runs
	Operator string // a user's name, or "schedule"
	Versions []string
	Slot     time.Time // that the schedule had for it; zero: none
	State    string    // emsafe's own folder
	Scratch  string    // folder to restore in; "": memory if there is plenty, else /var/tmp

	Targets []storage.Target // in a fixed order: each gets its turn
	Target  string           // one of them, out of turn
	Select  []Selection      // empty: the latest and a random older one
	Full    bool             // latest, oldest and random, of every target

	Signers    seal.Signers
	Key        *seal.SigningKey // signs the report
	Identities seal.Identities
	Identity   string                  // how the report calls them; never the key
	Remembered map[string]catalog.Head // by repository id
	// MinSequence is a number below which the newest backup must not be; 0: none.
	MinSequence uint64
	KeyProof    *KeyProof
	// Withheld are the names of checks that were not asked, because their programs
	// are not this machine's own.
	Withheld []string

	// Configuration says whose it is, where it is not that of Host.
	Configuration string

	Source   string // the live database's path, to show that it is not touched; "" on a host without it
	RPO, RTO time.Duration
	Limit    time.Duration // of the whole drill; 0: an hour
	Rows     int           // per cent of its rows that every table must have kept
	Newest   string        // SQL for the time of the newest row; "": none
	Canary   bool          // the source is stamped
	Files    *Pairing      // nil: no files belong to it
	Checks   []Assertion
	Accept   bool          // what changed since the last drill is meant, and is held against from now on
	As       *command.User // whom checks and services run as; nil: this process's user, unless that is root

	Now      func() time.Time
	Progress func(done, total int64) // bytes restored; may be nil
	// Private is told, line by line, what the report does not say because it is
	// stored in clear, such as names of tables; may be nil.
	Private func(text string)
	// Warn is told what went wrong besides, such as a target that does not take
	// the report; may be nil.
	Warn func(err error)
}

// Selection is a backup that is to be restored: Latest, Oldest or Random, or
// the newest one at a time, or an id.
type Selection struct {
	Kind string
	At   time.Time
	ID   string
}

// The kinds of selections.
const (
	Latest = "latest"
	Oldest = "oldest"
	Random = "random"
	AtTime = "at"
	ByID   = "id"
	// OfPoint is the backup of the newest recovery point.
	OfPoint = "point"
)

// Assertion is one thing that must hold of the restored database: SQL, Command
// or Service.
type Assertion struct {
	Name      string
	SQL       string
	Expect    string // of SQL or Command: exactly this
	Min, Max  string // of SQL: a number in this range
	NewerThan time.Duration
	Command   []string
	Service   []string
	Ask       []Ask
	Timeout   time.Duration // 0: a minute
}

// Ask is a question to a service. {port} in the URL is that of the service.
type Ask struct {
	Name, URL       string
	Status          int // 0: any of 200 to 299
	Header, Content string
}

func (a Assertion) timeout() time.Duration {
	if a.Timeout <= 0 {
		return time.Minute
	}
	return a.Timeout
}

func (p *Plan) selections() []Selection {
	list := p.Select
	switch {
	case p.Full:
		list = []Selection{{Kind: Latest}, {Kind: Oldest}, {Kind: Random}}
	case len(list) == 0:
		list = []Selection{{Kind: Latest}, {Kind: Random}}
	}
	if p.Files != nil {
		list = append(slices.Clone(list), Selection{Kind: OfPoint})
	}
	return list
}

func (p *Plan) private(text string) {
	if p.Private != nil {
		p.Private(text)
	}
}

func (p *Plan) warn(err error) {
	if p.Warn != nil && err != nil {
		p.Warn(err)
	}
}
