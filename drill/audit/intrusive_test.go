package audit

import (
	"slices"
	"strings"
	"testing"
	"time"

	"emsafe/internal/finding"
)

func TestIntrusive(t *testing.T) {
	t.Parallel()
	const slow = "EMS-SLOW-001 EMS-SLOW-002 EMS-SLOW-003"
	failed := map[string]bool{}
	for fault, found := range map[string]string{
		"": "", "no limit": "EMS-RATE-001 EMS-RATE-002", "no Retry-After": "EMS-RATE-003",
		"patient": slow, "patient|no body limit": "EMS-BODY-001 " + slow, "patient|takes few": slow + " EMS-SLOW-004",
	} {
		for _, id := range strings.Fields(found) {
			failed[id] = true
		}
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			d := &door{fault: map[string]bool{}}
			for f := range strings.SplitSeq(fault, "|") {
				d.fault[f] = true
			}
			o := d.open(t)
			if o.Intrusive = true; d.fault["patient"] {
				o.Slow = 300 * time.Millisecond
			}
			r := Look(t.Context(), o)
			if got := broke(r, finding.Fail, finding.Error); !slices.Equal(got, strings.Fields(found)) {
				t.Errorf("found %v, want %s\n%s", got, found, say(r))
			}
			if d.wrote != 0 {
				t.Errorf("%d writes", d.wrote)
			}
			if fault != "" {
				return
			}
			for _, rule := range Rules {
				// Who cuts the connection before its answer is read is warned of.
				if rule.Scope == intrusive && !slices.Contains(broke(r, finding.Pass, finding.Warn), rule.ID) {
					t.Errorf("%s did not pass", rule.ID)
				}
			}
		})
	}
	for _, rule := range Rules {
		if rule.Scope == intrusive && !failed[rule.ID] {
			t.Errorf("%s is not shown failing", rule.ID)
		}
	}
}

// Without leave nothing of that is sent.
func TestNotIntrusive(t *testing.T) {
	t.Parallel()
	d := &door{fault: map[string]bool{"no limit": true, "patient": true}}
	r := Look(t.Context(), d.open(t))
	for _, c := range r.Checks {
		if rule, _ := RuleOf(c.ID); rule.Scope == intrusive && c.Result != finding.Skip {
			t.Errorf("%s: %s", c.ID, c.Result)
		}
	}
}
