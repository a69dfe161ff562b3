package restore

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"emsafe/internal/durable"
	"emsafe/internal/fault"
)

// intent is what a switch that takes more than one step is about to do, so
// that a run after a crash can finish it. It lies beside the destination, where
// another user may write: see readIntent. Names are of the destination's
// folder; earlier versions wrote them with their path.
type intent struct {
	Staged string   `json:"staged"` // the new main file, beside the destination
	Aside  string   `json:"aside"`  // where the old set is, complete
	Back   []string `json:"back"`   // sidecars to put beside the new main file: from the folder in From
	From   string   `json:"from"`
}

func intentFile(destination string) string {
	return besideName(destination, "", ".emsafe-intent")
}

// carryOut writes the intent, does it, and forgets it.
func (s *staged) carryOut(destination string, in intent) error {
	data, err := json.Marshal(intent{filepath.Base(in.Staged), baseOf(in.Aside), in.Back, baseOf(in.From)})
	if err != nil {
		return err
	}
	if err := writeIntent(intentFile(destination), data); err != nil {
		return err
	}
	s.placed = true // from here on it belongs to the intent
	return finish(destination, in)
}

// writeIntent replaces the intent whole, or not at all. The file is locked until
// it has its name, so that Sweep leaves it alone.
func writeIntent(file string, data []byte) error {
	f, err := durable.NewFile(func() string {
		suffix := make([]byte, 5)
		rand.Read(suffix) //nolint:errcheck // never fails since Go 1.24
		return intentTemp(file) + hex.EncodeToString(suffix)
	})
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the first error counts
		return err
	}
	return durable.SyncDir(filepath.Dir(file))
}

func intentTemp(file string) string {
	return filepath.Join(filepath.Dir(file), ".tmp-"+filepath.Base(file)+"-")
}

func baseOf(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// finish does what is left of an intent; doing it twice does no harm.
func finish(destination string, in intent) error {
	dir := filepath.Dir(destination)
	if _, err := os.Lstat(in.Staged); err == nil {
		for _, ext := range sidecars {
			if err := os.Remove(destination + ext); err != nil && !absent(err) {
				return err
			}
		}
		// The sidecars of the new main file come first: without them it
		// would be half a database.
		for _, ext := range in.Back {
			from := filepath.Join(in.From, filepath.Base(destination)+ext)
			if err := os.Link(from, destination+ext); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
		if err := os.Rename(in.Staged, destination); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	if err := os.Remove(intentFile(destination)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// Pending reports whether an interrupted restore left its intent beside a
// database: it must be finished before anything else uses it.
func Pending(destination string) bool {
	destination, err := Resolve(destination)
	if err != nil {
		return false
	}
	_, err = os.Lstat(intentFile(destination))
	return err == nil
}

// recoverIntent finishes what an interrupted run began.
func recoverIntent(destination string) error {
	in, err := readIntent(destination)
	if in == nil || err != nil {
		return err
	}
	if err := refuseHolders(destination); err != nil {
		return err
	}
	return finish(destination, *in)
}

// readIntent reads an intent that this user or root wrote, and nobody else
// could change: the folder may be the application's, and what an intent says is
// done with this process's rights. Its names lead nowhere but beside the
// destination. It is nil if there is none.
func readIntent(destination string) (*intent, error) {
	file := intentFile(destination)
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Permission, "%s %s", file, fmt.Sprintf(format, args...)).
			WithSafe("Nothing was done that it says; the database is as it was.").
			WithRemedy("An interrupted restore leaves such a file, of the user who ran it. Run the command as that user. If no restore was interrupted, find out who made the file, remove it, and run the command again: rm %s", fault.Shell(file))
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, refuse("is a symbolic link")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, refuse("is not a regular file")
	case !ok:
	case int(sys.Uid) != os.Geteuid() && sys.Uid != 0:
		return nil, refuse("belongs to user %s, and not to the user who runs this", userName(int(sys.Uid)))
	case st.Mode().Perm()&0o022 != 0:
		return nil, refuse("can be written by others (mode %04o)", st.Mode().Perm())
	case sys.Nlink != 1:
		return nil, refuse("has another name (%d hard links)", sys.Nlink)
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<16))
	if err != nil {
		return nil, err
	}
	var in intent
	if err := json.Unmarshal(data, &in); err != nil || !in.locate(destination) {
		return nil, fault.New(fault.Damaged, "%s is not readable", file).
			WithRemedy("An earlier restore was interrupted. The newest of the folders %s* holds the old database. Look into it, then remove the file.", asidePrefix(destination))
	}
	return &in, nil
}

// locate makes paths of the names, and reports whether they can be right.
func (in *intent) locate(destination string) bool {
	dir := filepath.Dir(destination)
	single := func(name *string) bool {
		if filepath.IsAbs(*name) && filepath.Dir(*name) == dir {
			*name = filepath.Base(*name) // as earlier versions wrote it
		}
		if *name == "" || *name == "." || *name == ".." || strings.ContainsAny(*name, "/\x00") {
			return false
		}
		*name = filepath.Join(dir, *name)
		return true
	}
	folder := func(name *string) bool {
		if *name == "" {
			return true
		}
		if !single(name) || !slices.ContainsFunc(asides(destination), func(a aside) bool { return a.path == *name }) {
			return false
		}
		st, err := os.Lstat(*name)
		o := (*ownership)(nil)
		if err == nil {
			o = ownershipOf(st)
		}
		return err == nil && st.IsDir() && o != nil && (o.uid == os.Geteuid() || o.uid == 0) && o.mode&0o022 == 0
	}
	if !single(&in.Staged) || !strings.HasPrefix(in.Staged, stagePattern(destination)) || !strings.HasSuffix(in.Staged, ".part") {
		return false
	}
	if st, err := os.Lstat(in.Staged); err == nil && !st.Mode().IsRegular() {
		return false
	}
	for _, ext := range in.Back {
		if !slices.Contains(sidecars, ext) {
			return false
		}
	}
	return folder(&in.Aside) && folder(&in.From) && (len(in.Back) == 0 || in.From != "")
}
