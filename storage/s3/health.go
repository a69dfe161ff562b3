package s3

import (
	"fmt"
	"sync"
	"time"
)

// A server that takes connections and never answers costs every request the
// whole time for which nothing may move, and every retry as well. Once nothing
// at all has come from a server for that long it counts as hung, for this
// process: requests to it fail at once, but for one now and then that tries
// whether it answers again.

const (
	firstTrial = 30 * time.Second // after a server was found to hang
	mostTrial  = 5 * time.Minute
)

// health is what is known of one server.
type health struct {
	mu       sync.Mutex
	good     time.Time // when something came from it last
	hung     time.Time // since when nothing does; zero: it answers, or is not known
	next     time.Time // when it is asked again
	failures int
}

var servers = struct {
	sync.Mutex
	known map[string]*health
}{known: map[string]*health{}}

func healthOf(host string) *health {
	servers.Lock()
	defer servers.Unlock()
	h := servers.known[host]
	if h == nil {
		h = &health{}
		servers.known[host] = h
	}
	return h
}

// hungError is the error of a request that was not made.
type hungError struct{ since, next time.Time }

func (e hungError) Error() string {
	return fmt.Sprintf("stalled: the server has not answered since %s UTC; it is asked again at %s UTC", e.since.UTC().Format(time.TimeOnly), e.next.UTC().Format(time.TimeOnly))
}

// ask is an error if the server hangs and is not to be asked now. Who may ask
// keeps others from asking for as long as an answer may take.
func (h *health) ask(now time.Time, stall time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hung.IsZero() {
		return nil
	}
	if now.Before(h.next) {
		return hungError{h.hung, h.next}
	}
	h.next = now.Add(stall)
	return nil
}

// answered notes that something came.
func (h *health) answered(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.good, h.hung, h.failures = now, time.Time{}, 0
}

// stalled notes that nothing came for a request in that time. While others are
// answered it is that connection, and not the server.
func (h *health) stalled(now time.Time, stall time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.good) < stall {
		return
	}
	if h.hung.IsZero() {
		h.hung = now.Add(-stall)
	}
	h.next = now.Add(min(firstTrial<<min(h.failures, 8), mostTrial))
	h.failures++
}
