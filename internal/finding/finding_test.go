package finding

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func sample() []Finding {
	return []Finding{
		{ID: "EMS-B", Severity: Low, Title: "b", Subject: "/srv/app.db", Found: "0644"},
		{ID: "EMS-A", Severity: High, Title: "a", Subject: "/srv/app.db-wal", Found: "<0666> & more"},
	}
}

func TestWaive(t *testing.T) {
	t.Parallel()
	waive := func(w Waiver) []Finding { return Waive(sample(), []Waiver{w}, now) }
	for name, c := range map[string]struct {
		w     Waiver
		open  int
		grade string
	}{
		"covers":        {Waiver{ID: "EMS-A", Until: now.Add(time.Hour)}, 1, "B"},
		"by path":       {Waiver{ID: "EMS-A", Subject: "/srv/*", Until: now.Add(time.Hour)}, 1, "B"},
		"of another":    {Waiver{ID: "EMS-A", Subject: "/srv/other.db", Until: now.Add(time.Hour)}, 2, "D"},
		"over":          {Waiver{Name: "old", ID: "EMS-A", Until: now}, 3, "D"},
		"of nothing":    {Waiver{ID: "EMS-C", Until: now.Add(time.Hour)}, 2, "D"},
		"not a pattern": {Waiver{ID: "EMS-A", Subject: "[", Until: now.Add(time.Hour)}, 2, "D"},
	} {
		open := 0
		list := waive(c.w)
		for _, f := range list {
			if f.Open() {
				open++
			}
		}
		if open != c.open || Grade(list) != c.grade {
			t.Errorf("%s: %d open, grade %s: %+v", name, open, Grade(list), list)
		}
	}
	if Grade(nil) != "A" {
		t.Error(Grade(nil))
	}
	if list := waive(Waiver{ID: "EMS-C", Until: now.Add(time.Hour)}); list[0].ID != "EMS-A" {
		t.Errorf("the worst is not the first: %+v", list)
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	list := Waive(sample(), []Waiver{{ID: "EMS-B", Reason: "known", Until: now.Add(time.Hour)}}, now)
	var b bytes.Buffer
	if err := JUnit(&b, "harden", list, Medium); err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Tests    int `xml:"tests,attr"`
	}
	if err := xml.Unmarshal(b.Bytes(), &suite); err != nil || suite.Failures != 1 || suite.Skipped != 1 || suite.Tests != 2 {
		t.Errorf("%+v %v\n%s", suite, err, b.String())
	}
	b.Reset()
	if err := SARIF(&b, "emsafe", "1", list); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil || !strings.Contains(b.String(), `"level": "error"`) || !strings.Contains(b.String(), "suppressions") {
		t.Errorf("%v\n%s", err, b.String())
	}
	var s Severity
	if err := s.UnmarshalText([]byte("hgih")); err == nil || s.UnmarshalText([]byte("high")) != nil || s != High {
		t.Error(s, err)
	}
}

func checks() []Check {
	f := func(id string, s Severity, r Result) Check {
		return Check{Finding: Finding{ID: id, Severity: s, Title: id, Subject: "/srv", Found: "found"}, Result: r, Phase: "data", Reason: map[Result]string{Skip: "not asked", Error: "cut off"}[r]}
	}
	return []Check{f("EMS-A", High, Pass), f("EMS-B", Low, Fail), f("EMS-C", High, Fail), f("EMS-D", High, Skip), f("EMS-E", High, Error), f("EMS-F", Critical, Warn)}
}

func TestWaiveChecks(t *testing.T) {
	t.Parallel()
	failing := func(list []Check) (ids []string) {
		for _, c := range list {
			if c.Failing(High) {
				ids = append(ids, c.ID)
			}
		}
		return ids
	}
	for name, c := range map[string]struct {
		w    Waiver
		want string
	}{
		"of another": {Waiver{ID: "EMS-Z", Until: now.Add(time.Hour)}, "EMS-C"},
		"covers":     {Waiver{ID: "EMS-C", Until: now.Add(time.Hour)}, ""},
		"expired":    {Waiver{ID: "EMS-C", Until: now}, "EMS-C EMS-WAIVER-001"},
		"of a pass":  {Waiver{ID: "EMS-A", Until: now.Add(time.Hour)}, "EMS-C"},
	} {
		list := WaiveChecks(checks(), []Waiver{c.w}, "playbooks", now)
		if got := strings.Join(failing(list), " "); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if name == "of a pass" && list[len(list)-1].Waiver != nil {
			t.Error("what passes is waived")
		}
	}
}

func TestCheckOutputs(t *testing.T) {
	t.Parallel()
	list := WaiveChecks(checks(), []Waiver{{ID: "EMS-B", Owner: "kim", Reason: "known", Until: now.Add(time.Hour)}}, "playbooks", now)
	var b bytes.Buffer
	if err := JUnitChecks(&b, "audit", list, Medium); err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Tests    int `xml:"tests,attr"`
	}
	if err := xml.Unmarshal(b.Bytes(), &suite); err != nil || suite.Failures != 1 || suite.Errors != 1 || suite.Skipped != 2 || suite.Tests != 6 || !strings.Contains(b.String(), "waived by kim") {
		t.Errorf("%+v %v\n%s", suite, err, b.String())
	}
	b.Reset()
	if err := SARIFChecks(&b, "emsafe", "1", list); err != nil {
		t.Fatal(err)
	}
	for id, in := range map[string]bool{"EMS-A": false, "EMS-C": true, "EMS-D": false, "EMS-F": true} {
		if strings.Contains(b.String(), `"ruleId": "`+id+`"`) != in {
			t.Errorf("%s: %v", id, in)
		}
	}
}
