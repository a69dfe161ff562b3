package restic

import (
	"encoding/json"
	"time"
)

// message is a line of restic's JSON output; which fields there are depends on
// the type, and on the version.
type message struct {
	Type    string          `json:"message_type"`
	Message string          `json:"message"`
	Item    string          `json:"item"`
	Error   json.RawMessage `json:"error"`

	TotalFiles int64 `json:"total_files"`
	FilesDone  int64 `json:"files_done"`
	TotalBytes int64 `json:"total_bytes"`
	BytesDone  int64 `json:"bytes_done"`

	SnapshotID string `json:"snapshot_id"`
	New        int64  `json:"files_new"`
	Changed    int64  `json:"files_changed"`
	Unmodified int64  `json:"files_unmodified"`
	Added      int64  `json:"data_added"`
	Files      int64  `json:"total_files_processed"`
	Bytes      int64  `json:"total_bytes_processed"`
}

// complaint is an error about one file, in words.
func (m message) complaint() string {
	var e struct {
		Message string `json:"message"` // since 0.16
		Op      string
		Path    string
		Err     any
	}
	if json.Unmarshal(m.Error, &e) == nil && e.Message != "" {
		return m.Item + ": " + e.Message
	}
	if e.Op != "" {
		return m.Item + ": cannot " + e.Op + " it"
	}
	return m.Item + ": cannot be read"
}

// Progress is how far a backup is. Totals grow while restic looks around.
type Progress struct{ Files, TotalFiles, Bytes, TotalBytes int64 }

// Snapshot is one state of the files.
type Snapshot struct {
	ID       string    `json:"id"` // 64 hexadecimal digits
	Time     time.Time `json:"time"`
	Hostname string    `json:"hostname"`
	Paths    []string  `json:"paths"`
	Tags     []string  `json:"tags"`
}

// Node is a file, or what else there is in a tree.
type Node struct {
	Path string `json:"path"`
	Type string `json:"type"` // file, dir, symlink, …
	Size int64  `json:"size"` // bytes, of a file

	Modified time.Time `json:"mtime"`
}
