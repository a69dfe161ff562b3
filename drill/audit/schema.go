package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"emsafe/internal/finding"
)

// Schema is the JSON Schema (draft 2020-12) of a report; docs/audit.schema.json
// is its copy. Keys that it does not name are to be ignored.
func Schema() []byte {
	g := schema{}
	root := g.object(reflect.TypeFor[Report]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "urn:emsafe:audit-report:1"
	root["title"] = "Report of an audit"
	root["$defs"] = map[string]any(g)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		panic(err) // our own words
	}
	return b.Bytes()
}

// schema holds the definitions made so far.
type schema map[string]any

func (g schema) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	var fields func(t reflect.Type)
	fields = func(t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Anonymous {
				fields(f.Type)
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			about := g.of(f.Type)
			about["description"] = meanings[t.Name()+"."+name]
			properties[name] = about
			if options == "" && f.Type.Kind() != reflect.Slice {
				required = append(required, name)
			}
		}
	}
	fields(t)
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

func (g schema) of(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[finding.Severity]():
		return map[string]any{"enum": []finding.Severity{finding.Info, low, medium, high, critical}}
	case reflect.TypeFor[finding.Result]():
		return map[string]any{"enum": finding.Results}
	case reflect.TypeFor[Phase]():
		return map[string]any{"enum": Phases}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": []string{"array", "null"}, "items": g.of(t.Elem())}
	case reflect.Struct:
		if _, ok := g[t.Name()]; !ok {
			g[t.Name()] = nil // in the making
			g[t.Name()] = g.object(t)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	}
	return map[string]any{"type": "string"}
}

// meanings are what the keys mean; a test insists that none is missing.
var meanings = map[string]string{
	"Report.format": "version of this form", "Report.target": "the address that was asked", "Report.repo": "the source tree that was looked at",
	"Report.host": "the host that was looked at", "Report.version": "of emsafe", "Report.started_at": "when the audit began", "Report.ended_at": "when it ended",
	"Report.requests": "that were made to the target", "Report.grade": "everything in a letter", "Report.coverage": "what was checked, by phase of the plan",
	"Report.checks": "one for each rule and thing it was held against; also what passed, and what was not checked", "Report.plan": "check boxes of the plan that name rules or phases",

	"Grade.letter": "A to F; - if nothing was checked", "Grade.score": "share of what was checked that holds, by weight, in percent",
	"Grade.checked": "rules that were answered with pass, fail or warn", "Grade.rules": "rules that there are", "Grade.capped": "why the letter is worse than the score",

	"Coverage.phase": "of the plan", "Coverage.rules": "rules of the phase", "Coverage.checked": "of them answered: passed, failed, warned or waived",
	"Coverage.passed": "rules that hold", "Coverage.failed": "rules that are broken", "Coverage.warned": "rules that are nearly broken", "Coverage.waived": "broken, and to be lived with",
	"Coverage.skipped": "not asked for, or not to the point", "Coverage.errors": "asked for, and could not be checked",

	"Check.result": "pass, fail, warn, skip or error", "Check.phase": "of the plan", "Check.asvs": "requirement of OWASP ASVS 5.0.0", "Check.evidence": "what was asked and answered, a line each",
	"Check.reason": "of a skip or an error", "Check.render": "target of emsafe render that mends it", "Check.runbook": "runbook that helps",

	"Finding.id": "stable, as EMS-TLS-001", "Finding.severity": "of a breach", "Finding.title": "what must hold; of a finding of harden: what is wrong", "Finding.database": "name in the configuration, of a finding of harden",
	"Finding.subject": "what the rule was held against", "Finding.found": "what was seen", "Finding.why": "it matters", "Finding.remedy": "what to do", "Finding.fixable": "emsafe harden apply does it",
	"Finding.waiver": "absent: it counts",

	"Waiver.name": "of the waiver", "Waiver.finding": "id that it covers", "Waiver.subject": "pattern of subjects that it covers; absent: all", "Waiver.reason": "why", "Waiver.owner": "who answers for it", "Waiver.until": "the day on which it ends",

	"Item.line": "in the plan", "Item.text": "of the item", "Item.ticked": "the plan says that it is done", "Item.names": "rules and phases that it names", "Item.state": "holds, does not hold, or unproven", "Item.why": "it does not hold, or is unproven",
}
