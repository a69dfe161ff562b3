package dir

import (
	"os"
	"syscall"
	"testing"
)

func tmpfs(t *testing.T, options string) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "emsafe-dir-")
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

func unmountLazily(t *testing.T, folder string) {
	t.Helper()
	if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}
