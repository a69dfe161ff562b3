package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"emsafe/internal/fault"
)

// Files that belong to somebody else may be anything by the time they are
// opened. A named pipe must not hold up a backup, and a link beside a database
// must not lead elsewhere.

// openRegular opens a database file for reading, without blocking.
func openRegular(path string) (*os.File, error) { return openPlain(path, 0) }

// openBeside opens a -wal or a journal for reading, without blocking and
// without following a link.
func openBeside(path string) (*os.File, error) { return openPlain(path, syscall.O_NOFOLLOW) }

func openPlain(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flag, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, notRegular(path)
	}
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, notRegular(path)
	}
	return f, nil
}

func notRegular(path string) error {
	return fault.New(fault.NotSQLite, "%s is not a regular file", path).
		WithRemedy("Look at it with `ls -l`: somebody who may write to this folder put a named pipe, a device or a link there. Remove it while the application is stopped.")
}

// refuseIrregular is an error if something that SQLite would open beside a
// database is not a regular file: opening a named pipe waits for ever.
func refuseIrregular(path string) error {
	for _, ext := range []string{"-wal", "-shm", "-journal"} {
		st, err := os.Lstat(path + ext)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return pathError(path+ext, err)
		}
		if !st.Mode().IsRegular() {
			return notRegular(path + ext)
		}
	}
	return nil
}
