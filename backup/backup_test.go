package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

func newJob(t *testing.T, targets ...storage.Target) Job {
	t.Helper()
	dir := t.TempDir()
	db := filepath.Join(dir, "app.db")
	if out, err := exec.Command("sqlite3", db, "CREATE TABLE t (v); INSERT INTO t VALUES ('x');").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	key, _, err := seal.NewSigningKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signers, err := seal.ParseSigners([]byte(key.AllowedSigners("*")))
	if err != nil {
		t.Fatal(err)
	}
	_, recipient, err := seal.NewIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipients(recipient)
	if err != nil {
		t.Fatal(err)
	}
	return Job{Database: "app", Path: db, Recipients: to, Key: key, Signers: signers, Host: "test", State: filepath.Join(dir, "state"), Targets: targets}
}

func in(name string, b storage.Bucket) storage.Target {
	return storage.Target{Name: name, Open: func(context.Context) (storage.Bucket, error) { return b, nil }}
}

func (j Job) spool() []string {
	left, _ := filepath.Glob(filepath.Join(j.State, "spool", "app", "*"))
	return left
}

// sequences reads a target's chain, held and verified.
func sequences(t *testing.T, j Job, b storage.Bucket) int {
	t.Helper()
	c, err := catalog.Open(t.Context(), b, j.Signers)
	if err != nil {
		t.Fatal(err)
	}
	chain := c.Chain("app")
	all, err := chain.Sequences(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	results, err := chain.Walk(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	if problems := catalog.Links(results, 1); len(problems) > 0 {
		t.Errorf("the chain does not hold: %v", problems)
	}
	return len(all)
}

func TestATargetThatIsDownFailsAlone(t *testing.T) {
	t.Parallel()
	up, flaky := storagetest.Memory(), storagetest.Memory()
	down := fault.New(fault.Storage, "connection refused")
	j := newJob(t, in("up", up), in("flaky", storagetest.Faulty(flaky, storagetest.Fault{Err: down})))
	for range 2 {
		_, err := Database(t.Context(), j)
		if f := fault.Find(err); f == nil || f.Kind != fault.Partial || !strings.Contains(err.Error(), "flaky") {
			t.Fatalf("%v", err)
		}
	}
	if len(j.spool()) != 4 {
		t.Errorf("spool: %q", j.spool())
	}
	j.Targets[1] = in("flaky", flaky)
	out, err := Database(t.Context(), j)
	if err != nil || out.Targets[1].Caught != 2 || len(j.spool()) != 0 {
		t.Fatalf("%+v %v, spool %q", out, err, j.spool())
	}
	if a, b := sequences(t, j, up), sequences(t, j, flaky); a != 3 || b != 3 {
		t.Errorf("%d and %d manifests", a, b)
	}
}

func TestAllTargetsDownKeepsTheBackup(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	j := newJob(t, in("main", storagetest.Faulty(b, storagetest.Fault{Op: storagetest.Create, Key: "payloads", Err: fault.New(fault.NoSpace, "quota")})))
	_, err := Database(t.Context(), j)
	f := fault.Find(err)
	if f == nil || f.Kind != fault.NoSpace || !strings.Contains(f.Safe, "spool") || len(j.spool()) != 2 {
		t.Fatalf("%v; spool %q", err, j.spool())
	}
}

// The reply to the manifest is lost: the commit is there once.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"manifests", "repository.json"} {
		b := storagetest.Memory()
		j := newJob(t, in("main", storagetest.Faulty(b, storagetest.Fault{Op: storagetest.Create, Key: key, Nth: 1, Effect: storagetest.LostReply})))
		for range 2 {
			if _, err := Database(t.Context(), j); err != nil && key == "manifests" {
				t.Fatalf("%s: %v", key, err)
			}
		}
		if n := sequences(t, j, b); n != 2 {
			t.Errorf("%s: %d manifests", key, n)
		}
	}
}

func TestLineage(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	first := newJob(t, in("main", b))
	if _, err := Database(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := newJob(t, in("main", b))
	second.Key, second.Signers = first.Key, first.Signers
	if _, err := Database(t.Context(), second); !errors.Is(err, fault.Foreign) {
		t.Errorf("another installation: %v", err)
	}
	second.TakeOver = true
	if _, err := Database(t.Context(), second); err != nil {
		t.Errorf("take-over: %v", err)
	}
	if _, err := Database(t.Context(), first); !errors.Is(err, fault.Foreign) {
		t.Errorf("the first after the take-over: %v", err)
	}
	// A clone has the state and is another machine.
	original := newJob(t, in("main", storagetest.Memory()))
	original.Machine = "a"
	if _, err := Database(t.Context(), original); err != nil {
		t.Fatal(err)
	}
	original.Machine = "b"
	if _, err := Database(t.Context(), original); !errors.Is(err, fault.Foreign) {
		t.Errorf("a clone: %v", err)
	}
}

func TestAVanishedRepositoryIsAnAlarm(t *testing.T) {
	t.Parallel()
	j := newJob(t, in("main", storagetest.Memory()))
	if _, err := Database(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	empty := storagetest.Memory()
	j.Targets = []storage.Target{in("main", empty)}
	if _, err := Database(t.Context(), j); !errors.Is(err, fault.RolledBack) {
		t.Errorf("%v", err)
	}
	j.TakeOver = true
	if _, err := Database(t.Context(), j); err != nil {
		t.Errorf("take-over: %v", err)
	}
}

// A snapshot that is given up and taken again ends the upload of the first.
func TestFeedStartsOver(t *testing.T) {
	t.Parallel()
	f := newFeed()
	defer f.close()
	dir := t.TempDir()
	create := func(name string) *os.File {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	w, err := f.start(create("a"))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := f.current(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := stream.reader(t.Context())
	w.Write([]byte("torn")) //nolint:errcheck // the read shows
	buf := make([]byte, 4)
	if _, err := io.ReadFull(r, buf); err != nil {
		t.Fatal(err)
	}
	if w, err = f.start(create("b")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(buf); !errors.Is(err, errRestarted) {
		t.Errorf("the reader of the torn stream got %v", err)
	}
	stream, err = f.current(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("whole")) //nolint:errcheck // the read shows
	f.finish(&spooled{ID: "x"})
	got, err := io.ReadAll(stream.reader(t.Context()))
	if err != nil || !bytes.Equal(got, []byte("whole")) {
		t.Errorf("%q %v", got, err)
	}
	if item, err := f.complete(t.Context()); err != nil || item.ID != "x" {
		t.Errorf("%+v %v", item, err)
	}
}

func TestInterruptedSealingLeavesNothing(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	j := newJob(t, in("main", b))
	ctx, cancel := context.WithCancel(t.Context())
	j.Progress = func(int64, int64) { cancel() }
	_, err := Database(ctx, j)
	if err == nil {
		t.Fatal("not interrupted")
	}
	for info := range b.List(t.Context(), "", "") {
		if strings.Contains(info.Key, "manifests") {
			t.Errorf("a manifest of an interrupted backup: %s", info.Key)
		}
	}
	j.Progress = nil
	if _, err := Database(t.Context(), j); err != nil {
		t.Errorf("the next run: %v", err)
	}
	if len(j.spool()) != 0 {
		t.Errorf("spool: %q", j.spool())
	}
}

func TestLockedByAnotherRun(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	j := newJob(t, in("main", b))
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	slow := j
	slow.Targets = []storage.Target{{Name: "main", Open: func(context.Context) (storage.Bucket, error) {
		close(entered)
		<-leave
		return b, nil
	}}}
	go func() { _, err := Database(t.Context(), slow); done <- err }()
	<-entered
	if _, err := Database(t.Context(), j); !errors.Is(err, fault.Locked) {
		t.Errorf("%v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A heartbeat is one request for an hour; then the target is looked at, and
// what it lost is noticed.
func TestHeartbeatsLookNowAndThen(t *testing.T) {
	t.Parallel()
	b := storagetest.Memory()
	job := newJob(t, in("a", b))
	job.Policy, job.Heartbeat = Policy{FullShare: 50}, true
	for _, want := range []string{catalog.KindFull, catalog.KindHeartbeat, catalog.KindHeartbeat} {
		if out, err := Database(t.Context(), job); err != nil || out.Kind != want {
			t.Fatalf("%+v %v", out, err)
		}
	}
	if err := b.Delete(t.Context(), "databases/app/manifests/00000000000000000003"); err != nil {
		t.Fatal(err)
	}
	job.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	out, err := Database(t.Context(), job)
	if !errors.Is(err, fault.RolledBack) || out.Kind != catalog.KindFull || out.Targets[0].Alarm == nil {
		t.Fatalf("%+v %v", out, err)
	}
}
