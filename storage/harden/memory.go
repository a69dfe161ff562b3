package harden

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/finding"
)

// Seen is what a look saw, kept until the next one: what a single look cannot
// tell is what has changed.
type Seen struct {
	At     time.Time `json:"at"`
	WAL    int64     `json:"wal_bytes"`
	Frames int64     `json:"wal_frames"`
	Behind int64     `json:"frames_not_copied"`
	Open   []Key     `json:"open"`
}

// Key says what a finding is about.
type Key struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
}

func seenFile(state, database string) string {
	return filepath.Join(state, "harden", database+".json")
}

// Last is what the last look at a database saw; zero if there was none.
func Last(state, database string) (Seen, error) {
	var s Seen
	text, err := os.ReadFile(seenFile(state, database))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil && json.Unmarshal(text, &s) != nil {
		return Seen{}, nil // a memory that cannot be read is none
	}
	return s, err
}

// Keep is the memory for the next look.
func (s Seen) Keep(state, database string) error {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(state, "harden"), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(seenFile(state, database), append(text, '\n'), 0o600)
}

// Drift says what is open now and was not at the last look, and what is not any
// more. After no look at all nothing has changed.
func (s Seen) Drift(found []finding.Finding) (fresh []finding.Finding, gone []Key) {
	if s.At.IsZero() {
		return nil, nil
	}
	now := Open(found)
	for _, f := range found {
		if f.Open() && !slices.Contains(s.Open, keyOf(f)) {
			fresh = append(fresh, f)
		}
	}
	for _, k := range s.Open {
		if !slices.Contains(now, k) {
			gone = append(gone, k)
		}
	}
	return fresh, gone
}

// Open are the keys of what is open.
func Open(found []finding.Finding) []Key {
	keys := []Key{}
	for _, f := range found {
		if f.Open() {
			keys = append(keys, keyOf(f))
		}
	}
	return keys
}

var processNumber = regexp.MustCompile(` \(process [0-9]+\)$`)

// keyOf leaves out the number of a process: it is another after every restart.
func keyOf(f finding.Finding) Key {
	return Key{f.ID, processNumber.ReplaceAllString(f.Subject, "")}
}

// The bounds from which on a log that grew between two looks is worth a word.
const (
	grewMuch   = 16 << 20
	behindMuch = 4 * 1000 // frames: four times what makes SQLite checkpoint by itself
)

// Starved tells of checkpoints that do not get through: at both looks most of the
// log was not copied, and it has grown meanwhile.
func Starved(path string, before, now Seen, database string) (finding.Finding, bool) {
	if before.At.IsZero() || now.WAL < before.WAL+grewMuch || now.Behind < behindMuch || before.Behind == 0 {
		return finding.Finding{}, false
	}
	return finding.Finding{ID: "EMS-WAL-003", Severity: finding.Medium, Title: "checkpoints do not get through", Subject: path + "-wal",
		Found: fmt.Sprintf("the log grew from %s to %s since %s, and %d of its %d frames are not in the database yet", span(before.WAL), span(now.WAL), before.At.UTC().Format(time.DateTime), now.Behind, now.Frames),
		Why:   "Some reader is always there when SQLite wants to begin the log anew: it grows until the disk is full, and reads get slower.",
		Remedy: "Find the connection that reads without an end (a cursor that is not closed, a transaction that is kept open); shorter ones, or a pause in which `emsafe harden checkpoint " + database +
			" --mode truncate` gets through."}, true
}
