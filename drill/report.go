package drill

import (
	"time"

	"emsafe/storage/seal"
)

// Format is the version of the report's JSON.
const Format = 1

// Verdict is what a drill says.
type Verdict string

// The verdicts. Inconclusive is a fault of the drill's own surroundings: it
// neither passes nor fails, and is to be repeated.
const (
	Pass         Verdict = "pass"
	Missed       Verdict = "pass-objective-missed"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// Report is the record of one drill of one database: what was restored, what
// was found, and what was not tested. As an object it is these bytes of JSON,
// followed by an SSH signature over them in the namespace emsafe-report.
type Report struct {
	Format   int         `json:"format"`
	Critical []string    `json:"critical,omitempty"`
	ID       string      `json:"id"`
	Previous seal.Digest `json:"previous,omitzero"` // of the whole report before, of this database by this host; absent in the first
	Number   uint64      `json:"number"`            // 1, 2, 3 …
	Host     string      `json:"host"`              // where the drill ran
	Versions []string    `json:"versions"`          // emsafe, SQLite, Go
	Operator string      `json:"operator"`          // a user's name, or "schedule"
	Database string      `json:"database"`
	Slot     time.Time   `json:"slot,omitzero"` // that the schedule had for it
	Started  time.Time   `json:"started_at"`
	Ended    time.Time   `json:"ended_at"`

	Verdict Verdict `json:"verdict"`
	Finding string  `json:"finding"` // one sentence

	RPO Measured `json:"rpo"`
	RTO Measured `json:"rto"`

	Restores  []Restored `json:"restores"` // the first is the one that the objectives are measured by
	NotTested []string   `json:"not_tested"`
	Actions   []Action   `json:"actions,omitempty"`
	KeyProof  *KeyProof  `json:"key_proof,omitempty"` // the last proof of the recovery key

	Configuration string `json:"configuration,omitempty"` // whose, where it is not that of the host that ran the drill
}

// Measured is an objective and what was achieved, in seconds.
type Measured struct {
	Objective float64 `json:"objective_seconds,omitempty"` // 0: none is stated
	Achieved  float64 `json:"achieved_seconds"`
	How       string  `json:"how"`              // canary, newest-row, snapshot-time; clock
	Before    float64 `json:"before,omitempty"` // achieved in the drill before
	Known     bool    `json:"known"`            // false: it could not be measured
}

// Met reports whether the objective holds; one that is not stated does.
func (m Measured) Met() bool { return m.Objective == 0 || m.Known && m.Achieved <= m.Objective }

// Restored is one backup that the drill restored.
type Restored struct {
	Verdict     Verdict     `json:"verdict"`
	Reason      string      `json:"reason,omitempty"` // of a failure, by name: damaged, missing-delta, wrong-key, stale, …
	Why         string      `json:"why"`              // it was chosen: latest, oldest, random, at
	Target      string      `json:"target"`
	Location    string      `json:"location"` // the bucket's address
	Backup      string      `json:"backup"`   // its id
	Sequence    uint64      `json:"sequence"`
	Kind        string      `json:"kind"`
	Manifest    seal.Digest `json:"manifest"`
	Head        uint64      `json:"head"` // the newest number in the target then
	SnapshotAt  time.Time   `json:"snapshot_at"`
	CommittedAt time.Time   `json:"committed_at"`
	Path        []string    `json:"path"` // ids from the full one on
	Fetched     int64       `json:"fetched_bytes"`
	Size        int64       `json:"size_bytes"` // of the database
	Digest      string      `json:"digest"`     // of its pages, as restored
	Schema      string      `json:"schema"`     // SHA-256 of its schema
	Recipients  []string    `json:"recipients"`
	Identity    string      `json:"identity"` // drill key, stdin, …; never the key
	Phases      []Phase     `json:"phases"`
	Checks      []Check     `json:"checks"`
}

// Phase is one step, and its share of the time.
type Phase struct {
	Name    string  `json:"name"`
	Start   float64 `json:"start_seconds"` // after the drill began
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes,omitempty"`
	Verdict Verdict `json:"verdict"`
	Error   string  `json:"error,omitempty"`
}

// Check is one thing that was asked of the restored database.
type Check struct {
	Name     string  `json:"name"`
	Kind     string  `json:"kind"` // integrity, foreign-keys, fts, schema, sql, fresh, rows, files, command, service
	Verdict  Verdict `json:"verdict"`
	Expected string  `json:"expected"`
	Got      string  `json:"got"`
	Seconds  float64 `json:"seconds"`
}

// Action is what is to be done after a drill, by whom, and until when.
type Action struct {
	What  string    `json:"what"`
	Owner string    `json:"owner,omitempty"`
	Due   time.Time `json:"due,omitzero"`
	Done  time.Time `json:"done,omitzero"`
}

// KeyProof is when and for which recipient it was last proven that somebody
// holds the recovery key.
type KeyProof struct {
	At        time.Time `json:"at"`
	Recipient string    `json:"recipient"`
	Backup    string    `json:"backup"` // whose header it opened
}
