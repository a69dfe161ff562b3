package backup

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Waiting is what waits in a database's spool, as far as can be seen without
// its lock.
type Waiting struct {
	Backups int       `json:"backups"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest,omitzero"`
}

// Spooled looks into the spool.
func Spooled(state, database string) Waiting {
	var w Waiting
	entries, err := os.ReadDir(filepath.Join(state, "spool", database))
	if err != nil {
		return w
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".age") {
			continue
		}
		w.Backups++
		w.Bytes += info.Size()
		if at := info.ModTime().UTC(); w.Oldest.IsZero() || at.Before(w.Oldest) {
			w.Oldest = at
		}
	}
	return w
}
