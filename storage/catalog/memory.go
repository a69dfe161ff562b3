package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"emsafe/internal/durable"
	"emsafe/storage/seal"
)

// Memory is what this host remembers of a database's chains: without it a
// target that hides its newest backups cannot be found out. It is a cache in
// the state folder, and losing it loses only that.
type Memory struct {
	// Lineage is the random id of this installation's line of backups.
	Lineage string `json:"lineage"`
	// Machine ties the lineage to the machine, so that a clone notices that
	// it is one.
	Machine string          `json:"machine"`
	Heads   map[string]Head `json:"heads"` // by repository id
	// Looks are when, and where, the targets were last looked at.
	Looks map[string]Look `json:"looks,omitempty"`
	// Relocked is until when what must outlive single backups is locked, by
	// target.
	Relocked map[string]time.Time `json:"relocked,omitempty"`
	// Newest are the newest backups, by target.
	Newest map[string]Newest `json:"newest,omitempty"`
	// Checked is when the database was last found to be as a backup has it.
	Checked Checked `json:"checked"`
	// Pending are manifests that were signed for targets which cannot be read,
	// and perhaps committed.
	Pending map[string]Pending `json:"pending,omitempty"`
	// Parents are committed backups that a delta may be taken against, by
	// target and id.
	Parents map[string]map[string]Committed `json:"parents,omitempty"`
}

// Look is when a target's chain was last found as it is remembered.
type Look struct {
	Address string    `json:"address"`
	At      time.Time `json:"at"`
}

// Newest is what is worth knowing of a target's newest backup.
type Newest struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	Holds      string    `json:"holds"` // the backup whose content it has: itself, or a heartbeat's parent
	Sequence   uint64    `json:"sequence"`
	SnapshotAt time.Time `json:"snapshot_at"`
	Bytes      int64     `json:"bytes"` // of the database

	LockedUntil time.Time `json:"locked_until,omitzero"` // by Object Lock, with all that it is built on
}

// Checked says that at an instant nothing had changed since a backup.
type Checked struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// AsOf is the instant up to which a target has everything.
func (m Memory) AsOf(target string) time.Time {
	n := m.Newest[target]
	if n.Holds == m.Checked.ID && m.Checked.At.After(n.SnapshotAt) {
		return m.Checked.At
	}
	return n.SnapshotAt
}

// Pending is a manifest that may have been committed.
type Pending struct {
	ID        string   `json:"id"`
	Head      Head     `json:"head"`
	Size      int64    `json:"size"` // bytes of the object
	Ancestors []uint64 `json:"ancestors,omitempty"`

	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// Committed is where a backup stands in one target's chain.
type Committed struct {
	Sequence  uint64      `json:"sequence"`
	Manifest  seal.Digest `json:"manifest"`
	Ancestors []uint64    `json:"ancestors,omitempty"`

	LockedUntil time.Time `json:"locked_until,omitzero"` // by Object Lock, with all that it is built on
}

// Committed is the entry as a parent, locked till then.
func (e *Entry) Committed(locked time.Time) Committed {
	return Committed{Sequence: e.Sequence, Manifest: e.Digest, Ancestors: e.Ancestors, LockedUntil: locked}
}

// LoadMemory reads the memory of a database; missing is empty.
func LoadMemory(file string) (Memory, error) {
	m := Memory{Heads: map[string]Head{}, Looks: map[string]Look{}, Pending: map[string]Pending{}, Newest: map[string]Newest{}, Parents: map[string]map[string]Committed{}, Relocked: map[string]time.Time{}}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", file, err)
	}
	if m.Heads == nil {
		m.Heads = map[string]Head{}
	}
	if m.Newest == nil {
		m.Newest = map[string]Newest{}
	}
	if m.Pending == nil {
		m.Pending = map[string]Pending{}
	}
	if m.Relocked == nil {
		m.Relocked = map[string]time.Time{}
	}
	if m.Looks == nil {
		m.Looks = map[string]Look{}
	}
	if m.Parents == nil {
		m.Parents = map[string]map[string]Committed{}
	}
	return m, nil
}

// Save replaces the memory durably.
func (m Memory) Save(file string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(data, '\n'), 0o600)
}
