package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// told is a channel that remembers.
type told struct {
	got  chan Message
	fail error
}

func (c *told) Label() string { return "told" }
func (c *told) Send(_ context.Context, m Message) error {
	c.got <- m
	return c.fail
}

func failed(job, text string) Event {
	return Event{Type: RunFinished, Job: job, Run: &Run{ID: "run1", Job: job, Verdict: Failed, Error: text}}
}

func fine(job string) Event {
	return Event{Type: RunFinished, Job: job, Run: &Run{Job: job, Verdict: OK}}
}

// TestNotifyRules: what is said, and what is not.
func TestNotifyRules(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClockAt(start)
	c := &told{got: make(chan Message, 100)}
	status := Status{}
	var mu sync.Mutex
	o := NotifyOptions{Host: "h", File: filepath.Join(t.TempDir(), "notify.json"), Channels: []Channel{c}, Clock: clock, Secrets: []string{"hunter2", "hunter2-and-more", "a"},
		Status: func() Status { mu.Lock(); defer mu.Unlock(); return status }}
	n := NewNotifier(o)
	end := func() []string { // everything that was said, by closing and opening again: a restart
		t.Helper()
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for len(c.got) > 0 {
			m := <-c.got
			lines = append(lines, fmt.Sprintf("%s %s: %s", m.Severity, m.Subject, m.Title))
		}
		n = NewNotifier(o)
		return lines
	}
	want := func(what string, want ...string) {
		t.Helper()
		if got := end(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	n.Observe(fine("app"))
	n.Observe(Event{Type: Reloaded})
	want("nothing was wrong")
	retrying := failed("app", "x")
	retrying.Retrying = true
	n.Observe(retrying)
	want("it is tried again")
	for range 50 {
		n.Observe(failed("app", "no network"))
	}
	n.Observe(failed("blog", "x"))
	want("once for each", "problem app: app failed", "problem blog: blog failed")
	n.Observe(failed("app", "no network"))
	want("a restart does not say it again")
	clock.Advance(25 * time.Hour)
	want("once a day, by itself", "reminder app: app failed", "reminder blog: blog failed")
	n.Observe(failed("app", "no network"))
	want("and no more")
	n.Observe(fine("app"))
	n.Observe(fine("app"))
	want("it is over", "recovered app: well again: app failed")
	n.Observe(Event{Type: RunFinished, Job: "app", Run: &Run{Verdict: CutOff, Error: "x"}})
	n.Observe(Event{Type: RunFinished, Job: "drill", Run: &Run{Verdict: Stopped}})
	n.Observe(Event{Type: ClockDoubted, Text: "2036"})
	n.Observe(Event{Type: ReloadRefused, Text: "line 3"})
	n.Observe(Event{Type: StateFailed, Text: "full"})
	want("the daemon's own", "problem app: app was cut off", "problem clock: the clock is in doubt: backups go on, and nothing else is started on schedule",
		"problem configuration: the new configuration was not taken; the old one stays in force", "problem state: the state file cannot be written")
	for _, e := range []Event{{Type: ClockTrusted}, {Type: Reloaded}, {Type: StateWritten}, fine("app"), fine("blog")} {
		n.Observe(e)
	}
	if got := end(); len(got) != 5 {
		t.Error(got)
	}

	// Objectives are watched without anybody's doing: what stands still says nothing.
	mu.Lock()
	success := &Run{Started: clock.Now().Add(-25 * time.Hour)}
	status = Status{Jobs: []JobStatus{{Name: "app", Record: Record{Objective: 26 * time.Hour, Success: success}}, {Name: "new", Record: Record{Objective: time.Hour, Since: clock.Now()}}, {Name: "none"}}}
	mu.Unlock()
	n.check()
	clock.Advance(59 * time.Minute)
	n.check()
	want("in time, and not yet")
	clock.Advance(2 * time.Minute)
	n.check()
	want("after a restart there is time to catch up")
	clock.Advance(11 * time.Minute)
	n.check()
	want("out of date", "problem app objective: app is out of date", "problem new objective: new is out of date")
	mu.Lock()
	status = Status{Jobs: slices.Clone(status.Jobs)}
	status.Jobs[0].Success, status.Jobs[1].Success = &Run{Started: clock.Now()}, &Run{Started: clock.Now()}
	mu.Unlock()
	n.check()
	if got := end(); len(got) != 2 || !strings.HasPrefix(got[0], "recovered app objective") {
		t.Error(got)
	}

	n.Observe(failed("app", "password hunter2-and-more and hunter2\x1b[31m\nsecond line "+strings.Repeat("x", 5000)))
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	m := <-c.got
	if !strings.HasPrefix(m.Text, "password [secret] and [secret] [31m\nsecond line xxx") || len(m.Text) > 2010 || m.Run != "run1" || m.Host != "h" {
		t.Errorf("%q", m.Text)
	}
	if kept, err := os.ReadFile(o.File); err != nil || strings.Contains(string(kept), "hunter") {
		t.Errorf("%s %v", kept, err)
	}
}

// TestNotifyFails: attempts are few, failures are counted, and nothing waits
// for a channel that hangs.
func TestNotifyFails(t *testing.T) {
	t.Parallel()
	bad := &told{got: make(chan Message, 1000), fail: errors.New("down, and hunter2")}
	n := NewNotifier(NotifyOptions{Channels: []Channel{bad}, BackOff: []time.Duration{0, 0}, Secrets: []string{"hunter2"}})
	n.Problem("a", "t", "x")
	if err := n.Test(t.Context())["told"]; err == nil || err.Error() != "told: down, and [secret]" {
		t.Error(err)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := n.Sent()["told"]; len(bad.got) != 6 || got.Failed != 2 || got.OK != 0 {
		t.Errorf("%d attempts, %+v", len(bad.got), got)
	}

	hangs := &told{got: make(chan Message)}
	n = NewNotifier(NotifyOptions{Channels: []Channel{hangs}})
	for i := range 300 { // returns at once, every time
		n.Problem(fmt.Sprint(i), "t", "x")
	}
	if got := n.Sent()["told"]; got.Dropped < 300-queued-1 {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Close(ctx); err == nil || !strings.Contains(err.Error(), "messages are not sent") {
		t.Error(err)
	}
	go func() { // lets the sender end
		for range hangs.got { //nolint:revive // drained
		}
	}()
	<-n.senders[0].done
	close(hangs.got)
}

// posted is a server that keeps what it gets and answers as it is told.
func posted(t *testing.T, answers ...int) (*httptest.Server, func() []string) {
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s|%s|%s|%s", r.Method, r.URL.EscapedPath(), r.Header.Get("Content-Type"), r.Header.Get("Authorization")+r.Header.Get("X-Gotify-Key"), r.Header.Get("Title"), body))
		if len(answers) > 0 {
			if answers[0]/100 == 3 {
				w.Header().Set("Location", "/elsewhere")
			}
			w.WriteHeader(answers[0])
			answers = answers[1:]
		}
	}))
	t.Cleanup(server.Close)
	return server, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(got) }
}

func TestWebhookShapes(t *testing.T) {
	t.Parallel()
	m := Message{Host: "höst", Severity: Reminder, Subject: "app", Title: "app <failed> & more", Text: "line 1\n@everyone", Run: "r1", At: start, Since: start.Add(-time.Hour), Times: 3}
	text := "[reminder] höst: app <failed> & more\nline 1\n@everyone\nsince 2026-11-23 11:00 UTC, 3 times\nrun r1"
	quoted, _ := json.Marshal(text)
	slackText, _ := json.Marshal(strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "&", "&amp;"), "<", "&lt;"), ">", "&gt;"))
	title, _ := json.Marshal("[reminder] höst: app <failed> & more")
	for shape, want := range map[string]string{
		"json":     `POST /hook application/json|Bearer x||{"host":"höst","severity":"reminder","subject":"app","title":"app \u003cfailed\u003e \u0026 more",`,
		"slack":    `POST /hook application/json|||{"text":` + string(slackText) + `}`,
		"discord":  `POST /hook application/json|||{"allowed_mentions":{"parse":[]},"content":` + string(quoted) + `}`,
		"ntfy":     "POST /hook text/plain; charset=utf-8|Bearer tok|=?utf-8?b?" + "W3JlbWluZGVyXSBow7ZzdDogYXBwIDxmYWlsZWQ+ICYgbW9yZQ==?=|line 1\n@everyone\nsince",
		"gotify":   `POST /hook/message application/json|tok||{"message":` + string(quoted) + `,"priority":8,"title":` + string(title) + `}`,
		"telegram": `POST /hook/bottok/sendMessage application/json|||{"chat_id":"!room:x","disable_web_page_preview":true,"text":` + string(quoted) + `}`,
		"matrix":   `PUT /hook/_matrix/client/v3/rooms/%21room:x/send/m.room.message/`,
	} {
		server, got := posted(t)
		w := Webhook{Name: "w", URL: server.URL + "/hook", Shape: shape, Token: "tok", Room: "!room:x", Header: map[string]string{"Authorization": "Bearer x"}}
		if err := w.Send(t.Context(), m); err != nil {
			t.Errorf("%s: %v", shape, err)
			continue
		}
		if one := got(); len(one) != 1 || !strings.HasPrefix(one[0], want) {
			t.Errorf("%s: %q, want %q", shape, one, want)
		}
	}
	if len(Shapes()) != 7 {
		t.Error(Shapes())
	}
}

func TestWebhookFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answers  []int
		attempts int
		want     string
	}{
		{nil, 1, ""},
		{[]int{500, 429}, 3, ""},
		{[]int{500, 503, 502, 200}, 3, "HTTP 502"},
		{[]int{404}, 1, "HTTP 404"},
		{[]int{302}, 1, "HTTP 302"}, // a token does not follow
	} {
		server, got := posted(t, c.answers...)
		n := NewNotifier(NotifyOptions{Channels: []Channel{Webhook{Name: "w", URL: server.URL + "/T000/secret-path", Shape: "slack"}}, BackOff: []time.Duration{0, 0}})
		err := n.Test(t.Context())["w"]
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-path")) || len(got()) != c.attempts {
			t.Errorf("%v: %d attempts, %v", c.answers, len(got()), err)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	server, _ := posted(t)
	server.Close()
	if err := (Webhook{Name: "w", URL: server.URL + "/secret-path", Shape: "json"}).Send(t.Context(), Message{}); err == nil || strings.Contains(err.Error(), "secret-path") || errors.Is(err, errPermanent) {
		t.Error(err)
	}
	for _, w := range []Webhook{{URL: "ftp://x", Shape: "json"}, {URL: "https://x", Shape: "pager"}, {URL: "https://x", Shape: "matrix", Token: "t"}, {URL: "https://x", Shape: "gotify"}} {
		if err := w.Send(t.Context(), Message{}); !errors.Is(err, errPermanent) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestPings(t *testing.T) {
	t.Parallel()
	server, got := posted(t)
	clock := clockwork.NewFakeClockAt(start)
	doubt := ""
	var mu sync.Mutex
	n := NewNotifier(NotifyOptions{Clock: clock, Secrets: []string{"hunter2"}, Status: func() Status { mu.Lock(); defer mu.Unlock(); return Status{Clock: doubt} },
		Pings: []Ping{{Job: "app", URL: server.URL + "/ping/uuid"}, {URL: server.URL + "/self", Every: 5 * time.Minute}}})
	n.Observe(Event{Type: RunStarted, Job: "app", Run: &Run{}})
	n.Observe(fine("app"))
	n.Observe(failed("app", "hunter2 was wrong"))
	n.Observe(fine("other"))
	for range 9 {
		clock.Advance(time.Minute)
		n.check()
	}
	mu.Lock()
	doubt = "2036"
	mu.Unlock()
	for range 9 { // a daemon that starts nothing is not alive
		clock.Advance(time.Minute)
		n.check()
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	lines := got()
	slices.Sort(lines)
	want := []string{
		"POST /ping/uuid text/plain; charset=utf-8|||", "POST /ping/uuid/fail text/plain; charset=utf-8|||[secret] was wrong", "POST /ping/uuid/start text/plain; charset=utf-8|||",
		"POST /self text/plain; charset=utf-8|||", "POST /self text/plain; charset=utf-8|||",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}

// A look that was held up does not count as the newest one.
func TestLooksInOrder(t *testing.T) {
	t.Parallel()
	server, got := posted(t)
	clock := clockwork.NewFakeClockAt(start)
	entered, release := make(chan struct{}), make(chan struct{})
	var looks atomic.Int32
	n := NewNotifier(NotifyOptions{Clock: clock, Pings: []Ping{{URL: server.URL + "/self", Every: 5 * time.Minute}}, Status: func() Status {
		if looks.Add(1) == 1 {
			close(entered)
			<-release
		}
		return Status{}
	}})
	<-entered
	clock.Advance(6 * time.Minute)
	looked := make(chan struct{})
	go func() { defer close(looked); n.check() }()
	select {
	case <-looked:
	case <-time.After(200 * time.Millisecond): // it waits, as it should
	}
	close(release)
	<-looked
	clock.Advance(time.Minute)
	n.check()
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if lines := got(); len(lines) != 2 {
		t.Errorf("%q", lines)
	}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out")
	p := Program{Name: "p", Argv: []string{"/bin/sh", "-c", `printf '%s|%s|%s|%s' "$EMSAFE_SEVERITY" "$EMSAFE_HOST" "$EMSAFE_TITLE" "$EMSAFE_TEXT" > "$0"`, file}}
	if err := p.Send(t.Context(), Message{Severity: Problem, Host: "h", Title: "$(id)", Text: "a\nb"}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "problem|h|$(id)|a\nb" {
		t.Errorf("%q %v", got, err)
	}
	if err := (Program{Name: "p", Argv: []string{"/bin/false"}}).Send(t.Context(), Message{}); err == nil {
		t.Error("it fails")
	}
}
