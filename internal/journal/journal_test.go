package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if entries, problems, err := Read(dir); len(entries)+len(problems) > 0 || err != nil {
		t.Fatal(entries, problems, err)
	}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if err := Append(dir, Entry{At: time.Now(), Action: "prune", Database: "app", What: fmt.Sprint(i), Result: strings.Repeat("é", 3000)}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	entries, problems, err := Read(dir)
	if len(entries) != 20 || len(problems) > 0 || err != nil {
		t.Fatalf("%d %v %v", len(entries), problems, err)
	}
	if e := entries[7]; e.Who == "" || !strings.HasSuffix(e.Result, "é…") || e.Previous == "" {
		t.Errorf("%+v", e)
	}

	// What was changed, taken out or torn shows.
	file := filepath.Join(dir, File)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	for name, text := range map[string]string{
		"changed":   strings.Replace(string(data), `"app"`, `"ap"`, 1),
		"taken out": strings.Join(append(append([]string{}, lines[:5]...), lines[6:]...), ""),
		"swapped":   strings.Join(append([]string{lines[1], lines[0]}, lines[2:]...), ""),
	} {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, problems, err := Read(other); len(problems) == 0 || err != nil {
			t.Errorf("%s is not noticed: %v", name, err)
		}
	}
	if err := os.Truncate(file, int64(len(data))-10); err != nil {
		t.Fatal(err)
	}
	if err := Append(dir, Entry{At: time.Now(), Action: "restore"}); err != nil {
		t.Fatal(err)
	}
	entries, problems, err = Read(dir)
	if len(entries) != 20 || len(problems) != 1 || err != nil || entries[19].Action != "restore" {
		t.Errorf("%d %v %v", len(entries), problems, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

func TestWho(t *testing.T) {
	t.Parallel()
	env := map[string]string{"SUDO_USER": "ada", "SSH_CONNECTION": "192.0.2.7 5022 192.0.2.1 22"}
	who, from := Who(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if !strings.HasPrefix(who, "ada as ") || from != "192.0.2.7" {
		t.Error(who, from)
	}
}
