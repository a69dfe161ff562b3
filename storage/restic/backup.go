package restic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"emsafe/internal/fault"
)

// Source is what a backup takes.
type Source struct {
	Paths    []string // absolute
	Excludes []string // restic's patterns
	Tags     []string
	Host     string
}

// Summary is what a backup took.
type Summary struct {
	Snapshot   string    `json:"snapshot"` // its id; 0.14 gives the first 8 digits only
	At         time.Time `json:"at"`       // when it began
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
	New        int64     `json:"files_new"`
	Changed    int64     `json:"files_changed"`
	Unmodified int64     `json:"files_unmodified"`
	Added      int64     `json:"bytes_added"`      // to the repository, before compression
	Unread     []string  `json:"unread,omitempty"` // what could not be read, and why; some of it
	Missed     int       `json:"missed,omitempty"` // how many could not be read
}

// unreadLimit is how many files that could not be read are named.
const unreadLimit = 20

// CheckPaths refuses sources that are not there: 0.14 backs up what is left and
// says that all is well.
func CheckPaths(paths []string) error {
	var gone []string
	for _, path := range paths {
		_, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, path)
		case errors.Is(err, fs.ErrPermission):
			return fault.New(fault.Permission, "%w", err)
		case err != nil:
			return err
		}
	}
	if len(gone) > 0 {
		return fault.New(fault.NoFiles, "not there: %s", strings.Join(gone, ", "))
	}
	return nil
}

// Init makes the repository.
func (r *Repository) Init(ctx context.Context) error {
	return r.explain(r.look(ctx, nil, "init"))
}

// Backup takes a snapshot. It returns a summary together with a fault.Partial
// if some of the files could not be read. Told is called about twice a second;
// it may be nil.
func (r *Repository) Backup(ctx context.Context, s Source, told func(Progress)) (Summary, error) {
	if err := CheckPaths(s.Paths); err != nil {
		return Summary{}, err
	}
	args := []string{"backup", "--json", "--host", s.Host}
	for _, tag := range s.Tags {
		args = append(args, "--tag", tag)
	}
	for _, pattern := range s.Excludes {
		args = append(args, "--exclude="+pattern)
	}
	args = append(append(args, "--"), s.Paths...)
	var out Summary
	err := r.unlocking(ctx, func() error {
		out = Summary{At: time.Now().UTC()}
		return r.run(ctx, func(line []byte) error {
			var m message
			if json.Unmarshal(line, &m) != nil {
				return nil
			}
			switch m.Type {
			case "status":
				if told != nil {
					told(Progress{m.FilesDone, m.TotalFiles, m.BytesDone, m.TotalBytes})
				}
			case "summary":
				out.Snapshot, out.Files, out.Bytes = m.SnapshotID, m.Files, m.Bytes
				out.New, out.Changed, out.Unmodified, out.Added = m.New, m.Changed, m.Unmodified, m.Added
			}
			return nil
		}, args...)
	})
	var f *failed
	if errors.As(err, &f) && f.code == codePartial && out.Snapshot != "" {
		out.Missed, out.Unread = len(f.items), f.items[:min(len(f.items), unreadLimit)]
		return out, fault.New(fault.Partial, "%d files could not be read: %s", out.Missed, f.text()).
			WithSafe("The snapshot %s holds all the others.", out.Snapshot).
			WithRemedy("Let emsafe's user read them, or exclude them.")
	}
	if err == nil && out.Snapshot == "" {
		err = errors.New("restic backup ended well, but named no snapshot")
	}
	return out, r.explain(err)
}

// Snapshots are those with a tag, or all, oldest first.
func (r *Repository) Snapshots(ctx context.Context, tag string) ([]Snapshot, error) {
	args := []string{"snapshots", "--json", "--no-lock"}
	if tag != "" {
		args = append(args, "--tag", tag)
	}
	var list []Snapshot
	err := r.look(ctx, func(line []byte) error {
		if len(line) > 0 && line[0] == '[' {
			return json.Unmarshal(line, &list)
		}
		return nil
	}, args...)
	return list, r.explain(err)
}

// Files hands every node of a snapshot to a function.
func (r *Repository) Files(ctx context.Context, snapshot string, each func(Node) error) error {
	return r.explain(r.run(ctx, func(line []byte) error {
		var n struct {
			Node
			Struct string `json:"struct_type"`
		}
		if err := json.Unmarshal(line, &n); err != nil {
			return fmt.Errorf("restic ls: %w", err)
		}
		if n.Struct != "node" {
			return nil // the snapshot itself comes first
		}
		return each(n.Node)
	}, "ls", "--json", "--no-lock", snapshot))
}

// Restore brings a snapshot back below a folder, each file under its whole
// path. Only, if not empty, is the paths to bring back: files, or folders with
// all that is in them.
func (r *Repository) Restore(ctx context.Context, snapshot, folder string, only []string) error {
	args := []string{"restore", "--no-lock", snapshot, "--target", folder}
	for _, path := range only {
		args = append(args, "--include="+literal(path))
	}
	err := r.run(ctx, nil, args...)
	var f *failed
	if errors.As(err, &f) && f.says("errors occurred", "There were ") && !f.says("no space left") {
		return fault.New(fault.Damaged, "restic could not bring everything back: %s", f.text())
	}
	return r.explain(err)
}

// literal keeps restic from taking a path for a pattern.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Check looks whether the repository is whole; subset says how much of the data
// is read as well, as restic has it (5%, 100M, 1/10), and "" reads none: a
// flipped bit is only found by reading.
func (r *Repository) Check(ctx context.Context, subset string) error { return r.check(ctx, subset) }

// CheckUnlocked is Check for credentials that may only read. A backup that goes on
// meanwhile may be taken for damage.
func (r *Repository) CheckUnlocked(ctx context.Context, subset string) error {
	return r.check(ctx, subset, "--no-lock")
}

func (r *Repository) check(ctx context.Context, subset string, more ...string) error {
	args := append([]string{"check"}, more...)
	if subset != "" {
		args = append(args, "--read-data-subset="+subset)
	}
	err := r.unlocking(ctx, func() error { return r.run(ctx, nil, args...) })
	var f *failed
	if errors.As(err, &f) && f.says("contains errors", "errors were found", "verification failed", "does not match", "has not been found", "invalid data returned") {
		return fault.New(fault.Damaged, "restic check of %s: %s", r.Location, f.text()).
			WithSafe("What other targets hold is not touched by this.").
			WithRemedy("Back up anew: what is gone comes back as far as the files are there. Then read restic's documentation of `restic repair`.")
	}
	return r.explain(err)
}
