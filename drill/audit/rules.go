package audit

import (
	"fmt"
	"slices"
	"strings"

	"emsafe/internal/finding"
)

// Phase is a part of the plan for hardening a service.
type Phase string

// The phases, in the order of the plan.
const (
	Perimeter   Phase = "perimeter"
	Application Phase = "application"
	Access      Phase = "authentication"
	Limits      Phase = "rate-limits"
	Logging     Phase = "logging"
	Data        Phase = "data"
	Supply      Phase = "supply-chain"
	Playbooks   Phase = "playbooks"
)

// Phases are all of them; phase 1 of a plan is the first.
var Phases = []Phase{Perimeter, Application, Access, Limits, Logging, Data, Supply, Playbooks}

// Words is the phase as a plan calls it.
func (p Phase) Words() string {
	switch p {
	case Application:
		return "application lock-down"
	case Limits, Supply:
		return strings.ReplaceAll(string(p), "-", " ")
	}
	return string(p)
}

// scope is where a rule looks.
type scope string

const (
	outside   scope = "outside"   // needs an address
	intrusive scope = "intrusive" // needs an address, and leave to be a nuisance
	inside    scope = "host"      // needs to run on the host
	source    scope = "repo"      // needs the application's source tree
)

// Rule is something that must hold.
type Rule struct {
	ID       string
	Severity finding.Severity // of a breach
	Phase    Phase
	Scope    scope
	ASVS     string // requirement of OWASP ASVS 5.0.0 that it is a part of
	Title    string // what must hold
	Why      string
	Remedy   string
	Render   string // target of `emsafe render` that mends it, or ""
	Runbook  string // that helps, or ""
}

// Rules are all rules, by id.
var Rules = sortedRules(tlsRules, headerRules, edgeRules, appRules, accessRules, limitRules, logRules, hostRules, repoRules)

func sortedRules(tables ...[]Rule) []Rule {
	all := slices.Concat(tables...)
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// RuleOf finds a rule by its id.
func RuleOf(id string) (Rule, bool) {
	i, ok := slices.BinarySearchFunc(Rules, id, func(r Rule, id string) int { return strings.Compare(r.ID, id) })
	if !ok {
		return Rule{}, false
	}
	return Rules[i], true
}

// Reference is the table of rules in Markdown, as in docs/audit.md.
func Reference() []byte {
	var b strings.Builder
	b.WriteString("| id | severity | looks | ASVS 5.0 | what must hold | mended by |\n|---|---|---|---|---|---|\n")
	for _, phase := range Phases {
		for _, r := range Rules {
			if r.Phase != phase {
				continue
			}
			var by []string
			if r.Render != "" {
				by = append(by, "render "+r.Render)
			}
			if r.Runbook != "" {
				by = append(by, "runbook "+r.Runbook)
			}
			fmt.Fprintf(&b, "| %s | %s | %s, %s | %s | %s | %s |\n", r.ID, r.Severity, r.Phase, r.Scope, strings.TrimPrefix(r.ASVS, asvs), r.Title, strings.Join(by, ", "))
		}
	}
	return []byte(b.String())
}

const asvs = "v5.0.0-"
