package drill

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"emsafe/internal/command"
)

// thief is a process of the user whom the restored file is given to. It puts a
// link to the victim in the file's place as soon as it can.
const thief = `
import os, sys
folder, victim = sys.argv[1], sys.argv[2]
print("ready", flush=True)
while True:
    for name in os.listdir(folder):
        db = os.path.join(folder, name, "app.db")
        try:
            os.rename(db, db + ".away")
            os.symlink(victim, db)
        except OSError:
            pass
        try:
            os.rename(os.path.join(folder, name), os.path.join(folder, name + ".away"))
        except OSError:
            pass
`

// What is handed to another user is handed by descriptor, the file before its
// folder: nothing else becomes that user's, whatever it does meanwhile.
func TestGiveToARacingUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	base, err := os.MkdirTemp("/var/tmp", "drill-test-")
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", thief, base, victim)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		t.Skip("no process of another user can be started: ", err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }() //nolint:errcheck // it never ends by itself
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		dir := filepath.Join(base, fmt.Sprint("restored-", i))
		file := filepath.Join(dir, "app.db")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("restored"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := giveTo(&command.User{UID: 65534, GID: 65534}, dir, file); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(victim)
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 0 || st.Mode().Perm() != 0o600 {
			t.Fatalf("round %d: root's file belongs to user %d, mode %04o", i, sys.Uid, st.Mode().Perm())
		}
		os.RemoveAll(dir) //nolint:errcheck // the thief may be at work in it
	}
}

// What is not the folder that was made, or not the file that was restored, is
// not given away.
func TestGiveOnlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	for name, spoil := range map[string]func(root, dir, file string) error{
		"a link in the file's place": func(root, _, file string) error {
			return errors.Join(os.Remove(file), os.Symlink(filepath.Join(root, "victim"), file))
		},
		"a hard link": func(root, _, file string) error {
			return errors.Join(os.Remove(file), os.Link(filepath.Join(root, "victim"), file))
		},
		"a pipe": func(_, _, file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
		"a link in the folder's place": func(root, dir, _ string) error {
			return errors.Join(os.RemoveAll(dir), os.Mkdir(filepath.Join(root, "else"), 0o700), os.Link(filepath.Join(root, "victim"), filepath.Join(root, "else", "app.db")), os.Symlink(filepath.Join(root, "else"), dir))
		},
		"another's folder": func(_, dir, _ string) error { return os.Chown(dir, 65534, 65534) },
		"an open folder":   func(_, dir, _ string) error { return os.Chmod(dir, 0o770) },
	} {
		root := t.TempDir()
		dir, victim := filepath.Join(root, "restored"), filepath.Join(root, "victim")
		file := filepath.Join(dir, "app.db")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, nil, 0o600), os.WriteFile(victim, nil, 0o600), spoil(root, dir, file)); err != nil {
			t.Fatal(err)
		}
		err := giveTo(&command.User{UID: 65534, GID: 65534}, dir, file)
		st, serr := os.Stat(victim)
		if err == nil || serr != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: %v, %v", name, err, serr)
		}
	}
}
