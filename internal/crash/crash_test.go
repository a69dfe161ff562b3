package crash

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Parallel()
	before := Count()
	var nothing *struct{ x int }
	err := Run(func() error { nothing.x++; return nil })
	var p *Panic
	if !errors.As(err, &p) || !strings.Contains(string(p.Stack), "TestRun") || Count() <= before {
		t.Errorf("%v, %d", err, Count()-before)
	}
	want := errors.New("as usual")
	if err := Run(func() error { return want }); err != want {
		t.Error(err)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	calls, told := 0, 0
	Keep(t.Context(), func(error) { told++ }, func(context.Context) {
		if calls++; calls < 2 {
			panic("once")
		}
	})
	if calls != 2 || told != 1 {
		t.Errorf("called %d times, told %d times", calls, told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	Keep(ctx, func(error) { cancel() }, func(context.Context) { panic("for ever") }) // returns
}
