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
