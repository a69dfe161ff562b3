package backup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/hostconf"
	"emsafe/storage/point"
	"emsafe/storage/restic"
	"emsafe/storage/seal"
)

// repository is a fileset's in one target. The first time it makes the password,
// puts a sealed copy of it there, and only then the repository: there is none
// whose password was lost with the host.
func (f Files) repository(ctx context.Context, b storage.Bucket, target string) (*restic.Repository, error) {
	there, err := exists(ctx, b, point.Repository(f.Fileset)+"/config")
	if err != nil {
		return nil, err
	}
	password, err := f.password(there)
	if err != nil {
		return nil, err
	}
	if err := f.sealPassword(ctx, b, password); err != nil {
		return nil, fmt.Errorf("the password is not kept in the target, so nothing else is: %w", err)
	}
	r, err := f.Reach(ctx, b, target)
	if err != nil {
		return nil, err
	}
	r.Password = password
	if !there {
		err := f.clear(ctx, b)
		if err == nil {
			err = r.Init(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// clear removes what an init that was cut off left: keys, which restic would
// not begin beside. Where there is more, somebody has taken the repository's
// config away, and nothing is touched.
func (f Files) clear(ctx context.Context, b storage.Bucket) error {
	under := point.Repository(f.Fileset) + "/"
	var left []string
	for info, err := range b.List(ctx, under, "") {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(info.Key, under+"keys/") {
			return fault.New(fault.Damaged, "%s has %s, and no config: it is a restic repository that somebody damaged", b, info.Key).
				WithSafe("Nothing was written there.").WithRemedy("Bring back %sconfig, from the bucket's history or another copy; or move %s away, and a new repository is made.", under, under)
		}
		left = append(left, info.Key)
	}
	for _, key := range left {
		if err := b.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func exists(ctx context.Context, b storage.Bucket, key string) (bool, error) {
	for info, err := range b.List(ctx, key, "") {
		if err != nil {
			return false, err
		}
		if info.Key == key {
			return true, nil
		}
	}
	return false, nil
}

// PasswordFile is where the host keeps a fileset's password.
func PasswordFile(state, fileset string) string {
	return Files{State: state, Fileset: fileset}.path(".password")
}

// ReadPassword reads a password, and refuses one that others could read.
func ReadPassword(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fault.New(fault.Permission, "%s can be read by others (mode %04o)", file, info.Mode().Perm()).WithRemedy("chmod 600 %s", fault.Shell(file))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(data), "\n"), nil
}

// password reads the host's, or makes one, unless a repository has one already.
func (f Files) password(there bool) (string, error) {
	file := PasswordFile(f.State, f.Fileset)
	password, err := ReadPassword(file)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return password, err
	case there:
		return "", fault.New(fault.BadKey, "the target has a repository of %s, and this host has not its password", f.Fileset).
			WithRemedy("Fetch it with the recovery key: emsafe files password %s --identity FILE --save", f.Fileset)
	}
	password = rand.Text() + rand.Text() // 256 bits
	return password, SavePassword(f.State, f.Fileset, password)
}

// SavePassword makes a password the host's.
func SavePassword(state, fileset, password string) error {
	file := PasswordFile(state, fileset)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(file, []byte(password+"\n"), 0o600)
}

// sealPassword puts a sealed copy of the password into a target that has not the
// one of now.
func (f Files) sealPassword(ctx context.Context, b storage.Bucket, password string) error {
	sum := seal.Sum(fmt.Appendf(nil, "%s\n%q", password, f.Recipients.Names()))
	now := hex.EncodeToString(sum[:])
	m := f.remembered()
	if m.Sealed[b.String()] == now {
		return nil
	}
	err := hostconf.Put(ctx, b, hostconf.Copy{
		Host: f.Host, Fileset: f.Fileset, TakenAt: f.Now(), File: PasswordFile(f.State, f.Fileset), Text: []byte(password + "\n"),
	}, f.Key, f.Signers, f.Recipients)
	if err != nil {
		return err
	}
	m.Sealed[b.String()] = now
	return f.remember(m)
}
