package report

import (
	"testing"
	"time"
)

func TestMisses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age, objective time.Duration
		want           bool
	}{
		{time.Hour, 0, false},
		{time.Minute, time.Hour, false},
		{61 * time.Minute, time.Hour, true},
		{-time.Second, time.Hour, false}, // a clock that was corrected
		{-2 * time.Minute, time.Hour, true},
		{-2 * time.Minute, 0, false},
	} {
		if got := Misses(c.age, c.objective); got != c.want {
			t.Errorf("%s old, objective %s: %t", c.age, c.objective, got)
		}
	}
}
