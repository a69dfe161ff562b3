package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/jonboulle/clockwork"

	"emsafe/internal/crash"
	"emsafe/internal/durable"
	"emsafe/internal/report"
)

// Severity is what a message is about.
type Severity string

// The severities.
const (
	Problem   Severity = "problem"
	Reminder  Severity = "reminder" // a problem that lasts
	Recovered Severity = "recovered"
	Info      Severity = "info"
)

// Message is what somebody is told. It holds no secrets: the notifier has
// taken them out.
type Message struct {
	Host     string    `json:"host"`
	Severity Severity  `json:"severity"`
	Subject  string    `json:"subject"` // a job, or clock, configuration, state; problems are counted by it
	Title    string    `json:"title"`   // one line
	Text     string    `json:"text"`
	Run      string    `json:"run,omitempty"`
	At       time.Time `json:"at"`
	Since    time.Time `json:"since,omitzero"` // when the problem began
	Times    int       `json:"times,omitempty"`
}

// NotifyOptions are what a notifier needs.
type NotifyOptions struct {
	Host     string
	File     string // what is wrong is kept here, so that a restart does not say it again; "": nowhere
	Channels []Channel
	Pings    []Ping
	Secrets  []string        // are never sent
	Status   func() Status   // for objectives; nil: they are not watched
	Remind   time.Duration   // 0: a day
	BackOff  []time.Duration // between attempts; nil: 2 s, 10 s
	Timeout  time.Duration   // of all attempts of one message together; 0: a minute
	Clock    clockwork.Clock
	Log      *slog.Logger
}

// Notifier tells somebody when something changes: once when a problem begins,
// once a day while it lasts, once when it is over. Nothing that it does waits,
// and nothing that fails in it fails anything else; it is counted.
type Notifier struct {
	o       NotifyOptions
	senders []*sender

	looking sync.Mutex // one look after the other: an older one must not undo a newer one

	mu     sync.Mutex
	issues map[string]*issue // by subject
	beats  map[string]time.Time
	born   time.Time
	stop   context.CancelFunc
	done   chan struct{}
}

// issue is a problem that somebody was told about.
type issue struct {
	Title string    `json:"title"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
	Told  time.Time `json:"told"`
	Times int       `json:"times"`
}

// NewNotifier starts a goroutine for every channel, so that one that hangs
// delays no other, and one that looks at objectives every minute. Close ends
// them.
func NewNotifier(o NotifyOptions) *Notifier {
	if o.Remind == 0 {
		o.Remind = 24 * time.Hour
	}
	if o.BackOff == nil {
		o.BackOff = []time.Duration{2 * time.Second, 10 * time.Second}
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &Notifier{o: o, issues: map[string]*issue{}, beats: map[string]time.Time{}, born: o.Clock.Now(), stop: stop, done: make(chan struct{})}
	n.load()
	for _, c := range o.Channels {
		n.senders = append(n.senders, newSender(c, o))
	}
	for _, p := range o.Pings {
		n.senders = append(n.senders, newSender(p, o))
	}
	ticker := o.Clock.NewTicker(time.Minute)
	go func() {
		defer close(n.done)
		defer ticker.Stop()
		for {
			crash.Run(func() error { n.check(); return nil }) //nolint:errcheck // it is logged and counted
			select {
			case <-ticker.Chan():
			case <-ctx.Done():
				return
			}
		}
	}()
	return n
}

func (n *Notifier) load() {
	if n.o.File == "" {
		return
	}
	data, err := os.ReadFile(n.o.File)
	if err == nil {
		err = json.Unmarshal(data, &n.issues)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.o.Log.Warn("what was told before is not known", "error", err)
	}
	for subject, i := range n.issues {
		if i == nil {
			delete(n.issues, subject)
		}
	}
	if n.issues == nil {
		n.issues = map[string]*issue{}
	}
}

// save keeps what is wrong. The caller holds mu.
func (n *Notifier) save() {
	if n.o.File == "" {
		return
	}
	data, err := json.MarshalIndent(n.issues, "", " ")
	if err == nil {
		err = durable.WriteFile(n.o.File, append(data, '\n'), 0o600)
	}
	if err != nil {
		n.o.Log.Warn("what was told is not kept", "error", err)
	}
}

// Observe takes the events of a scheduler.
func (n *Notifier) Observe(e Event) {
	switch e.Type {
	case RunStarted:
		n.ping(e.Job, pingStart, "")
	case RunFinished:
		n.finished(e)
	case ClockDoubted:
		n.Problem("clock", "the clock is in doubt: backups go on, and nothing else is started on schedule", e.Text)
	case ClockTrusted:
		n.Solved("clock", e.Text)
	case ReloadRefused:
		n.Problem("configuration", "the new configuration was not taken; the old one stays in force", e.Text)
	case Reloaded:
		n.Solved("configuration", "the configuration was taken: "+e.Text)
	case StateFailed:
		n.Problem("state", "the state file cannot be written", e.Text)
	case StateWritten:
		n.Solved("state", "the state file can be written again")
	}
}

func (n *Notifier) finished(e Event) {
	switch r := e.Run; r.Verdict {
	case OK:
		n.ping(e.Job, pingSuccess, r.Text)
		n.Solved(e.Job, r.Text)
	case Stopped: // the service was stopped; its next start runs it again
	case CutOff:
		n.problem(e.Job, e.Job+" was cut off", r.Error, r.ID)
	default:
		n.ping(e.Job, pingFail, r.Error)
		if !e.Retrying {
			n.problem(e.Job, e.Job+" failed", r.Error, r.ID)
		}
	}
}

// Problem tells that something is wrong, if nobody knows yet.
func (n *Notifier) Problem(subject, title, text string) { n.problem(subject, title, text, "") }

func (n *Notifier) problem(subject, title, text, run string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, kind := n.o.Clock.Now().UTC().Round(0), Reminder
	i := n.issues[subject]
	if i == nil {
		i, kind = &issue{Since: now}, Problem
		n.issues[subject] = i
	}
	i.Title, i.Text = n.clean(title, 200), n.clean(text, 2000)
	i.Times++
	if now.Sub(i.Told).Abs() >= n.o.Remind {
		n.remind(subject, i, kind, now, run)
	}
	n.save()
}

func (n *Notifier) remind(subject string, i *issue, kind Severity, now time.Time, run string) {
	i.Told = now
	n.send(Message{Severity: kind, Subject: subject, Title: i.Title, Text: i.Text, Run: run, At: now, Since: i.Since, Times: i.Times})
}

// Solved tells that it is right again, if somebody was told that it was wrong.
func (n *Notifier) Solved(subject, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := n.issues[subject]
	if i == nil {
		return
	}
	delete(n.issues, subject)
	now := n.o.Clock.Now().UTC().Round(0)
	n.send(Message{Severity: Recovered, Subject: subject, Title: "well again: " + i.Title, Text: n.clean(text, 2000), At: now, Since: i.Since, Times: i.Times})
	n.save()
}

// Announce tells something that is neither.
func (n *Notifier) Announce(subject, title, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send(Message{Severity: Info, Subject: subject, Title: n.clean(title, 200), Text: n.clean(text, 2000), At: n.o.Clock.Now().UTC().Round(0)})
}

func (n *Notifier) send(m Message) {
	m.Host = n.o.Host
	for _, s := range n.senders {
		if !s.ping {
			s.put(m)
		}
	}
}

// check looks at the objectives, reminds, and sends the daemon's heartbeat.
func (n *Notifier) check() {
	n.looking.Lock()
	defer n.looking.Unlock()
	now := n.o.Clock.Now().UTC().Round(0)
	clock := ""
	if n.o.Status != nil {
		status := n.o.Status()
		clock = status.Clock
		for _, j := range status.Jobs {
			n.objective(j, now)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	told := false
	for _, subject := range slices.Sorted(maps.Keys(n.issues)) {
		i := n.issues[subject]
		if now.Sub(i.Told).Abs() >= n.o.Remind {
			n.remind(subject, i, Reminder, now, "")
			told = true
		}
	}
	if told {
		n.save()
	}
	for _, p := range n.o.Pings {
		if p.Job == "" && clock == "" && now.Sub(n.beats[p.URL]).Abs() >= max(p.Every, time.Minute) {
			n.beats[p.URL] = now
			n.pingNow(p, pingSuccess, "")
		}
	}
}

// settle is how long after a start nobody is told of what is out of date: what
// was missed is being caught up with.
const settle = 10 * time.Minute

// objective judges how old the newest success of a job is.
func (n *Notifier) objective(j JobStatus, now time.Time) {
	subject := j.Name + " objective"
	if age, stale := j.Stale(now); stale {
		if now.Sub(n.born).Abs() < settle {
			return
		}
		n.mu.Lock()
		known := n.issues[subject] != nil
		n.mu.Unlock()
		if !known {
			text := fmt.Sprintf("What is safe is %s old, and the objective is %s.", span(age.Truncate(time.Minute)), span(j.Objective))
			if report.InFuture(age) {
				text = fmt.Sprintf("The newest backup is dated %s in the future, so that its age is not known. The objective is %s.", span(-age.Truncate(time.Minute)), span(j.Objective))
			}
			n.Problem(subject, fmt.Sprintf("%s is out of date", j.Name), text)
		}
		return
	}
	n.Solved(subject, "")
}

// Stale reports whether what is safe is older than the objective, and how old it
// is. At every target counts the instant that is safe there; where the job has
// no targets, its newest success. What never was is as old as the job.
func (r Record) Stale(now time.Time) (age time.Duration, stale bool) {
	from := r.Since
	if r.Success != nil {
		from = r.Success.Started // what was committed later is not in it
	}
	for i, name := range slices.Sorted(maps.Keys(r.Targets)) {
		point := r.Targets[name].Point
		if point.IsZero() {
			point = r.Since
		}
		if i == 0 || point.Before(from) {
			from = point
		}
	}
	age = now.Sub(from)
	return age, report.Misses(age, r.Objective)
}

func (n *Notifier) ping(job, what, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.o.Pings {
		if p.Job == job && job != "" {
			n.pingNow(p, what, n.clean(text, 10000))
		}
	}
}

func (n *Notifier) pingNow(p Ping, what, text string) {
	for _, s := range n.senders {
		if s.channel == Channel(p) {
			s.put(Message{Host: n.o.Host, Subject: p.Job, Title: what, Text: text})
		}
	}
}

// clean takes out secrets, and what could play tricks on who reads it.
func (n *Notifier) clean(text string, most int) string {
	text = redact(text, n.o.Secrets)
	text = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.TrimSpace(text)
}

// redact replaces secrets, longer ones first: one may be part of another.
func redact(text string, secrets []string) string {
	sorted := slices.Clone(secrets)
	slices.SortFunc(sorted, func(a, b string) int { return len(b) - len(a) })
	for _, s := range sorted {
		if len(s) >= 4 { // shorter ones would take words apart, and are none
			text = strings.ReplaceAll(text, s, "[secret]")
		}
	}
	return text
}

// Test sends a message through every channel now, and tells how each went.
func (n *Notifier) Test(ctx context.Context) map[string]error {
	out := map[string]error{}
	m := Message{Host: n.o.Host, Severity: Info, Subject: "test", Title: "a test of emsafe's notifications", Text: "If you can read this, it works.", At: n.o.Clock.Now().UTC().Round(0)}
	for _, s := range n.senders {
		if !s.ping {
			out[s.channel.Label()] = s.deliver(ctx, m)
		}
	}
	return out
}

// Close sends what waits, until ctx ends.
func (n *Notifier) Close(ctx context.Context) error {
	n.stop()
	<-n.done
	var errs []error
	for _, s := range n.senders {
		errs = append(errs, s.close(ctx))
	}
	return errors.Join(errs...)
}

// Sent is what became of the messages of each channel.
func (n *Notifier) Sent() map[string]SendCounts {
	out := map[string]SendCounts{}
	for _, s := range n.senders {
		c := out[s.channel.Label()]
		c.add(&s.counts)
		out[s.channel.Label()] = c
	}
	return out
}
