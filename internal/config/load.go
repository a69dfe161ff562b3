package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"emsafe/internal/fault"
)

// Load reads the configuration in a file, if others than the user and root
// cannot have written it: who can edit the configuration chooses to whom the
// backups are encrypted. A symbolic link is followed, and what it leads to is
// judged. The error is a fault of kind Config or Permission; problems of the
// content are in its chain as [Problems].
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	file, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.Config, "find the configuration: %w", err)
	}
	data, err := readTrusted(file, "configuration", sizeLimit)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.Config, "there is no configuration at %s: %w", file, fs.ErrNotExist).
				WithRemedy("`emsafe init` makes one; --config FILE and $EMSAFE_CONFIG name another place.")
		}
		return nil, err
	}
	c, problems := Parse(file, data, env)
	if problems != nil {
		return nil, fault.New(fault.Config, "%w", problems)
	}
	return c, nil
}

// AllRecipients are the recipients of the configuration and of its files, as
// they are written there, without comments. The files are judged as the
// configuration itself: whoever adds a key to one can read what comes.
func (c *Config) AllRecipients() ([]string, error) {
	all := append([]string(nil), c.Recipients...)
	for i, file := range c.RecipientsFiles {
		data, err := readTrusted(file, "recipients file", sizeLimit)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.Config, "the recipients file %s (%s, %s) does not exist: %w", file, c.File, c.Origin(fmt.Sprintf("recipients_files[%d]", i)), err).
				WithRemedy("Put the file in place, or take it out of recipients_files.")
		}
		if err != nil {
			return nil, err
		}
		for scan, n := bufio.NewScanner(strings.NewReader(string(data))), 1; scan.Scan(); n++ {
			line := strings.TrimSpace(scan.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			if why, hint := recipientOK(line); why != "" {
				return nil, fault.New(fault.Config, "%s:%d: this line %s", file, n, why).WithRemedy("%s.", strings.ToUpper(hint[:1])+hint[1:])
			}
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Config, "there is no recipient in %s", strings.Join(c.RecipientsFiles, ", ")).
			WithRemedy("Add a recipient (age1…, ssh-ed25519 …) to it; `emsafe key new` makes a key.")
	}
	return all, nil
}

// readTrusted reads a file that decides about trust.
func readTrusted(file, what string, limit int64) ([]byte, error) {
	f, err := openRegular(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.Permission, "read the %s: %w", what, err).
			WithRemedy("Run as the user whom %s belongs to, or as root.", file)
	case err != nil:
		return nil, fault.New(fault.Config, "read the %s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened: nobody can swap it in between
	if err == nil {
		err = trusted(file, what, info, os.Geteuid())
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fault.New(fault.Config, "read the %s: %w", what, err)
	}
	return data, nil
}

// trusted refuses a file that somebody else than uid and root can write.
func trusted(file, what string, info fs.FileInfo, uid int) error {
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		who := "its group"
		if mode&0o002 != 0 {
			who = "everybody"
		}
		return fault.New(fault.Config, "the %s %s can be changed by %s (mode %04o), who could make the backups readable for themselves", what, file, who, mode).
			WithRemedy("Look at it, then: chmod go-w %s", fault.Shell(file))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid && st.Uid != 0 {
		return fault.New(fault.Config, "the %s %s belongs to user %d, who could make the backups readable for themselves", what, file, st.Uid).
			WithRemedy("Look at it, then: chown %d %s; or run as its owner.", uid, fault.Shell(file))
	}
	return nil
}
