package config

import (
	"strings"
	"testing"
)

// A schedule that is too often is told the shortest, and not that it is none.
func TestScheduleTooOften(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"every 10s", "every: 500ms", "every 0.5s"} {
		if why, hint := scheduleOK(s); !strings.Contains(why, "every 1m") || !strings.Contains(hint, "continuous: true") {
			t.Errorf("%s: %s; %s", s, why, hint)
		}
	}
	if why, _ := scheduleOK("every 1m"); why != "" {
		t.Error(why)
	}
	if why, _ := scheduleOK("sometimes"); !strings.Contains(why, "is no schedule") {
		t.Error(why)
	}
}
