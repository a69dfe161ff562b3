package s3

import (
	"os"
	"syscall"
	"testing"
)

func tmpfs(t *testing.T, options string) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "emsafe-s3-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(folder) })
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	return folder
}
