package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/drill/audit"
	"emsafe/internal/command"
	"emsafe/internal/config"
	"emsafe/internal/fault"
	"emsafe/internal/finding"
)

const auditHeader = "EMSAFE_AUDIT_HEADER"

func (p *program) auditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "say how a service really is: from outside, on its host, and in its source", ArgsUsage: "[URL]",
		Description: "Asks only what is named, and changes nothing. Ends with 1 if something is open from --fail-on on, or a ticked item of the plan does not hold; with 2 if something could not be checked; a check that was skipped never counts as passed. " +
			"A header line in $" + auditHeader + " (as in: Authorization: Bearer …) is sent with the requests that need credentials.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "host", Usage: "look at this host too: processes, sockets, firewall, units, logs, and what harden finds"},
			&cli.StringFlag{Name: "repo", Usage: "look at the source tree in `DIR` too"},
			&cli.BoolFlag{Name: "intrusive", Usage: "also send bursts of 60 requests, a body of 48 MiB, and slow clients: only to what is yours"},
			&cli.StringFlag{Name: "http", Usage: "the plain port as a `URL`, if it is not 80"},
			&cli.StringFlag{Name: "direct", Usage: "the application's own port as a `URL`, past the proxy: it must not answer"},
			&cli.StringFlag{Name: "openapi", Usage: "the description of the operations, where it is not public, in `FILE`"},
			&cli.StringSliceFlag{Name: "log", Usage: "a log of the proxy or the application, `FILE` or pattern: the audit's made-up secrets must not be in it; may be repeated"},
			&cli.StringFlag{Name: "plan", Usage: "a plan in Markdown, `FILE`: its check boxes that name rules or phases are held against the results"},
			&cli.StringFlag{Name: "waivers", Usage: "what is to be lived with, `FILE`: version: 1, and waivers as in the configuration, each with an owner"},
			&cli.StringFlag{Name: "fail-on", Usage: "fail from this `SEVERITY` on: info, low, medium, high or critical", Value: "high"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT`: text, json, junit, sarif, md, html or prometheus", Value: "text"},
		},
		Action: p.audit,
	}
}

var auditFormats = []string{"text", "json", "junit", "sarif", "md", "html", "prometheus"}

func (p *program) audit(c *cli.Context) error {
	format := c.String("format")
	if p.print.json {
		format = "json"
	}
	if !slices.Contains(auditFormats, format) {
		return usage("--format is one of %s, not %q", strings.Join(auditFormats, ", "), format)
	}
	var from finding.Severity
	if err := from.UnmarshalText([]byte(c.String("fail-on"))); err != nil {
		return usage("--fail-on: %w", err)
	}
	o, err := p.auditOptions(c)
	if err != nil {
		return err
	}
	waivers, plan, err := p.auditFiles(c)
	if err != nil {
		return err
	}
	host := ""
	if o.Host {
		host, _ = os.Hostname()
		own, err := p.auditFacts(c, &o)
		if err != nil {
			return err
		}
		waivers = append(waivers, own...)
	}
	r := audit.Look(c.Context, o)
	if err := c.Context.Err(); err != nil {
		return err
	}
	r.Version, r.Host = version(), host
	r.Conclude(waivers, plan, p.now())
	if err := p.showAudit(r, format, from); err != nil {
		return err
	}
	return auditVerdict(r, from)
}

// auditVerdict is the exit code: what is open says more than what is unknown.
func auditVerdict(r *audit.Report, from finding.Severity) error {
	if failing := r.Failing(from); len(failing) > 0 {
		f := failing[0]
		return fault.New(fault.AuditOpen, "%s open from %s on; the first: %s, %s: %s", several(len(failing), "check is", "checks are"), from, f.ID, f.Title, f.Subject)
	}
	if broken := r.Broken(); len(broken) > 0 {
		return fault.New(fault.AuditOpen, "%d ticked items of the plan do not hold; the first, in line %d: %s", len(broken), broken[0].Line, broken[0].Text)
	}
	if unknown := r.Unchecked(); len(unknown) > 0 {
		return fault.New(fault.AuditUnclear, "%s could not be made; the first: %s: %s", several(len(unknown), "check", "checks"), unknown[0].ID, unknown[0].Reason)
	}
	return nil
}

func (p *program) auditOptions(c *cli.Context) (audit.Options, error) {
	o := audit.Options{Host: c.Bool("host"), Repo: c.String("repo"), Intrusive: c.Bool("intrusive"), Logs: c.StringSlice("log"), Run: runForAudit, Now: p.now}
	if c.NArg() > 1 {
		return o, usage("audit takes one URL, not %d", c.NArg())
	}
	var err error
	if c.NArg() == 1 {
		if o.URL, err = webAddress(c.Args().First()); err != nil {
			return o, err
		}
	}
	if o.URL == nil && !o.Host && o.Repo == "" {
		return o, usage("what is to be looked at? Give a URL, --host, --repo DIR, or several")
	}
	for _, name := range []string{"intrusive", "http", "direct", "openapi", "log"} {
		if c.IsSet(name) && o.URL == nil {
			return o, usage("--%s needs a URL", name)
		}
	}
	for name, into := range map[string]**url.URL{"http": &o.Plain, "direct": &o.Direct} {
		if c.String(name) == "" {
			continue
		}
		if *into, err = webAddress(c.String(name)); err != nil {
			return o, err
		}
	}
	if o.Plain == nil && o.URL != nil && o.URL.Scheme == "https" && (o.URL.Port() == "" || o.URL.Port() == "443") {
		o.Plain = &url.URL{Scheme: "http", Host: o.URL.Hostname()}
		if strings.Contains(o.Plain.Host, ":") {
			o.Plain.Host = "[" + o.Plain.Host + "]"
		}
	}
	if o.Repo != "" {
		if info, err := os.Stat(o.Repo); err != nil || !info.IsDir() {
			return o, usage("--repo: %s is no folder", o.Repo)
		}
		if o.Repo, err = filepath.Abs(o.Repo); err != nil {
			return o, err
		}
	}
	if file := c.String("openapi"); file != "" {
		if o.OpenAPI, err = os.ReadFile(file); err != nil {
			return o, usage("--openapi: %w", err)
		}
	}
	if line, ok := p.env(auditHeader); ok && line != "" {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return o, usage("$%s is no header line: write NAME: VALUE", auditHeader)
		}
		o.Header = http.Header{}
		o.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return o, nil
}

// runForAudit runs a command that only lists, and says if there is none.
func runForAudit(ctx context.Context, argv []string) ([]byte, error) {
	out, err := runForSecret(ctx, argv)
	if command.NotFound(err) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return out, err
}

// webAddress reads an address; without a scheme it is one with TLS.
func webAddress(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, usage("%q is no address of a service", s)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, usage("%q is no address of a service; it is as https://example.org", u.Redacted())
	case u.User != nil:
		return nil, usage("credentials have no place in the address: everybody on this machine sees it; $%s takes a header line", auditHeader)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, usage("the address ends before ? and #")
	}
	return u, nil
}

// auditFiles reads what the results are held against, before anything is asked.
func (p *program) auditFiles(c *cli.Context) (waivers []finding.Waiver, plan []byte, err error) {
	if file := c.String("waivers"); file != "" {
		list, err := config.LoadWaivers(file)
		if err != nil {
			return nil, nil, err
		}
		waivers = waiverList(list)
	}
	if file := c.String("plan"); file != "" {
		if plan, err = os.ReadFile(file); err != nil {
			return nil, nil, usage("--plan: %w", err)
		}
		if plan == nil {
			plan = []byte{}
		}
	}
	return waivers, plan, nil
}

// auditFacts is what emsafe knows of this host, if it has a configuration, and
// the waivers of that.
func (p *program) auditFacts(c *cli.Context, o *audit.Options) ([]finding.Waiver, error) {
	s, err := p.here(c)
	if err != nil && fault.Exit(err) == fault.Permission.Exit && c.String("config") == "" {
		return nil, nil // another's configuration: then its facts are not known
	}
	if err != nil || s.cfg == nil {
		return nil, err
	}
	facts := &audit.Facts{}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
		facts.Databases = append(facts.Databases, s.cfg.Databases[name].Path)
	}
	facts.Findings, err = s.unwaived(c.Context, p.now())
	if err != nil {
		return nil, err
	}
	facts.Rehearsed = s.rehearsed()
	o.Facts = facts
	return s.waivers(), nil
}

// unwaived is what `harden check` finds, before waivers.
func (s *site) unwaived(ctx context.Context, now time.Time) ([]finding.Finding, error) {
	_, found, err := s.lookAt(ctx, slices.Sorted(maps.Keys(s.cfg.Databases)), now)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(f finding.Finding) bool { return f.ID == "EMS-WAIVER-001" })
	for i := range found {
		found[i].Waiver = nil
	}
	return found, nil
}

// rehearsed is when a drill or a runbook was last brought to its end here.
func (s *site) rehearsed() (last time.Time) {
	for name := range s.cfg.Databases {
		if doc, err := s.p.statusOf(s, name); err == nil && doc.Drill.Last != nil && doc.Drill.Last.At.After(last) {
			last = doc.Drill.Last.At
		}
	}
	records, _ := s.runs().List()
	for _, r := range records {
		if !r.DryRun && r.Ended.After(last) {
			last = r.Ended
		}
	}
	return last
}

func (p *program) showAudit(r *audit.Report, format string, from finding.Severity) error {
	writers := map[string]func(io.Writer) error{
		"json":       func(w io.Writer) error { p.print.object(w, r); return nil },
		"junit":      func(w io.Writer) error { return finding.JUnitChecks(w, "emsafe audit", r.Checks, from) },
		"sarif":      func(w io.Writer) error { return finding.SARIFChecks(w, "emsafe", version(), r.Checks) },
		"md":         r.WriteMarkdown,
		"html":       r.WriteHTML,
		"prometheus": r.WritePrometheus,
	}
	if write := writers[format]; write != nil {
		return write(p.stdout)
	}
	p.auditText(r)
	return nil
}

func (p *program) auditText(r *audit.Report) {
	color := map[finding.Result]string{finding.Fail: "31", finding.Warn: "33", finding.Error: "35"}
	waived, unknown, reasons := 0, map[string][]string{}, []string(nil)
	for _, c := range r.Checks {
		switch {
		case c.Waiver != nil:
			waived++
			continue
		case color[c.Result] == "":
			continue
		}
		if c.Result == finding.Error {
			if unknown[c.Reason] == nil {
				reasons = append(reasons, c.Reason)
			}
			unknown[c.Reason] = append(unknown[c.Reason], c.ID)
			continue
		}
		p.print.line("%s %-8s %s  %s", p.print.paint(color[c.Result], strings.ToUpper(string(c.Result))), c.Severity, c.ID, c.Title)
		p.print.line("         %s: %s", c.Subject, c.Found+c.Reason)
		for i, e := range c.Evidence {
			if i == 5 {
				p.print.line("         … and %d more", len(c.Evidence)-i)
				break
			}
			p.print.line("         | %s", e)
		}
		p.print.line("         why:    %s", c.Why)
		p.print.line("         remedy: %s", c.Remedy)
		if by := audit.Mended(c); by != "" {
			p.print.line("         try:    %s", by)
		}
	}
	for _, reason := range reasons {
		p.print.line("%s %s: %s", p.print.paint("35", "ERROR"), reason, strings.Join(unknown[reason], " "))
	}
	if reasons, ids := r.Skips(); len(reasons) > 0 {
		for _, reason := range reasons {
			p.print.line("SKIP %s: %s", reason, strings.Join(ids[reason], " "))
		}
	}
	if len(r.Plan) > 0 {
		p.print.line("")
		for _, i := range r.Plan {
			tick := " "
			if i.Ticked {
				tick = "x"
			}
			p.print.line("plan line %d [%s] %s: %s", i.Line, tick, i.State, i.Text)
			for _, why := range i.Why {
				p.print.line("         %s", why)
			}
		}
	}
	p.print.line("")
	rows := [][]string{{"PHASE", "RULES", "CHECKED", "PASSED", "FAILED", "WARNED", "WAIVED", "SKIPPED", "ERRORS"}}
	for _, c := range r.Coverage {
		row := []string{c.Phase.Words()}
		for _, n := range []int{c.Rules, c.Checked, c.Passed, c.Failed, c.Warned, c.Waived, c.Skipped, c.Errors} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	p.print.table(rows)
	p.print.line("%s; %s waived; %s in %s", r.Summary(), several(waived, "check", "checks"), several(r.Requests, "request", "requests"), r.Ended.Sub(r.Started).Round(time.Millisecond))
}
