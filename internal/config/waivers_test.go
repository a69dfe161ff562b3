package config

import (
	"strings"
	"testing"
)

func TestParseWaivers(t *testing.T) {
	t.Parallel()
	const good = "version: 1\nwaivers:\n  disk: {finding: EMS-DATA-002, reason: the provider does it, owner: kim, until: \"2027-06-30\"}\n"
	waivers, problems := parseWaivers("w.yaml", []byte(good))
	if problems != nil || waivers["disk"] != (Waiver{Finding: "EMS-DATA-002", Reason: "the provider does it", Owner: "kim", Until: "2027-06-30"}) {
		t.Errorf("%+v %v", waivers, problems)
	}
	for name, c := range map[string]struct{ text, want string }{
		"no owner":    {strings.Replace(good, "owner: kim, ", "", 1), "has no owner"},
		"no reason":   {strings.Replace(good, "reason: the provider does it, ", "", 1), "reason"},
		"no day":      {strings.Replace(good, "2027-06-30", "soon", 1), "is no day"},
		"unknown key": {strings.Replace(good, "owner:", "onwer:", 1), "onwer"},
		"no version":  {strings.Replace(good, "version: 1\n", "", 1), "version"},
		"another":     {good + "state: /tmp\n", "has no place in it"},
		"not YAML":    {"waivers: [", ""},
		"a list":      {"- a\n", "not a mapping"},
		"newer":       {strings.Replace(good, "version: 1", "version: 2", 1), "version 2"},
	} {
		if _, problems := parseWaivers("w.yaml", []byte(c.text)); problems == nil || !strings.Contains(problems.Error(), c.want) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
