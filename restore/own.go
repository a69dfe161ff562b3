package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"emsafe/internal/fault"
	"emsafe/storage/catalog"
)

// privateMode is that of a restored file if nothing says otherwise.
const privateMode fs.FileMode = 0o600

// ModeOriginal as a Request's Mode is the mode that the source had.
const ModeOriginal = "original"

// ParseMode reads a Request's Mode: "", ModeOriginal, or octal digits.
func ParseMode(text string) (mode fs.FileMode, err error) {
	if text == "" || text == ModeOriginal {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n&^0o777 != 0 || n&0o600 != 0o600 {
		return 0, fault.New(fault.Usage, "%q is no mode for a restored database", text).
			WithRemedy("Write %s, or octal digits that let the owner read and write, such as 0640.", ModeOriginal)
	}
	return fs.FileMode(n), nil
}

// ownership is who may do what with a file.
type ownership struct {
	uid, gid int
	mode     fs.FileMode
}

func (o ownership) String() string {
	return fmt.Sprintf("%s:%s, mode %04o", userName(o.uid), groupName(o.gid), o.mode)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

// recorded is the source's, as the manifest has it. Names outlive numbers from
// one host to the next.
func recorded(src catalog.Source) (o ownership, warnings []string) {
	o = ownership{src.UID, src.GID, privateMode}
	if u, err := user.Lookup(src.Owner); err == nil {
		o.uid, _ = strconv.Atoi(u.Uid) //nolint:errcheck // a number on every system with owners
	} else if src.Owner != "" {
		warnings = append(warnings, fmt.Sprintf("there is no user %s here; the owner is set by number, %d", src.Owner, o.uid))
	}
	if g, err := user.LookupGroup(src.Group); err == nil {
		o.gid, _ = strconv.Atoi(g.Gid) //nolint:errcheck // likewise
	} else if src.Group != "" {
		warnings = append(warnings, fmt.Sprintf("there is no group %s here; the group is set by number, %d", src.Group, o.gid))
	}
	if mode, err := strconv.ParseUint(src.Mode, 8, 32); err == nil {
		o.mode = fs.FileMode(mode).Perm()
	}
	return o, warnings
}

// choose is what the restored file gets. Who has access now, or had it when the
// backup was taken, never means that more people have it afterwards:
//
//   - Over a file of the same owner, group and mode stay as they are there.
//   - Over a file of another owner, owner and group are the recorded ones, which
//     are signed, and the mode is no wider than that of either, and than widest.
//   - In a place where nothing is, it is no wider than recorded and than widest.
//   - Anywhere else the file is private.
//
// mode overrides the mode, if it was asked for.
func choose(was ownership, now *ownership, inPlace bool, widest fs.FileMode, mode string) ownership {
	o := was
	switch {
	case inPlace && now != nil && now.uid == was.uid:
		o = *now
	case inPlace && now != nil:
		o.mode &= now.mode & widest
	case inPlace:
		o.mode &= widest
	default:
		o.mode = privateMode
	}
	if asked, err := ParseMode(mode); err == nil && asked != 0 {
		o.mode = asked
	} else if mode == ModeOriginal {
		o.mode = was.mode
	}
	o.mode |= privateMode
	return o
}

// own gives the staged file its owner, group and mode, and says where they
// differ from what was there before, and from what the backup recorded.
func (p *Plan) own(s *staged) (recordedOther string, warnings []string) {
	was, warnings := recorded(p.Entry.Source)
	var now *ownership
	if st, err := os.Lstat(p.req.Destination); err == nil && p.req.InPlace {
		now = ownershipOf(st)
	}
	widest := p.req.Widest
	if widest == 0 {
		widest = privateMode
	}
	o := choose(was, now, p.req.InPlace, widest, p.req.Mode)
	if st, err := s.file.Stat(); err == nil && !sameOwner(ownershipOf(st), o) {
		if err := s.file.Chown(o.uid, o.gid); err != nil {
			if p.req.Mode == "" {
				o.mode = privateMode // its group is another one now
			}
			warnings = append(warnings, fmt.Sprintf("the owner is you, not %s:%s: only root can give a file away", userName(o.uid), groupName(o.gid)))
		}
	}
	if err := s.file.Chmod(o.mode); err != nil {
		warnings = append(warnings, fmt.Sprintf("the mode %04o could not be set: %v", o.mode, err))
	}
	if err := s.file.Sync(); err != nil {
		warnings = append(warnings, fmt.Sprintf("owner and mode are not durable yet: %v", err))
	}
	st, err := s.file.Stat()
	if err != nil {
		return "", warnings
	}
	got := ownershipOf(st)
	if got == nil {
		return "", warnings
	}
	if now != nil && *got != *now {
		warnings = append(warnings, fmt.Sprintf("the file belongs to %s; the one before it to %s", got, now))
	}
	if *got != was {
		recordedOther = fmt.Sprintf("the file belongs to %s; the backup recorded %s", got, was)
	}
	return recordedOther, warnings
}

func sameOwner(a *ownership, b ownership) bool { return a != nil && a.uid == b.uid && a.gid == b.gid }

// ownershipOf is nil where the system tells no owner.
func ownershipOf(st fs.FileInfo) *ownership {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return &ownership{int(s.Uid), int(s.Gid), st.Mode().Perm()}
}

// absent reports whether there is no such file, also because there cannot be:
// a name with a suffix may be longer than the file system allows.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG)
}
