package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"emsafe/internal/fault"
)

const magic = "SQLite format 3\x00"

// Inspect reads what the main file's header and the file system say, without
// a lock. Pages is what the header says and may be behind a WAL.
func Inspect(path string) (Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Image{}, pathError(path, err)
	}
	if st.IsDir() {
		return Image{}, fault.New(fault.NotSQLite, "%s is a folder, not a database", path)
	}
	if !st.Mode().IsRegular() {
		return Image{}, fault.New(fault.NotSQLite, "%s is not a regular file", path)
	}
	f, err := openRegular(path)
	if err != nil {
		return Image{}, pathError(path, err)
	}
	defer f.Close()
	return inspectOpen(path, f)
}

func inspectOpen(path string, f *os.File) (Image, error) {
	st, err := f.Stat()
	if err != nil {
		return Image{}, pathError(path, err)
	}
	head := make([]byte, 100)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return Image{}, pathError(path, err)
	}
	return describe(path, st, head[:n])
}

func describe(path string, st fs.FileInfo, head []byte) (Image, error) {
	switch {
	case len(head) == 0:
		return Image{}, fault.New(fault.NotSQLite, "%s is empty (0 bytes): no application has made its tables yet, or something truncated it", path)
	case len(head) < 100 || string(head[:16]) != magic:
		return Image{}, fault.New(fault.NotSQLite, "%s is not a SQLite database, or it is encrypted as a whole (SQLCipher)", path).
			WithRemedy("Check the path. emsafe cannot read databases that are encrypted as a whole; it encrypts the backups itself.")
	}
	size := int(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 65536
	}
	if size < 512 || size&(size-1) != 0 {
		return Image{}, fault.New(fault.NotSQLite, "%s has the header of a database but an impossible page size, %d", path, size)
	}
	mode := "delete"
	if head[18] == 2 || head[19] == 2 {
		mode = "wal"
	}
	v := binary.BigEndian.Uint32(head[96:])
	image := Image{
		PageSize: size, JournalMode: mode, Mode: st.Mode().Perm(), Pages: headerPages(head, st.Size(), size),
		WriterVersion: fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000),
	}
	image.Device, image.Inode, image.UID, image.GID = identity(st)
	if u, err := user.LookupId(strconv.Itoa(image.UID)); err == nil {
		image.Owner = u.Username
	}
	if g, err := user.LookupGroupId(strconv.Itoa(image.GID)); err == nil {
		image.Group = g.Name
	}
	return image, nil
}

// headerPages is SQLite's own rule: the header's count counts only if the
// change counter it was written under is still the current one.
func headerPages(head []byte, fileSize int64, pageSize int) int64 {
	count := int64(binary.BigEndian.Uint32(head[28:]))
	if count > 0 && string(head[24:28]) == string(head[92:96]) {
		return count
	}
	return fileSize / int64(pageSize)
}

func identity(st fs.FileInfo) (dev, ino uint64, uid, gid int) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, 0, 0
	}
	return uint64(s.Dev), s.Ino, int(s.Uid), int(s.Gid) //nolint:unconvert // Dev is signed on some systems
}

// resolve follows symbolic links, as SQLite does: -wal, -shm and -journal lie
// beside the file that is meant.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path, pathError(path, err)
	}
	if real, err = filepath.Abs(real); err != nil {
		return path, err
	}
	return real, nil
}

// pathError gives errors of opening a database their kinds.
func pathError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NoDatabase, "there is no file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Permission, "%s cannot be read: %w", path, err)
	}
	return err
}
