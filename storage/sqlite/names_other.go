//go:build !linux

package sqlite

import (
	"context"
	"syscall"

	"emsafe/internal/fault"
)

// otherNames refuses a file with several hard links. Other names by mounts are
// not looked for on this system.
func (s *source) otherNames(_ context.Context, image *Image) error {
	if s.severalNames() {
		return fault.New(fault.OtherName, "%s has several names (hard links): a -wal or a journal may lie beside one of the others", s.path).
			WithRemedy("`find / -xdev -samefile %s` names them. Remove those that are not needed, or configure the one that the application uses.", fault.Shell(s.path))
	}
	image.unestablished("whether a process has %s open under another name: that is not looked for on this system", s.path)
	return nil
}

// severalNames reports whether the file is known to have more than one.
func (s *source) severalNames() bool {
	st, err := s.file.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink > 1
}

func stillOpen(context.Context, string, fileID) (string, error) { return "", nil }

func refuseOverlay(context.Context, string) error { return nil }
