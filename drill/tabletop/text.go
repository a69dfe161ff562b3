package tabletop

import (
	_ "embed" // the templates
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"emsafe/internal/report"
)

// Manual is the situation for those who take part: what there is, who they are,
// what is to be practised, and nothing of what will happen.
func (s *Scenario) Manual(inv Inventory, values map[string]string) string {
	b := &document{values: values}
	b.line("# %s", s.Title)
	b.line("\nSituation manual of the exercise %s, made %s for %s. It takes %s.", s.ID, stamp(inv.At), inv.Host, s.Time)
	b.line("\n%s", s.Intro)
	b.line("\n## What is to be practised\n")
	for _, o := range s.Objectives {
		b.line("- %s: %s", o.Name, o.Text)
	}
	b.line("\n## Roles\n")
	for _, r := range s.Roles {
		b.line("- **%s**: %s", r.Name, r.Text)
	}
	b.inventory(inv)
	b.line("\n## Rules\n\n- Everything is played, nothing is done to the real systems, unless the facilitator holds a drill in the sandbox.\n- Say what you decide, and who you are; it is written down.\n- You may look into your own documents, runbooks and status pages.\n- What you do not have today, you do not have in the exercise.")
	return b.String()
}

// Guide is the whole of it, for the facilitator alone.
func (s *Scenario) Guide(inv Inventory, values map[string]string) string {
	b := &document{values: values}
	b.line("# Facilitator's guide: %s", s.Title)
	b.line("\nExercise %s, made %s for %s. It takes %s. Not for those who take part.", s.ID, stamp(inv.At), inv.Host, s.Time)
	b.line("\nStart it with `emsafe exercise run %s`; read each inject aloud, take down who decides what, and let silence work. `emsafe exercise run %s --listen 127.0.0.1:9470` shows the current inject and the clock on a page for the room.", s.ID, s.ID)
	for _, i := range s.Injects {
		b.line("\n## %s  %s", offset(i.At), i.Title)
		if i.Via != "" {
			b.line("\nby %s", i.Via)
		}
		b.line("\n%s", i.Text)
		b.list("Discuss", i.Discuss)
		if len(i.Expect) > 0 {
			b.line("\nExpected:\n")
		}
		for _, a := range i.Expect {
			also := ""
			if a.Objective != "" {
				also += ", objective " + a.Objective
			}
			if a.Runbook != "" {
				also += ", runbook " + a.Runbook
			}
			b.line("- [ ] %s%s", a.Text, also)
		}
		if len(i.Choices) > 0 {
			b.line("\nWhere it goes:\n")
		}
		for _, c := range i.Choices {
			b.line("- %s: %s", c.Text, c.To)
		}
		if i.Drill {
			b.line("\nA real drill may be held here.")
		}
	}
	if s.Scoring != "" {
		b.line("\n## Scoring\n\n%s", s.Scoring)
	}
	b.inventory(inv)
	return b.String()
}

// document is Markdown in the making, with {{names}} filled in.
type document struct {
	strings.Builder
	values map[string]string
}

func (b *document) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for name, value := range b.values {
		text = strings.ReplaceAll(text, "{{"+name+"}}", value)
	}
	b.WriteString(text + "\n")
}

func (b *document) list(head string, items []string) {
	if len(items) == 0 {
		return
	}
	b.line("\n%s:\n", head)
	for _, item := range items {
		b.line("- %s", item)
	}
}

func (b *document) inventory(inv Inventory) {
	b.line("\n## What there really is, as of %s\n", stamp(inv.At))
	for _, d := range inv.Databases {
		b.line("- database **%s** (%s)%s", d.Name, d.Path, promised(d))
		for _, held := range d.Backups {
			b.line("  - %s", held)
		}
		b.line("  - last drill: %s", d.Drill)
	}
	for _, f := range inv.Filesets {
		b.line("- fileset **%s** (%s), with %s", f.Name, strings.Join(f.Paths, ", "), orNone(f.Databases))
	}
	for _, t := range inv.Targets {
		b.line("- target **%s**: %s", t.Name, t.Text)
	}
	for _, k := range inv.Keys {
		b.line("- key: %s", k)
	}
	b.line("- told when something is wrong: %s", orNone(inv.Told))
}

func promised(d Database) string {
	text := ""
	if d.Service != "" {
		text += ", of the service " + d.Service
	}
	if d.RPO+d.RTO != "" {
		text += ", promised: at most " + or(d.RPO, "(nothing said)") + " lost, back within " + or(d.RTO, "(nothing said)")
	}
	return text
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func orNone(list []string) string { return or(strings.Join(list, ", "), "nobody and nothing") }

func stamp(t time.Time) string {
	if t.IsZero() {
		return "(not yet)"
	}
	return t.UTC().Format(time.DateTime) + " UTC"
}

// Markdown is the after-action report.
func (r *Report) Markdown() string {
	b := &document{}
	b.line("# After-action report: %s", r.Title)
	b.line("\n- exercise %s (%s) on %s", r.ID, r.Scenario, r.Host)
	b.line("- facilitator: %s", r.Facilitator)
	for _, role := range r.roles() {
		b.line("- %s: %s", role, r.Players[role])
	}
	b.line("- from %s to %s, %s on its own clock%s", stamp(r.Started), stamp(r.Ended), offset(r.Elapsed), map[bool]string{true: " (without waiting)"}[r.Fast])
	b.line("\n## Objectives\n\n| objective | met | why |\n|---|---|---|")
	for _, o := range r.Objectives {
		b.line("| %s: %s | %s | %s |", cell(o.Name), cell(o.Text), o.Met, cell(o.Why))
	}
	b.line("\n## Findings\n\n| id | what | owner | until | |\n|---|---|---|---|---|")
	for _, f := range r.Findings {
		state := "open"
		if !f.Open() {
			state = "closed " + f.Closed.Format(time.DateOnly) + " by " + cell(f.By) + ": " + cell(f.How)
		}
		b.line("| %s | %s | %s | %s | %s |", f.ID, cell(f.What), cell(f.Owner), f.Due.Format(time.DateOnly), state)
	}
	b.line("\n## What happened\n")
	for _, i := range r.Injects {
		b.line("### %s  %s\n", offset(i.Clock), i.Title)
		for _, d := range r.Decisions {
			if d.Inject == i.ID {
				b.line("- %s  %s%s: %s", offset(d.Clock), d.By, map[bool]string{true: " notes"}[d.Note], d.Text)
			}
		}
		for _, x := range r.Scores {
			if x.Inject == i.ID {
				b.line("- [%s] %s: %s", map[bool]string{true: "x", false: " "}[x.Done == "yes"], x.Action, x.Done)
			}
		}
		if i.Choice != "" {
			b.line("- they decided: %s", i.Choice)
		}
		if i.Drill != "" {
			b.line("- a real drill: %s", i.Drill)
		}
		b.line("")
	}
	b.inventory(r.Inventory)
	return b.String()
}

func (r *Report) roles() []string {
	var roles []string
	for role := range r.Players {
		roles = append(roles, role)
	}
	slices.Sort(roles)
	return roles
}

func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

//go:embed report.tmpl
var reportPage string

//go:embed room.tmpl
var roomPage string

var (
	reportTemplate = report.Must("exercise", reportPage)
	roomTemplate   = report.Must("room", roomPage)
)

// State is the worst of the objectives.
func (r *Report) State() report.State {
	worst := report.OK
	for _, o := range r.Objectives {
		worst = report.Worst(worst, state(o.Met))
	}
	return worst
}

func state(met string) report.State {
	return map[string]report.State{"yes": report.OK, "partly": report.Missed, "no": report.Failed}[met]
}

// Outcome is the objectives in a few words.
func (r *Report) Outcome() string {
	if r.Stage != Finished {
		return "not over yet"
	}
	met := 0
	for _, o := range r.Objectives {
		if o.Met == "yes" {
			met++
		}
	}
	open := 0
	for _, f := range r.Findings {
		if f.Open() {
			open++
		}
	}
	found := "no finding"
	switch n := len(r.Findings); {
	case n == 1:
		found = "1 finding"
	case n > 1:
		found = fmt.Sprintf("%d findings", n)
	}
	if open > 0 {
		found += fmt.Sprintf(", %d open", open)
	}
	return fmt.Sprintf("%d of %d objectives met, %s", met, len(r.Objectives), found)
}

// WriteHTML writes the after-action report as one file that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	return report.Write(w, reportTemplate, report.Page{
		Title: "Exercise " + r.Title, State: r.State(), Footer: "Exercise " + r.ID + " on " + r.Host + ", " + report.Moment(r.Started), Data: view{r},
	})
}

type view struct{ *Report }

func (v view) Badge(word string) report.Badge { return report.Badge{State: state(word), Words: word} }
func (v view) Clock(d time.Duration) string   { return offset(d) }
func (v view) Names() []string                { return v.roles() }
func (v view) Fix(f Finding) report.Badge {
	switch {
	case !f.Open():
		return report.Badge{State: report.OK, Words: "closed " + f.Closed.Format(time.DateOnly)}
	case f.Overdue(time.Now()):
		return report.Badge{State: report.Overdue, Words: "overdue"}
	}
	return report.Badge{State: report.Idle, Words: "open"}
}

// Of are the decisions of one inject.
func (v view) Of(id string) (list []Decision) {
	for _, d := range v.Decisions {
		if d.Inject == id {
			list = append(list, d)
		}
	}
	return list
}

// Done are the scores of one inject.
func (v view) Done(id string) (list []Score) {
	for _, x := range v.Scores {
		if x.Inject == id {
			list = append(list, x)
		}
	}
	return list
}

// room is what everybody around the table may see.
type room struct {
	Title, Inject, Via, Text, Clock string
	Questions                       []string
	Standing, Over                  bool
	Decisions                       []Decision
}

// WriteRoom writes the page for the room: the current inject and the clock.
func (s *Session) WriteRoom(w io.Writer) error {
	s.mu.Lock()
	r := room{Title: s.Scenario.Title, Clock: offset(s.clock()), Standing: s.held, Over: s.Report.Stage != Playing}
	if n := len(s.Report.Injects); n > 0 && !r.Over {
		last := s.Report.Injects[n-1]
		if i := s.Scenario.inject(last.ID); i != nil {
			r.Inject, r.Via, r.Text = last.Title, s.fill(i.Via), s.fill(i.Text)
			for _, q := range i.Discuss {
				r.Questions = append(r.Questions, s.fill(q))
			}
		}
		r.Decisions = view{s.Report}.Of(last.ID)
	}
	s.mu.Unlock()
	return report.Write(w, roomTemplate, report.Page{Title: r.Title, State: report.Idle, Footer: "An exercise. Nothing here is real.", Data: r})
}
