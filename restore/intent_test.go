package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"emsafe/internal/fault"
)

// An intent is done with the rights of who runs the restore, in a folder that
// can be the application's: what the application could have written is not done,
// and names lead nowhere else.
func TestIntentsOfOthersAreNotDone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		change func(t *testing.T, file string)
		kind   *fault.Kind // nil: it is done
	}{
		"ours":                     {`{"staged":".app.db.emsafe-aa.part","aside":"","back":null,"from":""}`, nil, nil},
		"with its path":            {`{"staged":"DIR/.app.db.emsafe-aa.part"}`, nil, nil},
		"of another folder":        {`{"staged":"DIR/.app.db.emsafe-/../../outside/secret.part"}`, nil, fault.Damaged},
		"upwards":                  {`{"staged":".app.db.emsafe-/../../outside/secret.part"}`, nil, fault.Damaged},
		"an absolute path":         {`{"staged":"/etc/passwd"}`, nil, fault.Damaged},
		"any other file":           {`{"staged":"other.db"}`, nil, fault.Damaged},
		"sidecars from elsewhere":  {`{"staged":".app.db.emsafe-aa.part","back":["-wal"],"from":"../outside"}`, nil, fault.Damaged},
		"sidecars through a link":  {`{"staged":".app.db.emsafe-aa.part","back":["-wal"],"from":"app.db.before-20260101T000000Z"}`, nil, fault.Damaged},
		"sidecars that are others": {`{"staged":".app.db.emsafe-aa.part","back":["/../../outside/secret"],"from":""}`, nil, fault.Damaged},
		"no JSON":                  {`{`, nil, fault.Damaged},
		"another user's": {`{"staged":".app.db.emsafe-aa.part"}`, func(t *testing.T, file string) {
			if os.Getuid() != 0 {
				t.Skip("only root can give a file away")
			}
			if err := os.Chown(file, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}, fault.Permission},
		"open to others": {`{"staged":".app.db.emsafe-aa.part"}`, func(t *testing.T, file string) {
			if err := os.Chmod(file, 0o620); err != nil {
				t.Fatal(err)
			}
		}, fault.Permission},
		"a link": {`{"staged":".app.db.emsafe-aa.part"}`, func(t *testing.T, file string) {
			if err := errors.Join(os.Rename(file, file+".real"), os.Symlink(file+".real", file)); err != nil {
				t.Fatal(err)
			}
		}, fault.Permission},
		"a pipe": {``, func(t *testing.T, file string) {
			if err := errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, fault.Permission},
		"with another name": {`{"staged":".app.db.emsafe-aa.part"}`, func(t *testing.T, file string) {
			if err := os.Link(file, file+".2"); err != nil {
				t.Fatal(err)
			}
		}, fault.Permission},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			dir, outside := filepath.Join(root, "srv"), filepath.Join(root, "outside")
			db := filepath.Join(dir, "app.db")
			text := []byte(strings.ReplaceAll(c.text, "DIR", dir))
			err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "secret.part"), []byte("secret"), 0o600),
				os.WriteFile(filepath.Join(outside, "app.db-wal"), []byte("secret"), 0o600), os.Symlink(outside, db+".before-20260101T000000Z"),
				os.WriteFile(db, []byte("old"), 0o600), os.WriteFile(filepath.Join(dir, "other.db"), []byte("other"), 0o600), os.Mkdir(filepath.Join(dir, ".app.db.emsafe-"), 0o700),
				os.WriteFile(filepath.Join(dir, ".app.db.emsafe-aa.part"), []byte("new"), 0o600), os.WriteFile(intentFile(db), text, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(t, intentFile(db))
			}
			err = recoverIntent(db)
			got, rerr := os.ReadFile(db)
			_, serr := os.Stat(filepath.Join(outside, "secret.part"))
			_, werr := os.Stat(db + "-wal")
			want := "old"
			if c.kind == nil {
				want = "new"
			}
			if (c.kind == nil) != (err == nil) || err != nil && !errors.Is(err, c.kind) || string(got) != want || rerr != nil || serr != nil || werr == nil {
				t.Errorf("%v; the database is %q, the secret is there: %v, a -wal came: %v", err, got, serr == nil, werr == nil)
			}
		})
	}
}
