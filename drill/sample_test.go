package drill

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"emsafe/storage/seal"
)

// sampleStart is the first day of the quarter that the samples are of.
var sampleStart = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

type sampler struct {
	t      *testing.T
	key    *seal.SigningKey
	random *rand.Rand
	last   map[string]Signed
}

func newSampler(t *testing.T) *sampler {
	t.Helper()
	key, _, err := seal.NewSigningKey("vm")
	if err != nil {
		t.Fatal(err)
	}
	return &sampler{t, key, rand.New(rand.NewPCG(1, 2)), map[string]Signed{}}
}

// report is one drill that went well; edit makes it another.
func (s *sampler) report(database string, at time.Time, edit func(*Report)) Signed {
	s.t.Helper()
	before := s.last[database]
	r := Report{
		Format: Format, Number: before.Report.Number + 1, Host: "vm-fra-1", Operator: "schedule", Database: database,
		ID: fmt.Sprintf("%s-%08x", at.Format("20060102T150405Z"), s.random.Uint32()), Previous: before.Digest(),
		Versions: []string{"emsafe 0.5.0", "SQLite 3.54.1", "go1.26.8"},
		Slot:     at.Truncate(time.Minute), Started: at, Verdict: Pass,
		RPO:       Measured{Objective: 3600, Known: true, How: "newest-row", Achieved: 600 + float64(s.random.IntN(1500)), Before: before.Report.RPO.Achieved},
		RTO:       Measured{Objective: 300, Known: true, How: "clock", Achieved: 3 + s.random.Float64()*2, Before: before.Report.RTO.Achieved},
		NotTested: []string{"The recovery key: this drill used the drill key.", "Another region than fra.", "The start of the application: no service check is configured."},
		KeyProof:  &KeyProof{At: sampleStart.Add(9*24*time.Hour + 8*time.Hour), Recipient: "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqsnlmq5p", Backup: "20261010T080000Z-00c0ffee"},
	}
	r.Restores = []Restored{s.restored(r, "latest", 312), s.restored(r, "random", 188)}
	r.Finding = fmt.Sprintf("Backup number 312 of %s was restored from the bucket in %.1f s and passed all %d checks.", database, r.RTO.Achieved, len(r.Restores[0].Checks))
	if edit != nil {
		edit(&r)
	}
	if r.Ended.IsZero() {
		r.Ended = at.Add(time.Duration((r.RTO.Achieved*2 + 1.4) * float64(time.Second)))
	}
	signed := s.sign(r)
	s.last[database] = signed
	return signed
}

func (s *sampler) sign(r Report) Signed {
	s.t.Helper()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		s.t.Fatal(err)
	}
	object, err := s.key.Sign(seal.NamespaceReport, append(text, '\n'))
	if err != nil {
		s.t.Fatal(err)
	}
	return Signed{Report: r, Object: object, Signer: "vm-fra-1 " + s.key.Fingerprint()}
}

func (s *sampler) restored(r Report, why string, sequence uint64) Restored {
	x := Restored{
		Verdict: Pass, Why: why, Target: "main", Location: "s3://backups-fra/emsafe", Backup: fmt.Sprintf("%s-%08x", r.Started.Add(-20*time.Minute).Format("20060102T150405Z"), sequence),
		Sequence: sequence, Kind: "delta", Manifest: seal.Sum([]byte(r.ID + why)), Head: 312, SnapshotAt: r.Started.Add(-20 * time.Minute), CommittedAt: r.Started.Add(-19 * time.Minute),
		Path: []string{"20261001T000000Z-aaaaaaaa", "20261002T000000Z-bbbbbbbb", "20261002T010000Z-cccccccc"}, Fetched: 187 << 20, Size: 512 << 20,
		Digest: seal.Sum([]byte("pages" + r.ID)).String(), Schema: seal.Sum([]byte("schema")).String(),
		Recipients: []string{"age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqsnlmq5p", "age1drl8szqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqsw3k2f"}, Identity: "drill key on this host",
	}
	at, share := 0.0, r.RTO.Achieved
	for _, p := range []struct {
		name  string
		share float64
		bytes int64
	}{
		{"pick", .02, 0}, {"signature and chain", .03, 41 << 10}, {"fetch", .34, 187 << 20}, {"decrypt", .08, 187 << 20}, {"decompress and apply", .16, 512 << 20},
		{"page digest", .07, 512 << 20}, {"integrity_check", .19, 512 << 20}, {"foreign_key_check", .03, 0}, {"assertions", .05, 0}, {"source not touched", .01, 0}, {"teardown", .02, 0},
	} {
		x.Phases = append(x.Phases, Phase{Name: p.name, Start: at, Seconds: share * p.share, Bytes: p.bytes, Verdict: Pass})
		at += share * p.share
	}
	x.Checks = []Check{
		{"integrity_check", "integrity", Pass, "ok", "ok", .61}, {"foreign_key_check", "foreign-keys", Pass, "no row", "no row", .09},
		{"fts notes_index", "fts", Pass, "consistent", "consistent", .04}, {"schema", "schema", Pass, "as in the drill before", "as in the drill before", .001},
		{"orders are there", "sql", Pass, "at least 40 000", "45 815", .003}, {"newest order", "fresh", Pass, "newer than 1 h", "20 min 4 s", .002},
		{"rows of orders", "rows", Pass, "at least 45 300 (99 % of the drill before)", "45 815", .004},
	}
	return x
}

func (s *sampler) missed(database string, at time.Time) Signed {
	return s.report(database, at, func(r *Report) {
		r.Verdict, r.RTO.Achieved = Missed, 412.6
		r.Restores[0].Verdict = Missed
		for i := range r.Restores[0].Phases {
			p := &r.Restores[0].Phases[i]
			p.Start, p.Seconds = p.Start*80, p.Seconds*80
		}
		r.Finding = "The backup restored and passed its checks, but it took 6 min 53 s where the objective is 5 min: the fetch from the bucket ran at 0.6 MiB/s."
		r.Actions = []Action{{What: "Ask the provider why the bucket was slow from 08:00 to 08:10", Owner: "Mina", Due: at.Add(72 * time.Hour)}}
	})
}

func (s *sampler) failed(database string, at time.Time) Signed {
	return s.report(database, at, func(r *Report) {
		r.Verdict = Fail
		r.RPO.Known, r.RTO.Known = false, false
		x := &r.Restores[0]
		x.Verdict, x.Reason = Fail, "damaged"
		x.Phases, x.Checks = x.Phases[:3], nil
		x.Phases[2].Verdict, x.Phases[2].Error = Fail, "part 3 of 24 (bytes 16777216 to 25165824) of payload 9f3c0a.age does not match its signed hash"
		c := &r.Restores[1].Checks[4]
		c.Verdict, c.Got = Fail, "39 102"
		r.Restores[1].Verdict, r.Restores[1].Reason = Fail, "shrunken-table"
		r.Finding = "The latest backup cannot be restored from the bucket: part 3 of its payload is not what was signed."
		r.Actions = []Action{
			{What: "Take a full backup and drill it", Owner: "Mina", Due: at.Add(24 * time.Hour), Done: at.Add(2 * time.Hour)},
			{What: "Find out who wrote to the bucket", Owner: "Jonas", Due: at.Add(-time.Hour)}, {What: "Turn on Object Lock"},
		}
	})
}

func (s *sampler) inconclusive(database string, at time.Time) Signed {
	return s.report(database, at, func(r *Report) {
		r.Verdict, r.RPO.Known, r.RTO.Known = Inconclusive, false, false
		x := &r.Restores[0]
		x.Verdict, x.Phases, x.Checks = Inconclusive, x.Phases[:3], nil
		x.Phases[2].Verdict, x.Phases[2].Error = Inconclusive, "the scratch place /var/tmp has 80 MiB free and 512 MiB are needed"
		r.Restores = r.Restores[:1]
		r.Finding = "The drill could not be carried out: the scratch place has no room. It says nothing about the backup and is to be repeated."
	})
}

// quarter is weekly drills of two databases from October to December: one is
// missing, one was slow, one failed and was repeated, one had no room.
func (s *sampler) quarter() []Signed {
	var all []Signed
	for week := range 13 {
		at := sampleStart.Add(time.Duration(week)*7*24*time.Hour + 8*time.Hour + time.Duration(s.random.IntN(40))*time.Second)
		switch week {
		case 4:
			all = append(all, s.missed("app", at))
		case 8:
			all = append(all, s.failed("app", at), s.report("app", at.Add(3*time.Hour), func(r *Report) { r.Operator, r.Slot = "mina", time.Time{} }))
		default:
			all = append(all, s.report("app", at, nil))
		}
		at = at.Add(30 * time.Minute)
		switch week {
		case 2: // the host was off
		case 6:
			all = append(all, s.inconclusive("billing", at), s.report("billing", at.Add(time.Hour), func(r *Report) { r.Slot = time.Time{} }))
		default:
			all = append(all, s.report("billing", at, nil))
		}
	}
	return all
}
