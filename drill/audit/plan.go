package audit

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"emsafe/internal/finding"
)

// What an item of a plan comes to.
const (
	Holds    = "holds"
	Broken   = "does not hold"
	Unproven = "unproven" // something that it names was not checked
)

// Item is a check box of a plan that names rules or phases.
type Item struct {
	Line   int      `json:"line"`
	Text   string   `json:"text"`
	Ticked bool     `json:"ticked"`
	Names  []string `json:"names"` // rule ids and phases
	State  string   `json:"state"`
	Why    []string `json:"why,omitempty"` // it does not hold, or is unproven
}

var (
	box      = regexp.MustCompile(`^\s*(?:[-*+]|[0-9]+[.)])\s+\[([ xX])\]\s+(.+?)\s*$`)
	ruleName = regexp.MustCompile(`\bEMS(?:-[A-Z0-9]+)+-[0-9]{3}\b`)
	phaseNo  = regexp.MustCompile(`(?i)\bphase\s*:?\s*([1-8])\b`)
)

// namesPhase reports whether an item is about a whole phase: it begins with its
// name, or says "phase NAME". A name in the middle of a sentence is a word.
func namesPhase(text string, p Phase) bool {
	forms := []string{regexp.QuoteMeta(p.Words()), regexp.QuoteMeta(string(p))}
	if p == Application {
		forms = append(forms, `application lockdown`)
	}
	words := "(?:" + strings.Join(forms, "|") + ")"
	return regexp.MustCompile(`(?i)^[*_\x60]*`+words+`[*_\x60]*\s*(?:$|[:.,;–—(-])`).MatchString(text) ||
		regexp.MustCompile(`(?i)\bphase\s*:?\s*[*_\x60]*`+words+`\b`).MatchString(text)
}

// against holds a plan in Markdown against results. Items that name nothing of
// the audit's are left out: nobody here knows of them.
func against(plan []byte, checks []finding.Check) []Item {
	items := []Item{}
	fenced := false
	for n, line := range strings.Split(string(plan), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		m := box.FindStringSubmatch(line)
		if fenced || m == nil {
			continue
		}
		item := Item{Line: n + 1, Text: clip(m[2], 200), Ticked: m[1] != " ", Names: ruleName.FindAllString(m[2], -1)}
		if len(item.Names) == 0 {
			for i, p := range Phases {
				no := phaseNo.FindStringSubmatch(m[2])
				if namesPhase(m[2], p) || no != nil && no[1] == strconv.Itoa(i+1) {
					item.Names = append(item.Names, string(p))
				}
			}
		}
		if len(item.Names) > 0 {
			item.judge(checks)
			items = append(items, item)
		}
	}
	return items
}

func (i *Item) judge(checks []finding.Check) {
	var broken, reasons []string
	unknown := map[string][]string{} // reason → rules
	for _, name := range i.Names {
		known := false
		for _, c := range checks {
			if c.ID != name && c.Phase != name {
				continue
			}
			known = true
			switch {
			case c.Waiver != nil, c.Result == finding.Pass, c.Result == finding.Warn && c.Phase == name:
			case c.Result == finding.Fail, c.Result == finding.Warn:
				broken = append(broken, fmt.Sprintf("%s %s: %s: %s", c.ID, c.Result, c.Subject, c.Found))
			default:
				if unknown[c.Reason] == nil {
					reasons = append(reasons, c.Reason)
				}
				unknown[c.Reason] = append(unknown[c.Reason], c.ID)
			}
		}
		if !known {
			broken = append(broken, "there is no rule "+name)
		}
	}
	switch {
	case len(broken) > 0: // what is unproven beside it matters no more
		i.State, i.Why = Broken, broken
	case len(reasons) > 0:
		i.State = Unproven
		for _, r := range reasons {
			i.Why = append(i.Why, r+": "+strings.Join(unknown[r], ", "))
		}
	default:
		i.State = Holds
	}
}
