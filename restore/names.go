package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
)

const (
	longestName = 255 // bytes of a name in a folder, as all usual file systems have it
	// mostAdded is the most that is added to a database's name beside it: that
	// of the staged file, which SQLite opens and looks for a journal of.
	mostAdded = len(".") + len(".emsafe-") + 12 + len(".part-journal")
)

// besideName is a name beside a database, made of its own. A name that leaves
// no room for that is cut and told apart by its hash, so that every database
// that the file system can hold can be restored.
func besideName(destination, before, after string) string {
	dir, base := filepath.Split(destination)
	return filepath.Join(dir, before+short(base)+after)
}

func short(base string) string {
	if len(base)+mostAdded <= longestName {
		return base
	}
	const kept = 150
	sum := sha256.Sum256([]byte(base))
	return strings.ToValidUTF8(base[:kept], "") + "~" + hex.EncodeToString(sum[:8])
}

// Resolve is the file that a restore over path replaces: the absolute path, and
// what it leads to where it is a symbolic link. A link that leads nowhere stays
// as it is.
func Resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	// The file itself may be missing, and its folder be a link.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	return path, nil
}
