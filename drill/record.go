package drill

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

// Local reads the reports that this host keeps of a database, oldest first.
// Those that are not right, or do not follow the one before, are errors and
// hide no others.
func Local(state string, signers seal.Signers, database, host string) ([]Signed, []error) {
	all, bad, err := (&Library{}).Local(state, signers)
	if err != nil {
		return nil, []error{err}
	}
	list := slices.DeleteFunc(all, func(s Signed) bool { return s.Report.Database != database || s.Report.Host != host })
	slices.SortFunc(list, func(a, b Signed) int { return cmp.Compare(a.Report.Number, b.Report.Number) })
	return list, append(bad, links(list)...)
}

// Stored reads the reports of a database in a target, of all hosts, by host and
// number; at most the newest last of each host, if last is not 0. Versions are as
// in [Library.Read].
func Stored(ctx context.Context, bucket storage.Bucket, signers seal.Signers, database string, last int) (list []Signed, bad []error, err error) {
	prefix := inTargets + database + "/"
	library := &Library{}
	bucket = storage.Past(bucket)
	keys := map[string][]string{}
	var hosts []string
	for info, err := range bucket.List(ctx, prefix, "") {
		if err != nil {
			return nil, nil, err
		}
		host, name, ok := strings.Cut(info.Key[len(prefix):], "/")
		if _, is := numberOf(name); !ok || !is {
			continue
		}
		if len(keys[host]) == 0 {
			hosts = append(hosts, host)
		}
		keys[host] = append(keys[host], name)
	}
	for _, host := range hosts {
		names := keys[host]
		if last > 0 {
			names = names[max(0, len(names)-last):]
		}
		var of []Signed
		for _, name := range names {
			key := reportsOf(database, host) + name
			rec, err := library.read(bucket.String()+" "+key, signers, inTarget, func() ([]byte, error) { return fetch(ctx, bucket, key, signers) })
			switch {
			case ofObject(err):
				bad = append(bad, err)
				continue
			case err != nil:
				return list, bad, err
			}
			of = append(of, rec)
		}
		bad = append(bad, links(of)...)
		list = append(list, of...)
	}
	return list, bad, nil
}

// links holds consecutive reports of one host against each other.
func links(list []Signed) []error {
	var bad []error
	for i := 1; i < len(list); i++ {
		before, r := list[i-1], list[i].Report
		switch {
		case r.Number != before.Report.Number+1:
			bad = append(bad, fault.New(fault.BrokenChain, "reports %d to %d of %s on %s are missing", before.Report.Number+1, r.Number-1, r.Database, r.Host))
		case r.Previous != seal.Sum(before.Object):
			bad = append(bad, fault.New(fault.BrokenChain, "report %d of %s on %s does not follow the one before it", r.Number, r.Database, r.Host))
		}
	}
	return bad
}

// Drilled are the backups of a database that a drill has passed, by id, as far
// as this host knows or the target's newest reports say. A target that cannot
// be read says nothing.
func Drilled(ctx context.Context, state, database string, bucket storage.Bucket, signers seal.Signers) map[string]time.Time {
	m, _ := Remember(state, database) //nolint:errcheck // what cannot be read is not known
	if bucket == nil {
		return m.Drilled
	}
	const newest = 60
	list, _, _ := Stored(ctx, bucket, signers, database, newest) //nolint:errcheck // as said
	for _, rec := range list {
		for _, x := range rec.Report.Restores {
			if x.Verdict == Pass && rec.Report.Started.After(m.Drilled[x.Backup]) {
				m.Drilled[x.Backup] = rec.Report.Started
			}
		}
	}
	return m.Drilled
}

// Overdue says how far a database's drills are behind their schedule: every is
// how far apart they should be. Only one that passed or failed counts. since
// is from when on drills were wanted, for a database that had none.
func (m Memory) Overdue(now time.Time, every time.Duration, since time.Time) (by time.Duration, last *Held) {
	if last = m.Conclusive(); last != nil {
		since = last.At
	}
	if every <= 0 || since.IsZero() {
		return 0, last
	}
	return max(0, now.Sub(since)-every), last
}
