package drill

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"emsafe/internal/durable"
	"emsafe/storage"
	"emsafe/storage/seal"
)

// Memory is what a host knows of the drills of one database, without asking
// the targets. It is made from the reports as they are written, and losing it
// loses only what the next drill is compared with.
type Memory struct {
	Held     []Held               `json:"held"`    // oldest first, the last few hundred
	Drilled  map[string]time.Time `json:"drilled"` // by the backup's id: when it last passed
	FullAt   time.Time            `json:"full_at,omitzero"`
	Baseline *baseline            `json:"baseline,omitempty"`
}

// Held is one drill that was held.
type Held struct {
	Number  uint64    `json:"number"`
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Took    float64   `json:"seconds"`
	Verdict Verdict   `json:"verdict"`
	Reasons []string  `json:"reasons,omitempty"`
	Finding string    `json:"finding"`
	Target  string    `json:"target"`
	Backup  string    `json:"backup"`
	RPO     Measured  `json:"rpo"`
	RTO     Measured  `json:"rto"`
}

const (
	mostHeld    = 500
	mostDrilled = 2000
)

func memoryFile(state, database string) string {
	return filepath.Join(state, database+".drills.json")
}

// Remember reads a host's memory of a database's drills; missing is empty.
func Remember(state, database string) (Memory, error) {
	m := Memory{Drilled: map[string]time.Time{}}
	data, err := os.ReadFile(memoryFile(state, database))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if m.Drilled == nil {
		m.Drilled = map[string]time.Time{}
	}
	return m, err
}

// Last is the last drill that was held, conclusive or not; nil if there was
// none.
func (m Memory) Last() *Held {
	if len(m.Held) == 0 {
		return nil
	}
	return &m.Held[len(m.Held)-1]
}

// Conclusive is the last drill that passed or failed: by it a drill is overdue.
func (m Memory) Conclusive() *Held {
	for i := len(m.Held) - 1; i >= 0; i-- {
		if m.Held[i].Verdict != Inconclusive {
			return &m.Held[i]
		}
	}
	return nil
}

// book is where reports are kept: the chain of one database on this host.
type book struct {
	folder   string
	memory   Memory
	baseline *baseline
	numbers  []uint64 // of the reports that are here, ascending
	previous seal.Digest
}

func bookFolder(state, database string) string { return filepath.Join(state, inState, database) }

func reportName(number uint64) string { return fmt.Sprintf("%020d", number) }

// reportsOf is where a host's reports of a database lie in a target.
func reportsOf(database, host string) string {
	return inTargets + database + "/" + host + "/"
}

// openBook reads what is here. The chain goes on from the newest report's file,
// not from the memory, which may be behind it.
func openBook(p *Plan) (*book, error) {
	b := &book{folder: bookFolder(p.State, p.Database)}
	if err := os.MkdirAll(b.folder, 0o700); err != nil {
		return nil, err
	}
	durable.Sweep(memoryFile(p.State, p.Database))
	var err error
	if b.memory, err = Remember(p.State, p.Database); err != nil {
		p.warn(fmt.Errorf("what is known of earlier drills of %s is not used: %w", p.Database, err))
		b.memory = Memory{Drilled: map[string]time.Time{}}
	}
	b.baseline = b.memory.Baseline
	if b.numbers, err = reportsIn(b.folder); err != nil {
		return nil, err
	}
	if n := len(b.numbers); n > 0 {
		object, err := os.ReadFile(filepath.Join(b.folder, reportName(b.numbers[n-1])))
		if err != nil {
			return nil, err
		}
		b.previous = seal.Sum(object)
	}
	return b, nil
}

// reportsIn are the numbers of the reports in a folder.
func reportsIn(folder string) ([]uint64, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var numbers []uint64
	for _, e := range entries {
		if n, ok := numberOf(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

func numberOf(name string) (uint64, bool) {
	var n uint64
	_, err := fmt.Sscanf(name, "%d", &n)
	return n, err == nil && n > 0 && reportName(n) == name
}

// begin makes the report of a drill that starts now.
func (b *book) begin(ctx context.Context, p *Plan) *Report {
	number := uint64(1)
	if n := len(b.numbers); n > 0 {
		number = b.numbers[n-1] + 1
	} else {
		// The state may be new and the host not: what is there is not written over.
		for _, t := range p.Targets {
			number = max(number, newestIn(ctx, t, p.Database, p.Host)+1)
		}
	}
	now := p.Now().UTC().Truncate(time.Millisecond)
	return &Report{
		Format: Format, ID: newID(now), Number: number, Previous: b.previous, Host: p.Host, Versions: p.Versions, Operator: p.Operator,
		Database: p.Database, Slot: p.Slot.UTC().Truncate(time.Second), Started: now, Restores: []Restored{}, NotTested: []string{}, KeyProof: p.KeyProof, Configuration: p.Configuration,
	}
}

// newestIn is the highest number in a target, as far as it can be asked.
func newestIn(ctx context.Context, t storage.Target, database, host string) (newest uint64) {
	bucket, err := t.Open(ctx)
	if err != nil {
		return 0
	}
	prefix := reportsOf(database, host)
	for info, err := range storage.Past(bucket).List(ctx, prefix, "") { // a number that somebody hid is taken
		if err != nil {
			break
		}
		if n, ok := numberOf(info.Key[len(prefix):]); ok {
			newest = max(newest, n)
		}
	}
	return newest
}

// before are the last objectives that were measured.
func (b *book) before() (rpo, rto float64) {
	for _, h := range b.memory.Held {
		if h.RPO.Known {
			rpo = h.RPO.Achieved
		}
		if h.RTO.Known {
			rto = h.RTO.Achieved
		}
	}
	return rpo, rto
}

// key is the one that marks are hashed with.
func (b *book) key() string {
	if b.baseline != nil && b.baseline.Key != "" {
		return b.baseline.Key
	}
	key := make([]byte, 32)
	rand.Read(key) //nolint:errcheck // never fails since Go 1.24
	return hex.EncodeToString(key)
}

// keep signs the report, keeps it here, remembers it, and puts it into every
// target together with what earlier drills could not put there. Only the first
// two must succeed.
func (b *book) keep(ctx context.Context, p *Plan, r *Report, now *baseline) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	object, err := p.Key.Sign(seal.NamespaceReport, append(text, '\n'))
	if err != nil {
		return err
	}
	if err := durable.CreateFile(filepath.Join(b.folder, reportName(r.Number)), object, 0o600); err != nil {
		return fmt.Errorf("the report could not be kept: %w", err)
	}
	b.numbers = append(b.numbers, r.Number)
	b.note(r, p.Full, now)
	data, err := json.MarshalIndent(b.memory, "", " ")
	if err == nil {
		err = durable.WriteFile(memoryFile(p.State, p.Database), append(data, '\n'), 0o600)
	}
	p.warn(err)
	for _, t := range p.Targets {
		if err := b.ship(ctx, p, t); err != nil {
			p.warn(fmt.Errorf("the report waits for target %s: %w", t.Name, err))
		}
	}
	return nil
}

// note enters a report into the memory.
func (b *book) note(r *Report, full bool, now *baseline) {
	h := Held{Number: r.Number, ID: r.ID, At: r.Started, Took: seconds(r.Ended.Sub(r.Started)), Verdict: r.Verdict, Reasons: r.Reasons(), Finding: r.Finding, RPO: r.RPO, RTO: r.RTO}
	for i, x := range r.Restores {
		if i == 0 {
			h.Target, h.Backup = x.Target, x.Backup
		}
		if x.Verdict == Pass && x.Backup != "" {
			b.memory.Drilled[x.Backup] = r.Started
		}
	}
	b.memory.Held = append(b.memory.Held, h)
	b.memory.Held = b.memory.Held[max(0, len(b.memory.Held)-mostHeld):]
	if full && r.Verdict != Inconclusive {
		b.memory.FullAt = r.Started
	}
	if now != nil {
		b.memory.Baseline = now
	}
	if over := len(b.memory.Drilled) - mostDrilled; over > 0 {
		ids := make([]string, 0, len(b.memory.Drilled))
		for id := range b.memory.Drilled {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(x, y string) int {
			return cmp.Compare(b.memory.Drilled[x].UnixNano(), b.memory.Drilled[y].UnixNano())
		})
		for _, id := range ids[:over] {
			delete(b.memory.Drilled, id)
		}
	}
}

// ship puts what a target lacks into it: to put and to list is enough.
func (b *book) ship(ctx context.Context, p *Plan, t storage.Target) error {
	bucket, err := t.Open(ctx)
	if err != nil {
		return err
	}
	prefix, there := reportsOf(p.Database, p.Host), map[string]bool{}
	for info, err := range storage.Past(bucket).List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		there[info.Key] = true
	}
	for _, n := range b.numbers {
		key := prefix + reportName(n)
		if there[key] {
			continue
		}
		object, err := os.ReadFile(filepath.Join(b.folder, reportName(n)))
		if err != nil {
			return err
		}
		if _, err := bucket.Create(ctx, key, bytes.NewReader(object), int64(len(object))); err != nil {
			return err
		}
	}
	return nil
}
