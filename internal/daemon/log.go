package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// Logger writes text for people, or JSON; with journald it puts the priority in
// front of each line, as sd-daemon(3) wants it.
func Logger(w io.Writer, text, journald bool) *slog.Logger {
	switch {
	case text:
		return slog.New(slog.NewTextHandler(w, nil))
	case journald:
		p := &priority{w: w}
		return slog.New(&prioritized{inner: slog.NewJSONHandler(p, nil), p: p})
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}

// prioritized hands a record's level to the writer below, one at a time.
type prioritized struct {
	inner slog.Handler
	p     *priority
}

func (h *prioritized) Enabled(ctx context.Context, l slog.Level) bool {
	return h.inner.Enabled(ctx, l)
}

func (h *prioritized) Handle(ctx context.Context, r slog.Record) error {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.level = r.Level
	return h.inner.Handle(ctx, r)
}

func (h *prioritized) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &prioritized{h.inner.WithAttrs(attrs), h.p}
}

func (h *prioritized) WithGroup(name string) slog.Handler {
	return &prioritized{h.inner.WithGroup(name), h.p}
}

// priority puts <N> in front of what it is given, which is one line.
type priority struct {
	w     io.Writer
	mu    sync.Mutex
	level slog.Level
}

func (p *priority) Write(line []byte) (int, error) {
	mark := "<7>"
	switch {
	case p.level >= slog.LevelError:
		mark = "<3>"
	case p.level >= slog.LevelWarn:
		mark = "<4>"
	case p.level >= slog.LevelInfo:
		mark = "<6>"
	}
	if _, err := p.w.Write(append([]byte(mark), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
