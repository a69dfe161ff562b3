package emsafe_test

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

// What is tracked is text and a few pictures: a program that was built beside
// its source, or a key that a test left behind, is easily added and stays in
// the history for good.
func TestTracked(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("not a checkout: ", err)
	}
	for _, name := range strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }) {
		data, err := os.ReadFile(name)
		switch {
		case os.IsNotExist(err): // deleted, and not committed yet
		case err != nil:
			t.Error(err)
		case len(data) > 256<<10:
			t.Errorf("%s: %d KiB, and at most 256 are tracked", name, len(data)>>10)
		case path.Ext(name) != ".png" && !strings.Contains(name, "/testdata/") && (!utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0):
			t.Errorf("%s: not text", name)
		case bytes.HasPrefix(data, []byte("-----BEGIN ")) && bytes.Contains(data, []byte("PRIVATE KEY")), bytes.HasPrefix(data, []byte("AGE-SECRET-KEY-")):
			t.Errorf("%s: a private key", name)
		}
	}
}
