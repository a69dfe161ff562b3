package audit

import (
	"testing"

	"emsafe/internal/finding"
)

func result(id string, severity finding.Severity, r finding.Result) finding.Check {
	rule, _ := RuleOf(id)
	return finding.Check{Finding: finding.Finding{ID: id, Severity: severity}, Result: r, Phase: string(rule.Phase)}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	r := &Report{Checks: []finding.Check{
		result("EMS-TLS-001", finding.High, finding.Pass), result("EMS-HDR-001", finding.Medium, finding.Fail),
		result("EMS-RATE-001", finding.Medium, finding.Skip), result("EMS-AUTH-001", finding.Critical, finding.Pass), result("EMS-AUTH-002", finding.Critical, finding.Pass),
		result("EMS-DATA-002", finding.Medium, finding.Fail),
	}}
	plan := "# Plan\n\n- [x] TLS everywhere (EMS-TLS-001)\n* [X] HSTS: EMS-HDR-001 and EMS-TLS-001\n- [ ] also EMS-HDR-001\n1. [x] **Rate limits**: strict\n- [x] keep data safe\n" +
		"- [x] Phase 3 is done\n- [x] Perimeter\n```\n- [x] EMS-HDR-001 in an example\n```\n- [x] EMS-OLD-999 was mended\n- [x] Phase: data\n"
	r.Conclude([]finding.Waiver{{ID: "EMS-DATA-002", Until: today.AddDate(1, 0, 0)}}, []byte(plan), today)
	for i, want := range []struct {
		line   int
		ticked bool
		state  string
	}{{3, true, Holds}, {4, true, Broken}, {5, false, Broken}, {6, true, Unproven}, {8, true, Holds}, {9, true, Broken}, {13, true, Broken}, {14, true, Holds}} {
		if i >= len(r.Plan) {
			t.Fatalf("%d items", len(r.Plan))
		}
		if got := r.Plan[i]; got.Line != want.line || got.Ticked != want.ticked || got.State != want.state {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if len(r.Plan) != 8 || len(r.Broken()) != 3 {
		t.Errorf("%d items, %d ticked ones do not hold", len(r.Plan), len(r.Broken()))
	}
}

// all is a report in which every rule came to a result.
func all(r finding.Result) *Report {
	report := &Report{}
	for _, rule := range Rules {
		report.Checks = append(report.Checks, result(rule.ID, rule.Severity, r))
	}
	return report
}

func TestGrade(t *testing.T) {
	t.Parallel()
	set := func(r *Report, id string, to finding.Result) *Report {
		for i := range r.Checks {
			if r.Checks[i].ID == id {
				r.Checks[i].Result = to
			}
		}
		return r
	}
	half := all(finding.Skip)
	for _, rule := range Rules[:len(Rules)/3] {
		set(half, rule.ID, finding.Pass)
	}
	waiver := []finding.Waiver{{ID: "EMS-AUTH-001", Until: today.AddDate(1, 0, 0)}}
	for name, c := range map[string]struct {
		report  *Report
		waivers []finding.Waiver
		want    string
	}{
		"all":              {all(finding.Pass), nil, "A"},
		"nothing":          {all(finding.Skip), nil, "-"},
		"not asked":        {&Report{}, nil, "-"},
		"a third":          {half, nil, "C"},
		"critical":         {set(all(finding.Pass), "EMS-AUTH-001", finding.Fail), nil, "F"},
		"critical, waived": {set(all(finding.Pass), "EMS-AUTH-001", finding.Fail), waiver, "A"},
		"high":             {set(all(finding.Pass), "EMS-TLS-004", finding.Fail), nil, "D"},
		"low":              {set(all(finding.Pass), "EMS-HDR-005", finding.Fail), nil, "A"},
		"unknown":          {set(all(finding.Pass), "EMS-HDR-005", finding.Error), nil, "B"},
		"all wrong":        {all(finding.Fail), nil, "F"},
	} {
		c.report.Conclude(c.waivers, nil, today)
		if c.report.Grade.Letter != c.want {
			t.Errorf("%s: %+v, want %s", name, c.report.Grade, c.want)
		}
		for _, cover := range c.report.Coverage {
			if cover.Passed+cover.Failed+cover.Warned+cover.Waived != cover.Checked || cover.Checked+cover.Skipped+cover.Errors != cover.Rules {
				t.Errorf("%s: %+v does not add up", name, cover)
			}
		}
	}
	if g := half.Grade; g.Checked != len(Rules)/3 || g.Capped == "" {
		t.Errorf("%+v", g)
	}
}
