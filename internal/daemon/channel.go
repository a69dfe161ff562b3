package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"emsafe/internal/command"
	"emsafe/internal/crash"
)

// Channel is a way to reach somebody. Send makes one attempt; it may be called
// from one goroutine at a time, and its errors hold no secrets.
type Channel interface {
	Label() string // tells channels apart in metrics and logs
	Send(context.Context, Message) error
}

// errPermanent is an answer that another attempt would not change.
var errPermanent = errors.New("refused")

// queued is how many messages a channel holds that is slower than the trouble.
const queued = 100

// SendCounts are what became of messages.
type SendCounts struct{ OK, Failed, Dropped uint64 }

func (c *SendCounts) add(o *sendCounts) {
	c.OK += o.ok.Load()
	c.Failed += o.failed.Load()
	c.Dropped += o.dropped.Load()
}

type sendCounts struct{ ok, failed, dropped atomic.Uint64 }

// sender is a channel with a queue of its own.
type sender struct {
	channel Channel
	ping    bool
	o       NotifyOptions
	queue   chan Message
	counts  sendCounts
	abandon context.CancelFunc // ends what is being sent when close can wait no longer
	done    chan struct{}
	closing sync.RWMutex
	closed  bool
}

func newSender(c Channel, o NotifyOptions) *sender {
	s := &sender{channel: c, o: o, queue: make(chan Message, queued), done: make(chan struct{})}
	_, s.ping = c.(Ping)
	ctx, abandon := context.WithCancel(context.Background())
	s.abandon = abandon
	go func() {
		defer close(s.done)
		for m := range s.queue {
			if err := crash.Run(func() error { return s.deliver(ctx, m) }); err != nil {
				s.o.Log.Warn("notification failed", "channel", c.Label(), "subject", m.Subject, "error", err)
			}
		}
	}()
	return s
}

// put queues a message. It never waits: what does not fit is dropped and
// counted.
func (s *sender) put(m Message) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		s.counts.dropped.Add(1)
		return
	}
	select {
	case s.queue <- m:
	default:
		s.counts.dropped.Add(1)
	}
}

// deliver makes a few attempts within one deadline.
func (s *sender) deliver(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := s.channel.Send(ctx, m)
		if err == nil {
			s.counts.ok.Add(1)
			return nil
		}
		if attempt == len(s.o.BackOff) || errors.Is(err, errPermanent) || ctx.Err() != nil {
			s.counts.failed.Add(1)
			return fmt.Errorf("%s: %s", s.channel.Label(), redact(err.Error(), s.o.Secrets))
		}
		select {
		case <-s.o.Clock.After(s.o.BackOff[attempt]):
		case <-ctx.Done():
		}
	}
}

func (s *sender) close(ctx context.Context) error {
	defer s.abandon()
	s.closing.Lock()
	if !s.closed {
		s.closed = true
		close(s.queue)
	}
	s.closing.Unlock()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %d messages are not sent: %w", s.channel.Label(), len(s.queue)+1, context.Cause(ctx))
	}
}

// Program is a channel that runs a command. It gets the message in its
// environment: EMSAFE_HOST, EMSAFE_SEVERITY, EMSAFE_SUBJECT, EMSAFE_TITLE,
// EMSAFE_TEXT, EMSAFE_RUN.
type Program struct {
	Name string
	Argv []string
}

// Label is its name.
func (p Program) Label() string { return p.Name }

// Send runs it.
func (p Program) Send(ctx context.Context, m Message) error {
	_, err := command.Run(ctx, p.Argv, command.Options{Env: []string{
		"EMSAFE_HOST=" + m.Host, "EMSAFE_SEVERITY=" + string(m.Severity), "EMSAFE_SUBJECT=" + m.Subject,
		"EMSAFE_TITLE=" + m.Title, "EMSAFE_TEXT=" + m.Text, "EMSAFE_RUN=" + m.Run,
	}})
	return err
}

// Ping is a dead man's switch in the manner of healthchecks: URL/start,
// URL, URL/fail. Whoever keeps it raises the alarm when none comes.
type Ping struct {
	Job   string        // whose runs it follows; "": the daemon's own life
	URL   string        // a secret
	Every time.Duration // for the daemon's own
}

const (
	pingStart   = "/start"
	pingSuccess = ""
	pingFail    = "/fail"
)

// Label names the job.
func (p Ping) Label() string { return "ping " + p.Job }

// Send pings. The title of the message is the part of the URL after the check.
func (p Ping) Send(ctx context.Context, m Message) error {
	u, err := url.Parse(p.URL)
	if err != nil {
		return fmt.Errorf("%w: the URL cannot be read", errPermanent)
	}
	u = u.JoinPath(m.Title)
	return post(ctx, http.MethodPost, u.String(), "text/plain; charset=utf-8", []byte(m.Text), nil)
}
