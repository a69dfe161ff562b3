// Package durable writes small files so that a power cut leaves the old one or
// the new one, and takes the locks by which runs of emsafe exclude each other.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile replaces file with data, whole or not at all, and durably: temp
// file, fsync, rename, fsync of the folder.
func WriteFile(file string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, tempName(file))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err == nil {
		err = SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func tempName(file string) string { return ".tmp-" + filepath.Base(file) + "-" }

// Sweep removes what killed runs of WriteFile left beside file. The caller
// makes sure that none runs.
func Sweep(file string) {
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		return // what cannot be read cannot be in the way
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempName(file)) {
			os.Remove(filepath.Join(filepath.Dir(file), e.Name()))
		}
	}
}

// CreateFile is WriteFile for a file that must not exist yet: a key, a
// configuration.
func CreateFile(file string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = SyncDir(filepath.Dir(file))
	}
	if err != nil {
		os.Remove(file)
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
