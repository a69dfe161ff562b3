package backup

import (
	"path/filepath"
	"slices"
	"sync"
	"time"

	"emsafe/internal/durable"
	"emsafe/storage/catalog"
)

// memory is the catalog's memory of one database, shared by the shippers.
type memory struct {
	mu   sync.Mutex
	file string
	kept catalog.Memory
	made map[string]bool // ids that this process signed manifests for
}

// MemoryFile is where a database's memory lies in the state folder.
func MemoryFile(state, database string) string { return filepath.Join(state, database+".json") }

// LockFile is what runs on one database exclude each other by.
func LockFile(state, database string) string { return filepath.Join(state, database+".lock") }

// remember loads the memory, and begins a lineage where there is none or where
// this is not the machine that it belongs to.
func remember(job Job) (*memory, error) {
	m := &memory{file: MemoryFile(job.State, job.Database)}
	durable.Sweep(m.file)
	var err error
	if m.kept, err = catalog.LoadMemory(m.file); err != nil {
		return nil, err
	}
	cloned := m.kept.Machine != "" && job.Machine != "" && m.kept.Machine != job.Machine
	if m.kept.Lineage == "" || cloned {
		m.kept.Lineage = random(16)
		m.kept.Machine = job.Machine
	}
	return m, m.kept.Save(m.file)
}

func (m *memory) lineage() string { return m.kept.Lineage }

// headOf returns the remembered head of a target, in one repository or, with
// "", in any.
func (m *memory) headOf(target, repository string) catalog.Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, h := range m.kept.Heads {
		if h.Target == target && (repository == "" || id == repository) {
			return h
		}
	}
	return catalog.Head{}
}

// others are the heads of all repositories but one, for its manifests.
func (m *memory) others(repository string) []catalog.Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	heads := []catalog.Head{}
	for id, h := range m.kept.Heads {
		if id != repository {
			heads = append(heads, h)
		}
	}
	return heads
}

// learn keeps a target's newest manifest durably, also as a parent. A target
// has one repository: an earlier one is forgotten.
func (m *memory) learn(target string, e *catalog.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, h := range m.kept.Heads {
		if h.Target == target {
			delete(m.kept.Heads, id)
			if id != e.Repository {
				delete(m.kept.Parents, target)
			}
		}
	}
	head := e.Head()
	head.Target = target
	m.kept.Heads[head.Repository] = head
	locked := m.locked(target, e)
	m.note(target, e)
	newest := catalog.Newest{ID: e.ID, Kind: e.Kind, Holds: e.ID, Sequence: e.Sequence, SnapshotAt: e.SnapshotAt, Bytes: e.Content.Size, LockedUntil: locked}
	if e.Kind == catalog.KindHeartbeat {
		newest.Holds = e.Parent.ID
	}
	if m.kept.Newest[target].Follows(e) {
		m.kept.Newest[target] = newest
	}
	return m.kept.Save(m.file)
}

// checked notes that the database is as a backup has it; at most once a minute
// durably.
func (m *memory) checked(id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.kept.Checked
	m.kept.Checked = catalog.Checked{ID: id, At: at.UTC().Truncate(time.Millisecond)}
	if before.ID == id && at.Sub(before.At) < time.Minute {
		m.kept.Checked = before
		return nil
	}
	return m.kept.Save(m.file)
}

// pending keeps a manifest that is about to be committed to a target which
// cannot be read: a reply that is lost must not cost the chain.
func (m *memory) pending(target string, e *catalog.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.Pending[target] = catalog.Pending{ID: e.ID, Head: e.Head(), Size: int64(len(e.Object)), Ancestors: e.Ancestors, LockedUntil: m.locked(target, e)}
	return m.kept.Save(m.file)
}

// making notes that this process is about to commit a backup.
func (m *memory) making(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made == nil {
		m.made = map[string]bool{}
	}
	m.made[id] = true
}

// isMade reports whether this process signed a manifest for a backup.
func (m *memory) isMade(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[id]
}

// pended is the manifest that was last about to be committed.
func (m *memory) pended(target string) catalog.Pending {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Pending[target]
}

// looked notes that a target was looked at; it is written with the next commit.
func (m *memory) looked(target string, look catalog.Look) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.Looks[target] = look
}

// relocked is until when a target's repository document is locked.
func (m *memory) relocked(target string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Relocked[target]
}

// relock notes that it is; that is written with the commit.
func (m *memory) relock(target string, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.Relocked[target] = until
}

// look is when a target was last looked at.
func (m *memory) look(target string) catalog.Look {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Looks[target]
}

// recall keeps e as a possible parent.
func (m *memory) recall(target string, e *catalog.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(target, e)
}

// note keeps e as a possible parent. The caller holds the lock.
func (m *memory) note(target string, e *catalog.Entry) {
	if e.Kind == catalog.KindHeartbeat {
		return
	}
	if m.kept.Parents[target] == nil {
		m.kept.Parents[target] = map[string]catalog.Committed{}
	}
	m.kept.Parents[target][e.ID] = e.Committed(m.locked(target, e))
}

// locked is until when e is locked with all that it is built on, as far as that
// is known: a delta is worth as much as what it applies to. The caller holds the
// lock.
func (m *memory) locked(target string, e *catalog.Entry) time.Time {
	if known, ok := m.kept.Parents[target][e.ID]; ok && known.Manifest == e.Digest {
		return known.LockedUntil // what it is built on may be forgotten by now
	}
	until := e.LockedUntil
	if e.Parent != nil {
		if on := m.kept.Parents[target][e.Parent.ID].LockedUntil; on.Before(until) {
			until = on
		}
	}
	return until
}

// parent is where a backup stands in a target's chain, if it may be a parent
// there.
func (m *memory) parent(target, id string) (catalog.Committed, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.kept.Parents[target][id]
	return c, ok
}

// forget takes every possible parent from a target: the next backup there is
// a full one.
func (m *memory) forget(target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept.Parents, target)
}

// retain forgets parents that nobody will ask for again. It is written with
// the next commit.
func (m *memory) retain(ids map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, parents := range m.kept.Parents {
		for id := range parents {
			if !ids[id] {
				delete(parents, id)
			}
		}
	}
}

// done notes that a target has an item.
func (m *memory) done(item *spooled, target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	item.Done = append(item.Done, target)
}

// isDone reports whether a target has an item.
func (m *memory) isDone(item *spooled, target string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(item.Done, target)
}

// settle removes an item from the spool if all targets have it, and otherwise
// notes there which do.
func (m *memory) settle(sp *spool, item *spooled, targets []string) (left bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sp.settle(item, targets)
}

// found keeps the id of a repository that this host made in a target which
// cannot be read.
func (m *memory) found(target, repository string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.Pending[target] = catalog.Pending{Head: catalog.Head{Repository: repository}}
	return m.kept.Save(m.file)
}

// arrived makes the pending manifest of a target its head.
func (m *memory) arrived(target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.kept.Pending[target]
	for id, h := range m.kept.Heads {
		if h.Target == target {
			delete(m.kept.Heads, id)
		}
	}
	head := p.Head
	head.Target = target
	m.kept.Heads[head.Repository] = head
	if m.kept.Parents[target] == nil {
		m.kept.Parents[target] = map[string]catalog.Committed{}
	}
	m.kept.Parents[target][p.ID] = catalog.Committed{Sequence: head.Sequence, Manifest: head.Digest, Ancestors: p.Ancestors, LockedUntil: p.LockedUntil}
	return m.kept.Save(m.file)
}
