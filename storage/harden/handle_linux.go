package harden

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// handle is a file that a change is for, held by a descriptor: from here on no
// name can lead elsewhere. O_PATH opens nothing: SQLite's locks, which any
// ordinary close would drop, stay.
type handle struct{ fd int }

func open(c Change) (handle, error) {
	flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if c.Dir {
		flags |= unix.O_DIRECTORY
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, c.Path, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_SYMLINKS}) //nolint:gosec // small
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return handle{}, errSwapped
	}
	if err != nil {
		return handle{}, err
	}
	h := handle{fd}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	same := uint64(st.Dev) == c.Dev && st.Ino == c.Ino && int(st.Uid) == c.UID && (c.Dir || st.Nlink == 1) && st.Mode&0o7777 == c.From //nolint:unconvert // of other types elsewhere
	if err == nil && !same {
		err = errSwapped
	}
	if err != nil {
		h.close()
	}
	return h, err
}

func (h handle) name() string { return fmt.Sprintf("/proc/self/fd/%d", h.fd) }

// change sets the mode. The access list goes first: with one, the group bits of
// the mode are its mask.
func (h handle) change(c Change) error {
	if c.Strip {
		if err := unix.Removexattr(h.name(), aclName); err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	if c.Undo && len(c.ACL) > 0 {
		if err := unix.Setxattr(h.name(), aclName, c.ACL, 0); err != nil {
			return err
		}
	}
	return unix.Fchmodat(unix.AT_FDCWD, h.name(), c.To, 0)
}

func (h handle) acl() []byte { return readACL(h.name()) }

func (h handle) close() { unix.Close(h.fd) } //nolint:errcheck // nothing was written through it

const aclName = "system.posix_acl_access"

func readACL(path string) []byte {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(path, aclName, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// acl says whom an access list lets in besides owner, group and others; "" if
// nobody.
func acl(path string) string {
	data := readACL(path)
	if len(data) < 4 || binary.LittleEndian.Uint32(data) != 2 {
		return ""
	}
	var who bytes.Buffer
	for data = data[4:]; len(data) >= 8; data = data[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(data), binary.LittleEndian.Uint16(data[2:]), binary.LittleEndian.Uint32(data[4:])
		if perm&7 == 0 {
			continue
		}
		switch tag {
		case 0x02: // a named user
			name := strconv.Itoa(int(id))
			if u, err := user.LookupId(name); err == nil {
				name = u.Username
			}
			fmt.Fprintf(&who, "user %s may %s; ", name, rwx(perm))
		case 0x08: // a named group
			fmt.Fprintf(&who, "group %s may %s; ", group(int(id)), rwx(perm))
		}
	}
	return string(bytes.TrimSuffix(who.Bytes(), []byte("; ")))
}

func rwx(perm uint16) string {
	text := ""
	for i, name := range []string{"read", "write", "execute"} {
		if perm&(4>>i) != 0 {
			if text != "" {
				text += " and "
			}
			text += name
		}
	}
	return text
}
