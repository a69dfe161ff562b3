package restic

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// processStart is when a process began.
func processStart(pid int) (time.Time, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, false
	}
	// The name before it may hold anything, brackets too.
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	fields := bytes.Fields(rest)
	if len(fields) < 20 {
		return time.Time{}, false
	}
	var ticks, boot int64
	if _, err := fmt.Sscan(string(fields[19]), &ticks); err != nil {
		return time.Time{}, false
	}
	kernel, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, false
	}
	for line := range bytes.Lines(kernel) {
		if n, _ := fmt.Sscanf(string(line), "btime %d", &boot); n == 1 {
			return time.Unix(boot+ticks/100, 0), true // USER_HZ is 100 on every Linux that Go runs on
		}
	}
	return time.Time{}, false
}
