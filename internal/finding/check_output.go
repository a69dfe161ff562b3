package finding

import (
	"encoding/xml"
	"io"
	"strings"
)

// JUnitChecks writes checks as a test report: one case each. What is open at or
// above a severity fails, what could not be checked is an error, and what was
// skipped or waived is skipped.
func JUnitChecks(w io.Writer, name string, list []Check, from Severity) error {
	type result struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string  `xml:"name,attr"`
		Class   string  `xml:"classname,attr"`
		Failure *result `xml:"failure,omitempty"`
		Error   *result `xml:"error,omitempty"`
		Skipped *result `xml:"skipped,omitempty"`
		Output  string  `xml:"system-out,omitempty"`
	}
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	s := suite{Name: name, Tests: len(list)}
	for _, c := range list {
		t := testcase{Name: c.ID + " " + c.Subject, Class: name + "." + c.Phase}
		switch {
		case c.Waiver != nil || c.Result == Skip:
			s.Skipped++
			t.Skipped = &result{Message: c.said()}
		case c.Result == Error:
			s.Errors++
			t.Error = &result{c.said(), c.Severity.String(), c.Title}
		case c.Failing(from):
			s.Failures++
			t.Failure = &result{c.Title + ": " + c.Found, c.Severity.String(), strings.Join(append(c.Evidence, c.Why, c.Remedy), "\n")}
		case c.Open():
			t.Output = c.Severity.String() + ", " + string(c.Result) + ": " + c.Found
		}
		s.Cases = append(s.Cases, t)
	}
	return writeXML(w, s)
}

// SARIFChecks is [SARIF] of what is wrong, with its evidence.
func SARIFChecks(w io.Writer, tool, version string, list []Check) error {
	var wrong []Finding
	for _, c := range list {
		if c.Result != Fail && c.Result != Warn {
			continue
		}
		f := c.Finding
		f.Found = strings.Join(append([]string{f.Found}, c.Evidence...), "; ")
		wrong = append(wrong, f)
	}
	return SARIF(w, tool, version, wrong)
}
