package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"emsafe/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// environment is what ${NAME} finds in tests.
func environment(name string) (string, bool) {
	v, ok := map[string]string{"HOME": "/home/operator", "HOST": "web1", "BUCKET": "acme-backups", "KEY_ID": "AKIAEXAMPLE", "SECRET": "hunter2hunter2"}[name]
	return v, ok
}

// TestProblems holds the words of every complaint: they are read by somebody
// who is in a hurry.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, problems := config.Parse("/etc/emsafe/emsafe.yaml", data, environment)
			if c != nil || problems == nil {
				t.Fatal("accepted")
			}
			got := problems.Error()
			for _, leak := range []string{"hunter2", "wJalr", "1QQQQ"} {
				if strings.Contains(got, leak) {
					t.Errorf("the message shows a secret (%s)", leak)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(got))
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (-want +got); if it is better now, run with -update:\n%s", file, diff)
	}
}
