package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

// Kinds of backups. Readers refuse others.
const (
	KindFull      = "full"      // the payload holds every page
	KindDelta     = "delta"     // the payload holds the pages that differ from the parent
	KindHeartbeat = "heartbeat" // no payload: at that instant the database was as the parent says
)

// maxAncestors bounds how long a path a reader follows.
const maxAncestors = 10000

// Manifest is the signed description of one backup; see docs/format.md. It
// holds no row, schema or secret.
type Manifest struct {
	header
	Repository  string            `json:"repository"`
	Host        string            `json:"host"`
	Lineage     string            `json:"lineage"`
	Database    string            `json:"database"`
	Sequence    uint64            `json:"sequence"`
	ID          string            `json:"id"`
	Previous    seal.Digest       `json:"previous"`            // of the whole previous object; empty at 1
	Parent      *Parent           `json:"parent"`              // what a delta applies to; null for a full
	Ancestors   []uint64          `json:"ancestors,omitempty"` // sequences from the full to the parent
	Kind        string            `json:"kind"`
	SnapshotAt  time.Time         `json:"snapshot_at"`
	CommittedAt time.Time         `json:"committed_at"`
	Payload     *Payload          `json:"payload"` // null for a heartbeat
	Delta       *seal.Delta       `json:"delta,omitempty"`
	Content     seal.Content      `json:"content"`
	Source      Source            `json:"source"`
	Recipients  []string          `json:"recipients"`
	Versions    map[string]string `json:"versions"`
	LockedUntil time.Time         `json:"locked_until,omitzero"` // by Object Lock: payload and manifest stay till then at least
	Heads       []Head            `json:"heads"`                 // last known heads of other targets
}

// Parent names another backup by id, and by number and digest of its manifest.
type Parent struct {
	ID       string      `json:"id"`
	Sequence uint64      `json:"sequence"`
	Manifest seal.Digest `json:"manifest"`
}

// Payload is where the sealed bytes are and what they are.
type Payload struct {
	Key string `json:"key"`
	seal.Sealed
}

// Source is what the file system and SQLite said of the database file.
type Source struct {
	JournalMode   string `json:"journal_mode"`
	WriterVersion string `json:"writer_version"` // SQLite that wrote last
	UID           int    `json:"uid"`
	GID           int    `json:"gid"`
	Owner         string `json:"owner"`
	Group         string `json:"group"`
	Mode          string `json:"mode"` // octal, four digits
}

// Head is the newest manifest of one database in one repository.
type Head struct {
	Repository string      `json:"repository"`
	Target     string      `json:"target,omitempty"`
	Sequence   uint64      `json:"sequence"`
	Digest     seal.Digest `json:"manifest"`
}

// IsZero reports whether there is no head yet.
func (h Head) IsZero() bool { return h.Sequence == 0 }

func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Sequence, h.Digest) }

// Entry is a manifest with the digest of its object.
type Entry struct {
	Manifest
	Digest seal.Digest
	Object []byte // the whole object, of an entry that was just committed or read by itself
}

// Head is the entry as a head.
func (e *Entry) Head() Head {
	return Head{Repository: e.Repository, Sequence: e.Sequence, Digest: e.Digest}
}

// PayloadKey is where a payload of a random name lies.
func PayloadKey(database, random string) string {
	return "databases/" + database + "/payloads/" + random + ".age"
}

func manifestPrefix(database string) string { return "databases/" + database + "/manifests/" }

func manifestKey(database string, sequence uint64) string {
	return fmt.Sprintf("%s%020d", manifestPrefix(database), sequence)
}

// maxSequence is more than a manifest every second reaches in 30,000 years. What
// lies above it is of somebody who wants the search for the newest to be long.
const maxSequence = 1 << 40

// sequenceOf is the inverse of manifestKey; false for any other key.
func sequenceOf(database, key string) (uint64, bool) {
	digits, ok := strings.CutPrefix(key, manifestPrefix(database))
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && manifestKey(database, n) == key && n > 0 && n <= maxSequence
}

func databaseOf(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) != 4 || parts[0] != "databases" || parts[2] != "manifests" {
		return ""
	}
	return parts[1]
}

// check holds a verified manifest against the place that it was read from: a
// manifest that is signed but lies elsewhere is a replay.
func (m *Manifest) check(c *Catalog, database string, sequence uint64) error {
	key := manifestKey(database, sequence)
	replay := func(what string, is, want any) error {
		return fault.New(fault.Forged, "%s is signed, but for %s %v, not %v: it was copied there", key, what, is, want)
	}
	switch {
	case m.Repository != c.Repository:
		return replay("repository", m.Repository, c.Repository)
	case m.Database != database:
		return replay("database", m.Database, database)
	case m.Sequence != sequence:
		return replay("sequence", m.Sequence, sequence)
	}
	if err := m.checkKind(key); err != nil {
		return err
	}
	if m.Payload != nil && !strings.HasPrefix(m.Payload.Key, "databases/"+database+"/payloads/") {
		return fault.New(fault.Damaged, "%s names the payload %q outside its database", key, m.Payload.Key)
	}
	err := m.Content.Check()
	if err == nil && m.Payload != nil {
		err = m.Payload.Check()
	}
	if err == nil && m.Delta != nil {
		err = m.Delta.Check(m.Content)
	}
	if err != nil {
		return fault.New(fault.Damaged, "%s: %w", key, err)
	}
	return nil
}

// checkKind holds the kind against what must come with it.
func (m *Manifest) checkKind(key string) error {
	bad := func(what string) error {
		return fault.New(fault.Damaged, "%s is of kind %q and %s", key, m.Kind, what)
	}
	full := m.Kind == KindFull
	switch {
	case !full && m.Kind != KindDelta && m.Kind != KindHeartbeat:
		return fault.New(fault.Unsupported, "%s is of kind %q, which this emsafe cannot restore", key, m.Kind)
	case full != (m.Parent == nil):
		return bad("has the wrong parent")
	case (m.Kind == KindHeartbeat) != (m.Payload == nil):
		return bad("has the wrong payload")
	case (m.Kind == KindDelta) != (m.Delta != nil):
		return bad("has the wrong description of pages")
	case full && len(m.Ancestors) > 0:
		return bad("names ancestors")
	case full:
		return nil
	}
	n := len(m.Ancestors)
	if n == 0 || n > maxAncestors || m.Ancestors[n-1] != m.Parent.Sequence || m.Parent.Sequence >= m.Sequence {
		return bad("names ancestors that do not lead to it")
	}
	for i := 1; i < n; i++ {
		if m.Ancestors[i] <= m.Ancestors[i-1] {
			return bad("names ancestors out of order")
		}
	}
	return nil
}
