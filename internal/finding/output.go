package finding

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
)

// JUnit writes findings as a test report: one case each, which fails if it is
// open at or above a severity.
func JUnit(w io.Writer, name string, list []Finding, from Severity) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
	type skipped struct {
		Message string `xml:"message,attr"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *failure `xml:"failure,omitempty"`
		Skipped *skipped `xml:"skipped,omitempty"`
	}
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	s := suite{Name: name, Tests: len(list)}
	for _, f := range list {
		c := testcase{Name: f.ID + " " + f.Subject, Class: name}
		switch {
		case !f.Open():
			s.Skipped++
			c.Skipped = &skipped{fmt.Sprintf("waived until %s: %s", f.Waiver.Until.Format("2006-01-02"), f.Waiver.Reason)}
		case f.Severity >= from:
			s.Failures++
			c.Failure = &failure{f.Title, f.Severity.String(), f.Found + "\n" + f.Why + "\n" + f.Remedy}
		}
		s.Cases = append(s.Cases, c)
	}
	if len(list) == 0 {
		s.Tests, s.Cases = 1, []testcase{{Name: "nothing was found", Class: name}}
	}
	return writeXML(w, s)
}

func writeXML(w io.Writer, doc any) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// SARIF writes findings in the format of OASIS (2.1.0), which code hosts show.
func SARIF(w io.Writer, tool, version string, list []Finding) error {
	type object = map[string]any
	levels := []string{"note", "note", "warning", "error", "error"}
	rules, seen, results := []object{}, map[string]bool{}, []object{}
	for _, f := range list {
		if !seen[f.ID] {
			seen[f.ID] = true
			rules = append(rules, object{
				"id": f.ID, "name": f.ID, "shortDescription": object{"text": f.Title}, "fullDescription": object{"text": f.Why}, "help": object{"text": f.Remedy},
				"properties": object{"security-severity": []string{"0.0", "2.0", "5.0", "8.0", "9.5"}[f.Severity]},
			})
		}
		r := object{
			"ruleId": f.ID, "level": levels[f.Severity], "message": object{"text": f.Found + ". " + f.Remedy},
			"locations": []object{{"physicalLocation": object{"artifactLocation": object{"uri": uri(f.Subject)}}}},
		}
		if !f.Open() {
			r["suppressions"] = []object{{"kind": "external", "justification": f.Waiver.Reason}}
		}
		results = append(results, r)
	}
	doc := object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{
			"tool":    object{"driver": object{"name": tool, "version": version, "rules": rules}},
			"results": results,
		}},
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

func uri(subject string) string {
	if subject != "" && subject[0] == '/' {
		return "file://" + subject
	}
	return subject
}
