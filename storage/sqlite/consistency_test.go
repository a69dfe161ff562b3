package sqlite

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that docs/design/consistency.md names are there.
func TestConsistencyDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/design/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	names := regexp.MustCompile(`\bTest\w+`).FindAllString(string(doc), -1)
	if len(names) < 10 {
		t.Errorf("only %q are named", names)
	}
	for _, name := range names {
		if !strings.Contains(source.String(), "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
}
