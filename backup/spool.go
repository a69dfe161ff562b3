package backup

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// spool is the folder where sealed backups of one database wait until every
// target has them: ID.age, and ID.json once it is durable. Both are 0600.
type spool struct {
	dir  string
	last atomic.Int64 // order of the newest item
}

// spooled is a sealed backup, described but for what differs by target.
type spooled struct {
	ID         string            `json:"id"`
	Kind       string            `json:"kind"`
	Parent     string            `json:"parent,omitempty"` // id of what a delta or a heartbeat is taken against
	Delta      *seal.Delta       `json:"delta,omitempty"`
	Host       string            `json:"host"`
	Order      int64             `json:"order,omitempty"` // in which the items were sealed, whatever the clock said
	SnapshotAt time.Time         `json:"snapshot_at"`
	Sealed     seal.Sealed       `json:"sealed"`
	Content    seal.Content      `json:"content"`
	Source     catalog.Source    `json:"source"`
	Recipients []string          `json:"recipients"`
	Versions   map[string]string `json:"versions"`
	Done       []string          `json:"done"` // targets that have it
}

// newID names a backup: its second, for people, and random bytes.
func newID(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + random(4)
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails since Go 1.24
	return hex.EncodeToString(b)
}

func (s *spool) item(id, kind string, job Job, image sqlite.Image, sealed seal.Sealed, content seal.Content) *spooled {
	return &spooled{
		Order: s.last.Add(1), ID: id, Kind: kind, Host: job.Host, SnapshotAt: image.At.UTC().Truncate(time.Millisecond),
		Sealed: sealed, Content: content,
		Source: catalog.Source{
			JournalMode: image.JournalMode, WriterVersion: image.WriterVersion,
			UID: image.UID, GID: image.GID, Owner: image.Owner, Group: image.Group,
			Mode: fmt.Sprintf("%04o", image.Mode.Perm()),
		},
		Recipients: job.Recipients.Names(), Versions: job.Versions,
	}
}

func openSpool(state, database string) (*spool, error) {
	dir := filepath.Join(state, "spool", database)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, spoolError(err, dir)
	}
	return &spool{dir: dir}, nil
}

// waiting lists what earlier runs left to ship, oldest first, and removes what
// they left half-made. The caller holds the database's lock.
func (s *spool) waiting() ([]*spooled, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, spoolError(err, s.dir)
	}
	var items []*spooled
	for _, e := range entries {
		name := e.Name()
		id, isPayload := strings.CutSuffix(name, ".age")
		if isPayload {
			if _, err := os.Stat(s.file(id, ".json")); errors.Is(err, fs.ErrNotExist) {
				os.Remove(filepath.Join(s.dir, name))
			}
			continue
		}
		id, isItem := strings.CutSuffix(name, ".json")
		if !isItem || strings.HasPrefix(name, ".") {
			os.Remove(filepath.Join(s.dir, name)) // a temp or scratch file
			continue
		}
		item, err := s.load(id)
		if err != nil {
			return nil, err
		}
		if item != nil {
			items = append(items, item)
		}
	}
	slices.SortFunc(items, func(a, b *spooled) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), a.SnapshotAt.Compare(b.SnapshotAt))
	})
	if n := len(items); n > 0 {
		s.last.Store(max(s.last.Load(), items[n-1].Order))
	}
	return items, nil
}

// load reads one item; nil if its payload is not whole any more.
func (s *spool) load(id string) (*spooled, error) {
	data, err := os.ReadFile(s.file(id, ".json"))
	if err != nil {
		return nil, spoolError(err, s.dir)
	}
	item := &spooled{}
	jerr := json.Unmarshal(data, item)
	st, serr := os.Stat(s.file(id, ".age"))
	if item.Kind == "" {
		item.Kind = catalog.KindFull // written before there were others
	}
	if jerr != nil || serr != nil || st.Size() != item.Sealed.Size || item.ID != id {
		// Nothing to ship: better dropped than in the way of every later backup.
		return nil, s.remove(id)
	}
	return item, nil
}

func (s *spool) file(id, ext string) string { return filepath.Join(s.dir, id+ext) }

func (s *spool) create(id string) (*os.File, error) {
	return os.OpenFile(s.file(id, ".age"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// keep makes a sealed backup durable, and closes its file. It gets the
// description in its written form: the shippers change the item meanwhile.
func (s *spool) keep(id string, description []byte, file *os.File) error {
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	return durable.WriteFile(s.file(id, ".json"), description, 0o600)
}

// settle removes an item that all targets have, and otherwise notes which do.
func (s *spool) settle(item *spooled, targets []string) (left bool, err error) {
	for _, t := range targets {
		if !slices.Contains(item.Done, t) {
			data, err := json.Marshal(item)
			if err != nil {
				return true, err
			}
			return true, durable.WriteFile(s.file(item.ID, ".json"), data, 0o600)
		}
	}
	return false, s.remove(item.ID)
}

// remove takes the description first: a payload without one is litter.
func (s *spool) remove(id string) error {
	for _, ext := range []string{".json", ".age"} {
		if err := os.Remove(s.file(id, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// spoolError gives errors of the spool's disk their kind.
func spoolError(err error, dir string) error {
	switch {
	case err == nil || fault.Find(err) != nil:
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fault.New(fault.NoSpace, "the spool in %s cannot hold the sealed backup: %w", dir, err).
			WithRemedy("Free space there, or move `state:` to a larger disk; the sealed copy needs roughly a third of the database's size.")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Permission, "no access to the state folder: %w", err)
	}
	return err
}
