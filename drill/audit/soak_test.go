package audit

import (
	"os"
	"testing"

	"emsafe/internal/finding"
)

// TestSoak asks with everything, and with the patience that operators have: a
// minute and a half each.
func TestSoak(t *testing.T) {
	t.Parallel()
	if os.Getenv("EMSAFE_SOAK") == "" {
		t.Skip("EMSAFE_SOAK=1 runs it")
	}
	for _, proxy := range []string{"nginx", "caddy"} {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			path := program(t, proxy)
			p := behind(t, serve(t, "sloppy"))
			p.answers.Rate = 8 // below what a busy machine asks
			remains := []string{itsOwn}
			if proxy == "nginx" {
				p.nginx(t, path)
			} else {
				p.caddy(t, path)
				remains = []string{itsOwn, "EMS-RATE-001"} // it cannot limit rates
			}
			o := p.options(p.roots)
			o.Intrusive = true
			r := p.audited(o)
			p.wants(r, remains...)
			for _, c := range r.Checks {
				if rule, _ := RuleOf(c.ID); rule.Scope == intrusive {
					t.Log(c.ID, c.Result, c.Found, c.Reason, c.Evidence)
				}
				if c.Result == finding.Error {
					t.Error(c.ID, c.Reason)
				}
			}
		})
	}
}
