package harden

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
)

// Change is one mode that is set, and what was there before.
type Change struct {
	At    time.Time `json:"at,omitzero"`
	Path  string    `json:"path"`
	Dev   uint64    `json:"dev"`
	Ino   uint64    `json:"ino"`
	UID   int       `json:"uid"`
	Dir   bool      `json:"folder,omitempty"`
	From  uint32    `json:"from"` // mode, as chmod takes it
	To    uint32    `json:"to"`
	ACL   []byte    `json:"acl,omitempty"` // the access list that was removed
	Strip bool      `json:"strip_acl,omitempty"`
	Undo  bool      `json:"undo,omitempty"` // this entry takes an earlier one back
}

func change(path string, st stat, want fs.FileMode, strip bool) Change {
	return Change{Path: path, Dev: st.dev, Ino: st.ino, UID: st.uid, Dir: st.IsDir(), From: octal(st.permission), To: octal(want), Strip: strip}
}

func (c Change) String() string {
	text := fmt.Sprintf("%s: mode %04o to %04o", c.Path, c.From, c.To)
	if c.Strip {
		text += ", access list removed"
	}
	return text
}

// errSwapped says that a path leads to something else than it did at the look.
var errSwapped = errors.New("it is not what was looked at: it was replaced meanwhile, linked elsewhere, or is a symbolic link")

// Apply makes the changes of a plan, writing each down in record before it is
// made. What was swapped since the look is left alone and reported.
func (p *Plan) Apply(record string, now time.Time) (done []Change, err error) {
	return makeAll(p.Changes, record, now)
}

func makeAll(changes []Change, record string, now time.Time) (done []Change, err error) {
	var failed []error
	for _, c := range changes {
		c.At = now.UTC()
		h, err := open(c)
		if comesAndGoes(c.Path) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSwapped)) {
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.Path, err))
			continue
		}
		if c.Strip {
			c.ACL = h.acl()
		}
		err = write(record, c)
		if err == nil {
			err = h.change(c)
		}
		h.close()
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.Path, err))
			continue
		}
		done = append(done, c)
	}
	if len(failed) > 0 {
		return done, fault.New(fault.Partial, "%d of %d changes could not be made: %w", len(failed), len(changes), errors.Join(failed...)).
			WithSafe("What was changed is written down; `emsafe harden undo` takes it back.").WithRemedy("Run it again; if a path keeps changing, find out who does that.")
	}
	return done, nil
}

// comesAndGoes tells the files that SQLite removes and makes again, as a
// rollback journal with every commit: the next one has the database's mode.
func comesAndGoes(path string) bool {
	return slices.ContainsFunc(set[1:], func(ext string) bool { return strings.HasSuffix(path, ext) })
}

// write adds a change to the record, durably.
func write(record string, c Change) error {
	f, err := os.OpenFile(record, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	line, err := json.Marshal(c)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// Undo takes back, newest first, what the record says was changed and was not
// taken back yet. A file whose mode is not what it was changed to is left alone.
func Undo(record string, now time.Time) (done []Change, err error) {
	f, err := os.Open(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var open []Change
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var c Change
		if json.Unmarshal(scan.Bytes(), &c) != nil {
			continue // torn by a power cut
		}
		if !c.Undo {
			open = append(open, c)
			continue
		}
		if i := slices.IndexFunc(open, func(o Change) bool { return o.Path == c.Path && o.Ino == c.Ino && o.From == c.To && o.To == c.From }); i >= 0 {
			open = slices.Delete(open, i, i+1)
		}
	}
	slices.Reverse(open)
	for i, c := range open {
		open[i].From, open[i].To, open[i].Undo = c.To, c.From, true
		open[i].Strip = false
	}
	return makeAll(open, record, now)
}
