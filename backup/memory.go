package backup

import (
	"path/filepath"
	"slices"
	"sync"

	"emsafe/internal/durable"
	"emsafe/storage/catalog"
)

// memory is the catalog's memory of one database, shared by the shippers.
type memory struct {
	mu   sync.Mutex
	file string
	kept catalog.Memory
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

// learn keeps a target's head durably. A target has one repository: an
// earlier one is forgotten.
func (m *memory) learn(target string, head catalog.Head) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, h := range m.kept.Heads {
		if h.Target == target {
			delete(m.kept.Heads, id)
		}
	}
	head.Target = target
	m.kept.Heads[head.Repository] = head
	return m.kept.Save(m.file)
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
