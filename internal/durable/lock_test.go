package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"emsafe/internal/fault"
)

// A lock whose holder did not write its number is held by nobody in
// particular: the error has no empty number.
func TestHolderWithoutNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "another emsafe", "\n": "another emsafe", "12\n": "another emsafe (process 12)"} {
		file := filepath.Join(t.TempDir(), "lock")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(f, text); err != nil {
			t.Fatal(err)
		}
		_, err = Lock(file, "it")
		if !errors.Is(err, fault.Locked) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
