package daemon

import (
	"bytes"
	"strings"
	"testing"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := Logger(&b, false, true).With("run", "r1").WithGroup("g")
	log.Error("bad", "n", 1)
	log.Warn("odd")
	log.Info("good")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{"<3>{", "<4>{", "<6>{"} {
		if !strings.HasPrefix(lines[i], want) || !strings.Contains(lines[i], `"run":"r1"`) {
			t.Errorf("%q", lines[i])
		}
	}
	b.Reset()
	Logger(&b, true, true).Info("good")
	if !strings.Contains(b.String(), "level=INFO msg=good") || b.String()[0] == '<' {
		t.Error(b.String())
	}
}
