package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"emsafe/internal/config"
)

// FuzzParse: no file makes the parser panic, hang or point beside the file,
// and what it accepts can be written and read again.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n"))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Add([]byte(strings.Repeat(" ", 400) + strings.Repeat("{a: ", 400)))
	f.Add([]byte("version: 1\r\rhost: [\r"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := config.Parse("/etc/emsafe/emsafe.yaml", data, environment)
		if (c == nil) == (problems == nil) {
			t.Fatal("neither or both of configuration and problems")
		}
		count := 1 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r")
		for _, p := range problems {
			if p.Line < 1 || p.Line > count || p.Column < 1 || p.Message == "" || strings.Contains(p.String(), "\x1b") {
				t.Fatalf("%+v in a file of %d lines", p, count)
			}
		}
		if problems != nil {
			_ = problems.Error()
			return
		}
		_ = c.Show()
		again, problems := config.Parse(c.File, config.Render(*c), environment)
		if problems != nil {
			t.Fatalf("%v\n%s", problems, config.Render(*c))
		}
		if a, b := string(c.Show()), string(config.Render(*again)); a == "" || b != string(config.Render(*c)) {
			t.Fatalf("written again it differs:\n%s\n%s", b, config.Render(*c))
		}
	})
}
