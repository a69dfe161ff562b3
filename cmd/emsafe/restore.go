package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"emsafe/backup"
	"emsafe/internal/fault"
	"emsafe/internal/journal"
	"emsafe/restore"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

func identityFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: what + ": age identity or ssh private key `FILE`, or - for standard input", EnvVars: []string{"EMSAFE_IDENTITY_FILE"}}
}

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "bring a database back, beside the old one or in its place", ArgsUsage: "[NAME]",
		Description: "Without --id or --at it takes the newest backup. --to never overwrites. --in-place shows what is there and what " +
			"will come, refuses while a process has the database open, keeps the old one, and prints how to undo.\n\n" +
			"No configuration is needed: --target, --allowed-signers and --identity say it all.",
		Flags: append(sourceFlags(),
			&cli.StringFlag{Name: "id", Usage: "the backup's `ID`, the beginning of one, #NUMBER, or latest"},
			&cli.StringFlag{Name: "at", Usage: "the newest backup taken at or before `TIME` (RFC 3339, '2026-11-23 10:00' in UTC, 2h or 3d ago, or latest)"},
			&cli.StringFlag{Name: "point", Usage: "a recovery point's `ID`, the beginning of one, or latest: its databases and its files, into a new folder; NAME is then the fileset's"},
			&cli.StringFlag{Name: "to", Usage: "new database `FILE`, or a new folder with --point"},
			&cli.BoolFlag{Name: "in-place", Usage: "replace the database at its configured path (or at --to)"},
			&cli.StringFlag{Name: "mode", Usage: "mode of the restored file, `MODE`: original (as backed up) or octal such as 0640 (default: 0600; over an existing file, as that one)"},
			&cli.BoolFlag{Name: "undo", Usage: "put back what the last --in-place replaced"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would be restored and verify its signatures; write nothing"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			identityFlag("what opens the backup"),
			&cli.StringFlag{Name: "check", Value: "quick", Usage: "SQLite check after the page digest, `HOW`: quick, full or none"},
			&cli.Uint64Flag{Name: "min-sequence", Usage: "refuse a target whose newest backup is below `NUMBER`"},
			&cli.StringFlag{Name: "head", Usage: "refuse a target that does not hold this `NUMBER:DIGEST`, as printed by backup"},
			&cli.BoolFlag{Name: "allow-broken-chain", Usage: "restore a signed backup although the chain around it has a gap"}),
		Action: p.restore,
	}
}

func (p *program) restore(c *cli.Context) error {
	if c.NArg() > 1 {
		return usage("restore takes one NAME; the destination is given with --to")
	}
	if c.IsSet("point") {
		return p.restorePoint(c)
	}
	s, err := p.site(c)
	if err != nil {
		return err
	}
	req, err := p.restoreRequest(c, s)
	if err != nil {
		return err
	}
	if (req.InPlace || c.Bool("undo")) && !c.Bool("dry-run") {
		unlock, err := s.lock(req.Database)
		if err != nil {
			return err
		}
		defer unlock() //nolint:errcheck // the process ends with it
	}
	if c.Bool("undo") {
		if err := s.dropIndex(req); err != nil {
			return err
		}
		err := p.undo(c, req.Destination)
		if !c.Bool("dry-run") {
			s.record(journal.Entry{Action: "undo", Database: req.Database, What: req.Destination}, err)
		}
		return err
	}
	plan, err := restore.Choose(c.Context, req)
	if err != nil {
		return err
	}
	p.describePlan(plan, req)
	if c.Bool("dry-run") {
		p.print.emit(map[string]any{"dry_run": true, "backup": plan.Entry.ID, "sequence": plan.Entry.Sequence, "target": plan.Target, "warnings": plan.Warnings})
		p.print.line("dry run: nothing was fetched or written")
		return nil
	}
	if req.InPlace && plan.Existing != nil && !c.Bool("yes") {
		if err := p.confirm("Replace it?"); err != nil {
			return err
		}
	}
	if err := s.dropIndex(req); err != nil {
		return err
	}
	defer s.remember(destination{Path: req.Destination})()
	out, err := plan.Run(c.Context)
	s.record(journal.Entry{Action: "restore", Database: req.Database, Target: plan.Target, What: fmt.Sprintf("%s (number %d) to %s", plan.Entry.ID, plan.Entry.Sequence, req.Destination)}, err)
	if err != nil {
		return err
	}
	return p.restored(out, req)
}

// widest is the widest mode that hardening allows a file of a database.
func (s *site) widest(name string) fs.FileMode {
	if s.cfg != nil && s.cfg.Databases[name].Group != "" {
		return 0o660
	}
	return 0o600
}

// dropIndex makes the first backup after a restore over a database a full one:
// what was restored is then proven to be what is backed up.
func (s *site) dropIndex(req restore.Request) error {
	if s.cfg == nil || req.Destination != s.path(req.Database) {
		return nil
	}
	return backup.DropIndex(s.cfg.State, req.Database)
}

// restoreRequest reads flags into a request.
func (p *program) restoreRequest(c *cli.Context, s *site) (restore.Request, error) {
	req := restore.Request{
		Signers: s.signers, InPlace: c.Bool("in-place"), Check: c.String("check"), AllowBroken: c.Bool("allow-broken-chain"),
		MinSequence: c.Uint64("min-sequence"), Now: p.now, Progress: p.print.progress("restoring"), Destination: c.String("to"), Mode: c.String("mode"),
	}
	switch req.Check {
	case "quick", "full", "none":
	default:
		return req, usage("--check is quick, full or none, not %q", req.Check)
	}
	if _, err := restore.ParseMode(req.Mode); err != nil {
		return req, err
	}
	if c.Bool("undo") && (c.IsSet("id") || c.IsSet("at")) {
		return req, usage("--undo puts back what was there before; it takes no --id or --at")
	}
	name, err := s.database(c.Context, c.Args().First(), c.Bool("undo"))
	if err != nil {
		return req, err
	}
	req.Database, req.Targets, req.Remembered = name, s.targetsOf(name), s.remembered(name)
	req.Widest = s.widest(name)
	if req.Destination == "" && (req.InPlace || c.Bool("undo")) {
		if req.Destination = s.path(name); req.Destination == "" {
			return req, usage("no configuration tells where %s lives: give its path with --to", name)
		}
	}
	if c.Bool("undo") {
		return req, nil
	}
	if req.Destination == "" && !c.Bool("dry-run") {
		return req, fault.New(fault.Usage, "where to? Neither --to FILE nor --in-place was given").
			WithRemedy("To restore it beside the old one: emsafe restore %s --to %s", fault.Shell(name), fault.Shell("/tmp/"+name+".db"))
	}
	if req.Wanted, err = wanted(c.String("id"), c.String("at"), p.now()); err != nil {
		return req, err
	}
	if req.Head, err = parseHead(c.String("head")); err != nil {
		return req, err
	}
	file := c.String("identity")
	switch {
	case file != "":
		req.Identities, err = p.identities(file)
	case !c.Bool("dry-run"):
		err = fault.New(fault.Usage, "restoring needs the identity that opens the backup").
			WithRemedy("Give --identity FILE, or --identity - and paste it. `--dry-run` shows which recipients the backup has.")
	}
	return req, err
}

func (p *program) describePlan(plan *restore.Plan, req restore.Request) {
	e := plan.Entry
	p.print.note("backup   %s (number %d of %s, target %s)", e.ID, e.Sequence, e.Database, plan.Target)
	p.print.note("taken    %s UTC, %s, on %s", e.SnapshotAt.Format(time.DateTime), ago(p.now().Sub(e.SnapshotAt)), e.Host)
	var fetched int64
	for _, step := range plan.Path {
		fetched += step.Payload.Size
	}
	how := size(fetched)
	if n := len(plan.Path); n > 1 {
		how += fmt.Sprintf(" in %d payloads (a full backup and %d deltas)", n, n-1)
	}
	p.print.note("brings   %s in %d pages, fetched as %s; opens with %s", size(e.Content.Size), e.Content.Pages, how, strings.Join(e.Recipients, ", "))
	if plan.Proven == "" {
		p.print.note("newest   number %d, %s old; freshness is unproven: a target that hides newer backups would look the same (--min-sequence, --head)",
			plan.Newest.Sequence, age(p.now().Sub(plan.Newest.SnapshotAt)))
	} else {
		p.print.note("newest   number %d, %s old; not rolled back, by %s", plan.Newest.Sequence, age(p.now().Sub(plan.Newest.SnapshotAt)), plan.Proven)
	}
	if x := plan.Existing; x != nil {
		p.print.note("there is %s: %s, changed %s UTC; it will be kept beside it", x.Path, size(x.Size), x.Modified.UTC().Format(time.DateTime))
	}
	for _, w := range plan.Warnings {
		p.print.warn("%s", w)
	}
	if req.Destination != "" {
		p.print.note("into     %s", req.Destination)
	}
}

func (p *program) restored(out *restore.Outcome, req restore.Request) error {
	for _, w := range out.Warnings[min(len(out.Warnings), 0):] {
		p.print.warn("%s", w)
	}
	undo := ""
	if out.Aside != "" {
		undo = undoCommand(req, out.Path)
	}
	p.print.emit(map[string]any{
		"backup": out.Entry.ID, "database": out.Entry.Database, "sequence": out.Entry.Sequence, "target": out.Target, "path": out.Path,
		"bytes": out.Entry.Content.Size, "digest": out.Entry.Content.Digest, "check": out.Checked, "aside": out.Aside, "undo": undo,
		"seconds": out.Took.Seconds(), "warnings": out.Warnings, "not_checked": out.Unchecked, "ownership": out.Other,
	})
	p.print.line("restored %s to %s in %s", out.Entry.ID, out.Path, out.Took.Round(time.Millisecond))
	p.print.line("  every page matches the signed digest %s", out.Entry.Content.Digest)
	if out.Checked != "none" {
		p.print.line("  SQLite's %s check passed", out.Checked)
	}
	if out.Other != "" {
		p.print.line("  %s", out.Other)
	}
	if out.Aside != "" {
		p.print.line("  the old database is kept in %s", out.Aside)
		p.print.line("  to undo: %s", undo)
	}
	return nil
}

func undoCommand(req restore.Request, path string) string {
	if req.Database != "" && req.InPlace {
		return fmt.Sprintf("emsafe restore %s --undo --to %s", fault.Shell(req.Database), fault.Shell(path))
	}
	return "emsafe restore --undo --to " + fault.Shell(path)
}

func (p *program) undo(c *cli.Context, path string) error {
	folder, note, err := restore.LastAside(path)
	switch {
	case restore.UndoInterrupted(path):
		p.print.note("put back already, by an undo that was interrupted; this completes it")
	case err != nil && !restore.Pending(path):
		return err
	default:
		p.print.note("put back %s", folder)
		p.print.note("why      %s", note)
	}
	if c.Bool("dry-run") {
		p.print.line("dry run: nothing was changed")
		return nil
	}
	if !c.Bool("yes") {
		if err := p.confirm("Put it back?"); err != nil {
			return err
		}
	}
	u, err := restore.Undo(c.Context, path, p.now)
	if err != nil {
		return err
	}
	for _, w := range u.Warnings {
		p.print.warn("%s", w)
	}
	p.print.emit(map[string]any{"path": u.Path, "from": u.From, "aside": u.Aside})
	p.print.line("put back %s", u.Path)
	p.print.line("  what was there is kept in %s; --undo again takes it back", u.Aside)
	return nil
}

// confirm asks on a terminal and refuses off one.
func (p *program) confirm(question string) error {
	if !p.interactive() {
		return fault.New(fault.Usage, "this needs a yes, and there is no terminal to ask on").WithRemedy("Look at it with --dry-run, then add --yes.")
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fault.New(fault.Interrupted, "not confirmed").WithSafe("Nothing was changed.")
	}
	return nil
}

func (p *program) interactive() bool {
	in, ok := p.stdin.(*os.File)
	return ok && term.IsTerminal(int(in.Fd())) && p.print.tty
}

// identities reads the key that opens backups; a passphrase is asked for on a
// terminal.
func (p *program) identities(file string) (seal.Identities, error) {
	var data []byte
	var err error
	if file == "-" {
		if p.interactive() {
			fmt.Fprint(p.stderr, "Paste the identity (AGE-SECRET-KEY-1…), then Ctrl-D:\n")
		}
		data, err = io.ReadAll(io.LimitReader(p.stdin, 1<<20))
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return seal.Identities{}, fault.New(unreadable(err), "the identity cannot be read: %w", err)
	}
	ids, err := seal.ParseIdentities(data, p.passphrase)
	if err != nil {
		return ids, fault.New(fault.BadKey, "identity %s: %w", file, err)
	}
	return ids, nil
}

func (p *program) passphrase() ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("it is protected by a passphrase, and there is no terminal to ask on")
	}
	defer tty.Close()
	fmt.Fprint(tty, "Passphrase: ")
	defer fmt.Fprintln(tty)
	return term.ReadPassword(int(tty.Fd()))
}

func wanted(id, at string, now time.Time) (catalog.Wanted, error) {
	if id != "" && at != "" {
		return catalog.Wanted{}, usage("--id and --at exclude each other")
	}
	if id == "latest" || at == "latest" {
		return catalog.Wanted{}, nil
	}
	if at == "" {
		return catalog.Wanted{ID: id}, nil
	}
	when, err := parseTime(at, now)
	return catalog.Wanted{At: when}, err
}

// parseTime reads what people write down; without a zone it is UTC, as
// everything that emsafe prints.
func parseTime(s string, now time.Time) (time.Time, error) {
	span := strings.TrimSuffix(s, " ago")
	d, err := time.ParseDuration(span)
	for unit, hours := range map[string]int{"d": 24, "w": 7 * 24} { // whole ones, which ParseDuration does not know
		if n, nerr := strconv.ParseUint(strings.TrimSuffix(span, unit), 10, 16); nerr == nil && strings.HasSuffix(span, unit) {
			d, err = time.Duration(n)*time.Duration(hours)*time.Hour, nil
		}
	}
	if err == nil {
		if d < 0 {
			d = -d
		}
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "20060102T150405Z"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.Add(24*time.Hour - time.Nanosecond), nil // a day means its end
	}
	return time.Time{}, usage("--at %q is not a time; write 2026-11-23T10:00:00Z, '2026-11-23 10:00' (UTC), 2h or 3d", s)
}

func parseHead(s string) (catalog.Head, error) {
	if s == "" {
		return catalog.Head{}, nil
	}
	number, digest, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	var d seal.Digest
	if !ok || err != nil || d.UnmarshalText([]byte(digest)) != nil || n == 0 || d.IsZero() {
		return catalog.Head{}, usage("--head %q is not NUMBER:DIGEST as backup prints it", s)
	}
	return catalog.Head{Sequence: n, Digest: d}, nil
}
