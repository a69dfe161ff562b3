package drill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"emsafe/storage/seal"
)

// Schema is the JSON Schema (draft 2020-12) of a report; docs/report.schema.json
// is its copy. Keys that it does not name are to be ignored: a later emsafe may
// say more under the same format.
func Schema() []byte {
	g := schema{defs: map[string]any{}}
	root := g.object(reflect.TypeFor[Report]())
	doc := members{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"$id", "urn:emsafe:drill-report:" + fmt.Sprint(Format)},
		{"title", "Report of a restore drill"},
		{"description", "What is signed: the object in a target is this JSON, followed by an SSH signature over it in the namespace emsafe-report."},
	}
	doc = append(doc, root...)
	doc = append(doc, member{"$defs", g.defs})
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		panic(err) // our own words
	}
	return b.Bytes()
}

// members are an object whose keys keep their order.
type members []member

type member struct {
	key   string
	value any
}

func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", e.key)
		var v bytes.Buffer
		enc := json.NewEncoder(&v)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(e.value); err != nil {
			return nil, err
		}
		b.Write(bytes.TrimSpace(v.Bytes()))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

type schema struct{ defs map[string]any }

func (g schema) object(t reflect.Type) members {
	var properties members
	required := []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		about := g.of(f.Type)
		if words := meanings[t.Name()+"."+name]; words != "" {
			about = append(about, member{"description", words})
		}
		properties = append(properties, member{name, about})
		if options == "" && f.Type.Kind() != reflect.Slice { // an empty list may be null
			required = append(required, name)
		}
	}
	return members{{"type", "object"}, {"properties", properties}, {"required", required}}
}

func (g schema) of(t reflect.Type) members {
	switch t {
	case reflect.TypeFor[time.Time]():
		return members{{"type", "string"}, {"format", "date-time"}}
	case reflect.TypeFor[seal.Digest]():
		return members{{"type", "string"}, {"pattern", "^([0-9a-f]{64})?$"}}
	case reflect.TypeFor[Verdict]():
		return members{{"enum", []Verdict{Pass, Missed, Fail, Inconclusive}}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.Slice:
		return members{{"type", []string{"array", "null"}}, {"items", g.of(t.Elem())}}
	case reflect.Struct:
		if _, ok := g.defs[t.Name()]; !ok {
			g.defs[t.Name()] = nil // in the making
			g.defs[t.Name()] = g.object(t)
		}
		return members{{"$ref", "#/$defs/" + t.Name()}}
	case reflect.Bool:
		return members{{"type", "boolean"}}
	case reflect.Float64:
		return members{{"type", "number"}}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return members{{"type", "integer"}}
	default:
		return members{{"type", "string"}}
	}
}

// meanings are what the keys mean; a test insists that none is missing.
var meanings = map[string]string{
	"Report.format":        "version of this form; a reader refuses a higher one",
	"Report.critical":      "names of extensions that a reader must know, or refuse the report",
	"Report.id":            "of this drill",
	"Report.previous":      "SHA-256 of the whole object of the report before, of this database by this host; absent in the first",
	"Report.number":        "1, 2, 3 … per database and host",
	"Report.host":          "where the drill ran",
	"Report.versions":      "of emsafe and of what it is built with",
	"Report.operator":      "a user's name, or schedule",
	"Report.database":      "name of the database in the configuration",
	"Report.slot":          "the time that the schedule had for it; absent for a drill by hand",
	"Report.started_at":    "start of the drill, from which RTO and RPO are measured",
	"Report.ended_at":      "end of the drill, with everything tidied up",
	"Report.configuration": "whose, where it is not that of the host that ran the drill",
	"Report.verdict":       "pass; pass-objective-missed: restored and sound, but an objective was missed; fail; inconclusive: a fault of the drill's own surroundings, to be repeated",
	"Report.finding":       "the result in one sentence",
	"Report.rpo":           "data loss: start of the drill minus the newest recovered write",
	"Report.rto":           "time to recover: from the start to the checked database",
	"Report.restores":      "what was restored; the first is what the objectives are measured by",
	"Report.not_tested":    "what this drill does not prove",
	"Report.actions":       "what is to be done",
	"Report.key_proof":     "the last proof that somebody holds the recovery key",

	"Measured.objective_seconds": "absent: none is stated",
	"Measured.achieved_seconds":  "means something only if known is true",
	"Measured.how":               "canary, newest-row or snapshot-time for the RPO; clock for the RTO",
	"Measured.before":            "seconds achieved in the drill before",
	"Measured.known":             "false: it could not be measured",

	"Restored.verdict":       "of this restore",
	"Restored.reason":        "of a failure, by name: damaged, missing-delta, wrong-key, stale …",
	"Restored.why":           "it was chosen: latest, oldest, random, at",
	"Restored.target":        "name of the target in the configuration",
	"Restored.location":      "the target's address",
	"Restored.backup":        "id of the backup",
	"Restored.sequence":      "its number in the target",
	"Restored.kind":          "full, delta or heartbeat",
	"Restored.manifest":      "SHA-256 of the whole manifest object",
	"Restored.head":          "the newest number in the target then",
	"Restored.snapshot_at":   "the instant that the backup is of",
	"Restored.committed_at":  "when its manifest was written",
	"Restored.path":          "ids of the backups whose payloads were read, from the full one on",
	"Restored.fetched_bytes": "read from the target",
	"Restored.size_bytes":    "of the restored database",
	"Restored.digest":        "of its pages, as restored",
	"Restored.schema":        "SHA-256 of its schema",
	"Restored.recipients":    "public keys that the backup is sealed for",
	"Restored.identity":      "which key opened it: drill key, stdin …; never the key",
	"Restored.phases":        "the steps, in order",
	"Restored.checks":        "what was asked of the restored database",

	"Phase.name":          "of the step",
	"Phase.start_seconds": "after the drill began",
	"Phase.seconds":       "how long it took",
	"Phase.bytes":         "that went through it",
	"Phase.verdict":       "of the step",
	"Phase.error":         "why it failed",

	"Check.name":     "of the check",
	"Check.kind":     "integrity, foreign-keys, fts, schema, sql, fresh, rows, files, command or service",
	"Check.verdict":  "of the check",
	"Check.expected": "in words or a value",
	"Check.got":      "in words or a value",
	"Check.seconds":  "how long it took",

	"Action.what":  "is to be done",
	"Action.owner": "who does it",
	"Action.due":   "until when",
	"Action.done":  "when it was done",

	"KeyProof.at":        "when",
	"KeyProof.recipient": "public half of the key",
	"KeyProof.backup":    "id of the backup whose header it opened",
}
