package sqlite

import (
	"context"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// Found is a database that Find came upon.
type Found struct {
	Path    string
	Size    int64
	Vendor  bool // inside a folder of dependencies or version control
	Skipped bool // a folder or file that could not be read; Path names it
}

// Find looks for databases under root by their first bytes. It does not follow
// symbolic links, passes over -wal, -shm and -journal files, and reports what
// it could not read instead of failing.
func Find(ctx context.Context, root string) ([]Found, error) {
	var found []Found
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if path == root {
				return pathError(root, err)
			}
			found = append(found, Found{Path: path, Skipped: true})
			return nil
		}
		if !d.Type().IsRegular() || sidecar(path) {
			return nil
		}
		st, err := d.Info()
		if err != nil || st.Size() < 100 {
			return nil
		}
		switch yes, err := isDatabase(path); {
		case err != nil:
			found = append(found, Found{Path: path, Skipped: true})
		case yes:
			found = append(found, Found{Path: path, Size: st.Size(), Vendor: vendored(path)})
		}
		return nil
	})
	return found, err
}

// sidecar: a -shm must never be opened.
func sidecar(path string) bool {
	return strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") || strings.HasSuffix(path, "-journal")
}

func isDatabase(path string) (bool, error) {
	f, err := openRegular(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(magic))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == magic, nil
}

func vendored(path string) bool {
	for part := range strings.SplitSeq(path, string(filepath.Separator)) {
		switch part {
		case "node_modules", ".git", "vendor", ".venv", "venv", "site-packages", ".cache":
			return true
		}
	}
	return false
}
