package config_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"emsafe/internal/config"
)

// TestSchema: what the parser accepts the schema accepts, and what an editor
// should underline it refuses.
func TestSchema(t *testing.T) {
	golden(t, "testdata/schema.json", config.Schema())
	var schema map[string]any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	const head = "version: 1\n"
	const a = head + "targets:\n  a:\n    url: s3://b\n    "
	for _, c := range []struct {
		text string
		want string // part of the complaint, "" for none
	}{
		{read(t, "testdata/full.yaml"), ""},
		{read(t, "testdata/render.yaml"), ""},
		{config.Example, ""},
		{a + "path_style: ${STYLE}\n", ""},
		{"targets: {a: {url: file:///x}}\n", "version"},
		{head, "targets"},
		{head + "targets: {}\nhots: x\n", "hots"},
		{head + "targets: {A: {url: file:///x}}\n", "A"},
		{head + "targets: {a: {}}\n", "url"},
		{head + "targets: {}\nrecipients: age1x\n", "recipients"},
		{head + "targets: {}\nstate: ~/x\n", "state"},
		{a + "secret_access_key: hunter2\n", "secret_access_key"},
		{a + "secret_access_key: {file: /x, env: X}\n", "secret_access_key"},
		{a + "path_style: yes\n", "path_style"},
		{a + "upload_limit: 10M\n", "upload_limit"},
		{a + "provider: cloudflare\n", "provider"},
		{head + "targets: {}\ndatabases: {a: {path: /x, max_hold: 250}}\n", "max_hold"},
	} {
		var doc any
		if err := yaml.Unmarshal([]byte(c.text), &doc); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(validate(schema, schema, doc, ""), "; ")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s\ncomplaint %q, want %q", c.text, got, c.want)
		}
	}
}

// validate is as much of JSON Schema as the schema uses; an unknown keyword
// is a mistake.
func validate(root, schema map[string]any, doc any, where string) (bad []string) {
	complain := func(why string) { bad = append(bad, where+" "+why) }
	any1 := func(list any) (fit int) {
		for _, s := range list.([]any) {
			if len(validate(root, s.(map[string]any), doc, where)) == 0 {
				fit++
			}
		}
		return fit
	}
	object, isObject := doc.(map[string]any)
	text, isText := doc.(string)
	array, isArray := doc.([]any)
	_, isBool := doc.(bool)
	_, isInteger := doc.(int)
	_, isFloat := doc.(float64)
	for keyword, v := range schema {
		switch keyword {
		case "$schema", "$defs", "title", "description", "default", "uniqueItems", "properties":
		case "$ref":
			bad = append(bad, validate(root, root["$defs"].(map[string]any)[strings.TrimPrefix(v.(string), "#/$defs/")].(map[string]any), doc, where)...)
		case "type":
			if !map[string]bool{"object": isObject, "string": isText, "array": isArray, "boolean": isBool, "integer": isInteger, "number": isInteger || isFloat}[v.(string)] {
				complain("is no " + v.(string))
			}
		case "required":
			for _, name := range v.([]any) {
				if _, ok := object[name.(string)]; !ok {
					complain("lacks " + name.(string))
				}
			}
		case "additionalProperties":
			properties, _ := schema["properties"].(map[string]any)
			for name, value := range object {
				if s, ok := properties[name].(map[string]any); ok {
					bad = append(bad, validate(root, s, value, where+"."+name)...)
				} else if s, ok := v.(map[string]any); ok {
					bad = append(bad, validate(root, s, value, where+"."+name)...)
				} else {
					complain("has unknown " + name)
				}
			}
		case "propertyNames":
			for name := range object {
				bad = append(bad, validate(root, v.(map[string]any), name, where+"."+name)...)
			}
		case "items":
			for i, item := range array {
				bad = append(bad, validate(root, v.(map[string]any), item, fmt.Sprintf("%s[%d]", where, i))...)
			}
		case "minimum", "maximum":
		case "minItems":
			if isArray && float64(len(array)) < v.(float64) {
				complain("is too short")
			}
		case "minLength":
			if isText && float64(len(text)) < v.(float64) {
				complain("is empty")
			}
		case "pattern":
			if isText && !regexp.MustCompile(v.(string)).MatchString(text) {
				complain("does not match " + v.(string))
			}
		case "const":
			if fmt.Sprint(doc) != fmt.Sprint(v) {
				complain("is not " + fmt.Sprint(v))
			}
		case "enum":
			fit := false
			for _, choice := range v.([]any) {
				fit = fit || reflect.DeepEqual(choice, doc)
			}
			if !fit {
				complain("is no choice")
			}
		case "anyOf":
			if any1(v) == 0 {
				complain("fits nothing")
			}
		case "oneOf":
			if any1(v) != 1 {
				complain("does not fit exactly one")
			}
		default:
			complain("schema uses " + keyword)
		}
	}
	return bad
}

// TestReference: every key of the schema is in the reference with a reason,
// and the example is a configuration.
func TestReference(t *testing.T) {
	golden(t, "testdata/reference.md", config.Reference())
	reference := string(config.Reference())
	var walk func(schema map[string]any, path string)
	walk = func(schema map[string]any, path string) {
		properties, _ := schema["properties"].(map[string]any)
		for name, s := range properties {
			if !strings.Contains(reference, "# "+strings.TrimPrefix(path+"."+name, ".")+"\n") {
				t.Errorf("%s.%s is not in the reference", path, name)
			}
			if entry, ok := s.(map[string]any)["additionalProperties"].(map[string]any); ok {
				walk(entry, path+"."+name+".NAME")
			}
		}
	}
	var schema map[string]any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	walk(schema, "")
	if _, problems := config.Parse("f", []byte(strings.Replace(config.Example, "age1…, age1…", "age1a, age1b", 1)), environment); problems != nil {
		t.Error(problems)
	}
}
