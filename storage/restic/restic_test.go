package restic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
)

// repository is a new one in a folder, with files to keep.
func repository(t *testing.T) (r *Repository, files string) {
	t.Helper()
	if _, err := Find(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files = filepath.Join(dir, "uploads")
	write(t, files, map[string]string{"a.jpg": "one", "deep/er/b [1]*.jpg": "two", "skip.tmp": "not this"})
	r = &Repository{Location: filepath.Join(dir, "repo"), Password: "secret", Cache: filepath.Join(dir, "cache")}
	r.Unlock = func(_ context.Context, id string) error { return os.Remove(filepath.Join(r.Location, "locks", id)) }
	if err := r.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, files
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func source(paths ...string) Source {
	return Source{Paths: paths, Host: "web", Tags: []string{"emsafe"}, Excludes: []string{"*.tmp"}}
}

// want is an error of a kind that says something.
func want(t *testing.T, err error, kind *fault.Kind, says string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v; want %s, %q", err, kind.ID, says)
	}
}

func TestBackupAndBack(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	told := 0
	first, err := r.Backup(t.Context(), source(files), func(Progress) { told++ })
	if err != nil || first.Files != 2 || first.Bytes != 6 || first.New != 2 || told == 0 {
		t.Fatalf("%+v %v, told %d times", first, err, told)
	}
	write(t, files, map[string]string{"c.jpg": "three"})
	if _, err := r.Backup(t.Context(), source(files), nil); err != nil {
		t.Fatal(err)
	}
	list, err := r.Snapshots(t.Context(), "emsafe")
	if err != nil || len(list) != 2 || !strings.HasPrefix(list[0].ID, first.Snapshot) || len(list[0].ID) != 64 {
		t.Fatalf("%+v %v", list, err)
	}
	var names []string
	err = r.Files(t.Context(), list[1].ID, func(n Node) error {
		if n.Type == "file" {
			names = append(names, strings.TrimPrefix(n.Path, files+"/"))
		}
		return nil
	})
	if slices.Sort(names); err != nil || !slices.Equal(names, []string{"a.jpg", "c.jpg", "deep/er/b [1]*.jpg"}) {
		t.Errorf("%q %v", names, err)
	}
	for _, c := range []struct {
		only []string
		has  int
	}{{nil, 2}, {[]string{filepath.Join(files, "deep/er/b [1]*.jpg")}, 1}} {
		to := t.TempDir()
		if err := r.Restore(t.Context(), list[0].ID, to, c.only); err != nil {
			t.Fatal(err)
		}
		back, err := os.ReadFile(filepath.Join(to, files, "deep/er/b [1]*.jpg"))
		got := 0
		filepath.WalkDir(to, func(_ string, d os.DirEntry, _ error) error { //nolint:errcheck // it counts
			if d.Type().IsRegular() {
				got++
			}
			return nil
		})
		if err != nil || string(back) != "two" || got != c.has {
			t.Errorf("%q: %q %v, %d files", c.only, back, err, got)
		}
	}
	if err := r.Check(t.Context(), "100%"); err != nil {
		t.Error(err)
	}
}

// TestWhatResticPassesOver: sources that are not there, and files that cannot
// be read. A process's memory is a file that even root reads in vain.
func TestWhatResticPassesOver(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	_, err := r.Backup(t.Context(), source(files, filepath.Join(files, "gone")), nil)
	want(t, err, fault.NoFiles, "uploads/gone")
	if list, _ := r.Snapshots(t.Context(), ""); len(list) > 0 {
		t.Error("a snapshot was taken")
	}
	got, err := r.Backup(t.Context(), source(files, fmt.Sprintf("/proc/%d/mem", os.Getpid())), nil)
	want(t, err, fault.Partial, "mem")
	if got.Missed != 1 || len(got.Unread) != 1 || got.Snapshot == "" || got.Files != 2 {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	wrong := *r
	wrong.Password = "guessed"
	_, err := wrong.Backup(t.Context(), source(files), nil)
	want(t, err, fault.WrongKey, "password")
	if strings.Contains(err.Error(), "guessed") {
		t.Error("the error holds the password")
	}
	none := *r
	none.Location += "-elsewhere"
	_, err = none.Snapshots(t.Context(), "")
	want(t, err, fault.NotFound, "elsewhere")
	_, err = Find(t.Context(), "/no/restic")
	want(t, err, fault.NoRestic, "/no/restic")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err = r.Backup(ctx, source(files), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDamage: what is flipped is found by reading, and a restore says so.
func TestDamage(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	write(t, files, map[string]string{"big": noise(100_000)})
	if _, err := r.Backup(t.Context(), source(files), nil); err != nil {
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(r.Location, "data/*/*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, pack := range packs {
		data, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 10_000 {
			continue // trees, which every check reads
		}
		data[20] ^= 1
		if err := errors.Join(os.Chmod(pack, 0o600), os.WriteFile(pack, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Check(t.Context(), ""); err != nil {
		t.Error("without reading it was found:", err)
	}
	want(t, r.Check(t.Context(), "100%"), fault.Damaged, "check")
	want(t, r.CheckUnlocked(t.Context(), "100%"), fault.Damaged, "check")
	uncached := *r
	uncached.Cache = ""
	if err := uncached.Restore(t.Context(), "latest", t.TempDir(), nil); err == nil {
		t.Error("it was restored")
	}
}

// TestLocks: a lock of a process that is gone is removed, one of a living
// process or of another machine is not.
func TestLocks(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	for i := range 200 {
		write(t, files, map[string]string{fmt.Sprintf("many/%d", i): strings.Repeat("x", 10_000+i)})
	}
	// A real one, of a restic that is killed with its lock taken.
	killed := exec.Command("restic", r.arguments([]string{"backup", "--limit-upload", "1", "--stdin", "--stdin-filename", "x"})...)
	killed.Env = r.environment()
	in, err := killed.StdinPipe()
	if err == nil {
		err = killed.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var locks []Lock
	for len(locks) == 0 {
		if locks, err = r.Locks(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if locks[0].Dead() || locks[0].PID != killed.Process.Pid {
		t.Errorf("%+v", locks)
	}
	want(t, r.Check(t.Context(), ""), fault.Locked, fmt.Sprint("process ", killed.Process.Pid))
	killed.Process.Kill() //nolint:errcheck // it runs
	killed.Wait()         //nolint:errcheck // it was killed
	if !locks[0].Dead() {
		t.Error("a lock of the dead counts")
	}
	if err := r.Check(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if locks, _ = r.Locks(t.Context()); len(locks) > 0 {
		t.Error(locks)
	}

	host, _ := os.Hostname()
	gone := killed.Process.Pid
	now := time.Now()
	for _, c := range []struct {
		l    Lock
		dead bool
	}{
		{Lock{Hostname: host, PID: gone, Time: now}, true},
		{Lock{Hostname: "elsewhere", PID: gone, Time: now.Add(-1000 * time.Hour)}, false},
		{Lock{Hostname: host, PID: os.Getpid(), Time: now}, false},
		{Lock{Hostname: host, PID: os.Getpid(), Time: now.Add(-1000 * time.Hour)}, true}, // the number was given again
		{Lock{Hostname: host, PID: 0, Time: now}, false},
	} {
		if c.l.Dead() != c.dead {
			t.Errorf("%+v: dead is %v", c.l, !c.dead)
		}
	}
}

// noise does not compress.
func noise(n int) string {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data) //nolint:errcheck // never fails
	return string(data)
}

// TestInterrupted: a restic that is asked to stop leaves no lock.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	write(t, files, map[string]string{"big": noise(4 << 20)})
	ctx, stop := context.WithCancel(t.Context())
	r.Limit = 64 << 10
	_, err := r.Backup(ctx, source(files), func(p Progress) {
		if p.TotalFiles > 0 {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.Limit = 0
	if locks, err := r.Locks(t.Context()); err != nil || len(locks) > 0 {
		t.Error(locks, err)
	}
}

func TestPlanAndForget(t *testing.T) {
	t.Parallel()
	r, files := repository(t)
	if keep, remove, err := r.Plan(t.Context(), "emsafe", Keep{Last: 1}); err != nil || len(keep)+len(remove) > 0 {
		t.Error(keep, remove, err)
	}
	for range 3 {
		if _, err := r.Backup(t.Context(), source(files), nil); err != nil {
			t.Fatal(err)
		}
	}
	keep, remove, err := r.Plan(t.Context(), "emsafe", Keep{Last: 1})
	if err != nil || len(keep) != 1 || len(remove) != 2 {
		t.Fatal(keep, remove, err)
	}
	if err := r.Forget(t.Context(), remove[0].ID, remove[1].ID); err != nil {
		t.Fatal(err)
	}
	left, err := r.Snapshots(t.Context(), "")
	if err != nil || len(left) != 1 || left[0].ID != keep[0].ID {
		t.Error(left, err)
	}
	if keep, remove, err = r.Plan(t.Context(), "emsafe", Keep{}); err != nil || len(keep) != 1 || len(remove) != 0 {
		t.Error(keep, remove, err)
	}
}
