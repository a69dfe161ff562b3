package restore

import (
	"errors"
	"io"
	"sync"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

// The phases of a restore, as [Request].Trace is told of them. Fetch, Unseal
// and the digest run side by side, so their spans overlap: what is fetched is
// compared with its signed hash, decrypted and written while more comes in.
const (
	PhasePick   = "pick"                // find the backup, its manifest verified
	PhaseChain  = "signature and chain" // hold what leads to it, and what came after
	PhaseFetch  = "fetch"               // bring the sealed parts in, each compared with its signed hash
	PhaseUnseal = "decrypt, decompress and apply"
	PhaseDigest = "page digest" // fold the hashes of all pages, and compare with the signed digest
	PhaseSync   = "write to disk"
	PhaseCheck  = "check" // SQLite's own
	PhasePlace  = "place"
)

// Phase is one of them, ended.
type Phase struct {
	Name         string
	Began, Ended time.Time
	Bytes        int64
	Err          error // the restore ended here
}

// traced runs one phase.
func (r Request) traced(name string, do func() error) error {
	if r.Trace == nil {
		return do()
	}
	began := r.Now()
	err := do()
	r.Trace(Phase{Name: name, Began: began, Ended: r.Now(), Err: err})
	return err
}

// flow watches the phases that run side by side. A nil flow watches nothing.
type flow struct {
	now            func() time.Time
	began          time.Time
	mu             sync.Mutex
	fetch, written span
}

// span is from the first to the last byte.
type span struct {
	first, last time.Time
	bytes       int64
}

func newFlow(req Request) *flow {
	if req.Trace == nil {
		return nil
	}
	return &flow{now: req.Now, began: req.Now()}
}

func (f *flow) note(s *span, n int) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
	s.bytes += int64(n)
}

// reader counts what is fetched.
func (f *flow) reader(r io.ReadCloser) io.ReadCloser {
	if f == nil {
		return r
	}
	return &counted{r, f}
}

type counted struct {
	io.ReadCloser
	flow *flow
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.flow.note(&c.flow.fetch, n)
	return n, err
}

// writer counts what is written.
func (f *flow) writer(w io.WriterAt) io.WriterAt {
	if f == nil {
		return w
	}
	return &countedAt{w, f}
}

type countedAt struct {
	io.WriterAt
	flow *flow
}

func (c *countedAt) WriteAt(p []byte, off int64) (int, error) {
	n, err := c.WriterAt.WriteAt(p, off)
	c.flow.note(&c.flow.written, n)
	return n, err
}

// tell reports the phases, the last one with the error.
func (f *flow) tell(trace func(Phase), err error) {
	if f == nil {
		return
	}
	ended := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	fetch := Phase{Name: PhaseFetch, Began: f.began, Ended: latest(f.began, f.fetch.last), Bytes: f.fetch.bytes}
	unseal := Phase{Name: PhaseUnseal, Began: latest(f.began, f.fetch.first), Ended: latest(f.began, f.written.last), Bytes: f.written.bytes}
	digest := Phase{Name: PhaseDigest, Began: unseal.Ended, Ended: ended, Bytes: f.written.bytes}
	var of *seal.LayerError
	switch {
	case err == nil:
		trace(fetch)
		trace(unseal)
		trace(digest)
	case errors.Is(err, fault.WrongKey), errors.Is(err, fault.NoSpace):
		trace(fetch)
		unseal.Ended, unseal.Err = ended, err
		trace(unseal)
	case errors.As(err, &of), fault.Find(err) == nil:
		// Damage is found where bytes come in, before they are decrypted.
		fetch.Ended, fetch.Err = ended, err
		trace(fetch)
	default:
		trace(fetch)
		trace(unseal)
		digest.Err = err
		trace(digest)
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
