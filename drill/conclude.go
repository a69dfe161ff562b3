package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"emsafe/internal/fault"
	"emsafe/internal/report"
)

// conclude measures, judges, and says in one sentence what came out.
func (r *runner) conclude() {
	p := r.report
	p.Ended = r.Now().UTC().Truncate(time.Millisecond)
	for _, x := range p.Restores {
		p.Verdict = worse(p.Verdict, x.Verdict)
	}
	if len(p.Restores) == 0 {
		p.Verdict = Inconclusive
	}
	r.measure()
	if p.Verdict == Pass && (!p.RPO.Met() || !p.RTO.Met()) {
		p.Verdict = Missed
	}
	if p.Verdict == Inconclusive || len(p.Restores) == 0 || p.Restores[0].Verdict != Pass {
		r.baseline = nil
	}
	r.find()
	r.leftOut()
	r.actions()
}

// measure holds what was achieved against the objectives. They are about the
// latest backup: a drill of others only does not judge them.
func (r *runner) measure() {
	p := r.report
	rpo, rto := r.book.before()
	p.RPO, p.RTO = Measured{Before: rpo}, Measured{Before: rto}
	if len(p.Restores) == 0 || !r.measured && p.Restores[0].Why != Latest {
		return
	}
	p.RPO.Objective, p.RTO.Objective = r.RPO.Seconds(), r.RTO.Seconds()
	// What did not come back cannot be measured.
	// Nor can what is dated in the future: a clock is, or was, wrong.
	if first := p.Restores[0]; first.Digest != "" && !r.rpoFrom.IsZero() && !report.InFuture(p.Started.Sub(r.rpoFrom)) {
		p.RPO.Achieved, p.RPO.How, p.RPO.Known = max(0, seconds(p.Started.Sub(r.rpoFrom))), r.rpoHow, true
	}
	if p.Restores[0].Verdict == Pass && !r.checked.IsZero() {
		p.RTO.Achieved, p.RTO.How, p.RTO.Known = seconds(r.checked.Sub(p.Started)), "clock", true
	}
}

// reasonSentences say a failure in words that follow "backup X of app in Y".
var reasonSentences = map[string]string{
	ReasonDamaged: "is damaged: its stored bytes are not what was signed", ReasonMissingDelta: "cannot be put together: a backup that it builds on is gone",
	ReasonMissing: "cannot be restored: its payload is gone", ReasonBroken: "is not vouched for: the chain of manifests around it does not hold",
	ReasonForged: "is not signed by a pinned key", ReasonRolledBack: "is older than what is known to exist: newer ones were hidden or removed",
	ReasonWrongKey: "is not opened by the drill's key", ReasonNoBackup: "was not found", ReasonUnsupported: "has a format that this emsafe does not know",
	ReasonCorrupt: "is a damaged database, as SQLite's own check says", ReasonLimit: "could not be restored and checked within the time limit",
	ReasonDropped: "lacks a table", ReasonShrunken: "holds far fewer rows than before", ReasonSwapped: "is of another database than before",
	ReasonStale: "holds old data", ReasonSQL: "does not hold what it should", ReasonCommand: "is refused by a check", ReasonService: "does not carry the application",
	ReasonFiles: "lacks files that belong to it, or has them wrong",
}

// find puts the finding into one sentence.
func (r *runner) find() {
	p := r.report
	if len(p.Restores) == 0 {
		p.Finding = "Nothing could be restored: there is nothing to restore from."
		return
	}
	at := slices.IndexFunc(p.Restores, func(x Restored) bool { return x.Verdict == p.Verdict })
	if at < 0 {
		at = 0
	}
	x := p.Restores[at]
	what := fmt.Sprintf("backup %s of %s in %s", x.Backup, p.Database, x.Target)
	if x.Backup == "" {
		what = fmt.Sprintf("the %s backup of %s in %s", x.Why, p.Database, x.Target)
	}
	switch p.Verdict {
	case Fail:
		p.Finding = capital(what) + " " + reasonSentences[x.Reason] + " (" + x.Reason + ")."
	case Inconclusive:
		p.Finding = "The drill of " + what + " could not be completed, for reasons of its own surroundings (" + x.Reason + "); it says nothing about the backup and is to be repeated."
	case Missed:
		p.Finding = capital(what) + " was restored and is whole, but " + strings.Join(r.missed(), " and ") + "."
	default:
		n := ""
		if k := len(p.Restores); k > 1 {
			n = fmt.Sprintf(" (and %d more)", k-1)
		}
		passed := "every check passed."
		if k := len(r.Withheld); k == 1 {
			passed = "every check that was run passed; 1 check was not run."
		} else if k > 1 {
			passed = fmt.Sprintf("every check that was run passed; %d checks were not run.", k)
		}
		p.Finding = capital(what) + n + " was restored, and " + passed
	}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (r *runner) missed() []string {
	var list []string
	for _, m := range []struct {
		m             Measured
		what, unknown string
	}{
		{r.report.RPO, "data of the last %s would be lost, and the RPO is %s", "how much data would be lost is not known, because what came back is dated in the future"},
		{r.report.RTO, "it took %s, and the RTO is %s", "the time to recover was not measured"},
	} {
		switch {
		case m.m.Met():
		case !m.m.Known:
			list = append(list, m.unknown)
		default:
			list = append(list, fmt.Sprintf(m.what, length(m.m.Achieved), length(m.m.Objective)))
		}
	}
	return list
}

func length(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

// leftOut says what this drill did not show.
func (r *runner) leftOut() {
	tested := map[string]bool{}
	asked := false
	for _, x := range r.report.Restores {
		tested[x.Target] = true
		asked = asked || x.Why == Latest
	}
	for _, t := range r.Targets {
		if !tested[t.Name] {
			r.untested("target %s: it was not its turn", t.Name)
		}
	}
	for _, name := range r.Withheld {
		r.untested("check %s: it runs a program that another host's configuration names, and that was not allowed here (--allow-commands)", name)
	}
	if r.KeyProof == nil {
		r.untested("the recovery key: `emsafe key verify` never proved it on this host")
	}
	switch {
	case !r.service:
		r.untested("whether the application starts with the restored database: no service check is configured, or it was not reached")
	case !asked:
		r.untested("assertions: they are asked of the latest backup")
	}
	if r.Source != "" {
		r.untested("a restore on another machine or in another region: the drill ran on the host of the source")
	}
	if !r.paired {
		r.untested("files that belong to the database: none were looked at (`drill.files` in the configuration)")
	}
}

// actions ask for what has to be done about what was found.
func (r *runner) actions() {
	for _, reason := range r.report.Reasons() {
		what := "Find the cause of " + reason + ", mend it, and drill again."
		for _, cause := range r.causes {
			if f := fault.Find(cause); f != nil && f.Remedy != "" {
				what = "About " + reason + ": " + f.Remedy
				break
			}
		}
		switch reason {
		case ReasonRPO:
			what = "Back up more often, or state an RPO that can be kept."
		case ReasonRTO:
			what = "Bring backups nearer or make full ones more often, or state an RTO that can be kept."
		case ReasonSurroundings, ReasonInterrupted:
			what = "Mend the drill's surroundings, and drill again."
		}
		r.report.Actions = append(r.report.Actions, Action{What: what})
	}
}
