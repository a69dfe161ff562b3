package daemon

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkLook is what a tick costs with ten databases.
func BenchmarkLook(b *testing.B) {
	m := newSim(b, Options{})
	var jobs []Job
	for i := range 10 {
		jobs = append(jobs, daily(b, fmt.Sprintf("backup %d", i), "0 3 * * *"), daily(b, fmt.Sprintf("prune %d", i), "30 4 * * *"))
	}
	m.load(jobs...)
	for b.Loop() {
		m.clock.Advance(5 * time.Second)
		m.look()
	}
}
