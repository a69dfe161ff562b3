package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
	"emsafe/storage/storagetest"
)

// chainOf is a database that is backed up again and again, with what it was
// each time.
type chainOf struct {
	t      *testing.T
	r      *rand.Rand
	job    backup.Job
	bucket storage.Bucket
	ids    seal.Identities
	images map[string][]byte // by backup
	order  []string
	kinds  map[string]int
}

func newChainOf(t *testing.T, r *rand.Rand) *chainOf {
	t.Helper()
	dir := t.TempDir()
	key, _, err := seal.NewSigningKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signers, err := seal.ParseSigners([]byte(key.AllowedSigners("*")))
	if err != nil {
		t.Fatal(err)
	}
	secret, recipient, err := seal.NewIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := seal.ParseIdentities([]byte(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipients(recipient)
	if err != nil {
		t.Fatal(err)
	}
	c := &chainOf{t: t, r: r, ids: ids, bucket: storagetest.Memory(), images: map[string][]byte{}, kinds: map[string]int{}}
	c.job = backup.Job{
		Database: "app", Path: filepath.Join(dir, "app.db"), Recipients: to, Key: key, Signers: signers, Host: "test",
		State: filepath.Join(dir, "state"), Policy: backup.Policy{FullShare: 100}, Heartbeat: true,
		Targets: []storage.Target{{Name: "a", Open: func(context.Context) (storage.Bucket, error) { return c.bucket, nil }}},
	}
	c.sql(fmt.Sprintf("PRAGMA page_size=%d; PRAGMA auto_vacuum=%d; PRAGMA journal_mode=%s; CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB);",
		512<<r.IntN(8), r.IntN(3), []string{"wal", "delete"}[r.IntN(2)]) +
		fmt.Sprintf("INSERT INTO t (v) SELECT randomblob(300) FROM generate_series(1, %d);", 20+r.IntN(400)))
	return c
}

func (c *chainOf) sql(text string) {
	c.t.Helper()
	if out := sqlite3(c.job.Path, text); strings.Contains(out, "rror") {
		c.t.Fatalf("%s: %s", text, out)
	}
}

// change does something to the database, or nothing.
func (c *chainOf) change() {
	c.t.Helper()
	switch c.r.IntN(9) {
	case 0:
	case 1:
		c.sql(fmt.Sprintf("DELETE FROM t WHERE id > (SELECT max(id) * %d / 10 FROM t);", 3+c.r.IntN(7)))
	case 2:
		c.sql("VACUUM;")
	case 3:
		c.sql("PRAGMA incremental_vacuum(20);")
	case 4:
		c.sql(fmt.Sprintf("INSERT INTO t (v) SELECT randomblob(%d) FROM generate_series(1, %d);", c.r.IntN(2000), c.r.IntN(200)))
	case 5:
		if c.r.IntN(4) == 0 {
			c.sql(fmt.Sprintf("PRAGMA journal_mode=delete; PRAGMA page_size=%d; VACUUM;", 512<<c.r.IntN(8)))
		}
	default:
		c.sql(fmt.Sprintf("UPDATE t SET v = randomblob(length(v)) WHERE id %% %d = 0;", 2+c.r.IntN(90)))
	}
}

// backup takes one, of a database that nobody has open, and keeps what it was.
func (c *chainOf) backup() {
	c.t.Helper()
	c.job.Full = c.r.IntN(12) == 0
	out, err := backup.Database(c.t.Context(), c.job)
	if err != nil {
		c.t.Fatal(err)
	}
	image, err := os.ReadFile(c.job.Path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.images[out.ID] = image
	c.order = append(c.order, out.ID)
	c.kinds[out.Kind]++
}

func (c *chainOf) restored(id string) ([]byte, *restore.Plan) {
	c.t.Helper()
	to := filepath.Join(filepath.Dir(c.job.Path), "restored.db")
	plan, err := restore.Choose(c.t.Context(), restore.Request{
		Database: "app", Wanted: catalog.Wanted{ID: id}, Targets: c.job.Targets, Signers: c.job.Signers, Identities: c.ids, Destination: to, Check: "none",
	})
	if err != nil {
		c.t.Fatalf("%s: %v", id, err)
	}
	if _, err := plan.Run(c.t.Context()); err != nil {
		c.t.Fatalf("%s: %v", id, err)
	}
	data, err := os.ReadFile(to)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.Remove(to); err != nil {
		c.t.Fatal(err)
	}
	return data, plan
}

// TestRandomChains: whatever was done between the backups of a chain, every one
// of them restores to the byte, by a way that is not too long.
func TestRandomChains(t *testing.T) {
	t.Parallel()
	rng := random(t, 70)
	kinds, lengths := map[string]int{}, map[int]int{}
	for n := range 200 {
		steps := 2 + rng.IntN(4)
		if n%20 == 0 {
			steps = 20 // one fold at least
		}
		c := newChainOf(t, rand.New(rand.NewPCG(rng.Uint64(), 0)))
		for range steps {
			c.backup()
			c.change()
		}
		check := []string{c.order[len(c.order)-1], c.order[c.r.IntN(len(c.order))]}
		if os.Getenv("EMSAFE_SOAK") != "" {
			check = c.order
		}
		for _, id := range check {
			data, plan := c.restored(id)
			if !bytes.Equal(data, c.images[id]) {
				t.Fatalf("chain %d: %s of %v came back otherwise", n, id, c.order)
			}
			lengths[len(plan.Path)]++
			if len(plan.Path) > 62 {
				t.Errorf("a restore goes through %d payloads", len(plan.Path))
			}
		}
		if n%20 == 0 {
			v, err := restore.Verify(t.Context(), c.job.Targets[0], c.job.Signers, "app", restore.Depth{Open: true, Identities: c.ids})
			if err != nil || len(v.Problems) > 0 {
				t.Fatalf("verify: %v %v", err, v.Problems)
			}
		}
		for k, v := range c.kinds {
			kinds[k] += v
		}
	}
	t.Logf("backups: %v; payloads of a restore: %v", kinds, lengths)
	if kinds[catalog.KindDelta] == 0 || kinds[catalog.KindHeartbeat] == 0 {
		t.Error("no chain had a delta, or none a heartbeat")
	}
}

// TestLongChain goes through both kinds of folds.
func TestLongChain(t *testing.T) {
	t.Parallel()
	rng := random(t, 71)
	c := newChainOf(t, rng)
	c.job.Policy.FullShare = 1000000
	for n := range 300 {
		c.sql(fmt.Sprintf("UPDATE t SET v = randomblob(300) WHERE id = %d;", 1+n%20))
		c.job.Full = false
		out, err := backup.Database(t.Context(), c.job)
		if err != nil {
			t.Fatal(err)
		}
		image, _ := os.ReadFile(c.job.Path)
		c.images[out.ID] = image
		c.order = append(c.order, out.ID)
	}
	for _, n := range []int{0, 1, 15, 16, 17, 255, 256, 257, 272, 299} {
		data, plan := c.restored(c.order[n])
		if !bytes.Equal(data, c.images[c.order[n]]) {
			t.Errorf("number %d came back otherwise", n+1)
		}
		digits := n/256 + n/16%16 + n%16
		if len(plan.Path) != 1+digits {
			t.Errorf("number %d takes %d payloads, want %d", n+1, len(plan.Path), 1+digits)
		}
	}
}

// TestDamagedDeltas: what is missing, exchanged or damaged on the way to a
// backup is named, and what is offered instead restores.
func TestDamagedDeltas(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if out := sqlite3(h.path("app.db"), "CREATE TABLE ballast AS SELECT randomblob(100000);"); out != "" {
		t.Fatal(out)
	}
	for range 6 {
		h.must("backup")
		h.change()
	}
	folder := h.path("local/databases/app/")
	entries := h.entries()
	newest := entries[len(entries)-1]
	if len(newest.Ancestors) < 3 {
		t.Fatalf("the newest builds on %v", newest.Ancestors)
	}
	middle := newest.Ancestors[len(newest.Ancestors)-2]
	file := func(n uint64) string { return filepath.Join(folder, "manifests", fmt.Sprintf("%020d", n)) }
	payload := func(n uint64) string { return h.path("local/" + entries[n-1].Payload.Key) }
	last := newest.Ancestors[len(newest.Ancestors)-1]
	exchange := func(a, b string) func() {
		return func() {
			x, y := h.read(a), h.read(b)
			h.overwrite(a, y)
			h.overwrite(b, x)
		}
	}
	edit := func(name string, do func([]byte) []byte) func() {
		return func() { h.overwrite(name, do(h.read(name))) }
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for name, do := range map[string]func(){
		"payload gone":       func() { os.Remove(payload(middle)) },
		"payload cut":        edit(payload(middle), func(b []byte) []byte { return b[:len(b)-9] }),
		"payload flipped":    edit(payload(middle), flip),
		"payloads exchanged": exchange(payload(middle), payload(last)),
		"manifest gone":      func() { os.Remove(file(middle)) },
		"manifest flipped":   edit(file(middle), flip),
		"manifest copied":    edit(file(middle), func([]byte) []byte { return h.read(file(last)) }),
		"manifests swapped":  exchange(file(middle), file(last)),
	} {
		t.Run(name, func(t *testing.T) {
			saved := h.path("saved")
			if out, err := exec.Command("cp", "-a", h.path("local"), saved).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			do()
			p := h.start("restore", "app", "--to", h.path("x.db"), "--identity", h.path("key"))
			if code := p.end(); code != fault.Damaged.Exit {
				t.Errorf("exit %d\n%s", code, p.err.String())
			}
			said := p.err.String()
			if !regexp.MustCompile(fmt.Sprintf(`(number|manifest|manifests) (%d|%d)\b`, middle, last)).MatchString(said) && !strings.Contains(said, entries[middle-1].ID) {
				t.Errorf("it does not say which:\n%s", said)
			}
			if exists(h.path("x.db")) {
				t.Error("something was placed")
			}
			if offered := regexp.MustCompile(`--id (\S+)`).FindStringSubmatch(said); offered == nil {
				t.Errorf("nothing is offered:\n%s", said)
			} else {
				h.must("restore", "app", "--id", offered[1], "--to", h.path("x.db"), "--identity", h.path("key"), "--allow-broken-chain")
				if err := sqlite.Check(t.Context(), h.path("x.db"), "full"); err != nil {
					t.Error(err)
				}
			}
			err := errors.Join(os.Remove(h.path("x.db")), os.RemoveAll(h.path("local")), os.Rename(saved, h.path("local")))
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	h.must("verify", "--identity", h.path("key"))
}

// entries are the manifests of the target local, by the listing.
func (h *host) entries() []*catalog.Manifest {
	h.t.Helper()
	var list []*catalog.Manifest
	var doc struct {
		Backups []struct{ Manifest *catalog.Manifest }
	}
	if err := json.Unmarshal([]byte(h.must("list", "--json")), &doc); err != nil {
		h.t.Fatal(err)
	}
	for _, b := range doc.Backups {
		list = append(list, b.Manifest)
	}
	slices.SortFunc(list, func(a, b *catalog.Manifest) int { return int(a.Sequence) - int(b.Sequence) })
	return list
}

func (h *host) read(name string) []byte {
	h.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}

func (h *host) overwrite(name string, data []byte) {
	h.t.Helper()
	if err := errors.Join(os.Remove(name), os.WriteFile(name, data, 0o600)); err != nil {
		h.t.Fatal(err)
	}
}
