//go:build !linux

package restore

import (
	"io/fs"
	"os"
	"syscall"
)

func reserve(f *os.File, size int64) error { return f.Truncate(size) }

func writeBack(*os.File) {}

// renameNew renames without ever replacing: a link fails where a name exists.
func renameNew(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func ownedBy(st fs.FileInfo, uid, gid int) bool {
	s, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == uid && int(s.Gid) == gid
}
