package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
	"emsafe/storage/storagetest"
)

// newChain makes a chain of n full backups without payloads in memory.
func newChain(t *testing.T, n int) (*Chain, *seal.SigningKey, []*Entry) {
	t.Helper()
	key, _, err := seal.NewSigningKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signers, err := seal.ParseSigners([]byte(key.AllowedSigners("*")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Create(t.Context(), storagetest.Memory(), key, signers, strings.Repeat("a", 32), "host", noon)
	if err != nil {
		t.Fatal(err)
	}
	ch := c.Chain("app")
	head := Head{Repository: c.Repository}
	var entries []*Entry
	for i := range n {
		e, err := ch.Add(t.Context(), key, head, manifest(i))
		if err != nil {
			t.Fatal(err)
		}
		head = e.Head()
		entries = append(entries, e)
	}
	return ch, key, entries
}

func manifest(i int) Manifest {
	at := noon.Add(time.Duration(i) * time.Second)
	return Manifest{
		Host: "host", Lineage: "l", ID: fmt.Sprintf("%s-%08x", at.Format("20060102T150405Z"), i), Kind: KindFull, SnapshotAt: at, CommittedAt: at.Add(time.Millisecond),
		Payload: &Payload{Key: PayloadKey("app", fmt.Sprint(i)), Sealed: seal.Sealed{Size: 1, PartSize: seal.PartSize, Parts: []seal.Digest{seal.Sum(nil)}}},
		Content: seal.Content{Size: 4096, PageSize: 4096, Pages: 1},
	}
}

func (ch *Chain) results(t *testing.T) []Result {
	t.Helper()
	sequences, err := ch.Sequences(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	results, err := ch.Walk(t.Context(), sequences)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// prune removes manifests the way it is done.
func prune(t *testing.T, ch *Chain, key *seal.SigningKey, gone ...*Entry) {
	t.Helper()
	records, err := ch.Prunes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.AddPrune(t.Context(), key, records, Prune{PrunedAt: noon, Removed: Runs(gone)}); err != nil {
		t.Fatal(err)
	}
	for _, e := range gone {
		if err := ch.DeleteManifest(t.Context(), e.Sequence); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPruneRecordsBridgeGaps(t *testing.T) {
	t.Parallel()
	ch, key, e := newChain(t, 12)
	prune(t, ch, key, e[0], e[1], e[4])
	prune(t, ch, key, e[5], e[7], e[8]) // beside a gap, and a new one
	prune(t, ch, key, e[2])             // between two gaps
	if problems := ch.Links(t.Context(), ch.results(t), 1); len(problems) > 0 {
		t.Fatal(problems)
	}
	// One more that no record names, inside a gap's edge, and at the start.
	for _, gone := range []uint64{7, 10, 4} {
		if err := ch.DeleteManifest(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		problems := ch.Links(t.Context(), ch.results(t), 1)
		if len(problems) == 0 || !errors.Is(problems[0], fault.BrokenChain) {
			t.Errorf("manifest %d was stolen: %v", gone, problems)
		}
	}
}

func TestPruneRecordsAreNotForged(t *testing.T) {
	t.Parallel()
	ch, key, e := newChain(t, 6)
	stranger, _, _ := seal.NewSigningKey("stranger")
	if _, err := ch.AddPrune(t.Context(), stranger, nil, Prune{PrunedAt: noon, Removed: Runs(e[1:2])}); !errors.Is(err, fault.Forged) {
		t.Fatalf("a stranger's record: %v", err)
	}
	if records, err := ch.Prunes(t.Context()); err != nil || len(records) > 0 {
		t.Fatalf("it was stored: %v %v", records, err)
	}
	prune(t, ch, key, e[1])
	object, _ := storage.ReadAll(t.Context(), ch.Bucket, pruneKey("app", 1), maxPrune)
	for name, c := range map[string]struct {
		key   string
		bytes []byte
	}{
		"copied":       {pruneKey("app", 2), object},
		"a gap":        {pruneKey("app", 3), object},
		"a manifest":   {pruneKey("app", 2), e[0].Object},
		"no signature": {pruneKey("app", 2), object[:len(object)/2]},
	} {
		if err := create(t.Context(), ch.Bucket, c.key, c.bytes); err != nil {
			t.Fatal(err)
		}
		if records, err := ch.Prunes(t.Context()); err != nil || len(records) != 1 {
			t.Errorf("%s: %d records, %v", name, len(records), err)
		}
		if told := ch.Tampered(); len(told) != 1 || fault.Find(told[0]) == nil {
			t.Errorf("%s: told as %v", name, told)
		}
		// It stands in nobody's way.
		records, _ := ch.Prunes(t.Context())
		added, err := ch.AddPrune(t.Context(), key, records, Prune{PrunedAt: noon, Host: "host", Removed: Runs(e[2:3])})
		if err != nil || added.Number < 2 || pruneKey("app", added.Number) == c.key {
			t.Errorf("%s: %v %v", name, added, err)
			continue
		}
		if records, err := ch.Prunes(t.Context()); err != nil || len(records) != 2 || len(ch.Tampered()) != 1 {
			t.Errorf("%s: then %d records, %v, %v", name, len(records), err, ch.Tampered())
		}
		if err := ch.Bucket.Delete(t.Context(), pruneKey("app", added.Number)); err != nil {
			t.Fatal(err)
		}
		if err := ch.Bucket.Delete(t.Context(), c.key); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLostPruneRecord: the gap that it bridged is an alarm, and what others say
// still counts.
func TestLostPruneRecord(t *testing.T) {
	t.Parallel()
	ch, key, e := newChain(t, 8)
	prune(t, ch, key, e[1])
	prune(t, ch, key, e[3])
	prune(t, ch, key, e[5])
	if err := ch.Bucket.Delete(t.Context(), pruneKey("app", 2)); err != nil {
		t.Fatal(err)
	}
	records, err := ch.Prunes(t.Context())
	if err != nil || len(records) != 2 {
		t.Fatal(records, err)
	}
	if told := ch.Tampered(); len(told) != 1 || !errors.Is(told[0], fault.BrokenChain) {
		t.Error(told)
	}
	if problems := ch.Links(t.Context(), ch.results(t), 1); len(problems) != 1 || !strings.Contains(problems[0].Error(), "manifest 4 is missing") {
		t.Error(problems)
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	_, _, e := newChain(t, 9)
	runs := Runs([]*Entry{e[0], e[1], e[3], e[6], e[7], e[8]})
	p := Prune{Removed: runs}
	if got := p.String(); got != "1 to 2, 4, 7 to 9" {
		t.Errorf("%s", got)
	}
	for n := range uint64(10) {
		if want := slices.Contains([]uint64{1, 2, 4, 7, 8, 9}, n); p.Covers(n) != want {
			t.Errorf("%d: %v", n, !want)
		}
	}
}

// Segments give what the manifests alone give, with few requests.
func TestSegments(t *testing.T) {
	t.Parallel()
	ch, _, e := newChain(t, SegmentSize+20)
	var objects []byte
	for _, one := range e[:SegmentSize] {
		objects = append(objects, one.Object...)
	}
	if err := ch.AddSegment(t.Context(), 1, objects[:len(objects)-10]); err == nil {
		t.Error("a segment that is cut off was stored")
	}
	if err := ch.AddSegment(t.Context(), 2, objects); err == nil {
		t.Error("a segment was stored in another one's place")
	}
	alone := ch.results(t)
	if err := ch.AddSegment(t.Context(), 1, objects); err != nil {
		t.Fatal(err)
	}
	if err := ch.DeleteManifest(t.Context(), 500); err != nil { // it would be missed if it were read
		t.Fatal(err)
	}
	sequences := make([]uint64, len(alone))
	for i := range alone {
		sequences[i] = alone[i].Sequence
	}
	got, err := ch.Walk(t.Context(), sequences)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i].Err != nil || got[i].Entry.Digest != alone[i].Entry.Digest {
			t.Fatalf("manifest %d: %v", got[i].Sequence, got[i].Err)
		}
	}
	// A damaged one is passed over.
	ch.Bucket.Delete(t.Context(), segmentKey("app", 1)) //nolint:errcheck // the next create tells
	objects[len(objects)/3] ^= 1
	if err := create(t.Context(), ch.Bucket, segmentKey("app", 1), objects); err != nil {
		t.Fatal(err)
	}
	if got, err = ch.Walk(t.Context(), sequences); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if missing := got[i].Sequence == 500; (got[i].Err != nil) != missing {
			t.Fatalf("manifest %d: %v", got[i].Sequence, got[i].Err)
		}
	}
}

// A full backup is committed after deltas that are newer.
// TestFindByNumber: the clock was an hour ahead for a while. What was committed
// after that is newer, whatever its time says.
func TestFindByNumber(t *testing.T) {
	t.Parallel()
	ch, key, e := newChain(t, 5)
	head := e[4].Head()
	for i, off := range []time.Duration{time.Hour, time.Hour, 0, 0} {
		m := manifest(10 + i)
		m.SnapshotAt, m.CommittedAt = m.SnapshotAt.Add(off), m.CommittedAt.Add(off)
		added, err := ch.Add(t.Context(), key, head, m)
		if err != nil {
			t.Fatal(err)
		}
		head = added.Head()
	}
	for _, c := range []struct {
		w      Wanted
		want   uint64
		uneven bool
	}{
		{Wanted{}, 9, false},
		{Wanted{At: noon.Add(2 * time.Hour)}, 9, false},
		{Wanted{At: noon.Add(12 * time.Second)}, 8, false},
		{Wanted{At: noon.Add(8 * time.Second)}, 5, true},
		{Wanted{ID: "#7"}, 7, true},
	} {
		found, err := ch.Find(t.Context(), c.w)
		if err != nil || found.Entry.Sequence != c.want || (found.Uneven() != "") != c.uneven {
			t.Errorf("%+v: %v %v, want %d", c.w, found, err, c.want)
		}
	}
}

func TestFindByTime(t *testing.T) {
	t.Parallel()
	ch, key, e := newChain(t, 200)
	late := manifest(300)
	late.SnapshotAt, late.CommittedAt = e[150].SnapshotAt.Add(500*time.Millisecond), e[199].CommittedAt.Add(time.Millisecond)
	if _, err := ch.Add(t.Context(), key, e[199].Head(), late); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		w    Wanted
		want uint64
	}{
		{Wanted{}, 200},
		{Wanted{At: noon.Add(time.Hour)}, 200},
		{Wanted{At: noon.Add(199 * time.Second)}, 200},
		{Wanted{At: noon.Add(180 * time.Second)}, 181},
		{Wanted{At: noon.Add(150*time.Second + 700*time.Millisecond)}, 201},
		{Wanted{At: noon.Add(150 * time.Second)}, 151},
		{Wanted{At: noon}, 1},
		{Wanted{ID: e[77].ID}, 78},
		{Wanted{ID: "#78"}, 78},
	} {
		found, err := ch.Find(t.Context(), c.w)
		if err != nil || found.Entry.Sequence != c.want {
			t.Errorf("%+v: %v %v, want %d", c.w, found, err, c.want)
			continue
		}
		if problems := Links(found.Since, 0); len(problems) > 0 || found.Head().Sequence != 201 {
			t.Errorf("%+v: %v", c.w, problems)
		}
	}
	if _, err := ch.Find(t.Context(), Wanted{At: noon.Add(-time.Second)}); !errors.Is(err, fault.NoBackupAt) {
		t.Errorf("before all: %v", err)
	}
}
