package dir

import (
	"os"

	"golang.org/x/sys/unix"
)

func renameNoReplace(from *os.File, old string, to *os.File, name string) error {
	return unix.RenameatxNp(int(from.Fd()), old, int(to.Fd()), name, unix.RENAME_EXCL)
}
