package drill

import (
	"fmt"
	"strings"
	"time"

	"emsafe/internal/report"
	"emsafe/storage/seal"
)

// State is the verdict as a state of the reports.
func (v Verdict) State() report.State {
	switch v {
	case Pass:
		return report.OK
	case Missed:
		return report.Missed
	case Fail:
		return report.Failed
	case "":
		return report.Idle
	}
	return report.Unclear
}

// Words are the verdict for a headline.
func (v Verdict) Words() string {
	switch v {
	case Pass:
		return "Pass"
	case Missed:
		return "Pass, but an objective was missed"
	case Fail:
		return "Fail"
	case Inconclusive:
		return "Inconclusive"
	}
	return "No verdict"
}

// Short are they for a table.
func (v Verdict) Short() string {
	switch v {
	case Missed:
		return "objective missed"
	case "":
		return "not run"
	}
	return string(v)
}

// state is how a measured objective stands in a drill of that verdict.
func (m Measured) state(v Verdict) report.State {
	switch {
	case !m.Known && v == Inconclusive, !m.Known && m.Objective == 0:
		return report.Unclear
	case !m.Known:
		return report.Failed
	case !m.Met():
		return report.Missed
	}
	return report.OK
}

// Value is what was achieved, in words.
func (m Measured) Value() string {
	if !m.Known {
		return "not measured"
	}
	return report.Span(m.Achieved)
}

// Margin is how far from the objective that is.
func (m Measured) Margin() string {
	switch {
	case m.Objective == 0:
		return "no objective is stated"
	case !m.Known:
		return "objective " + report.Span(m.Objective) + ", not measured"
	case m.Met():
		return fmt.Sprintf("objective %s, met with %s to spare", report.Span(m.Objective), report.Span(m.Objective-m.Achieved))
	}
	return fmt.Sprintf("objective %s, missed by %s", report.Span(m.Objective), report.Span(m.Achieved-m.Objective))
}

// Trend is the drill before.
func (m Measured) Trend() string {
	switch {
	case m.Before <= 0:
		return "the first that was measured"
	case !m.Known:
		return report.Span(m.Before) + " in the drill before"
	}
	change := (m.Achieved - m.Before) / m.Before * 100
	word := "as before"
	switch {
	case change >= 1000:
		word = fmt.Sprintf("%.0f times as much", m.Achieved/m.Before)
	case change >= 1:
		word = fmt.Sprintf("%.0f %% more", change)
	case change <= -1:
		word = fmt.Sprintf("%.0f %% less", -change)
	}
	return fmt.Sprintf("%s in the drill before: %s", report.Span(m.Before), word)
}

// Means is how it was measured, as a sentence.
func (m Measured) Means() string {
	switch how := m.How; {
	case !m.Known:
		return "The drill did not come so far."
	case how == "canary":
		return "Measured from the drill's start back to the newest canary row that was restored."
	case how == "newest-row":
		return "Measured from the drill's start back to the newest row that the configured query found."
	case how == "snapshot-time":
		return "Measured from the drill's start back to the backup's snapshot; no row says more."
	case how == "clock":
		return "Measured by the clock, from the drill's start to the checked database."
	default:
		return "Measured by " + orElse(how, "means that are not told") + "."
	}
}

// Deviation is one thing that was not as it should have been.
type Deviation struct {
	Verdict Verdict
	What    string
}

// Deviations are all of them, as far as the report tells: missed objectives,
// failed phases and checks, and what could not be judged.
func (r Report) Deviations() []Deviation {
	var list []Deviation
	add := func(v Verdict, format string, args ...any) {
		list = append(list, Deviation{v, fmt.Sprintf(format, args...)})
	}
	for _, o := range objectives(r) {
		if o.State == report.Missed {
			add(Missed, "%s (%s) was %s: %s.", o.Name, o.Short, o.Value(), o.Margin())
		}
	}
	for _, x := range r.Restores {
		where := fmt.Sprintf("%s in %s (%s)", whyWords(x.Why), x.Target, x.Backup)
		for _, p := range x.Phases {
			if p.Verdict == Fail || p.Verdict == Inconclusive {
				add(p.Verdict, "%s: %s: %s.", where, p.Name, orElse(strings.TrimSuffix(p.Error, "."), p.Verdict.Short()))
			}
		}
		for _, c := range x.Checks {
			if c.Verdict == Fail || c.Verdict == Inconclusive {
				add(c.Verdict, "%s: check %s expected %s and got %s.", where, c.Name, c.Expected, c.Got)
			}
		}
	}
	return list
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func whyWords(why string) string {
	switch why {
	case "latest":
		return "latest backup"
	case "oldest":
		return "oldest backup"
	case "random":
		return "older backup, chosen at random,"
	case "at":
		return "backup as of a given time"
	case "point":
		return "backup of the newest recovery point"
	case "id":
		return "backup that was named"
	}
	return orElse(why, "backup")
}

// reasonWords explain the reason's name.
func reasonWords(r Restored) string {
	words := map[string]string{
		"damaged": "its stored bytes are not what was signed", "missing-delta": "a backup that it builds on is gone", "missing-payload": "its payload is gone",
		"broken-chain": "the chain of manifests has a gap", "forged": "it is not signed by a key that is trusted", "rolled-back": "newer backups that this host knows of are hidden",
		"wrong-key": "the drill's key does not open it", "no-backup": "there is nothing to restore", "unsupported-format": "this emsafe is too old for it",
		"corrupt": "SQLite's own check finds damage", "time-limit": "the drill took longer than it may", "stale": "its data is older than it may be",
		"dropped-table": "a table is missing", "shrunken-table": "a table lost too many rows", "swapped": "it is of another database",
		"sql": "a query's answer is not what was expected", "command": "a command did not find what it should", "service": "the application does not work with it", "files": "files that belong to it are missing or wrong",
		"surroundings": "something besides the backup stood in the way", "interrupted": "it was cut off",
		"rpo-missed": "more data is lost than the objective allows", "rto-missed": "it took longer than the objective allows",
	}[r.Reason]
	switch {
	case r.Reason == "":
		return ""
	case words == "":
		return r.Reason
	}
	return r.Reason + ": " + words
}

func targetWords(r Restored) string {
	if r.Location == "" || r.Location == r.Target {
		return r.Target
	}
	return r.Target + " (" + r.Location + ")"
}

func kindWords(kind string) string {
	words := map[string]string{
		"integrity": "SQLite's integrity check", "foreign-keys": "foreign keys", "fts": "full-text index", "schema": "schema",
		"sql": "query", "fresh": "freshness", "rows": "row count", "files": "files in the fileset", "command": "command", "service": "application",
	}
	return orElse(words[kind], kind)
}

func keyWords(k *KeyProof) string {
	if k == nil {
		return "never proven; `emsafe key verify` proves it"
	}
	return fmt.Sprintf("%s, for %s, with backup %s", report.Moment(k.At), k.Recipient, k.Backup)
}

func digestWords(d seal.Digest) string {
	if d.IsZero() {
		return "none: this is the first"
	}
	return d.String()
}

// verifyCommands are the stock commands that verify a signed report.
func verifyCommands(file string) string {
	return "sed '/^-----BEGIN SSH SIGNATURE-----$/,$d' " + file + " > report.json\n" +
		"sed -n '/^-----BEGIN SSH SIGNATURE-----$/,$p' " + file + " > report.sig\n" +
		"P=$(ssh-keygen -Y find-principals -s report.sig -f allowed_signers | head -n 1)\n" +
		"ssh-keygen -Y verify -f allowed_signers -I \"$P\" -n " + seal.NamespaceReport + " -s report.sig < report.json\n"
}

// days is how many days lie between two times, for people.
func days(from, to time.Time) string {
	return report.Span(to.Sub(from).Seconds())
}
