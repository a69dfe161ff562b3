// Package crash keeps a panic in one goroutine from ending the process. [Run]
// makes an error of it, which goes the way of every other error, and counts it.
package crash

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Panic is the error of a call that panicked.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("a bug in emsafe: panic: %v", p.Value) }

var count atomic.Int64

// Count is how many panics were caught in this process.
func Count() int64 { return count.Load() }

// Run calls f. If f panics, the error is a *Panic, and its stack is logged.
func Run(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &Panic{v, debug.Stack()}
			count.Add(1)
			slog.Error("panic", "value", fmt.Sprint(v), "stack", string(p.Stack))
			err = p
		}
	}()
	return f()
}

const (
	firstPause = time.Second
	mostPause  = 5 * time.Minute
)

// Keep calls f until it returns without a panic, or ctx ends. Between two calls
// it waits, longer each time; report is told of each panic, and may be nil.
func Keep(ctx context.Context, report func(error), f func(context.Context)) {
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		err := Run(func() error { f(ctx); return nil })
		if err == nil {
			return
		}
		if report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
