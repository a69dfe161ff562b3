package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Tail follows the -wal of a database between snapshots, so that the next one
// can prove which pages may have changed. It takes no lock and holds no
// connection. All methods may be called concurrently.
//
// The proof rests on this. A commit that another one follows in the WAL was
// published before that one began, so a snapshot that is pinned afterwards
// includes it; the last commit may not be published yet, and may never be, if
// its writer is killed: then the next writer overwrites it, with the same
// salts. So a snapshot is marked at the last commit but one that was there
// before it was pinned, and what is read after the next one was pinned, from
// the mark on, is a superset of what changed between the two.
type Tail struct {
	mu   sync.Mutex
	path string

	file   os.FileInfo // the -wal that is followed
	at     position    // of the last commit read
	frames []frameRef  // committed ones since base, in their order
	open   []uint32    // pages of the frames behind the last commit
	marks  []markable  // where a snapshot may be marked, ascending
	base   position    // what proves is since
	proves bool        // frames has everything since base
	failed error       // of the last poll: it saw less than there may be
}

// position is a frame of a WAL, or the beginning of one (Frame 0).
type position struct {
	Salt1    uint32 `json:"salt1"`
	Salt2    uint32 `json:"salt2"`
	Sequence uint32 `json:"sequence"` // of the checkpoint that the WAL began after
	Frame    int64  `json:"frame"`
	Sum1     uint32 `json:"sum1"` // checksum up to and with that frame
	Sum2     uint32 `json:"sum2"`
}

// frameRef is a committed frame.
type frameRef struct {
	page uint32
	size uint32 // of the database after a commit, in pages; 0 if the frame is not a commit's last
}

// markable is a commit, or the beginning of a WAL.
type markable struct {
	position
	behind int  // how many of frames lie before it
	sure   bool // published, whatever comes behind it
}

// mostFrames bounds what is kept between two snapshots.
const mostFrames = 1 << 20

var (
	errLost  = errors.New("the WAL cannot be followed from where it was left")
	errNoWAL = errors.New("there is no WAL")
)

// NewTail follows the -wal of the database at path from mark on; with nil, from
// the first Advance on.
func NewTail(path string, mark *Mark) *Tail {
	t := &Tail{path: path}
	t.reset(mark)
	return t
}

// reset begins to follow at the mark.
func (t *Tail) reset(mark *Mark) {
	t.file, t.frames, t.open, t.marks, t.proves = nil, nil, nil, nil, false
	if mark != nil && mark.WAL != nil {
		t.at, t.base, t.proves = *mark.WAL, *mark.WAL, true
		t.marks = []markable{{*mark.WAL, 0, true}}
	} else {
		t.at, t.base = position{}, position{}
	}
}

// Advance forgets everything before mark: the snapshot that it is of is safe.
func (t *Tail) Advance(mark *Mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mark != nil && mark.WAL != nil {
		for i, m := range t.marks {
			if m.position == *mark.WAL {
				t.frames = append([]frameRef(nil), t.frames[m.behind:]...)
				t.marks = append([]markable(nil), t.marks[i:]...)
				for j := range t.marks {
					t.marks[j].behind -= m.behind
				}
				t.marks[0].sure = true
				t.base, t.proves = m.position, true
				return
			}
		}
	}
	t.reset(mark)
}

// Poll reads what was appended to the -wal. An error says why nothing can be
// proven from it right now.
func (t *Tail) Poll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = t.poll()
	if errors.Is(t.failed, errLost) || errors.Is(t.failed, errNoWAL) {
		t.reset(nil)
		if errors.Is(t.failed, errLost) {
			// From here on it can be marked, if not proven.
			if err := t.poll(); err != nil {
				t.reset(nil)
			}
		}
	}
	return t.failed
}

// mark is where a snapshot stands at least that is pinned after the last poll;
// nil if nothing is known.
func (t *Tail) mark() *position {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.marks) - 1; i >= 0; i-- {
		// The last commit is not sure; any before it is.
		if m := t.marks[i]; m.sure || i < len(t.marks)-1 {
			return &m.position
		}
	}
	return nil
}

// since is the pages with a frame behind the mark, as of the last poll, and
// the smallest size that the database had.
func (t *Tail) since(mark *Mark) (pages map[uint32]struct{}, least int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mark == nil || mark.WAL == nil || !t.proves || t.failed != nil || t.base != *mark.WAL {
		return nil, 0, false
	}
	pages, least = map[uint32]struct{}{}, mark.Pages
	for _, f := range t.frames {
		pages[f.page] = struct{}{}
		if f.size > 0 {
			least = min(least, int64(f.size))
		}
	}
	for _, p := range t.open {
		pages[p] = struct{}{}
	}
	return pages, least, true
}

func (t *Tail) poll() error {
	w, err := openWAL(t.path)
	if err != nil {
		return err
	}
	if w == nil {
		return errNoWAL
	}
	defer w.close()
	st, err := w.file.Stat()
	if err != nil {
		return err
	}
	begin, ok := w.begin()
	if !ok {
		return fmt.Errorf("%s-wal: its header is being written", t.path)
	}
	if t.file != nil && !os.SameFile(t.file, st) {
		return errLost
	}
	t.file = st
	switch {
	case t.at == position{}:
		t.restart(begin)
	case begin.sameWAL(t.at):
		if !w.carries(t.at) {
			return errLost
		}
	case begin.follows(t.at):
		if err := t.bridge(w); err != nil {
			return err
		}
		t.restart(begin)
	default:
		return errLost
	}
	if _, err := t.read(w); err != nil {
		return err
	}
	if len(t.frames) > mostFrames {
		return errLost
	}
	if !w.unrestarted() {
		// What came behind the frames that were read may be gone already.
		return fmt.Errorf("%s-wal was started over while it was read", t.path)
	}
	return nil
}

// restart goes on at the beginning of a WAL: everything before it is published
// and checkpointed.
func (t *Tail) restart(begin position) {
	t.at = begin
	t.marks = append(t.marks, markable{begin, len(t.frames), true})
}

// bridge reads the end of the WAL before the one that has begun since the last
// poll, from the frames that this one has not overwritten yet.
func (t *Tail) bridge(w *wal) error {
	if t.at.Frame == 0 || !w.carries(t.at) {
		return errLost
	}
	old := t.at
	end, err := t.read(w)
	if err != nil {
		return err
	}
	// The old one must have ended before a frame that it never wrote. Where
	// the file ends instead, it may have been cut off (journal_size_limit).
	var head [frameHeaderSize]byte
	var last [1]byte
	_, err = w.file.ReadAt(head[:], w.offset(end))
	if err == nil {
		_, err = w.file.ReadAt(last[:], w.offset(end+1)-1)
	}
	if err == io.EOF || err == nil && salts(head[:], 8) == [2]uint32{old.Salt1, old.Salt2} {
		return errLost
	}
	if err != nil {
		return err
	}
	// If the frame that was known before is untouched even now, all behind it
	// were when they were read.
	if !w.carries(old) {
		return errLost
	}
	return nil
}

// read takes in the valid frames behind t.at, and returns how many the WAL has.
func (t *Tail) read(w *wal) (end int64, err error) {
	s1, s2 := t.at.Sum1, t.at.Sum2
	var pending []frameRef
	buf := make([]byte, frameHeaderSize+w.pageSize)
	t.open = t.open[:0]
	for end = t.at.Frame; ; end++ {
		if _, err := w.file.ReadAt(buf, w.offset(end)); err == io.EOF {
			break
		} else if err != nil {
			return end, err
		}
		if salts(buf, 8) != [2]uint32{t.at.Salt1, t.at.Salt2} {
			break
		}
		s1, s2 = w.sum(s1, s2, buf[:8])
		s1, s2 = w.sum(s1, s2, buf[frameHeaderSize:])
		if s1 != binary.BigEndian.Uint32(buf[16:]) || s2 != binary.BigEndian.Uint32(buf[20:]) {
			break
		}
		f := frameRef{binary.BigEndian.Uint32(buf), binary.BigEndian.Uint32(buf[4:])}
		if pending = append(pending, f); f.size == 0 {
			continue
		}
		padding := len(pending) == 1 && len(t.frames) > 0 && t.frames[len(t.frames)-1] == f
		t.frames = append(t.frames, pending...)
		pending = pending[:0]
		t.at.Frame, t.at.Sum1, t.at.Sum2 = end+1, s1, s2
		t.commit(padding)
	}
	for _, f := range pending {
		t.open = append(t.open, f.page)
	}
	return end, nil
}

// commit notes a commit. SQLite pads a synchronised commit by repeating its
// last frame where the disk's sectors want it: that is no other commit.
func (t *Tail) commit(padding bool) {
	m := markable{t.at, len(t.frames), false}
	if n := len(t.marks); padding && n > 0 && !t.marks[n-1].sure {
		t.marks[n-1] = m
		return
	}
	t.marks = append(t.marks, m)
}

// begin is the beginning of the WAL; false if its header is not whole.
func (w *wal) begin() (position, bool) {
	s1, s2 := w.sum(0, 0, w.header[:24])
	ok := s1 == binary.BigEndian.Uint32(w.header[24:]) && s2 == binary.BigEndian.Uint32(w.header[28:])
	s := salts(w.header[:], 16)
	return position{Salt1: s[0], Salt2: s[1], Sequence: binary.BigEndian.Uint32(w.header[12:]), Sum1: s1, Sum2: s2}, ok
}

func salts(b []byte, at int) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b[at:]), binary.BigEndian.Uint32(b[at+4:])}
}

func (w *wal) offset(frame int64) int64 {
	return walHeaderSize + frame*int64(frameHeaderSize+w.pageSize)
}

func (p position) sameWAL(q position) bool {
	return p.Salt1 == q.Salt1 && p.Salt2 == q.Salt2 && p.Sequence == q.Sequence
}

// follows reports whether p is in the WAL that came directly after q's.
func (p position) follows(q position) bool {
	return p.Salt1 == q.Salt1+1 && p.Sequence == q.Sequence+1
}

// carries reports whether the frame of a position is still there. Of a
// beginning the header tells.
func (w *wal) carries(p position) bool {
	if p.Frame == 0 {
		b, ok := w.begin()
		return ok && b == p
	}
	var head [frameHeaderSize]byte
	if _, err := w.file.ReadAt(head[:], w.offset(p.Frame-1)); err != nil {
		return false
	}
	return salts(head[:], 8) == [2]uint32{p.Salt1, p.Salt2} && salts(head[:], 16) == [2]uint32{p.Sum1, p.Sum2}
}
