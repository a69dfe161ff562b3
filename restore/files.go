package restore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/storage/restic"
)

// Folder makes a new folder with what fill puts into it: whole, or not at all.
// It fills one beside it, which is then renamed.
func Folder(to string, fill func(stage string) error) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	switch entries, err := os.ReadDir(to); {
	case err == nil && len(entries) > 0:
		return fault.New(fault.TargetExists, "%s is not empty", to).WithRemedy("Choose another folder: a restore never writes into one that has something in it.")
	case errors.Is(err, syscall.ENOTDIR):
		return fault.New(fault.TargetExists, "%s is a file, and a new folder is to be made", to).WithRemedy("Choose another name.")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err := os.Stat(filepath.Dir(to)); errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "there is no folder %s to make %s in", filepath.Dir(to), filepath.Base(to)).WithSafe("Nothing was restored.").WithRemedy("mkdir -p %s", fault.Shell(filepath.Dir(to)))
	}
	stage, err := newStagedFolder(to)
	if err != nil {
		return err
	}
	if err = fill(stage.Path); err == nil {
		if err = os.Rename(stage.Path, to); err == nil {
			return errors.Join(durable.SyncDir(filepath.Dir(to)), stage.Keep())
		}
	}
	return errors.Join(err, stage.Remove())
}

func newStagedFolder(to string) (*durable.Folder, error) {
	SweepFolder(to) //nolint:errcheck // status and the daemon report what stays
	return durable.NewFolder(filepath.Dir(to), filepath.Base(stagePattern(to)))
}

// SweepFolder removes what killed restores left beside a folder that they were
// to make.
func SweepFolder(to string) error {
	return durable.SweepFolders(filepath.Dir(to), filepath.Base(stagePattern(to)))
}

// Count counts what lies below a folder, folders themselves not.
func Count(folder string) (files, bytes int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		if info, err := d.Info(); err == nil && d.Type().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return files, bytes, err
}

// Sampled is what was seen of a snapshot.
type Sampled struct {
	Files    int64    `json:"files"`            // in the snapshot
	Restored int      `json:"restored"`         // of them, chosen at random
	Bytes    int64    `json:"bytes"`            // that those have
	Compared int      `json:"compared"`         // by digest, with the live file, because that has not changed since
	Wrong    []string `json:"wrong,omitempty"`  // that came back as something else
	Wanted   int      `json:"wanted,omitempty"` // paths that were looked for
	Absent   []string `json:"absent,omitempty"` // of those, not in the snapshot
}

// Sample looks for paths in a snapshot, and restores n of its files into a
// scratch folder to compare them. An error is one of the surroundings: what is
// wrong with the files is in the result.
func Sample(ctx context.Context, r *restic.Repository, snapshot string, n int, scratch string, wanted []string) (Sampled, error) {
	out := Sampled{Wanted: len(wanted)}
	missing := make(map[string]bool, len(wanted))
	for _, path := range wanted {
		missing[path] = true
	}
	var chosen []restic.Node
	err := r.Files(ctx, snapshot, func(f restic.Node) error {
		delete(missing, f.Path)
		if f.Type != "file" {
			return nil
		}
		// Each file has the same chance (algorithm R).
		if out.Files++; len(chosen) < n {
			chosen = append(chosen, f)
		} else if at := rand.Int64N(out.Files); at < int64(n) { //nolint:gosec // no secret
			chosen[at] = f
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	for _, path := range wanted {
		if missing[path] {
			out.Absent = append(out.Absent, path)
		}
	}
	if len(chosen) == 0 {
		return out, nil
	}
	var paths []string
	for _, f := range chosen {
		paths = append(paths, f.Path)
	}
	if err := r.Restore(ctx, snapshot, scratch, paths); err != nil && !errors.Is(err, fault.Damaged) {
		return out, err
	}
	for _, f := range chosen {
		compared, err := compare(f, filepath.Join(scratch, f.Path))
		if err != nil {
			out.Wrong = append(out.Wrong, fmt.Sprintf("%s: %v", f.Path, err))
			continue
		}
		out.Restored++
		out.Bytes += f.Size
		if compared {
			out.Compared++
		}
	}
	slices.Sort(out.Wrong)
	return out, nil
}

// compare holds a restored file against what the snapshot says of it, and
// against the live file if that is still the same one.
func compare(f restic.Node, restored string) (compared bool, err error) {
	info, err := os.Lstat(restored)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, errors.New("did not come back")
	case err != nil:
		return false, err
	case !info.Mode().IsRegular() || info.Size() != f.Size:
		return false, fmt.Errorf("came back with %d bytes instead of %d", info.Size(), f.Size)
	}
	live, err := os.Lstat(f.Path)
	if err != nil || !live.Mode().IsRegular() || live.Size() != f.Size || !live.ModTime().Equal(f.Modified) {
		return false, nil //nolint:nilerr // it has changed, or this is another machine
	}
	was, err := digest(restored)
	if err != nil {
		return false, err
	}
	is, err := digest(f.Path)
	if err != nil {
		return false, nil //nolint:nilerr // the live file may not be ours to read
	}
	if again, err := os.Lstat(f.Path); err != nil || !again.ModTime().Equal(live.ModTime()) {
		return false, nil //nolint:nilerr // it changed while it was read
	}
	if was != is {
		return false, errors.New("came back with other content than the live file has, which has not changed since")
	}
	return true, nil
}

func digest(file string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
