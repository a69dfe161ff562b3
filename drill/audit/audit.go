// Package audit says how a service really is: probes from outside, a look at
// the host that it runs on, and at its source, each held against a table of
// rules ([Rules]) and answered with pass, fail, warn, skip or error.
//
// [Look] is the call to start with. It asks only what the operator names,
// changes nothing (operations are called with broken bodies and the nil UUID),
// makes at most 200 requests unless it is told that it may be a nuisance, and
// never counts what it did not check as passed.
package audit

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"emsafe/internal/finding"
)

const (
	requestLimit = 200
	burst        = 60 // requests, at most
	workers      = 4

	evidenceLimit = 40 // lines of a check
)

// Run runs a command and returns what it printed. The error wraps
// fs.ErrNotExist if there is no such program.
type Run func(ctx context.Context, argv []string) ([]byte, error)

// Options say what to look at.
type Options struct {
	URL       *url.URL // of the service; nil: not from outside
	Plain     *url.URL // its plain port; nil: port 80, where URL has the usual port
	Direct    *url.URL // the application's own port, past the proxy; nil: not known
	Header    http.Header
	OpenAPI   []byte         // the description of its operations, where it is not public
	Roots     *x509.CertPool // nil: the system's
	Logs      []string       // files that the canaries are looked for in
	Intrusive bool           // bursts, large bodies, slow clients
	Slow      time.Duration  // how long a slow client is borne; 0: 45 s

	Host  bool
	Root  string // of the host's file system; "": /
	Facts *Facts // what emsafe knows of this host; nil: no configuration was found
	Run   Run

	Repo string // the source tree; "": none

	Now func() time.Time
}

// Facts are what emsafe knows of the host by its own configuration.
type Facts struct {
	Findings  []finding.Finding // of `harden`
	Databases []string          // paths
	Rehearsed time.Time         // the last drill or runbook; zero: never
}

// Report is how things are.
type Report struct {
	Format   int             `json:"format"` // of this report; 1
	Target   string          `json:"target,omitempty"`
	Repo     string          `json:"repo,omitempty"`
	Host     string          `json:"host,omitempty"`
	Version  string          `json:"version"`
	Started  time.Time       `json:"started_at"`
	Ended    time.Time       `json:"ended_at"`
	Requests int             `json:"requests"`
	Grade    Grade           `json:"grade"`
	Coverage []Coverage      `json:"coverage"`
	Checks   []finding.Check `json:"checks"`
	Plan     []Item          `json:"plan,omitempty"`
}

// audit is one look in the making.
type audit struct {
	Options
	c      *client
	mu     sync.Mutex
	checks []finding.Check
	said   map[string]bool
	seen   []answer // everything that came back, for what is looked for in all of it
	home   answer   // of /
	lost   answer   // of a path that cannot be there
	api    api
	canary canary
}

// Look looks. Waivers and a plan are held against the report afterwards:
// [Report.Conclude].
func Look(ctx context.Context, o Options) *Report {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Slow == 0 {
		o.Slow = 45 * time.Second
	}
	a := &audit{Options: o, said: map[string]bool{}}
	r := &Report{Format: 1, Started: o.Now().UTC()}
	if o.URL != nil {
		r.Target = o.URL.String()
		a.c = newClient(o)
		a.outside(ctx)
		r.Requests = int(min(a.c.made.Load(), a.c.limit))
		a.c.http.CloseIdleConnections()
	}
	if o.Host {
		a.machine(ctx)
	}
	if o.Repo != "" {
		r.Repo = o.Repo
		a.source()
	}
	a.rest(ctx)
	r.Checks, r.Ended = a.checks, o.Now().UTC()
	finding.SortChecks(r.Checks)
	return r
}

// rest says of every rule that has no answer why not.
func (a *audit) rest(ctx context.Context) {
	asked := map[scope]bool{outside: a.URL != nil, intrusive: a.URL != nil && a.Intrusive, inside: a.Host, source: a.Repo != ""}
	needs := map[scope]string{outside: "needs the address of the service", intrusive: "needs --intrusive, and the address of the service", inside: "needs --host", source: "needs --repo"}
	for _, r := range Rules {
		switch {
		case a.said[r.ID]:
		case !asked[r.Scope]:
			a.skip(r.ID, "%s", needs[r.Scope])
		case ctx.Err() != nil:
			a.failed(r.ID, "", ctx.Err())
		default:
			a.failed(r.ID, "", fmt.Errorf("what it needs could not be had"))
		}
	}
}

func (a *audit) say(id string, result finding.Result, subject, found, reason string, evidence []string) {
	rule, ok := RuleOf(id)
	if !ok {
		panic("audit: no rule " + id)
	}
	if subject == "" {
		switch {
		case a.URL != nil && (rule.Scope == outside || rule.Scope == intrusive):
			subject = a.URL.String()
		case rule.Scope == source && a.Repo != "":
			subject = a.Repo
		case rule.Scope == inside && a.Host:
			subject = "host"
		default:
			subject = "-"
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said[id] = true
	if more := len(evidence) - evidenceLimit; more > 0 {
		evidence = append(evidence[:evidenceLimit:evidenceLimit], fmt.Sprintf("and %d more", more))
	}
	for i := range evidence {
		evidence[i] = clip(evidence[i], 300)
	}
	a.checks = append(a.checks, finding.Check{
		Finding: finding.Finding{ID: id, Severity: rule.Severity, Title: rule.Title, Subject: clip(subject, 300), Found: found, Why: rule.Why, Remedy: rule.Remedy},
		Result:  result, Phase: string(rule.Phase), ASVS: rule.ASVS, Evidence: evidence, Reason: reason, Render: rule.Render, Runbook: rule.Runbook,
	})
}

func (a *audit) pass(id, subject, found string, evidence ...string) {
	a.say(id, finding.Pass, subject, found, "", evidence)
}

func (a *audit) fail(id, subject, found string, evidence ...string) {
	a.say(id, finding.Fail, subject, found, "", evidence)
}

func (a *audit) warn(id, subject, found string, evidence ...string) {
	a.say(id, finding.Warn, subject, found, "", evidence)
}

func (a *audit) skip(id, reason string, args ...any) {
	a.say(id, finding.Skip, "", "", fmt.Sprintf(reason, args...), nil)
}

// failed is for what was asked and could not be checked.
func (a *audit) failed(id, subject string, err error) {
	a.say(id, finding.Error, subject, "", err.Error(), nil)
}

// verdict passes a rule if nothing was found, and fails it with what was.
func (a *audit) verdict(id, good, bad string, found []string) {
	if len(found) == 0 {
		a.pass(id, "", good)
		return
	}
	slices.Sort(found)
	a.fail(id, "", bad, found...)
}

// ask asks, and remembers what came back.
func (a *audit) ask(ctx context.Context, r request) answer {
	out := a.c.do(ctx, r)
	if out.err == nil {
		a.mu.Lock()
		a.seen = append(a.seen, out)
		a.mu.Unlock()
	}
	return out
}

// askAll asks several things, a few at a time; the answers are in order.
func (a *audit) askAll(ctx context.Context, list []request) []answer {
	return a.many(ctx, list, workers)
}

func (a *audit) many(ctx context.Context, list []request, at int) []answer {
	out := make([]answer, len(list))
	next := make(chan int)
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for i := range next {
				out[i] = a.ask(ctx, list[i])
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// unanswered is an error if something was not answered: what was not asked did
// not pass.
func unanswered(list []answer) error {
	for _, x := range list {
		if x.err != nil {
			return fmt.Errorf("%s", x.line())
		}
	}
	return nil
}

// clip bounds what strangers may put into a report.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
