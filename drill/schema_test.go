package drill

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/report.schema.json")

const published = "../docs/report.schema.json"

func TestSchemaIsPublished(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile(published, Schema(), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, Schema()) {
		t.Error(published + " is not what the reports say; go test ./drill -update")
	}
	said := 0
	walkSchema(t, have, func(path string, property map[string]any) {
		if property["description"] == nil {
			t.Errorf("%s is not explained", path)
		}
		said++
	})
	if said != len(meanings) {
		t.Errorf("%d keys are explained, and there are %d", len(meanings), said)
	}
}

func walkSchema(t *testing.T, data []byte, visit func(path string, property map[string]any)) {
	t.Helper()
	type object struct {
		Properties map[string]map[string]any `json:"properties"`
	}
	var doc struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	doc.Defs["Report"] = doc.object
	for name, o := range doc.Defs {
		for key, p := range o.Properties {
			visit(name+"."+key, p)
		}
	}
}

// validator holds a document against the schema, as far as it goes; and a key
// that the schema does not name is wrong here.
type validator struct {
	root  map[string]any
	wrong []string
}

func validate(t *testing.T, text []byte) []string {
	t.Helper()
	var v validator
	var doc any
	if err := json.Unmarshal(Schema(), &v.root); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	v.check("report", v.root, doc)
	return v.wrong
}

func (v *validator) check(path string, s map[string]any, doc any) {
	bad := func(format string, args ...any) { v.wrong = append(v.wrong, path+": "+fmt.Sprintf(format, args...)) }
	if ref, ok := s["$ref"].(string); ok {
		def := v.root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")]
		v.check(path, def.(map[string]any), doc)
		return
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, doc) {
		bad("%v is not among %v", doc, enum)
	}
	if types := fmt.Sprint(s["type"]); s["type"] != nil && !strings.Contains(types, typeOf(doc)) && (types != "number" || typeOf(doc) != "integer") {
		bad("is of type %s, not %s", typeOf(doc), types)
	}
	switch d := doc.(type) {
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(d) {
			bad("%q does not match %s", d, p)
		}
		if _, err := time.Parse(time.RFC3339Nano, d); s["format"] == "date-time" && err != nil {
			bad("%v", err)
		}
	case []any:
		for i, e := range d {
			v.check(fmt.Sprintf("%s[%d]", path, i), s["items"].(map[string]any), e)
		}
	case map[string]any:
		properties := s["properties"].(map[string]any)
		for key, e := range d {
			if p, ok := properties[key].(map[string]any); ok {
				v.check(path+"."+key, p, e)
				continue
			}
			bad("has an unknown key %s", key)
		}
		for _, key := range s["required"].([]any) {
			if _, ok := d[key.(string)]; !ok {
				bad("lacks %s", key)
			}
		}
	}
}

func typeOf(doc any) string {
	switch d := doc.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if d == float64(int64(d)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

func TestReportsFollowTheSchema(t *testing.T) {
	t.Parallel()
	s := newSampler(t)
	for _, signed := range s.quarter() {
		var text bytes.Buffer
		if err := signed.WriteJSON(&text); err != nil {
			t.Fatal(err)
		}
		for _, w := range validate(t, text.Bytes()) {
			t.Errorf("%s: %s", signed.Report.ID, w)
		}
	}
	var empty bytes.Buffer
	if err := s.sign(Report{Verdict: Fail}).WriteJSON(&empty); err != nil {
		t.Fatal(err)
	}
	if wrong := validate(t, empty.Bytes()); len(wrong) > 0 {
		t.Errorf("a report that says least: %v", wrong)
	}
	for name, text := range map[string]string{
		"unknown key":   strings.Replace(empty.String(), `"id"`, `"di"`, 1),
		"verdict":       strings.Replace(empty.String(), `"fail"`, `"great"`, 1),
		"type":          strings.Replace(empty.String(), `"number": 0`, `"number": "0"`, 1),
		"time":          strings.Replace(empty.String(), `0001-01-01T`, `yesterday`, 1),
		"a key missing": strings.Replace(empty.String(), `"host": "",`, ``, 1),
	} {
		if text == empty.String() || len(validate(t, []byte(text))) == 0 {
			t.Errorf("%s: the schema holds for %s", name, text)
		}
	}
}
