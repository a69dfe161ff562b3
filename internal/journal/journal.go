// Package journal is the local record of what people and the daemon did that
// matters: restores, prunes, key actions, changes of the configuration, drills.
// One line of JSON each, in a file that is only appended to.
//
// Every line names the SHA-256 of the line before, so that one which was taken
// out or changed later shows. Whoever may write the file can still rewrite all
// of it from there on: the signed manifests, prune records and reports in the
// targets are the evidence, the journal is the story.
package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// File is the name of the journal in the state folder.
const File = "journal.jsonl"

// Entry is one line.
type Entry struct {
	At       time.Time `json:"at"`
	Action   string    `json:"action"` // restore, undo, prune, take-over, configuration, key, drill …
	Who      string    `json:"who"`
	From     string    `json:"from,omitempty"` // where that user came from, if it is known
	Database string    `json:"database,omitempty"`
	Target   string    `json:"target,omitempty"`
	What     string    `json:"what,omitempty"`
	Result   string    `json:"result"` // ok, or what went wrong
	Run      string    `json:"run,omitempty"`
	Previous string    `json:"previous"` // SHA-256 of the line before, in hexadecimal; "" in the first
}

// lineLimit is more than any entry has: what is told of an error is cut.
const lineLimit = 64 << 10

// Append adds an entry to the journal in a state folder, durably. It fills in
// who did it, from where, and the chain.
func Append(state string, e Entry) (err error) {
	f, err := os.OpenFile(filepath.Join(state, File), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Held for a moment by each: waiting is right.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	last, torn, err := lastLine(f)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	e.At = e.At.UTC().Truncate(time.Millisecond)
	if e.Who == "" {
		e.Who, e.From = Who(os.LookupEnv)
	}
	if e.What = cut(e.What); e.Result == "" {
		e.Result = "ok"
	}
	e.Result = cut(e.Result)
	if e.Previous = ""; last != nil {
		e.Previous = digest(last)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if torn { // by a power cut, in the middle of a line
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return f.Sync()
}

func cut(text string) string {
	const most = 2000
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func digest(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// lastLine is the last line that is there, without its end; nil if there is
// none. It is torn if its end is missing.
func lastLine(f *os.File) (line []byte, torn bool, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return nil, false, err
	}
	buf := make([]byte, min(size, lineLimit))
	if _, err := f.ReadAt(buf, size-int64(len(buf))); err != nil {
		return nil, false, err
	}
	torn = buf[len(buf)-1] != '\n'
	buf = bytes.TrimRight(buf, "\n")
	if len(buf) == 0 {
		return nil, torn, nil
	}
	return buf[bytes.LastIndexByte(buf, '\n')+1:], torn, nil
}

// Read returns all entries, oldest first, and what is wrong with the chain:
// lines that cannot be read, and lines that do not follow the one before.
func Read(state string) (entries []Entry, problems []error, err error) {
	f, err := os.Open(filepath.Join(state, File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, lineLimit)
	previous := ""
	for n := 1; scan.Scan(); n++ {
		line := scan.Bytes()
		if len(line) == 0 {
			continue
		}
		var e Entry
		switch err := json.Unmarshal(line, &e); {
		case err != nil:
			problems = append(problems, fmt.Errorf("line %d cannot be read: %w", n, err))
		case e.Previous != previous:
			problems = append(problems, fmt.Errorf("line %d (%s, %s) does not follow the line before it: one was changed or taken out", n, e.At.Format(time.RFC3339), e.Action))
			entries = append(entries, e)
		default:
			entries = append(entries, e)
		}
		previous = digest(line)
	}
	return entries, problems, scan.Err()
}

// Who is the user of this process, the one behind sudo, and where they came
// from.
func Who(env func(string) (string, bool)) (who, from string) {
	who = "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if behind, _ := env("SUDO_USER"); behind != "" && behind != who {
		who = behind + " as " + who
	}
	if ssh, _ := env("SSH_CONNECTION"); ssh != "" {
		from = strings.Fields(ssh)[0]
	} else if _, ok := env("INVOCATION_ID"); ok {
		from = "systemd"
	}
	return who, from
}
