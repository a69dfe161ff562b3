package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/restore"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/point"
	"emsafe/storage/restic"
	"emsafe/storage/sqlite"
)

// Pairing is which files belong to the database, and how they are reached.
type Pairing struct {
	Fileset string
	SQL     string // gives the path of a file in each row; "": only a sample is taken
	Root    string // of paths that are not absolute
	Sample  int    // files that are restored
	Read    string // how much of the repository's data is read, as restic has it; "": none
	Open    func(ctx context.Context, b storage.Bucket) (*restic.Repository, error)
}

const pairLimit = 10 * time.Minute // for the query

// newestPoint is what a drill restores for the sake of the files: the backup of
// the newest recovery point in a target.
func (r *runner) newestPoint(ctx context.Context, t storage.Target) (w catalog.Wanted, why string) {
	none := fmt.Sprintf("the files of %s in target %s: ", r.Files.Fileset, t.Name)
	b, err := t.Open(ctx)
	if err != nil {
		return w, none + told(err)
	}
	p, _, err := point.Find(ctx, b, r.Signers, r.Files.Fileset, "")
	if err != nil {
		return w, none + told(err)
	}
	for _, d := range p.Databases {
		if d.Name == r.Database {
			return catalog.Wanted{ID: d.Backup}, ""
		}
	}
	return w, none + "the newest recovery point is without this database"
}

// pair holds the restored database against the snapshot that belongs to it, and
// restores a sample of that; once in a drill, for the first backup that has one.
func (a *attempt) pair(ctx context.Context, t storage.Target, e *catalog.Entry, q *sqlite.Inquiry) {
	if a.Files == nil || a.paired {
		return
	}
	b, err := t.Open(ctx)
	var p *point.Point
	if err == nil {
		p, err = a.pointOf(ctx, b, e)
	}
	if err == nil && p == nil {
		return // the backup of the newest point is restored as well, and has one
	}
	a.paired = true
	a.timed("files", func() {
		var seen restore.Sampled
		a.check(ctx, "files", "files", func(ctx context.Context) finding {
			f := finding{verdict: Pass, reason: ReasonFiles, expected: "what a sample of the snapshot holds comes back"}
			var wanted []string
			if err == nil && a.Files.SQL != "" {
				wanted, err = a.named(ctx, q)
			}
			if err == nil {
				seen, err = a.sample(ctx, b, p, wanted)
			}
			if err != nil {
				f.verdict, f.reason = judge(ctx, err)
				if errors.Is(err, fault.WrongKey) || errors.Is(err, fault.NotFound) {
					f.reason = ReasonFiles
				}
				f.got, f.err = told(err), err
				return f
			}
			f.got = fmt.Sprintf("%d of %d files of point %s, %d bytes; %d compared with the live file by digest", seen.Restored, seen.Files, p.ID, seen.Bytes, seen.Compared)
			if a.Files.Read != "" {
				f.got += "; " + a.Files.Read + " of the repository's data read"
			}
			if len(seen.Wrong) > 0 {
				a.private("files that came back wrong: " + strings.Join(seen.Wrong, "; "))
				f.verdict, f.got = Fail, fmt.Sprintf("%d of %d files came back wrong", len(seen.Wrong), len(seen.Wrong)+seen.Restored)
			}
			return f
		})
		if a.Files.SQL == "" || a.x.Verdict == Fail {
			return
		}
		a.check(ctx, "files that the database names", "files", func(context.Context) finding {
			f := finding{verdict: Pass, reason: ReasonFiles, expected: "each is in the snapshot", got: fmt.Sprintf("all %d are", seen.Wanted)}
			if n := len(seen.Absent); n > 0 {
				a.private("not in the snapshot: " + strings.Join(seen.Absent[:min(n, 20)], ", "))
				f.verdict, f.got = Fail, fmt.Sprintf("%d of %d are not", n, seen.Wanted)
			}
			return f
		})
	})
}

// pointOf is the recovery point that a backup is of, or else the earliest
// snapshot after it; nil if there is none.
func (a *attempt) pointOf(ctx context.Context, b storage.Bucket, e *catalog.Entry) (*point.Point, error) {
	const looked = 200 // points, from the newest back
	points, problems, err := point.List(ctx, b, a.Signers, a.Files.Fileset, looked)
	if err != nil {
		return nil, err
	}
	for _, problem := range problems {
		a.warn(problem)
	}
	var after *point.Point
	for _, p := range slices.Backward(points) {
		if slices.ContainsFunc(p.Databases, func(d point.Database) bool { return d.Name == a.Database && d.Backup == e.ID }) {
			return &p, nil
		}
		if !p.Files.TakenAt.Before(e.SnapshotAt) {
			after = &p
		}
	}
	return after, nil
}

// named are the paths that the database names, as the snapshot has them.
func (a *attempt) named(ctx context.Context, q *sqlite.Inquiry) ([]string, error) {
	ctx, stop := context.WithTimeoutCause(ctx, pairLimit, fmt.Errorf("%w (%s)", errTooLong, pairLimit))
	defer stop()
	var paths []string
	err := q.Texts(ctx, a.Files.SQL, func(text string) {
		if !path.IsAbs(text) {
			text = path.Join(a.Files.Root, text)
		}
		paths = append(paths, path.Clean(text))
	})
	if err != nil {
		a.private("files: " + err.Error())
		return nil, fault.New(fault.Corrupt, "the query for files: %w", err)
	}
	return paths, nil
}

func (a *attempt) sample(ctx context.Context, b storage.Bucket, p *point.Point, wanted []string) (seen restore.Sampled, err error) {
	r, err := a.Files.Open(ctx, b)
	if err != nil {
		return seen, err
	}
	s, err := newScratch(cmp.Or(a.Scratch, diskFolder), 0) // how large a file is, the sample tells
	if err != nil {
		return seen, err
	}
	folder, err := s.folder("files")
	if err == nil {
		seen, err = restore.Sample(ctx, r, p.Files.Snapshot, a.Files.Sample, folder, wanted)
	}
	if err == nil && a.Files.Read != "" {
		err = r.CheckUnlocked(ctx, a.Files.Read)
	}
	return seen, errors.Join(err, s.Remove())
}
