package page

import (
	"fmt"
	"math/rand/v2"
	"time"

	"emsafe/internal/report"
)

var sampleNow = time.Date(2026, 11, 23, 14, 20, 0, 0, time.UTC)

// sample is a host with three databases: one is well, one was and is in
// trouble, one is new.
func sample() Overview {
	random := rand.New(rand.NewPCG(3, 4))
	o := Overview{At: sampleNow, Host: "vm-fra-1", Version: "0.5.0", Daemon: "daemon running since 2026-11-02 03:10:44 UTC"}
	lock := sampleNow.AddDate(0, 0, 30)
	target := func(name, location string, sequence uint64, kind string, age time.Duration) Target {
		at := sampleNow.Add(-age)
		return Target{Name: name, Location: location, Backup: at.Format("20060102T150405Z") + "-5f3a9c21", Sequence: sequence, Kind: kind, AsOf: at}
	}
	app := Database{
		Name: "app", Path: "/srv/app/app.db", Schedule: "continuously, every 1 s", RPO: 60, RTO: 300, DrillSchedule: "weekly", DrillDue: sampleNow.AddDate(0, 0, 3), KeyProof: sampleNow.AddDate(0, -1, -4),
		Targets: []Target{target("main", "s3://backups-fra/emsafe", 88213, "delta", 2*time.Second), target("offsite", "file:///mnt/backup", 88190, "delta", 25*time.Second)},
		Restore: []Command{{"On this host, beside the live database:", "emsafe restore app --to /tmp/app.db --identity recovery.key"},
			{"On this host, in its place; the old one is kept:", "emsafe restore app --in-place --identity recovery.key"},
			{"On an empty machine:", "emsafe restore app --target s3://backups-fra/emsafe --allowed-signers ./allowed_signers --identity ./recovery.key --to app.db"}},
	}
	app.Targets[0].LockUntil = lock
	app.Days, app.Sizes = sampleDays(random, 210<<20, map[int]report.State{20: report.Missed, 21: report.Failed, 48: report.Overdue, 49: report.Overdue, 66: report.Unclear})
	billing := Database{
		Name: "billing", Path: "/srv/billing/billing.sqlite3", Schedule: "hourly", Next: sampleNow.Add(40 * time.Minute), RPO: 2 * 3600, RTO: 600, DrillSchedule: "weekly", DrillDue: sampleNow.AddDate(0, 0, -2),
		Targets: []Target{target("main", "s3://backups-fra/emsafe", 2110, "delta", 20*time.Minute), target("offsite", "file:///mnt/backup", 2101, "full", 9*time.Hour+24*time.Minute)},
		Spool:   Spool{Backups: 9, Bytes: 14 << 20, Oldest: sampleNow.Add(-9 * time.Hour)},
		Restore: []Command{{"On this host, beside the live database:", "emsafe restore billing --to /tmp/billing.db --identity recovery.key"}},
	}
	billing.Targets[1].Error = "the folder /mnt/backup is not there: is it mounted?"
	billing.Days, billing.Sizes = sampleDays(random, 31<<20, map[int]report.State{88: report.Overdue, 89: report.Overdue, 3: report.Missed})
	fresh := Database{Name: "sessions", Path: "/srv/app/sessions.db", Schedule: "daily at 02:00", Next: sampleNow.Add(11*time.Hour + 40*time.Minute), Targets: []Target{target("main", "s3://backups-fra/emsafe", 3, "heartbeat", 12*time.Hour)}}
	fresh.Days, fresh.Sizes = sampleDays(random, 900<<10, nil)
	for i := range fresh.Days[:87] {
		fresh.Days[i].State, fresh.Days[i].Note = report.Idle, ""
	}
	fresh.Sizes = fresh.Sizes[87:]
	o.Databases = []Database{app, billing, fresh}
	o.Filesets = []Fileset{{
		Name: "uploads", Paths: []string{"/srv/app/uploads"}, Databases: []string{"app"}, Schedule: "every 6h", Next: sampleNow.Add(2 * time.Hour), RPO: 8 * 3600,
		Targets: []FilesetTarget{{Name: "main", Location: "s3://backups-fra/emsafe", Point: "20261123T102000Z-0a41c7d2", At: sampleNow.Add(-4 * time.Hour), Files: 18211, Bytes: 3 << 30}, {Name: "offsite", Location: "file:///mnt/backup"}},
		Restore: []Command{{"On this host, both halves into a folder of their own:", "emsafe restore --point 20261123T102000Z-0a41c7d2 --to /tmp/uploads --identity recovery.key"}},
	}}
	o.Drills = sampleDrills(random)
	o.Stored = []Stored{
		{Target: "main", Location: "s3://backups-fra/emsafe", Tier: "STANDARD", Objects: 91204, Bytes: 9<<30 + 300<<20, LockUntil: lock, At: sampleNow.Add(-8 * time.Hour)},
		{Target: "main", Location: "s3://backups-fra/emsafe", Tier: "GLACIER_IR", Objects: 31, Bytes: 5 << 30, LockUntil: sampleNow.AddDate(1, 0, 0), At: sampleNow.Add(-8 * time.Hour)},
		{Target: "offsite", Location: "file:///mnt/backup", Tier: "folder", Objects: 90944, Bytes: 14 << 30, At: sampleNow.Add(-30 * time.Hour)},
	}
	return o
}

func sampleDays(random *rand.Rand, size int64, odd map[int]report.State) (days []report.Day, sizes []Size) {
	for i := range 90 {
		at := sampleNow.Truncate(24*time.Hour).AddDate(0, 0, i-89)
		d := report.Day{Date: at, State: report.OK, Note: "24 backups"}
		if s, ok := odd[i]; ok {
			d.State, d.Note = s, "a target did not answer"
		}
		size += size/300 + random.Int64N(size/200)
		days, sizes = append(days, d), append(sizes, Size{at, size})
	}
	return days, sizes
}

func sampleDrills(random *rand.Rand) []Drill {
	var list []Drill
	for week := range 12 {
		for i, name := range []string{"app", "billing"} {
			at := sampleNow.AddDate(0, 0, -3-7*week).Add(-time.Duration(i) * time.Hour)
			if name == "billing" && week == 0 {
				continue
			}
			rpo, rto := 2+random.Float64()*20, 41+random.Float64()*9
			d := Drill{ID: fmt.Sprintf("%s-%08x", at.Format("20060102T150405Z"), random.Uint32()), Number: uint64(12 - week), Database: name, At: at, State: report.OK, Verdict: "pass", RPO: &rpo, RTO: &rto, Report: true,
				Finding: fmt.Sprintf("The latest backup of %s restored in %s and passed all 7 checks.", name, report.Span(rto))}
			switch {
			case name == "app" && week == 4:
				rto = 372
				d.State, d.Verdict, d.Finding = report.Missed, "objective missed", "It restored, but took 6 min 12 s where the objective is 5 min."
			case name == "app" && week == 9:
				d.State, d.Verdict, d.RPO, d.RTO, d.Finding = report.Failed, "fail", nil, nil, "Part 3 of its payload is not what was signed."
			}
			list = append(list, d)
		}
	}
	return list
}
