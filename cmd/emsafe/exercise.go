package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/docs"
	"emsafe/drill"
	"emsafe/drill/tabletop"
	"emsafe/internal/daemon/page"
	"emsafe/internal/durable"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/internal/suggest"
	"emsafe/storage/point"
)

func (p *program) exerciseCommand() *cli.Command {
	outFlag := &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write to `FILE` instead of stdout"}
	listen := &cli.StringFlag{Name: "listen", Usage: "show the current inject and the clock to the room on a page at `ADDRESS`, as 127.0.0.1:9470; read-only"}
	return group("exercise", "rehearse bad days around a table: scenarios, a clock, decisions, an after-action report",
		&cli.Command{Name: "list", Usage: "list the scenarios", Action: p.exerciseList},
		&cli.Command{
			Name: "show", Usage: "print the situation manual of a scenario, for those who take part", ArgsUsage: "SCENARIO",
			Description: "With what there really is: databases, objectives, what every target holds, the last drills, when keys were proven.",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "facilitator", Usage: "the facilitator's guide instead: all injects, what is expected, how to score"}, outFlag},
			Action:      p.exerciseShow,
		},
		&cli.Command{
			Name: "run", Usage: "run an exercise: injects in their time, decisions written down, actions and objectives scored", ArgsUsage: "SCENARIO",
			Description: "SCENARIO is one of the list, or a Markdown file of your own. In plain lines; everything is kept at once, and `emsafe exercise resume` goes on. Without a terminal, answers are read from standard input. It ends in an after-action report, signed, here and in every target.",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "fast", Usage: "do not wait for the clock: the next inject comes when you go on"},
				&cli.StringFlag{Name: "database", Usage: "the database that it is about, `NAME`; needed where there are several"},
				listen,
				identityFlag("for real drills in the exercise; default: the configuration's drill_key"),
			},
			Action: p.exerciseRun,
		},
		&cli.Command{
			Name: "resume", Usage: "go on with an exercise that was interrupted", ArgsUsage: "[ID]",
			Flags: []cli.Flag{listen, identityFlag("for real drills in the exercise; default: the configuration's drill_key")}, Action: p.exerciseResume,
		},
		&cli.Command{
			Name: "report", Usage: "show the after-action report of an exercise", ArgsUsage: "[ID]",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "list", Usage: "list the exercises that were held"},
				&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write it to `FILE`: .md, .html, .json, or .signed for the signed original"},
			},
			Action: p.exerciseReport,
		},
		&cli.Command{Name: "findings", Usage: "list the findings of exercises that are open", Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "those that are closed as well"}}, Action: p.exerciseFindings},
		&cli.Command{
			Name: "close", Usage: "write down that a finding is mended", ArgsUsage: "FINDING",
			Flags: []cli.Flag{&cli.StringFlag{Name: "how", Usage: "`WHAT` was done"}}, Action: p.exerciseClose,
		})
}

func (s *site) exercises() tabletop.Store {
	return tabletop.Store{Folder: filepath.Join(s.cfg.State, "exercises")}
}

type scenario struct {
	*tabletop.Scenario
	digest string
}

// scenarios are those that come with emsafe.
func scenarios() (list []scenario, err error) {
	entries, err := docs.Scenarios.ReadDir("tabletop")
	for _, e := range entries {
		text, err := docs.Scenarios.ReadFile("tabletop/" + e.Name())
		if err != nil {
			return nil, err
		}
		one, err := readScenario("docs/tabletop/"+e.Name(), text)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, err
}

func readScenario(file string, text []byte) (scenario, error) {
	s, problems := tabletop.Parse(file, text)
	var all []error
	for _, problem := range problems {
		all = append(all, problem)
	}
	if len(all) > 0 {
		return scenario{}, fault.New(fault.Config, "%w", errors.Join(all...)).WithRemedy("Mend the lines shown; docs/exercises.md says how a scenario is written.")
	}
	sum := sha256.Sum256(text)
	return scenario{s, hex.EncodeToString(sum[:])}, nil
}

// scenario is the one of a name, or a file.
func findScenario(name string) (scenario, error) {
	if strings.HasSuffix(name, ".md") {
		text, err := os.ReadFile(name)
		if err != nil {
			return scenario{}, fault.New(fault.NotFound, "%w", err).WithRemedy("`emsafe exercise list` shows those that there are.")
		}
		return readScenario(name, text)
	}
	list, err := scenarios()
	if err != nil {
		return scenario{}, err
	}
	var known []string
	for _, s := range list {
		if s.ID == name {
			return s, nil
		}
		known = append(known, s.ID)
	}
	missing := fault.New(fault.NotFound, "there is no scenario %q", name)
	if near := suggest.Nearest(name, known); near != "" {
		return scenario{}, missing.WithRemedy("Did you mean %q?", near)
	}
	return scenario{}, missing.WithRemedy("`emsafe exercise list` shows them; a file of your own ends in .md.")
}

func (p *program) exerciseList(*cli.Context) error {
	list, err := scenarios()
	if err != nil {
		return err
	}
	type doc struct {
		ID         string           `json:"id"`
		Title      string           `json:"title"`
		Time       string           `json:"time"`
		Objectives []tabletop.Named `json:"objectives"`
		Injects    int              `json:"injects"`
	}
	docs, rows := []doc{}, [][]string{{"ID", "TIME", "INJECTS", "TITLE"}}
	for _, s := range list {
		docs = append(docs, doc{s.ID, s.Title, s.Time, s.Objectives, len(s.Injects)})
		rows = append(rows, []string{s.ID, s.Time, fmt.Sprint(len(s.Injects)), s.Title})
	}
	p.print.emit(map[string]any{"scenarios": docs})
	p.print.table(rows)
	return nil
}

func (p *program) exerciseShow(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	if c.NArg() != 1 {
		return usage("exercise show needs one SCENARIO; `emsafe exercise list` shows them")
	}
	sc, err := findScenario(c.Args().First())
	if err != nil {
		return err
	}
	inv := s.inventory()
	text := sc.Manual(inv, s.cast(inv, ""))
	if c.Bool("facilitator") {
		text = sc.Guide(inv, s.cast(inv, ""))
	}
	if file := c.String("out"); file != "" {
		if err := durable.WriteFile(file, []byte(text), 0o600); err != nil {
			return permission(err)
		}
		p.print.done("%s", file)
		return nil
	}
	p.print.emit(map[string]string{"scenario": sc.ID, "text": text})
	p.print.line("%s", strings.TrimRight(text, "\n"))
	return nil
}

func (p *program) exerciseRun(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	if c.NArg() != 1 {
		return usage("exercise run needs one SCENARIO; `emsafe exercise list` shows them")
	}
	sc, err := findScenario(c.Args().First())
	if err != nil {
		return err
	}
	name, err := s.database(c.Context, c.String("database"), false)
	if err != nil {
		return err
	}
	who, _ := journal.Who(p.env)
	inv := s.inventory()
	r := &tabletop.Report{
		Format: tabletop.Format, ID: point.NewID(p.now()), Scenario: sc.ID, Title: sc.Title, Digest: sc.digest, Host: s.cfg.Host, Facilitator: who,
		Players: map[string]string{}, Started: p.now().UTC().Truncate(time.Second), Fast: c.Bool("fast"), Stage: tabletop.Playing, Inventory: inv,
		Injects: []tabletop.Shown{}, Decisions: []tabletop.Decision{}, Scores: []tabletop.Score{}, Objectives: []tabletop.Judged{}, Findings: []tabletop.Finding{},
	}
	return p.play(c, s, sc, r, name)
}

func (p *program) exerciseResume(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	r, err := s.exercises().Find(c.Args().First(), func(r *tabletop.Report) bool { return r.Stage != tabletop.Finished })
	if err != nil {
		return err
	}
	text, err := os.ReadFile(s.exercises().Path(r.ID, "scenario.md"))
	if err != nil {
		return err
	}
	sc, err := readScenario("scenario.md", text)
	if err != nil {
		return err
	}
	database, err := os.ReadFile(s.exercises().Path(r.ID, "database"))
	if err != nil {
		return err
	}
	return p.play(c, s, sc, r, strings.TrimSpace(string(database)))
}

// play runs what is left of an exercise.
func (p *program) play(c *cli.Context, s *site, sc scenario, r *tabletop.Report, database string) error {
	store := s.exercises()
	if err := store.Save(r); err != nil {
		return permission(err)
	}
	unlock, err := durable.Lock(store.Path(r.ID, "lock"), "exercise "+r.ID)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the process ends with it
	if err := keepScenario(store, r.ID, sc, database); err != nil {
		return err
	}
	out := p.stdout
	if p.print.json {
		out = p.stderr
	}
	session := &tabletop.Session{
		Scenario: sc.Scenario, Report: r, Store: store, Values: s.cast(r.Inventory, database), In: p.stdin, Out: out, Echo: !p.interactive(), Now: p.now,
		Drill: func(ctx context.Context) (string, error) { return p.drillInExercise(ctx, c, s, database) },
	}
	if address := c.String("listen"); address != "" {
		stop, err := p.room(session, address)
		if err != nil {
			return err
		}
		defer stop()
	}
	err = session.Run(c.Context)
	s.record(journal.Entry{Action: "exercise", Database: database, What: fmt.Sprintf("%s: %s", r.Scenario, r.Outcome()), Run: r.ID}, err)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n  report: emsafe exercise report %s\n", r.Outcome(), r.ID)
	key, err := readSigningKey(s.cfg.SigningKey)
	if err == nil {
		err = s.keepSigned(context.WithoutCancel(c.Context), key, r, store.Path(r.ID, "exercise.signed"), store.Path(r.ID, "kept.json"), "reports/exercises/"+place(r.Host)+"/"+r.ID)
	}
	if err != nil {
		p.print.warn("%v", err)
	}
	p.print.emit(r)
	return nil
}

// keepScenario keeps what an exercise is played by: it may change meanwhile.
func keepScenario(store tabletop.Store, id string, sc scenario, database string) error {
	file := store.Path(id, "scenario.md")
	if exists(file) {
		return nil
	}
	text, err := docs.Scenarios.ReadFile(strings.TrimPrefix(sc.File, "docs/"))
	if err != nil {
		text, err = os.ReadFile(sc.File)
	}
	if err != nil {
		return err
	}
	return errors.Join(durable.WriteFile(file, text, 0o600), durable.WriteFile(store.Path(id, "database"), []byte(database+"\n"), 0o600))
}

// room serves the page for everybody around the table. Nobody can do anything
// with it.
func (p *program) room(session *tabletop.Session, address string) (stop func(), err error) {
	if err := page.CheckAddress(address, ""); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.New(fault.Usage, "--listen: %w", err)
	}
	handler := http.NewServeMux()
	handler.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		var text bytes.Buffer
		if err := session.WriteRoom(&text); err != nil {
			http.Error(w, "the page cannot be made", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Refresh", "5")
		w.Write(text.Bytes()) //nolint:errcheck // the reader is gone
	})
	server := &http.Server{Handler: page.Guard(handler, ""), ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l) //nolint:errcheck // it ends with Close
	p.print.note("for the room: http://%s/", l.Addr())
	return func() { server.Close() }, nil
}

// drillInExercise holds a real drill in the sandbox.
func (p *program) drillInExercise(ctx context.Context, c *cli.Context, s *site, database string) (string, error) {
	ids, how, err := p.drillIdentity(c, s)
	if err != nil {
		return "no drill could be held", err
	}
	plan, err := p.drillBase(c, s, []string{database})
	if err != nil {
		return "no drill could be held", err
	}
	plan.Identities, plan.Identity, plan.Select = ids, how, []drill.Selection{{Kind: drill.Latest}}
	report, err := drill.Run(ctx, s.drillPlan(database, plan))
	s.recordDrill(database, report, err)
	if report == nil {
		return "the drill could not be held", err
	}
	return fmt.Sprintf("%s; RTO %s (drill %s)", report.Finding, time.Duration(report.RTO.Achieved*float64(time.Second)).Round(time.Millisecond), report.ID), nil
}
