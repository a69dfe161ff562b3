package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"emsafe/internal/durable"
	"emsafe/internal/report"
)

// HistoryFile is the name of the history in the state folder.
const HistoryFile = "history.jsonl"

// keepDays is how long a day is remembered.
const keepDays = 400

// History remembers the worst of every day and the size of every database. It
// is one line of JSON for the first that is known of a day, and one more each
// time that the day gets worse: a backup every second costs no more than one a
// day. Who serves the page writes it, others read. It is worth little enough
// that it is not fsynced: after a power cut the last lines may be gone, and a
// torn one is passed over.
type History struct {
	file string
	mu   sync.Mutex
	days map[string]map[string]line // by database and date
}

// line is one line of the file.
type line struct {
	Date     string       `json:"date"`
	Database string       `json:"database"`
	State    report.State `json:"state"`
	Note     string       `json:"note,omitempty"`
	Bytes    int64        `json:"bytes,omitempty"`
}

// LoadHistory reads the history in a state folder; where there is none it is
// empty.
func LoadHistory(folder string) (*History, error) {
	h := &History{file: filepath.Join(folder, HistoryFile), days: map[string]map[string]line{}}
	data, err := os.ReadFile(h.file)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Database != "" && len(l.Date) == len(time.DateOnly) {
			h.merge(l)
		}
	}
	return h, lines.Err()
}

// OpenHistory reads it to write on. Days that are too old are dropped.
func OpenHistory(folder string, now time.Time) (*History, error) {
	h, err := LoadHistory(folder)
	if err != nil {
		return nil, err
	}
	oldest := now.UTC().AddDate(0, 0, -keepDays).Format(time.DateOnly)
	var kept bytes.Buffer
	for _, days := range h.days {
		for date, l := range days {
			if date < oldest {
				delete(days, date)
				continue
			}
			kept.Write(l.text())
		}
	}
	return h, durable.WriteFile(h.file, kept.Bytes(), 0o600)
}

func (l line) text() []byte {
	text, err := json.Marshal(l)
	if err != nil {
		panic(err) // strings and numbers
	}
	return append(text, '\n')
}

// merge adds a line and reports whether it says anything new.
func (h *History) merge(l line) bool {
	days := h.days[l.Database]
	if days == nil {
		days = map[string]line{}
		h.days[l.Database] = days
	}
	had, ok := days[l.Date]
	if ok && l.State <= had.State && (had.Bytes > 0 || l.Bytes == 0) {
		return false
	}
	if ok && l.State <= had.State {
		l.State, l.Note = had.State, had.Note
	}
	if l.Bytes == 0 {
		l.Bytes = had.Bytes
	}
	days[l.Date] = l
	return true
}

// Record notes how a database is; size is 0 if it is not known. Only what is
// new for the day is written.
func (h *History) Record(database string, at time.Time, state report.State, note string, size int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	date := at.UTC().Format(time.DateOnly)
	if !h.merge(line{date, database, state, note, size}) {
		return nil
	}
	f, err := os.OpenFile(h.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(h.days[database][date].text())
	return errors.Join(err, f.Close())
}

// Days are the last n days of a database up to today. A day without a line is
// idle, unless something was due on every day since the first line: then it is
// overdue, for nobody was there to write.
func (h *History) Days(database string, today time.Time, n int, daily bool) []report.Day {
	h.mu.Lock()
	defer h.mu.Unlock()
	today = today.UTC().Truncate(24 * time.Hour)
	list := make([]report.Day, n)
	began := false
	for date := range h.days[database] {
		began = began || date < today.AddDate(0, 0, 1-n).Format(time.DateOnly)
	}
	for i := range list {
		d := report.Day{Date: today.AddDate(0, 0, i+1-n)}
		l, ok := h.days[database][d.Date.Format(time.DateOnly)]
		switch {
		case ok:
			began = true
			d.State, d.Note = l.State, l.Note
		case began && daily && d.Date.Before(today):
			d.State, d.Note = report.Overdue, "nothing was recorded"
		}
		list[i] = d
	}
	return list
}

// Sizes are the sizes of a database over the last n days.
func (h *History) Sizes(database string, today time.Time, n int) []Size {
	h.mu.Lock()
	defer h.mu.Unlock()
	today = today.UTC().Truncate(24 * time.Hour)
	var list []Size
	for i := range n {
		at := today.AddDate(0, 0, i+1-n)
		if l := h.days[database][at.Format(time.DateOnly)]; l.Bytes > 0 {
			list = append(list, Size{at, l.Bytes})
		}
	}
	return list
}
